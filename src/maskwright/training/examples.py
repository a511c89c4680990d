"""Pictures with masks to learn from: a folder of `maskwright synthesize`, or any folder of the same plain form.

    DIR/synthesis.json, DIR/pairs.jsonl    of `synthesize`: the labels, and which pairs are kept
    DIR/labels.txt                         without these two: one label a line
    DIR/images/NAME.png, DIR/masks/NAME.png

Reading changes nothing and takes no lock, so that a data set may be read while it is drawn.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from maskwright.datasets.masks import quote, read_values
from maskwright.discovery.claim import FORMAT, LOG, SETTINGS
from maskwright.discovery.lines import read_lines
from maskwright.discovery.pairs import BACKGROUND, IGNORE, MOST_LABELS
from maskwright.discovery.seeds import shuffled
from maskwright.errors import DatasetError, OutputError, VocabularyError, brief
from maskwright.images import SUFFIXES, Picture, Size
from maskwright.vocabulary import Label, Vocabulary

LABELS = "labels.txt"
ORIGIN = ("model", "revision", "method")  # what is known of who drew a data set
EXPECTED = f"a folder of `maskwright synthesize`, or one with images/, masks/ (8-bit PNG of the same names) and {LABELS}"


@dataclass(frozen=True, eq=False)
class Example:
    """A picture and what is where in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8: 0 background, i the i-th label, 255 ignore.
        words: names of the labels in the mask, in their order.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    words: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.mask.shape[0], self.mask.shape[1]


class Examples(Protocol):
    """What can be trained on: examples by number, the same whenever they are asked for."""

    def __len__(self) -> int:
        """How many."""
        ...

    @property
    def digest(self) -> str:
        """A text that differs where the examples do."""
        ...

    def read(self, index: int) -> Example:
        """One of them."""
        ...

    def split(self, share: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Numbers to train on and numbers to validate on, both rising."""
        ...

    def first(self, count: int) -> "Examples":
        """The first so many of them."""
        ...


class ExampleSet:
    """The examples of a folder, in an order in which a growing data set only gets longer.

    Attributes:
        folder: where they lie.
        labels: label i of a mask is labels[i - 1].
        origin: "model", "revision" and "method" that `synthesize` made them with; empty where something else did.
    """

    def __init__(
        self, folder: Path, labels: Sequence[Label], files: Sequence[tuple[Path, Path]], origin: Mapping[str, Any] | None = None
    ) -> None:  # fmt: skip
        """Use `open`; `files` are the picture and the mask of each example."""
        self.folder, self.labels, self.origin = folder, tuple(labels), dict(origin or {})
        self._files = tuple(files)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Finds the examples of a folder; pictures and masks are opened when they are read.

        Of a `synthesize` folder, which may still be growing or have been interrupted, the pairs that are kept and whole.

        Raises:
            DatasetError: a folder that is no data set, has files missing, or holds no example.
            VocabularyError: labels that cannot be used.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise DatasetError(f"{quote(folder)} is no folder: give {EXPECTED}")
        origin: Mapping[str, Any] = {}
        if (folder / SETTINGS).is_file():
            labels, stems, origin = _read_synthesis(folder)
            files = [(folder / "images" / f"{stem}.png", folder / "masks" / f"{stem}.png") for stem in stems]
            _refuse_missing(folder, files)
        else:
            labels, files = _read_plain(folder)
        if not files:
            raise DatasetError(f"{quote(folder)} holds no pair: draw some, for instance by `maskwright synthesize --resume`")
        return cls(folder, labels, files, origin)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels 1, 2, ... of the masks."""
        return tuple(label.name for label in self.labels)

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the pictures, in order."""
        return tuple(image.stem for image, _ in self._files)

    @cached_property
    def digest(self) -> str:
        """Of the labels, all names, the length of every picture's file and the content of every mask's: 32 hexadecimal digits.

        Raises:
            DatasetError: a file that cannot be read.
        """
        digest = hashlib.blake2b(json.dumps([label.texts for label in self.labels]).encode(), digest_size=16)
        for image, mask in self._files:
            try:
                content = mask.read_bytes()
                digest.update(f"\0{image.name}\0{image.stat().st_size}\0{len(content)}\0".encode("utf-8", "surrogateescape") + content)
            except OSError as error:
                raise DatasetError(f"{quote(image)} or its mask cannot be read ({error.strerror}): restore it") from error
        return digest.hexdigest()

    def read(self, index: int) -> Example:
        """The example with this number, from 0.

        Raises:
            ImageError: a picture that cannot be read.
            DatasetError: a mask that cannot be read, has another size than the picture, or a number that is no label's.
        """
        image, mask = self._files[index]
        picture = Picture.open(image)
        values = read_values(mask, picture)
        numbers = numbers_in(values)
        if strange := [number for number in numbers if not 0 < number <= len(self.labels)]:
            raise DatasetError(f"{quote(mask)} has the number {strange[0]}, but there are {len(self.labels)} labels: add the missing ones")
        return Example(picture.pixels, values.astype(np.uint8), tuple(self.names[number - 1] for number in numbers))

    def split(self, share: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Numbers to train on and numbers to validate on, both rising; at least one of either kind unless `share` is 0.

        Args:
            share: of the examples that validate, 0..1.
            seed: decides which.
        """
        count = min(max(1, round(share * len(self))), len(self) - 1) if share > 0 else 0
        order = shuffled(len(self), "validation", seed)
        return tuple(sorted(order[count:])), tuple(sorted(order[:count]))

    def first(self, count: int) -> "ExampleSet":
        """The first `count` examples: what a data set was before it grew."""
        return ExampleSet(self.folder, self.labels, self._files[:count], self.origin)


def numbers_in(mask: npt.NDArray[np.integer]) -> tuple[int, ...]:
    """The labels' numbers in a mask (H, W), rising."""
    return tuple(number for number in np.unique(mask).tolist() if number not in (BACKGROUND, IGNORE))


def _read_synthesis(folder: Path) -> tuple[tuple[Label, ...], list[str], dict[str, Any]]:
    """Labels, the stems of the kept pairs in the order in which they were drawn (what comes later is put behind), and the origin."""
    try:
        found: Any = json.loads((folder / SETTINGS).read_bytes())
        if found["format"] != FORMAT:
            raise DatasetError(f"{quote(folder / SETTINGS)} is of another form ({found['format']}): read it with the version that wrote it")
        labels = tuple(Label(name, tuple(synonyms)) for name, *synonyms in found["labels"])
        origin = {key: found["settings"].get(key) for key in ORIGIN}
        pairs, _ = read_lines((folder / LOG).read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(f"{quote(folder)} has no {LOG}: put it back, or draw the data set again") from error
    except OutputError as error:  # its advice is for who writes
        raise DatasetError(f"{quote(folder)}: {str(error).partition(':')[0]}: restore the file") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VocabularyError) as error:
        raise DatasetError(f"{quote(folder)} is no data set ({brief(error)}): give {EXPECTED}") from error
    return labels, [pair.stem for pair in pairs if pair.kept], origin


def _read_plain(folder: Path) -> tuple[tuple[Label, ...], list[tuple[Path, Path]]]:
    """Labels and files of a folder that something else than `synthesize` made."""
    for part in ("images", "masks", LABELS):
        if not (folder / part).exists():
            raise DatasetError(f"{quote(folder)} has no {part}: give {EXPECTED}")
    labels = Vocabulary.from_file(folder / LABELS).foreground
    if len(labels) > MOST_LABELS:
        raise DatasetError(f"{quote(folder / LABELS)} has {len(labels)} labels: masks of 8 bits hold {MOST_LABELS}")
    images, masks = _by_stem(folder / "images", SUFFIXES), _by_stem(folder / "masks", frozenset((".png",)))
    if lone := sorted(images.keys() ^ masks.keys()):
        raise DatasetError(f"{quote(folder)}: {lone[0]!r} lacks its picture or its mask ({len(lone)} do): add or remove it")
    return labels, [(images[stem], masks[stem]) for stem in sorted(images)]


def _by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """The files with one of these suffixes by name without it."""
    found: dict[str, Path] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{quote(folder)} cannot be listed ({error.strerror}): give {EXPECTED}") from error
    for path in paths:
        if path.stem in found:
            raise DatasetError(f"{quote(path)} and {found[path.stem].name!r} differ only in their extension: keep one of them")
        found[path.stem] = path
    return found


def _refuse_missing(folder: Path, files: Sequence[tuple[Path, Path]]) -> None:
    """Every file that a line names must be there; listed once, because asking for thousands one by one is slow."""
    for place, kind in enumerate(("images", "masks")):
        there = {path.name for path in (folder / kind).iterdir()} if (folder / kind).is_dir() else set()
        missing = [pair[place].name for pair in files if pair[place].name not in there]
        if missing:
            raise DatasetError(f"{quote(folder / kind)} lacks {len(missing)} of {len(files)} files, first {missing[0]!r}: put them back")
