"""How much the server takes on: so many requests at a time, so long for each, so many bytes in a body."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskwright.serve.problems import Problem
from maskwright.serve.settings import JSON_LIMIT, ServeSettings

if TYPE_CHECKING:
    from maskwright.serve.service import Service

FRAME = 65_536  # bytes that a form may have beside the picture
PATIENCE = 5.0  # seconds that the rest of a refused body is listened to
ATTENTION = 64 * 2**20  # and bytes


class Slots:
    """Gives each request that makes work one of the slots of the queue and a time limit.

    A request gets its slot before its body is read, so that a full server keeps none.

    Args:
        app: the layers inside.
        service: has the slots.
    """

    def __init__(self, app: ASGIApp, service: "Service") -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the layers inside, or refuses (429, 503), or gives up (504)."""
        if scope["type"] != "http" or not makes_work(scope):
            await self.app(scope, receive, send)
            return
        try:
            slot = self.service.slot()
        except Problem as problem:
            await refuse(receive, problem)
        started = False

        async def noticed(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        limit = asyncio.timeout(self.service.settings.timeout)
        with slot:
            try:
                async with limit:
                    await self.app(scope, receive, noticed)
            except TimeoutError:
                if started or not limit.expired():
                    raise
                message = f"this took longer than {self.service.settings.timeout:g} s: ask for less at a time, or again later"
                raise Problem(504, "timeout", message, headers={"Connection": "close"}) from None


class BodyLimit:
    """Refuses a body that is too large (413), when it is announced or while it arrives.

    Args:
        app: the layers inside.
        settings: how large.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the layers inside with a body that is counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_ours = scope["path"].startswith("/v1/") and headers.get("content-type", "").lower().startswith("application/json")
        limit = JSON_LIMIT if is_ours else self.settings.max_upload + FRAME
        message = f"the body is larger than {limit:,} bytes: send less, or a smaller picture"
        too_large = Problem(413, "upload_too_large", message, headers={"Connection": "close"})
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:18]) > limit:
            await refuse(receive, too_large)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                if message.get("more_body", False):
                    await refuse(receive, too_large)
                raise too_large
            return message

        await self.app(scope, counted, send)


def makes_work(scope: Scope) -> bool:
    """Whether a request needs the model or a worker: whatever is posted, and heat maps."""
    return bool(scope["method"] == "POST" or scope["path"].endswith("/heat"))


async def refuse(receive: Receive, problem: Problem) -> NoReturn:
    """Raises a problem after listening to the rest of the body, without keeping it: a client reads no answer before it has sent its own."""
    rest = ATTENTION
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while rest > 0:
                message = await receive()
                rest -= max(1, len(message.get("body", b"")))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    break
    raise problem
