"""The pictures that a command line names: files, folders, patterns, and - for standard input."""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from maskwright.cli.naming import output_names
from maskwright.errors import ImageError

if TYPE_CHECKING:
    from maskwright.images import Picture

STDIN = Path("stdin")  # what the outputs of standard input are called


@dataclasses.dataclass(frozen=True)
class Source:
    """One picture to come.

    Attributes:
        path: its file; STDIN for standard input.
        name: of its output files.
        piped: whether it is read from standard input.
    """

    path: Path
    name: str
    piped: bool = False

    def open(self) -> "Picture":
        """Reads the picture.

        Raises:
            ImageError: it cannot be read.
        """
        from maskwright.images import Picture

        picture = Picture.open(_stdin() if self.piped else self.path)
        return dataclasses.replace(picture, name=self.name, source=str(self.path))


def find_sources(inputs: Sequence[str], *, refuse: Callable[[ImageError], None]) -> list[Source]:
    """Lists the pictures that the inputs name, each once, in their order.

    Args:
        inputs: files, folders, patterns, or "-".
        refuse: told of each input that cannot be used; the others go on.
    """
    from maskwright.images import find_pictures

    found: dict[str, tuple[Path, bool]] = {}
    for text in inputs:
        if text == "-":
            found.setdefault("-", (STDIN, True))
            continue
        try:
            for path in find_pictures([text]):
                found.setdefault(os.path.abspath(path), (path, False))
        except ImageError as error:
            refuse(error)
    names = output_names([path for path, _ in found.values()])
    return [Source(path, name, piped) for (path, piped), name in zip(found.values(), names, strict=True)]


def _stdin() -> BinaryIO:
    if sys.stdin.isatty():
        raise ImageError("- reads a picture from standard input, which is the keyboard: pipe one in, as in `< dog.jpg`")
    return sys.stdin.buffer
