"""Runs the application in this process until it is told to stop."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from maskwright.errors import SettingsError
from maskwright.serve.app import create_app
from maskwright.serve.service import Service
from maskwright.serve.settings import ServeSettings

KEEP_ALIVE = 30  # seconds that an idle connection is kept
TURN = 0.0005  # seconds that a thread keeps the interpreter when another one wants it


class Server(uvicorn.Server):
    """uvicorn, which says when it answers. At the first signal what is in progress is finished, and what comes now gets 503."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.service, self._tell_started = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer."""
        await super().startup(sockets)
        self._tell_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by SIGINT and SIGTERM; a second SIGINT ends the process at once."""
        self.service.close()
        super().handle_exit(sig, frame)


def listen(settings: ServeSettings) -> socket.socket:
    """The socket of the settings' address, taken before a model is loaded.

    Raises:
        SettingsError: an address that is taken, or not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"cannot listen at {settings.host} port {settings.port} ({reason}): choose another --port (0 takes any free one) or --host"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a browser finds the server."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(settings: ServeSettings, service: Service, listener: socket.socket, *, started: Callable[[], None]) -> None:
    """Answers requests until a signal comes; those that are in progress then are finished first.

    Args:
        settings: of the server.
        service: with its model.
        listener: as `listen` returned it.
        started: called as soon as requests are answered.
    """
    options: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False}
    config = uvicorn.Config(
        create_app(settings, service), timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=int(settings.timeout) + 1, **options
    )  # fmt: skip
    with _quick_turns():
        Server(config, service, started).run(sockets=[listener])


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Lets threads take turns at the interpreter ten times as often as usual.

    A pass asks for the interpreter hundreds of times. Beside two threads that run Python without a pause a pass of four pictures took
    1.6 s with turns of 5 ms and 0.7 s with turns of 0.5 ms (0.2 s alone; the bundled model, one core of a busy machine).
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
