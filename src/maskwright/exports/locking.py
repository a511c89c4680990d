"""Keeps two runs from writing to one file at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskwright.errors import OutputError
from maskwright.exports.files import explained

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows: there two runs in one folder are not noticed
    flock = None  # type: ignore[assignment]


def lock(descriptor: int, folder: Path, doing: str = "writes to") -> None:
    """Locks an open file until it is closed; the system does that with the process, however it ends.

    Args:
        descriptor: of the file.
        folder: for the message.
        doing: what a run does in it, for the message.

    Raises:
        OutputError: another open file of this path holds the lock.
    """
    try:
        if flock is not None:
            flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"another run {doing} {str(folder)!r}: wait for it, or choose another folder with --out") from error
    except OSError:
        pass  # a file system without locks


@contextmanager
def alone_in(folder: str | Path, doing: str = "writes to") -> Iterator[None]:
    """Makes a folder if need be, and keeps other runs that ask for the same out of it meanwhile.

    Args:
        folder: where.
        doing: what a run does in it, for the message.

    Raises:
        OutputError: another run is in it, or it cannot be made.
    """
    folder = Path(folder)
    with explained(folder, "choose another folder with --out"):
        folder.mkdir(parents=True, exist_ok=True)
    if flock is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, folder, doing)
        yield
    finally:
        os.close(descriptor)
