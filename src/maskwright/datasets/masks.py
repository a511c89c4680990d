"""Truth that lies in picture files: class numbers, foreground masks, region maps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.datasets.contract import EvaluationItem, Kind, LabelMap, Mask
from maskwright.errors import DatasetError, brief
from maskwright.images import Picture

MASK_SUFFIXES = frozenset((".png", ".bmp", ".tif", ".tiff", ".gif"))  # lossless: a JPEG invents class numbers
MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")
UNKNOWN = -2


@dataclass(frozen=True)
class MaskItem(EvaluationItem):
    """A picture with a mask of class numbers.

    Attributes:
        truth: the mask; the numbers of a palette count, not its colours.
        numbers: position in the set's classes by number in the mask; IGNORE for what is not scored.
        unknown: end of the message for a number that is not among them: who does not know it, and what to do.
    """

    kind: ClassVar[Kind] = "classes"
    truth: Path
    numbers: Mapping[int, int] = field(repr=False, hash=False)
    unknown: str = field(repr=False)

    def labels(self, picture: Picture) -> LabelMap:
        """See EvaluationItem.labels."""
        return to_positions(read_values(self.truth, picture), self.numbers, truth=self.truth, unknown=self.unknown)


@dataclass(frozen=True)
class ForegroundItem(EvaluationItem):
    """A picture with a mask of 0 and 255; foreground is what is over 127.

    Attributes:
        truth: the mask.
    """

    kind: ClassVar[Kind] = "foreground"
    truth: Path

    def foreground(self, picture: Picture) -> Mask:
        """See EvaluationItem.foreground."""
        values = read_values(self.truth, picture)
        highest = int(values.max())
        if highest > 255 or 0 < highest <= 127:
            raise DatasetError(f"{quote(self.truth)} has values up to {highest} where foreground is 255: scale them to 0..255")
        return values > 127


@dataclass(frozen=True)
class RegionItem(EvaluationItem):
    """A picture with region maps of 8 or 16 bits.

    Attributes:
        truth: one map for each annotator.
    """

    kind: ClassVar[Kind] = "regions"
    truth: tuple[Path, ...]

    def regions(self, picture: Picture) -> tuple[LabelMap, ...]:
        """See EvaluationItem.regions."""
        return tuple(read_values(path, picture).astype(np.int64) for path in self.truth)


def to_positions(values: npt.NDArray[np.integer], numbers: Mapping[int, int], *, truth: Path, unknown: str) -> LabelMap:
    """Class numbers to positions, (H, W) int64.

    Args:
        values: (H, W).
        numbers: position by number.
        truth: the file, for the message.
        unknown: end of the message for a number that has no position.

    Raises:
        DatasetError: a number that has no position.
    """
    table = np.full(max(numbers) + 1, UNKNOWN, dtype=np.int64)
    table[list(numbers)] = list(numbers.values())
    listed = (values >= 0) & (values < len(table))
    positions = np.where(listed, table[np.where(listed, values, 0)], UNKNOWN)
    strange = values[positions == UNKNOWN]
    if strange.size:
        raise DatasetError(f"{quote(truth)} has the class {int(strange.min())}, which {unknown}")
    return positions


def read_values(path: Path, picture: Picture) -> npt.NDArray[np.integer]:
    """The values of a mask file, (H, W) of integers: numbers of a palette, not its colours; grey RGB as its one channel.

    Raises:
        DatasetError: a file that cannot be read, holds colours, or has another size than the picture.
    """
    try:
        with Image.open(path, formats=MASK_FORMATS) as image:
            mode = image.mode
            values = np.asarray(image)
    except Exception as error:
        raise DatasetError(f"{quote(path)} cannot be read as a mask ({brief(error)}): copy or download it again") from error
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if mode == "RGB" and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise DatasetError(f"{quote(path)} holds colours or fractions ({mode}) where whole numbers are expected: save one grey channel")
    check_size(values, picture, path)
    return values


def check_size(values: npt.NDArray[np.generic], picture: Picture, path: Path) -> None:
    """Refuses truth (H, W) of another size than the picture's."""
    if values.shape[:2] != picture.size:
        (height, width), (tall, wide) = values.shape[:2], picture.size
        raise DatasetError(f"{quote(path)} is {width} x {height} pixels, its picture {wide} x {tall}: bring the mask to that size")


def quote(path: Path) -> str:
    """A path in a message: one printable line whatever the name."""
    return repr(str(path))
