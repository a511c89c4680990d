"""Boxes: their intersection over union, correct localisation, and the boxes of a label map.

A box is (x, y, width, height) in pixels; it covers the columns x to x + width - 1, so its maximum is exclusive.
"""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from maskwright.errors import SettingsError

Box = tuple[float, float, float, float]
Boxes = Sequence[Box] | npt.NDArray[np.number]
THRESHOLD = 0.5


def box_iou(box: Box | npt.NDArray[np.number], others: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of one box with each of the others, (n,); 0 where both are empty.

    Args:
        box: (4,).
        others: (n, 4); n may be 0.

    Raises:
        SettingsError: not four numbers a box, or a negative width or height.
    """
    one, many = np.asarray(box, dtype=np.float64), np.asarray(others, dtype=np.float64)
    many = many.reshape(0, 4) if many.size == 0 else many
    if one.shape != (4,) or many.ndim != 2 or many.shape[1] != 4 or (one[2:] < 0).any() or (many[:, 2:] < 0).any():
        raise SettingsError("boxes must be (x, y, width, height) with a width and height of 0 or more: convert corners first")
    sides = np.minimum(one[:2] + one[2:], many[:, :2] + many[:, 2:]) - np.maximum(one[:2], many[:, :2])
    intersection = sides.clip(0).prod(1)
    union = one[2:].prod() + many[:, 2:].prod(1) - intersection
    return np.where(union > 0, intersection / np.where(union > 0, union, 1), 0.0)


def is_hit(predicted: Box | None, truth: Boxes, *, threshold: float = THRESHOLD) -> bool:
    """Whether a picture counts as localised: the IoU with any true box is at least the threshold, exactly 0.5 included.

    Args:
        predicted: the one box of the picture; None, where none was found, is a miss.
        truth: (n, 4) true boxes; a picture without any is a miss.
        threshold: least IoU.
    """
    return predicted is not None and bool((box_iou(predicted, truth) >= threshold).any())


def corloc(hits: Sequence[bool]) -> float:
    """Share of the pictures that are hits, all pictures in the denominator; NaN without pictures."""
    return sum(map(bool, hits)) / len(hits) if len(hits) else float("nan")


def label_boxes(
    label_map: npt.NDArray[np.integer | np.bool_], *, leave_out: Collection[int] = (0,)
) -> dict[int, tuple[int, int, int, int]]:
    """The tight box of each label of a label map, of each instance of an instance map, or of a mask (whose label is 1).

    Args:
        label_map: (H, W) of integers or bool.
        leave_out: values without a box, for instance background and ignore.

    Returns:
        Box by label, in rising order. A label of several parts has one box around all of them.

    Raises:
        SettingsError: another shape or dtype.
    """
    if label_map.ndim != 2 or label_map.dtype.kind not in "biu":
        raise SettingsError(f"a label map must be (H, W) of integers, not {label_map.shape} {label_map.dtype}")
    values, numbers = np.unique(label_map, return_inverse=True)
    windows = ndimage.find_objects(numbers.reshape(label_map.shape) + 1)
    return {
        int(value): (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        for value, (rows, columns) in zip(values, windows, strict=True)
        if int(value) not in leave_out
    }
