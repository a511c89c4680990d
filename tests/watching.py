"""Which pictures a process opens: what may be learned from, and what must not."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_watchers: list[set[Path]] = []
_hooked: list[bool] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watchers and isinstance(arguments[0], str) and Path(arguments[0]).suffix.lower() in ENDINGS:
        for opened in _watchers:
            opened.add(Path(arguments[0]))


@contextmanager
def opened_pictures() -> Iterator[set[Path]]:
    """The paths of all picture files that this process opens meanwhile, by whatever library; an audit hook tells them."""
    if not _hooked:
        sys.addaudithook(_note)  # stays for the life of the process, and does nothing while nobody watches
        _hooked.append(True)
    opened: set[Path] = set()
    _watchers.append(opened)
    try:
        yield opened
    finally:
        _watchers.remove(opened)
