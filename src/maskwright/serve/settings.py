"""What a server is told when it starts. Imports nothing heavy, so that wrong values are told at once."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from maskwright.errors import SettingsError
from maskwright.methods import READ_ONCE

LOCAL = ("127.0.0.1", "localhost", "::1")
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
OPTIONS = {"cache_bytes": "--cache", "reading_ttl": "--keep"}  # the others are called as their fields are
# When words are asked of one reading, it has the best masks of those there are, and alone a threshold that suits a single word.
DEFAULT_METHOD = "foreground-first"
JSON_LIMIT = 1_000_000  # bytes of a JSON body of our own interface: labels and a few options


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Settings of a server.

    Attributes:
        model: catalogue name, hub id or local folder.
        method: the text-driven method of requests that name none; what it needs is read when a picture is uploaded.
        host: address to listen at.
        port: 0 lets the system choose.
        max_upload: bytes of a request's body.
        max_pixels: of a picture, told from its header.
        max_labels: names and synonyms in one request.
        workers: threads for everything but passes of the model: decoding, scoring stored readings, drawing, encoding.
        queue: requests in progress, waiting or at work, beyond which further ones are refused (429).
        timeout: seconds that a request may take, the arrival of its body included.
        cache_bytes: memory of stored readings, their pictures and score maps together.
        reading_ttl: seconds that a stored reading is kept after it was last used.
        token: who knows it may ask; None lets everybody.
        hosts: further names under which a server that listens at localhost may be asked, as behind a proxy.
        device: "auto", "cpu", "cuda", ...
        dtype: "auto", "float32", "float16" or "bfloat16".
        batch: pictures in one pass of the model; "auto" chooses by device.
        batching: whether waiting pictures of one size share a pass.
        seed: of the noise.
        offline: never touch the network.
        label_studio_url: where the Label Studio is whose pictures may be fetched; None takes only what a request holds itself.
        label_studio_token: an access token of it.

    Raises:
        SettingsError: a value that cannot be used.
    """

    model: str = "sticker"
    method: str = DEFAULT_METHOD
    host: str = "127.0.0.1"
    port: int = 8000
    max_upload: int = 20 * 10**6
    max_pixels: int = 25 * 10**6
    max_labels: int = 256
    workers: int = 2
    queue: int = 64
    timeout: float = 60.0
    cache_bytes: int = 10**9
    reading_ttl: float = 1800.0
    token: str | None = None
    hosts: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    batch: int | Literal["auto"] = "auto"
    batching: bool = True
    seed: int = 0
    offline: bool = False
    label_studio_url: str | None = None
    label_studio_token: str | None = None

    def __post_init__(self) -> None:
        """Refuses what no server could work with."""
        if self.method not in READ_ONCE:
            raise SettingsError(f"unknown method {self.method!r}: choose one of {', '.join(READ_ONCE)}")
        if not 0 <= self.port <= 65_535:
            raise SettingsError(f"--port is {self.port}: give a number from 0 (any free one) to 65535")
        for name in ("max_upload", "max_pixels", "max_labels", "workers", "queue", "cache_bytes"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{option(name)} is {getattr(self, name)}: give a number of at least 1")
        for name in ("timeout", "reading_ttl"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{option(name)} is {getattr(self, name)}: give a number of seconds above 0")
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise SettingsError("--token must be one or more printable ASCII characters without blanks, as a header can hold them")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOCAL


def option(field: str) -> str:
    """The command-line option of a field."""
    return OPTIONS.get(field, f"--{field.replace('_', '-')}")


def parse_bytes(text: str, name: str) -> int:
    """A size such as "20MB", "512 MiB" or "300000" in bytes; MB are millions, MiB 2 ** 20.

    Args:
        text: what was typed.
        name: of the option, for the message.

    Raises:
        SettingsError: no such size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text, re.IGNORECASE | re.ASCII)
    unit = UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or not 1 <= float(match[1]) * unit < 2**63:
        raise SettingsError(f"{name} is {text!r}: give a size such as 20MB, 512MiB or 2GB")
    return int(float(match[1]) * unit)
