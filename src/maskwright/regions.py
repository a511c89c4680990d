"""The summary of a label map: how large each label is, where, and how sure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage


@dataclass(frozen=True)
class Region:
    """All pixels of one label.

    Attributes:
        number: its number in the label map, from 1.
        name: its name.
        area: pixels.
        share: part of the picture, 0..1.
        score: mean winning score over its pixels, None without any.
        box: (x, y, width, height) in pixels, None without any.
    """

    number: int
    name: str
    area: int
    share: float
    score: float | None
    box: tuple[int, int, int, int] | None


def summarise(
    label_map: npt.NDArray[np.uint16], confidence: npt.NDArray[np.float32], names: Sequence[str]
) -> tuple[Region, ...]:
    """One region for each name, also for those that won no pixel.

    Args:
        label_map: (H, W), 0 for background, i for names[i - 1].
        confidence: (H, W) winning scores.
        names: names of the labels.
    """
    flat = label_map.ravel()
    areas = np.bincount(flat, minlength=len(names) + 1)
    sums = np.bincount(flat, weights=confidence.ravel(), minlength=len(names) + 1)
    slices = ndimage.find_objects(label_map.astype(np.int32), max_label=len(names))
    regions = []
    for number, (name, window) in enumerate(zip(names, slices, strict=True), start=1):
        area = int(areas[number])
        score = float(sums[number] / area) if area else None
        regions.append(Region(number, name, area, area / flat.size, score, None if window is None else _box(*window)))
    return tuple(regions)


def _box(rows: slice, columns: slice) -> tuple[int, int, int, int]:
    return columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
