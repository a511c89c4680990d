"""Saliency metrics in two steps: counts of one picture, which are joined over pictures, and pure functions of the counts.

Thresholds. A probability p has the level ceil(255 p), 0..255, so a prediction stored in 8 bits keeps its own values. At
threshold t a pixel is foreground when its level is at least t, which for t = 1..255 is p > (t - 1) / 255. These 255
thresholds are those of the published code of TokenCut and of SelfMask, and the maximal F is taken over them. t = 0 calls every
pixel foreground, whatever was predicted; pysodmetrics counts it as a 256th threshold, so it is part of the curves, of both
means and of the maximal E, but not of the maximal F (with it an empty prediction would score). On 8-bit predictions that span
0..255 the curves are those of pysodmetrics, which stretches every prediction to that span; nothing is stretched here.

The E-measure (Fan et al., "Enhanced-alignment Measure for Binary Foreground Map Evaluation", IJCAI 2018) compares two masks
after subtracting their means, and needs the same counts only. It is the mean over pixels here, as in the paper; the published
code and pysodmetrics divide by one pixel less, so that their values are larger by pixels / (pixels - 1).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from maskwright.errors import SettingsError
from maskwright.evaluation.means import Floats, exact_mean

LEVELS = 256
SLACK = 1e-4  # of a level: k / 255 rounded to float32 still has the level k
TOKENCUT_BETA_SQUARED = 0.3
SELFMASK_BETA_SQUARED = 0.09  # the published code squares its "beta_square" of 0.3

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SaliencyCounts:
    """What n pictures gave, one row each.

    Attributes:
        pixels: (n,) pixels of the picture.
        truth: (n,) foreground pixels of the true mask.
        predicted: (n, 256) pixels that are foreground at each threshold.
        hit: (n, 256) of those, the ones inside the true mask.
        predicted_at_half: (n,) pixels with a probability over 0.5.
        hit_at_half: (n,) of those, the ones inside the true mask.
        predicted_adaptive: (n,) pixels at the picture's own threshold: twice its mean probability, at most 1.
        hit_adaptive: (n,) of those, the ones inside the true mask.
        error: (n,) mean over pixels of |probability - truth|.
    """

    pixels: Counts
    truth: Counts
    predicted: Counts
    hit: Counts
    predicted_at_half: Counts
    hit_at_half: Counts
    predicted_adaptive: Counts
    hit_adaptive: Counts
    error: Floats


@dataclass(frozen=True)
class SaliencyScores:
    """Metrics of a set of pictures, all in 0..1; NaN for a set without pictures.

    Attributes:
        pictures: how many.
        iou: intersection over union of the foreground at 0.5, mean over pictures.
        accuracy: share of right pixels at 0.5, mean over pictures.
        mae: mean absolute error of the probability, mean over pictures (some published code takes it of the mask at 0.5).
        max_f_tokencut: beta squared 0.3; F is averaged over pictures at each threshold, then the largest is taken.
        max_f_selfmask: beta squared 0.09; the largest F of each picture is averaged. Not comparable with the one before.
        mean_f: beta squared 0.3; F averaged over pictures and over all 256 thresholds.
        max_e: E-measure averaged over pictures at each threshold, then the largest over all 256, as in pysodmetrics.
        mean_e: E-measure averaged over pictures and over all 256 thresholds.
        adaptive_e: E-measure at each picture's own threshold, mean over pictures.
    """

    pictures: int
    iou: float
    accuracy: float
    mae: float
    max_f_tokencut: float
    max_f_selfmask: float
    mean_f: float
    max_e: float
    mean_e: float
    adaptive_e: float


def count_saliency(probability: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> SaliencyCounts:
    """Counts of one picture, a single row.

    Args:
        probability: (H, W) of the foreground, in 0..1.
        truth: (H, W) bool, the true foreground.

    Raises:
        SettingsError: other shapes or dtypes, no pixels, or values outside of 0..1.
    """
    refuse_unfit(probability, truth)
    values = probability.astype(np.float64, copy=False)
    levels = np.ceil(values * (LEVELS - 1) - SLACK).clip(0).astype(np.int64)
    half = probability > 0.5
    # The published threshold of an empty prediction is 0, which calls all of it foreground; here it stays empty.
    adaptive = (values >= min(2 * values.mean(), 1)) & (values > 0)
    return SaliencyCounts(
        pixels=np.array([truth.size]),
        truth=np.array([np.count_nonzero(truth)]),
        predicted=_at_thresholds(levels.ravel()),
        hit=_at_thresholds(levels[truth]),
        predicted_at_half=np.array([np.count_nonzero(half)]),
        hit_at_half=np.array([np.count_nonzero(half & truth)]),
        predicted_adaptive=np.array([np.count_nonzero(adaptive)]),
        hit_adaptive=np.array([np.count_nonzero(adaptive & truth)]),
        error=np.array([np.abs(values - truth).mean()]),
    )


def refuse_unfit(probability: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> None:
    """Raises SettingsError unless both are (H, W) with pixels, the truth is bool and the probability is in 0..1."""
    if truth.dtype != np.bool_ or truth.ndim != 2 or truth.shape != probability.shape or truth.size == 0:
        found = f"{probability.shape} and {truth.shape} {truth.dtype}"
        raise SettingsError(f"a probability (H, W) and a bool mask of the same size are needed, not {found}: resize or threshold first")
    if not (probability.min() >= 0 and probability.max() <= 1):  # so that NaN is refused as well
        raise SettingsError("the probability leaves 0..1 or is NaN: scale or clip it first")


def _at_thresholds(levels: Counts) -> Counts:
    """How many levels (n,) are at least 0, 1, ... 255: (1, 256)."""
    return np.bincount(levels, minlength=LEVELS)[::-1].cumsum()[None, ::-1]


def join_counts(parts: Iterable[SaliencyCounts]) -> SaliencyCounts:
    """The rows of all parts, in order; no parts give no rows."""
    none, curve = np.zeros(0, dtype=np.int64), np.zeros((0, LEVELS), dtype=np.int64)
    rows = [SaliencyCounts(none, none, curve, curve, none, none, none, none, np.zeros(0)), *parts]
    joined = {field.name: np.concatenate([getattr(part, field.name) for part in rows]) for field in fields(SaliencyCounts)}
    return SaliencyCounts(**joined)


def foreground_iou(counts: SaliencyCounts) -> Floats:
    """Intersection over union at 0.5 of each picture, (n,). An empty prediction of an empty truth is right: 1."""
    union = counts.truth + counts.predicted_at_half - counts.hit_at_half
    return np.where(union > 0, counts.hit_at_half / np.maximum(union, 1), 1.0)


def foreground_accuracy(counts: SaliencyCounts) -> Floats:
    """Share of right pixels at 0.5 of each picture, (n,)."""
    wrong = counts.truth + counts.predicted_at_half - 2 * counts.hit_at_half
    return 1 - wrong / counts.pixels


def f_curves(counts: SaliencyCounts, *, beta_squared: float) -> Floats:
    """F = (1 + beta²) P R / (beta² P + R) of each picture at each threshold, (n, 256).

    0 where nothing is hit; 1 where nothing is true and nothing predicted (pysodmetrics gives 0 for every empty truth).
    """
    # (1 + beta²) TP / (beta² T + P), summed the same way above and below: rounding never makes it larger than 1.
    weighed = counts.predicted + beta_squared * counts.truth[:, None]
    return np.where(weighed > 0, (counts.hit + beta_squared * counts.hit) / np.where(weighed > 0, weighed, 1), 1.0)


def max_f_tokencut(counts: SaliencyCounts) -> float:
    """The largest of the mean curve, beta squared 0.3 (TokenCut, Wang et al. 2022)."""
    return float(exact_mean(f_curves(counts, beta_squared=TOKENCUT_BETA_SQUARED)[:, 1:]).max())


def max_f_selfmask(counts: SaliencyCounts) -> float:
    """The mean of each curve's largest, beta squared 0.09 (SelfMask, Shin et al. 2022; FOUND, Siméoni et al. 2023)."""
    return float(exact_mean(f_curves(counts, beta_squared=SELFMASK_BETA_SQUARED)[:, 1:].max(1)))


def e_curves(counts: SaliencyCounts) -> Floats:
    """E-measure of each picture at each threshold, (n, 256), in 0..1.

    1 where prediction and truth are the same, 1/4 where a truth that is neither empty nor full meets a prediction that is
    either. Where the truth is empty, E is the share of background; where it is full, the share of foreground.
    """
    return _alignment(counts.pixels[:, None], counts.truth[:, None], counts.predicted, counts.hit)


def e_adaptive(counts: SaliencyCounts) -> Floats:
    """E-measure of each picture at its own threshold, (n,), in 0..1; special cases as in `e_curves`.

    pysodmetrics differs where nothing at all is predicted and the truth is empty (0 there, 1 here) or full (1 there, 0 here).
    """
    return _alignment(counts.pixels, counts.truth, counts.predicted_adaptive, counts.hit_adaptive)


def _alignment(pixels: Counts, truth: Counts, predicted: Counts, hit: Counts) -> Floats:
    """Mean over pixels of (1 + xi)² / 4 with xi = 2 a b / (a² + b²), a and b the two masks without their means.

    Pixels differ only in whether they are predicted and whether they are true, so four sums stand for the whole picture.
    """
    aligned = np.zeros(predicted.shape)
    for is_predicted, is_true, number in (
        (1, 1, hit), (1, 0, predicted - hit), (0, 1, truth - hit), (0, 0, pixels - truth - predicted + hit)
    ):  # fmt: skip
        a, b = is_predicted - predicted / pixels, is_true - truth / pixels
        norm = a * a + b * b
        aligned += number * (1 + 2 * a * b / np.where(norm > 0, norm, 1)) ** 2 / 4
    return np.select([truth == 0, truth == pixels], [1 - predicted / pixels, predicted / pixels], aligned / pixels)


def saliency_scores(counts: SaliencyCounts) -> SaliencyScores:
    """All metrics of the pictures that were counted; the order of the pictures does not matter, not even to the last bit."""
    f_curve, e_curve = exact_mean(f_curves(counts, beta_squared=TOKENCUT_BETA_SQUARED)), exact_mean(e_curves(counts))
    return SaliencyScores(
        pictures=len(counts.pixels),
        iou=float(exact_mean(foreground_iou(counts))),
        accuracy=float(exact_mean(foreground_accuracy(counts))),
        mae=float(exact_mean(counts.error)),
        max_f_tokencut=max_f_tokencut(counts),
        max_f_selfmask=max_f_selfmask(counts),
        mean_f=float(exact_mean(f_curve)),
        max_e=float(e_curve.max()),
        mean_e=float(exact_mean(e_curve)),
        adaptive_e=float(exact_mean(e_adaptive(counts))),
    )
