"""Mean IoU in two steps: counts that add up over pictures, and pure functions of the counts."""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def count_pixels(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], *, classes: int) -> Counts:
    """Confusion counts of one picture, (classes, classes + 1) int64: rows truth, columns prediction.

    Args:
        truth: class of each pixel, 0..classes - 1; anything else is ignored.
        predicted: class of each pixel, of the same shape; anything outside 0..classes - 1 counts in the last column,
            as wrong for every class.
        classes: how many there are.
    """
    valid = (truth >= 0) & (truth < classes)
    rows = truth[valid].astype(np.int64)
    columns = predicted[valid].astype(np.int64)
    columns[(columns < 0) | (columns >= classes)] = classes
    return np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def class_iou(counts: Counts) -> npt.NDArray[np.float64]:
    """Intersection over union of each class, (classes,); NaN where a class is neither in the truth nor predicted."""
    classes = len(counts)
    hit = counts[:, :classes].diagonal()
    union = counts.sum(1) + counts[:, :classes].sum(0) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def mean_iou(counts: Counts) -> float:
    """Mean over the classes that occur in the truth; a class that is only predicted lowers the others' unions."""
    occurs = counts.sum(1) > 0
    return float(class_iou(counts)[occurs].mean()) if occurs.any() else float("nan")


def pixel_accuracy(counts: Counts) -> float:
    """Share of valid pixels with the right class."""
    total = counts.sum()
    return float(counts.diagonal().sum() / total) if total else float("nan")
