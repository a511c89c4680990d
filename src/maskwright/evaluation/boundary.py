"""Boundary IoU in two steps: pixels of each class's boundary band, which add up over pictures, and their IoU.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, with the band of
the published code (bowenc0221/boundary-iou-api): the pixels of a mask that are at most d pixels from a pixel outside of it,
counted in steps to any of the eight neighbours. What is outside of the picture is outside of the mask, so that a mask has a
boundary where the picture cuts it. d is 2 % of the diagonal, rounded, and 1 at least.
"""

from math import hypot

import numpy as np
import numpy.typing as npt

from maskwright.errors import SettingsError
from maskwright.evaluation.confusion import Counts, OnlyPredicted, mean_over_classes
from maskwright.evaluation.means import Floats

RATIO = 0.02


def count_boundary(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], *, classes: int, ratio: float = RATIO) -> Counts:
    """Boundary pixels of one picture, (classes, 3) int64: in both bands, in that of the truth, in that of the prediction.

    Args:
        truth: (H, W) class of each pixel, 0..classes - 1; anything else is ignored. Ignored pixels are outside of every mask,
            true or predicted, so that a perfect prediction has the same bands although classes often meet in ignored pixels.
        predicted: (H, W) class of each pixel; anything outside 0..classes - 1 is no class.
        classes: how many there are.
        ratio: width of the band over the diagonal of the picture.

    Raises:
        SettingsError: different or other shapes, or a ratio that is not positive.
    """
    if truth.ndim != 2 or truth.shape != predicted.shape or truth.size == 0:
        raise SettingsError(f"truth {truth.shape} and prediction {predicted.shape} must both be (H, W): resize the prediction first")
    if not ratio > 0:
        raise SettingsError(f"the ratio of the band to the diagonal must be over 0, not {ratio}")
    width = max(round(ratio * hypot(*truth.shape)), 1)
    valid = (truth >= 0) & (truth < classes)
    true_map = np.where(valid, truth, classes)
    predicted_map = np.where(valid & (predicted >= 0) & (predicted < classes), predicted, classes)
    true_band, predicted_band = _band(true_map, width), _band(predicted_map, width)
    both = true_band & predicted_band & (true_map == predicted_map)
    maps = (true_map[both], true_map[true_band], predicted_map[predicted_band])
    return np.stack([np.bincount(labels, minlength=classes + 1)[:classes] for labels in maps], axis=1)


def _band(label_map: npt.NDArray[np.integer], width: int) -> npt.NDArray[np.bool_]:
    """Pixels with another label, or the end of the picture, at most `width` away: the bands of all labels at once, (H, W).

    A window holds two labels exactly if two neighbours in it differ, and neighbours that differ are counted by summed areas.
    """
    (rows, columns), reach = label_map.shape, 2 * width
    band = np.ones((rows, columns), dtype=np.bool_)
    if min(rows, columns) > reach:
        across = _summed(label_map[:, 1:] != label_map[:, :-1])
        along = _summed(label_map[1:] != label_map[:-1])
        differing = _in_windows(across, reach + 1, reach) + _in_windows(along, reach, reach + 1)
        band[width : rows - width, width : columns - width] = differing > 0
    return band


def _summed(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Summed-area table: (h, w) to (h + 1, w + 1)."""
    table = np.zeros((marked.shape[0] + 1, marked.shape[1] + 1), dtype=np.int32)
    np.cumsum(np.cumsum(marked, 0, dtype=np.int32), 1, out=table[1:, 1:])
    return table


def _in_windows(table: npt.NDArray[np.int32], height: int, width: int) -> npt.NDArray[np.int32]:
    """Sums over all windows of a size that lie inside."""
    strips = table[height:] - table[:-height]
    return strips[:, width:] - strips[:, :-width]


def boundary_iou(counts: Counts) -> Floats:
    """Boundary IoU of each class, (classes,), in 0..1; NaN where a class is neither in the truth nor predicted.

    Args:
        counts: (classes, 3) of `count_boundary`, of one picture or summed over a set.
    """
    union = counts[:, 1] + counts[:, 2] - counts[:, 0]
    return np.where(union > 0, counts[:, 0] / np.maximum(union, 1), np.nan)


def mean_boundary_iou(counts: Counts, *, only_predicted: OnlyPredicted = "skip") -> float:
    """Mean of the classes' boundary IoU, in 0..1; NaN where no class enters it.

    Args:
        counts: (classes, 3) of `count_boundary`.
        only_predicted: what becomes of classes that are predicted but never true, as in `confusion.mean_over_classes`.
    """
    return mean_over_classes(boundary_iou(counts), counts[:, 1] > 0, only_predicted=only_predicted)
