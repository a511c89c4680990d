"""Saliency metrics that look at where errors lie: S-measure and weighted F. One row per picture, joined over pictures.

Both compare a probability with a true mask and agree with pysodmetrics 1.6.2 (`normalize=False`) except where said below.
The E-measure needs counts only and is in `saliency`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from maskwright.evaluation.means import Floats, exact_mean
from maskwright.evaluation.saliency import refuse_unfit

Probability = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

TINY = float(np.finfo(np.float64).eps)
BLUR = 5  # pixels, standard deviation of the Gaussian of the weighted F
BLUR_RADIUS = 3  # pixels: its window is 7 x 7
HALF_DISTANCE = 5  # pixels from the object within which an error's weight rises from 1 half the way to 2


@dataclass(frozen=True, eq=False)
class StructureRows:
    """What n pictures gave, one value each.

    Attributes:
        s_measure: (n,) S-measure.
        weighted_f: (n,) weighted F.
    """

    s_measure: Floats
    weighted_f: Floats


@dataclass(frozen=True)
class StructureScores:
    """Metrics of a set of pictures, in 0..1; NaN for a set without pictures.

    Attributes:
        pictures: how many.
        s_measure: mean over pictures.
        weighted_f: mean over pictures.
    """

    pictures: int
    s_measure: float
    weighted_f: float


def measure_structure(probability: Probability, truth: Mask) -> StructureRows:
    """Both measures of one picture, a single row.

    Args:
        probability: (H, W) of the foreground, in 0..1.
        truth: (H, W) bool, the true foreground.

    Raises:
        SettingsError: other shapes or dtypes, no pixels, or values outside of 0..1.
    """
    return StructureRows(np.array([s_measure(probability, truth)]), np.array([weighted_f(probability, truth)]))


def join_structure(parts: Iterable[StructureRows]) -> StructureRows:
    """The rows of all parts, in order; no parts give no rows."""
    rows = list(parts)
    return StructureRows(
        np.concatenate([np.zeros(0), *(part.s_measure for part in rows)]),
        np.concatenate([np.zeros(0), *(part.weighted_f for part in rows)]),
    )


def structure_scores(rows: StructureRows) -> StructureScores:
    """Means over the pictures; their order does not matter, not even to the last bit."""
    return StructureScores(len(rows.s_measure), float(exact_mean(rows.s_measure)), float(exact_mean(rows.weighted_f)))


def s_measure(probability: Probability, truth: Mask, *, alpha: float = 0.5) -> float:
    """S-measure of one picture, in 0..1: alpha x likeness of the objects + (1 - alpha) x likeness of four regions, 0 at least.

    Fan et al., "Structure-measure: A New Way to Evaluate Foreground Maps", ICCV 2017. Where the truth is empty it
    is the mean of 1 - probability, where it is full the mean of the probability, as published. Where the object's centre is
    in the last row or column, regions without pixels count nothing (pysodmetrics gives NaN). A region in which truth and
    prediction are both constant is alike, whatever the two constants are, as published (in pysodmetrics a rounding error of the
    mean can make it 0).

    Args:
        probability: (H, W) of the foreground, in 0..1.
        truth: (H, W) bool, the true foreground.
        alpha: weight of the objects, 0..1.

    Raises:
        SettingsError: as `measure_structure`.
    """
    refuse_unfit(probability, truth)
    values = probability.astype(np.float64, copy=False)
    share = float(truth.mean())
    if share in (0, 1):
        return float(values.mean()) if share else 1 - float(values.mean())
    objects = share * _object_likeness(values[truth]) + (1 - share) * _object_likeness(1 - values[~truth])
    return max(alpha * objects + (1 - alpha) * _regions_likeness(values, truth), 0.0)


def _object_likeness(values: Floats) -> float:
    """How near to 1 and how even the values of one side are."""
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + spread)


def _regions_likeness(values: Floats, truth: Mask) -> float:
    """Likeness of the four blocks around the centre of the true foreground, each weighed by its pixels."""
    row, column = (round(float(where.mean())) + 1 for where in np.nonzero(truth))  # the centre is in the upper left block
    blocks = [(rows, columns) for rows in (slice(row), slice(row, None)) for columns in (slice(column), slice(column, None))]
    weighed = [truth[block].size * _block_likeness(values[block], truth[block]) for block in blocks if truth[block].size]
    return sum(weighed) / truth.size


def _block_likeness(values: Floats, truth: Mask) -> float:
    """SSIM of one block without its constants: likeness of means times that of spreads times correlation."""
    one, other = float(values.mean()), float(truth.mean())
    # The mean of equal values may be off in the last bit, which must not make them look uneven.
    one_off = values - one if np.ptp(values) > 0 else np.zeros_like(values)
    other_off = truth - other
    free = max(truth.size - 1, 1)
    alike = 4 * one * other * float((one_off * other_off).sum()) / free
    most = (one**2 + other**2) * float((one_off**2).sum() + (other_off**2).sum()) / free
    return alike / most if most > 0 else 1.0


def weighted_f(probability: Probability, truth: Mask) -> float:
    """Weighted F of one picture with beta 1, in 0..1: errors weigh by their place.

    Margolin et al., "How to Evaluate Foreground Maps?", CVPR 2014. Errors inside the object are smoothed with their
    surroundings, so that a hole in a hit weighs less than a missed part; errors outside weigh 1 at the object and up to 2 far
    away. Outside of the picture there is no error, so that an object at its edge is not 0 even where nothing is predicted, as
    published. An empty truth gives 1 if nothing is predicted and 0 otherwise (pysodmetrics gives 0 for every empty truth).

    Args:
        probability: (H, W) of the foreground, in 0..1.
        truth: (H, W) bool, the true foreground.

    Raises:
        SettingsError: as `measure_structure`.
    """
    refuse_unfit(probability, truth)
    if not truth.any():
        return 0.0 if probability.any() else 1.0
    error = np.abs(probability.astype(np.float64, copy=False) - truth)
    distance, nearest = ndimage.distance_transform_edt(~truth, return_indices=True)
    # Smoothing sees, outside of the object, the error of the object's nearest pixel.
    smooth = ndimage.gaussian_filter(error[tuple(nearest)], BLUR, mode="constant", radius=BLUR_RADIUS)
    inside = np.minimum(error, smooth)[truth]
    outside = (error * (2 - 0.5 ** (distance / HALF_DISTANCE)))[~truth]
    hit, invented = truth.sum() - inside.sum(), outside.sum()
    recall, precision = 1 - inside.mean(), hit / (hit + invented + TINY)
    return float(2 * recall * precision / (recall + precision + TINY))
