"""Whether scores can be believed, in two steps: counts per bin of confidence, which add up, and the calibration error.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2: among the pixels that a method gives a
probability near 0.8, eight of ten should be right.
"""

import numpy as np
import numpy.typing as npt

from maskwright.errors import SettingsError
from maskwright.evaluation.confusion import Counts
from maskwright.evaluation.means import Floats

BINS = 15
UNIT = 2**24  # confidences are summed as integers, so that shards add up to the same bits; room for 5e11 pixels


def count_confidence(
    truth: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    confidence: npt.NDArray[np.floating],
    *,
    classes: int,
    bins: int = BINS,
) -> Counts:
    """Counts of one picture per bin of confidence, (bins, 3) int64: pixels, those that are right, sum of confidence x 2^24.

    Bin m of M holds the confidences over (m - 1) / M up to m / M, as in the paper; 0 is in the first. (torchmetrics puts a
    confidence on an edge into the next bin.)

    Args:
        truth: class of each pixel, 0..classes - 1; anything else is ignored.
        predicted: the winning class of each pixel, of the same shape; anything else than the true class is wrong.
        confidence: probability in 0..1 of the winning class, of the same shape.
        classes: how many there are.
        bins: how many there are.

    Raises:
        SettingsError: different shapes, no bin, or values outside of 0..1.
    """
    if not truth.shape == predicted.shape == confidence.shape:
        shapes = f"{truth.shape}, {predicted.shape} and {confidence.shape}"
        raise SettingsError(f"truth, prediction and confidence differ in shape, {shapes}: resize them first")
    if bins < 1:
        raise SettingsError(f"bins must be at least 1, not {bins}")
    valid = (truth >= 0) & (truth < classes)
    values = confidence[valid].astype(np.float64)
    if not ((values >= 0) & (values <= 1)).all():  # so that NaN is refused as well
        raise SettingsError("the confidence leaves 0..1 or is NaN: give probabilities, not scores or logits")
    number = (np.ceil(values * bins).astype(np.int64) - 1).clip(0)
    counts = np.zeros((bins, 3), dtype=np.int64)
    counts[:, 0] = np.bincount(number, minlength=bins)
    counts[:, 1] = np.bincount(number[(truth == predicted)[valid]], minlength=bins)
    np.add.at(counts[:, 2], number, np.round(values * UNIT).astype(np.int64))
    return counts


def reliability(counts: Counts) -> Floats:
    """Mean confidence and share of right pixels of each bin, (bins, 2), in 0..1: the reliability diagram. NaN in empty bins.

    Args:
        counts: (bins, 3) of `count_confidence`, of one picture or summed over a set.
    """
    pixels = counts[:, :1]
    return np.where(pixels > 0, counts[:, [2, 1]] / (UNIT, 1) / np.maximum(pixels, 1), np.nan)


def calibration_error(counts: Counts) -> float:
    """Expected calibration error: |confidence - accuracy| of the bins, weighed by their pixels, in 0..1; NaN without pixels.

    Args:
        counts: (bins, 3) of `count_confidence`, of one picture or summed over a set.
    """
    pixels = int(counts[:, 0].sum())
    return float(np.abs(counts[:, 2] / UNIT - counts[:, 1]).sum() / pixels) if pixels else float("nan")
