"""Names for output files: plain where they can be, and never the same for two pictures."""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

LONGEST = 180  # bytes; most file systems allow 255 for a name, and endings are added


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for each picture's outputs.

    The names depend on the paths alone, not on which pictures are done already, so a run that is resumed finds them again.

    Args:
        paths: different files.

    Returns:
        The stem where no other picture has it, in upper or lower case; otherwise the first of "x.png", "folder-x",
        "folder-x.png", "outer-folder-x", ... that is free.
    """
    levels = [0] * len(paths)
    while True:
        names = [_form(path, level) for path, level in zip(paths, levels, strict=True)]
        owners: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(names):
            owners[unicodedata.normalize("NFC", name).casefold()].append(number)
        rivals = [group for group in owners.values() if len(group) > 1]
        if not rivals:
            return names
        for group in rivals:
            plain = [number for number in group if levels[number] == 0]
            for number in group:
                levels[number] += plain != [number]  # a stem that only longer names meet stays as it is


def _form(path: Path, level: int) -> str:
    return next(islice(_forms(path), level, None))


def _forms(path: Path) -> Iterator[str]:
    """Ever longer names for a picture, at last ones that no other path can have."""
    absolute = os.path.abspath(path)
    folders = Path(absolute).parent.parts[1:]
    for depth in range(len(folders) + 1):
        above = folders[len(folders) - depth :]
        yield _shorten("-".join((*above, path.stem)))
        yield _shorten("-".join((*above, path.name)))
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()
    for length in range(8, len(digest)):
        yield _shorten(path.stem, digest[:length])


def _shorten(name: str, digest: str = "") -> str:
    """The name within the limits of file systems; what is cut off is stood for by a digest."""
    encoded = os.fsencode(name)
    if len(encoded) > LONGEST:
        digest = digest or hashlib.sha256(encoded).hexdigest()[:8]
        name = encoded[:LONGEST].decode("utf-8", "ignore")
    return f"{name}-{digest}" if digest else name
