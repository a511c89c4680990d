"""What every form says about a mask: which labels are in it, and where."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from maskwright.discovery.pairs import MOST_LABELS


@dataclass(frozen=True, eq=False)
class LabelRegion:
    """All pixels of one label in one picture, at least one.

    Attributes:
        number: its value in the mask, from 1.
        pixels: (H, W) bool.
        box: (x, y, width, height) in pixels.
    """

    number: int
    pixels: npt.NDArray[np.bool_]
    box: tuple[int, int, int, int]


def label_regions(mask: npt.NDArray[np.uint8]) -> Iterator[LabelRegion]:
    """The labels of a mask (H, W) by rising number; neither background nor what is left out as uncertain (255)."""
    for number, window in enumerate(ndimage.find_objects(mask.astype(np.int32), max_label=MOST_LABELS), start=1):
        if window is not None:
            rows, columns = window
            box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            yield LabelRegion(number, mask == number, box)
