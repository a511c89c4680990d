"""Mean IoU and accuracy in two steps: counts that add up over pictures, and pure functions of the counts.

Which classes enter a mean over classes changes it: see `mean_over_classes`.
"""

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from maskwright.errors import SettingsError
from maskwright.evaluation.means import Floats, exact_mean

OnlyPredicted = Literal["skip", "zero"]

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


def mean_iou(counts: Counts, *, only_predicted: OnlyPredicted = "skip", spare_class: bool = False) -> float:
    """Mean of the classes' IoU, in 0..1; NaN where no class enters it.

    Args:
        counts: (classes, classes + 1), of one picture or a set.
        only_predicted: what becomes of classes that are predicted but never true, as in `mean_over_classes`.
        spare_class: pixels that are in no class, if there are any, form one more class of IoU 0, as in the published code of
            STEGO when it has more clusters than classes.
    """
    ious, occurs = class_iou(counts), counts.sum(1) > 0
    if spare_class and counts[:, -1].any():
        ious, occurs = np.append(ious, 0.0), np.append(occurs, True)
    return mean_over_classes(ious, occurs, only_predicted=only_predicted)


def mean_over_classes(values: Floats, occurs: npt.NDArray[np.bool_], *, only_predicted: OnlyPredicted = "skip") -> float:
    """Mean of one value per class, (classes,); NaN where no class enters it.

    Args:
        values: NaN for classes that are neither true nor predicted.
        occurs: (classes,) whether the class is in the truth.
        only_predicted: "skip": the mean is over the classes that occur in the truth; one that is only predicted still lowers
            the IoU of those whose pixels it took. "zero": such a class counts as 0, as with the nanmean in the published
            evaluation of DiffSeg, DiffCut and STEGO, and in torchmetrics. Both are the same where every class occurs.

    Raises:
        SettingsError: an unknown `only_predicted`.
    """
    if only_predicted not in get_args(OnlyPredicted):
        raise SettingsError(f"only_predicted must be one of {', '.join(get_args(OnlyPredicted))}, not {only_predicted!r}")
    chosen = values[occurs if only_predicted == "skip" else ~np.isnan(values)]
    return float(chosen.mean()) if chosen.size else float("nan")


def frequency_weighted_iou(counts: Counts) -> float:
    """IoU of the classes, each weighed by its share of the true pixels, in 0..1; NaN where no pixel counts.

    Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5.
    """
    pixels = counts.sum(1)
    occurs = pixels > 0
    return float(pixels[occurs] @ class_iou(counts)[occurs] / pixels.sum()) if occurs.any() else float("nan")


def pixel_accuracy(counts: Counts) -> float:
    """Share of valid pixels with the right class, in 0..1; NaN where no pixel counts."""
    total = counts.sum()
    return float(counts.diagonal().sum() / total) if total else float("nan")


def class_accuracy(counts: Counts) -> Floats:
    """Share of each class's pixels that are found, (classes,); NaN where a class is not in the truth."""
    pixels = counts.sum(1)
    return np.where(pixels > 0, counts.diagonal() / np.maximum(pixels, 1), np.nan)


def mean_accuracy(counts: Counts) -> float:
    """Mean of `class_accuracy` over the classes that occur in the truth, in 0..1; NaN where none does."""
    return mean_over_classes(class_accuracy(counts), counts.sum(1) > 0)


def mean_over_pictures(values: Iterable[float]) -> float:
    """Mean of one value per picture, for instance the `mean_iou` of its own counts: the per-picture mean IoU.

    It is not the mean IoU of the summed counts: every picture weighs the same, and a class only counts where it is. Pictures
    without a value (NaN: none of their pixels counts) are left out. The order of the pictures does not matter, not even to
    the last bit.

    Returns:
        NaN without pictures that have a value.
    """
    rows = np.fromiter(values, dtype=np.float64)
    return float(exact_mean(rows[~np.isnan(rows)]))
