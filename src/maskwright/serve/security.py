"""Who may ask, and under which name: the token, the Host and Origin headers, and headers that keep browsers careful."""

import base64
import binascii
import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskwright.serve.limits import refuse
from maskwright.serve.problems import Problem
from maskwright.serve.settings import LOCAL, ServeSettings

OPEN = ("/", "/health", "/docs", "/openapi.json", "/favicon.ico")  # no secrets: the page asks for the token itself
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
CAREFUL = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


class Doorkeeper:
    """Lets a request in, or refuses it before anything of its body is read.

    A server at localhost answers only to the names of localhost (and `settings.hosts`): a web page whose own name was pointed at
    127.0.0.1 (DNS rebinding) is refused. A browser that posts on behalf of another site (an Origin that is not the Host) is refused, too.

    Args:
        app: the layers inside.
        settings: token, host and further names.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings
        self._names = frozenset(name.lower() for name in settings.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks names and token, then runs the layers inside."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if problem := self._objection(headers, scope["method"], scope["path"]):
            await refuse(receive, problem)

        async def with_care(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                for name, value in CAREFUL.items():
                    added.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_care)

    def _objection(self, headers: Headers, method: str, path: str) -> Problem | None:
        """Why a request is not let in."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.settings.is_local and host_name(host) not in (*LOCAL, *self._names):
            message = "this server answers to localhost only: ask it by that name, or start it with --allow-host NAME"
            return Problem(400, "host_refused", message)
        if origin is not None and method not in ("GET", "HEAD", "OPTIONS"):
            place = origin.partition("://")[2].lower()
            if place != host.lower() and host_name(place) not in self._names:  # a proxy may have another name than its Host header says
                return Problem(403, "origin_refused", "pages of other sites may not ask this server")
        token = self.settings.token
        if token is not None and not is_open(path) and not knows(headers, token):
            challenge = {"WWW-Authenticate": 'Bearer realm="maskwright"'}
            return Problem(401, "token_needed", "send the server's token: Authorization: Bearer TOKEN", headers=challenge)
        return None


def host_name(host: str) -> str:
    """The name of a Host header, without port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def is_open(path: str) -> bool:
    """Whether an address needs no token."""
    return path in OPEN or path.startswith("/static/")


def knows(headers: Headers, token: str) -> bool:
    """Whether a request bears the token: as a bearer, or as the password of a basic authorisation, which Label Studio and others send."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        value = _password(value)
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(value.strip().encode("utf-8", "replace"), token.encode("utf-8"))


def _password(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8", "replace").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
