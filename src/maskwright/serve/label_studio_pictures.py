"""The pictures of Label Studio's tasks, without letting a request choose where this service looks.

A task names its picture by a text. Three kinds are read: the picture itself as a data: URI; what Label Studio serves (uploads, local
files, its storage proxy), which is fetched from the one host that the operator named, whatever host the text names; and cloud
storage, which that host is asked to pass on. No path of a request reaches the file system and no other host is spoken to: redirects
are not followed, and `hostname` and `access_token` of a request are not used.
"""

import base64
import binascii
import http.client
import json
import re
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

from maskwright.errors import ImageError, SettingsError

SERVED = re.compile(r"/(data/(upload|local-files)/|storage-data/uploaded/|(tasks|projects)/\d+/(resolve|presign)/)")
UNREADABLE = "the picture's address cannot be read: give one that Label Studio serves"
UNNAMED = "pictures are only fetched from the Label Studio that is named: start with --label-studio-url http://HOST:8080"
CLOUD = ("s3", "s3s", "gs", "azure-blob", "azure_spi", "databricks")
TOKEN_LIFE = 240  # seconds; Label Studio's access tokens live for 300
CHUNK = 64 * 1024
SAFE = "/%?=&:+,;@~!$'()*"  # in a path and query that may be quoted already


@dataclass
class LabelStudioPictures:
    """Fetches the pictures that tasks name.

    Attributes:
        url: where Label Studio is reached from here, "http://label-studio:8080"; None to read data: URIs only.
        token: an access token of Label Studio, personal or legacy; None to send none.
        limit: bytes of a picture at most.
        timeout: seconds for one picture at most.

    Raises:
        SettingsError: an address that is none.
    """

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    limit: int = 20_000_000
    timeout: float = 20.0

    def __post_init__(self) -> None:
        """Reads the address."""
        self._host = None if self.url is None else _read_address(self.url)
        self._access: tuple[str, float] | None = None
        self._lock = threading.Lock()

    def read(self, source: str, *, task: int | str | None = None) -> bytes:
        """The bytes of the picture file that a task names.

        Args:
            source: the text in the task's data.
            task: the task's id, for pictures in cloud storage.

        Raises:
            ImageError: a source that is not read, does not answer, or is too large; the message names the fix.
        """
        if source[:5].lower() == "data:":
            return self._decode(source)
        target = self._target(source, task)
        deadline = time.monotonic() + self.timeout
        status, body = self._request("GET", target, deadline, token=self._authorization(deadline))
        if status in (301, 302, 303, 307, 308):
            raise ImageError(
                "Label Studio redirects to another address for this picture, which is not followed: turn off pre-signed URLs of the storage"
            )
        if status in (401, 403):
            raise ImageError(f"Label Studio refuses the picture ({status}): give maskwright serve a valid --label-studio-token")
        if status != 200:
            raise ImageError(f"Label Studio answers {status} for the picture: check that the task shows it there")
        return body

    def _decode(self, source: str) -> bytes:
        head, comma, body = source.partition(",")
        if not comma:
            raise ImageError("the data: URI has no comma: write data:image/png;base64,...")
        if len(body) > 3 * self.limit:  # the longest way to write a byte is %41
            raise self._too_large()
        try:
            content = base64.b64decode(unquote(body), validate=True) if head.lower().endswith(";base64") else unquote_to_bytes(body)
        except (binascii.Error, ValueError) as error:
            raise ImageError("the data: URI is no valid base64: encode the picture file again") from error
        if len(content) > self.limit:
            raise self._too_large()
        return content

    def _target(self, source: str, task: int | str | None) -> str:
        """Path and query on Label Studio's host."""
        if self._host is None or self.url is None:
            raise ImageError(UNNAMED)
        try:
            parts = urlsplit(source)
            if parts.scheme in CLOUD:
                return self._on_host(_resolve_cloud(source, task))
            if (parts.scheme or parts.netloc) and _origin(parts) != _origin(self._host):
                raise ImageError(
                    f"the picture is not on {self.url}, the only host that is asked: import it into Label Studio, or let the two "
                    "addresses agree (LABEL_STUDIO_HOST there, --label-studio-url here)"
                )
        except ValueError as error:
            raise ImageError(UNREADABLE) from error
        path = parts.path if parts.path.startswith("/") else f"/{parts.path}"
        if path.startswith("/upload/"):
            path = f"/data{path}"
        if parts.netloc and self._host.path and path.startswith(f"{self._host.path}/"):
            path = path[len(self._host.path) :]
        plain = unquote(path)
        if not SERVED.match(plain) or ".." in plain.split("/") or "\\" in plain:
            raise ImageError("the picture is no upload, local file or storage of Label Studio: only these and data: URIs are read")
        return self._on_host(f"{path}?{parts.query}" if parts.query else path)

    def _on_host(self, target: str) -> str:
        try:
            return quote((self._host.path if self._host else "") + target, safe=SAFE)
        except UnicodeEncodeError as error:
            raise ImageError(UNREADABLE) from error

    def _request(
        self, method: str, target: str, deadline: float, *, token: str | None = None, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status and body of one answer of Label Studio's host, both bounded."""
        if (host := self._host) is None:
            raise ImageError(UNNAMED)
        kind = http.client.HTTPSConnection if host.scheme == "https" else http.client.HTTPConnection
        connection = kind(host.hostname or "", host.port, timeout=max(0.1, deadline - time.monotonic()))
        headers = {"Accept": "*/*", **({"Authorization": token} if token else {}), **({"Content-Type": "application/json"} if body else {})}
        try:
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, self._receive(response, deadline)
        except (OSError, http.client.HTTPException) as error:
            raise ImageError(f"Label Studio at {self.url} does not answer ({type(error).__name__}): check --label-studio-url") from error
        finally:
            connection.close()

    def _receive(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        content = bytearray()
        while chunk := response.read1(CHUNK):
            content += chunk
            if len(content) > self.limit:
                raise self._too_large()
            if time.monotonic() > deadline:
                raise ImageError(f"Label Studio took more than {self.timeout:g} s for the picture: try again, or raise the timeout")
        return bytes(content)

    def _authorization(self, deadline: float) -> str | None:
        """The header's value: a legacy token as it is, a personal one exchanged for a short-lived one."""
        if self.token is None:
            return None
        if self.token.count(".") != 2:
            return f"Token {self.token}"
        with self._lock:
            if self._access is None or time.monotonic() > self._access[1]:
                refresh = json.dumps({"refresh": self.token}).encode()
                status, body = self._request("POST", self._on_host("/api/token/refresh/"), deadline, body=refresh)
                try:
                    access = json.loads(body)["access"] if status == 200 else None
                except (ValueError, KeyError, TypeError):
                    access = None
                if not isinstance(access, str) or not access.isascii() or not access.isprintable():
                    raise ImageError(f"Label Studio refuses the personal access token ({status}): give another --label-studio-token")
                self._access = (access, time.monotonic() + TOKEN_LIFE)
            return f"Bearer {self._access[0]}"

    def _too_large(self) -> ImageError:
        return ImageError(f"the picture has more than {self.limit} bytes: reduce it, or raise --max-upload")


def _read_address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.rstrip("/"))
        _ = parts.port
    except ValueError as error:
        raise SettingsError(f"the Label Studio address {url!r} cannot be read ({error}): give one such as http://localhost:8080") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise SettingsError(f"{url!r} is no address of Label Studio: give one such as http://localhost:8080")
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _resolve_cloud(source: str, task: int | str | None) -> str:
    if not str(task).isascii() or not str(task).isdigit():
        raise ImageError("a picture in cloud storage needs the task's id: save the task in Label Studio first")
    return f"/tasks/{task}/resolve/?fileuri={base64.urlsafe_b64encode(source.encode('utf-8', 'replace')).decode()}"
