"""Result files, written whole or not at all."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from maskwright.errors import OutputError
from maskwright.exports.document import to_json
from maskwright.exports.overlay import draw_overlay
from maskwright.exports.png import to_png
from maskwright.segmentation import Segmentation


def write_outputs(seg: Segmentation, folder: str | Path, stem: str) -> tuple[Path, ...]:
    """Writes STEM.labels.png, STEM.overlay.png and STEM.json; files of these names are replaced.

    The JSON appears last: where it stands, the other two are complete.

    Args:
        seg: the result.
        folder: made if it is not there.
        stem: name of the files, without folder.

    Returns:
        The three paths, in the order above.

    Raises:
        OutputError: the files cannot be written; none of them is left half written.
    """
    return write_files(folder, stem, {
        ".labels.png": lambda file: to_png(seg).save(file, "PNG"),
        ".overlay.png": lambda file: draw_overlay(seg).save(file, "PNG"),
        ".json": lambda file: file.write(to_json(seg)),
    })  # fmt: skip


def write_files(folder: str | Path, stem: str, contents: Mapping[str, Callable[[BinaryIO], object]]) -> tuple[Path, ...]:
    """Writes files that belong together, STEM + each ending; files of these names are replaced.

    The last one appears last: where it stands, the others are complete.

    Args:
        folder: made if it is not there.
        stem: name of the files, without folder.
        contents: for each ending what writes the file.

    Returns:
        The paths, in the order of `contents`.

    Raises:
        OutputError: the files cannot be written; none of them is left half written.
    """
    if not stem or stem in (".", "..") or any(sign in stem for sign in "/\\\0"):
        raise OutputError(f"{stem!r} cannot name a file: give a stem without folders, and name the folder separately")
    folder = Path(folder)
    paths = {folder / f"{stem}{ending}": write for ending, write in contents.items()}
    with explained(folder, "choose another output folder"):
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:  # leaves in reverse order: the last file, first in, is put in place last
            for path, write in reversed(paths.items()):
                write(stack.enter_context(replacing(path)))
    return tuple(paths)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends, and vanishes if the block fails or is interrupted."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # same folder: a rename does not cross file systems
    try:
        with temporary.open("xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def explained(folder: Path, otherwise: str) -> Iterator[None]:
    """Turns what the system says about a failed write into one line, with what to do instead."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write into {str(folder)!r} ({reason}): free it, or {otherwise}") from error
