"""Region metrics of BSDS500: a label map against one or several annotators' region maps.

Arbeláez et al., "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011, section 2.3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum, log

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from maskwright.errors import SettingsError
from maskwright.evaluation.confusion import Counts
from maskwright.evaluation.matching import contingency, matched_mean_iou, pairwise_iou
from maskwright.evaluation.means import Floats, exact_mean


@dataclass(frozen=True, eq=False)
class RegionAgreement:
    """What one picture gave, one value for each annotator.

    Attributes:
        pixels: (annotators,) pixels that count.
        covering: (annotators,) covering of the annotator's regions by the segments.
        rand: (annotators,) Rand index.
        variation: (annotators,) variation of information in bits.
        iou: (annotators,) mean IoU of the annotator's regions, matched one-to-one.
    """

    pixels: Counts
    covering: Floats
    rand: Floats
    variation: Floats
    iou: Floats


@dataclass(frozen=True)
class RegionScores:
    """Metrics of a set of pictures; NaN for a set without pictures, or with one of whose pixels none counts.

    "Mean" is first over the annotators of a picture, "best" is the annotator who suits the prediction most; both are then
    averaged over pictures.

    Attributes:
        pictures: how many.
        covering: mean covering, 0..1.
        covering_best: covering of the best annotator.
        covering_pooled: as the BSDS benchmark sums it: over all regions of all annotators and pictures at once, so that a
            picture counts the more, the more annotators and pixels it has.
        rand: probabilistic Rand index, 0..1.
        variation: mean variation of information in bits, 0 is best.
        variation_best: that of the best annotator.
        iou: mean of the regions' matched IoU, 0..1.
        iou_best: that of the best annotator.
    """

    pictures: int
    covering: float
    covering_best: float
    covering_pooled: float
    rand: float
    variation: float
    variation_best: float
    iou: float
    iou_best: float


def covering(table: Counts) -> float:
    """How well segments cover true regions: the IoU of each region with its best segment, weighed by the region's pixels.

    Args:
        table: (regions, segments) of `matching.contingency`.

    Returns:
        In 0..1; NaN where no pixel counts.
    """
    return float(pairwise_iou(table).max(1) @ table.sum(1) / table.sum()) if table.size else float("nan")


def rand_index(table: Counts) -> float:
    """Share of the pairs of pixels that both maps put together or both keep apart.

    Args:
        table: (regions, segments) of `matching.contingency`.

    Returns:
        In 0..1; 1 for a single pixel, which has no pairs, and NaN where no pixel counts.
    """
    total = int(table.sum())
    if total < 2:
        return 1.0 if total else float("nan")
    apart_in_one = int(np.sum(table.sum(0) ** 2) + np.sum(table.sum(1) ** 2) - 2 * np.sum(table**2))  # int64: 2 gigapixels fit
    return 1 - apart_in_one / (total * (total - 1))


def variation_of_information(table: Counts) -> float:
    """H(truth | prediction) + H(prediction | truth) in bits (Meilă 2005; base 2 as in the BSDS benchmark).

    Args:
        table: (regions, segments) of `matching.contingency`.

    Returns:
        0 or more, 0 for the same partition; NaN where no pixel counts.
    """
    if not table.size:
        return float("nan")
    return max(2 * _bits(table) - _bits(table.sum(0)) - _bits(table.sum(1)), 0.0)


def _bits(counts: Counts) -> float:
    """Entropy of a distribution given by its counts."""
    return float(entr(counts / counts.sum()).sum()) / log(2)


def region_agreement(
    annotations: Sequence[npt.NDArray[np.integer]], predicted: npt.NDArray[np.integer], *, ignore: int | None = None
) -> RegionAgreement:
    """Compares a label map with every annotator's.

    Args:
        annotations: one (H, W) region map per annotator, any integers.
        predicted: (H, W) label map, any integers; each value is a segment, and may have several parts.
        ignore: a value of the annotations whose pixels are left out.

    Raises:
        SettingsError: no annotation, or one of another size.
    """
    if not annotations:
        raise SettingsError("no annotation: give at least one region map")
    tables = [contingency(annotation, predicted, ignore=ignore) for annotation in annotations]
    return RegionAgreement(
        pixels=np.array([table.sum() for table in tables], dtype=np.int64),
        covering=np.array([covering(table) for table in tables]),
        rand=np.array([rand_index(table) for table in tables]),
        variation=np.array([variation_of_information(table) for table in tables]),
        iou=np.array([matched_mean_iou(table) for table in tables]),
    )


def region_scores(pictures: Iterable[RegionAgreement]) -> RegionScores:
    """Metrics of all pictures; their order does not matter, not even to the last bit."""
    rows = list(pictures)
    covered = fsum(share for row in rows for share in (row.covering * row.pixels).tolist())
    pixels = sum(int(row.pixels.sum()) for row in rows)
    return RegionScores(
        pictures=len(rows),
        covering=_mean([row.covering.mean() for row in rows]),
        covering_best=_mean([row.covering.max() for row in rows]),
        covering_pooled=covered / pixels if pixels else float("nan"),
        rand=_mean([row.rand.mean() for row in rows]),
        variation=_mean([row.variation.mean() for row in rows]),
        variation_best=_mean([row.variation.min() for row in rows]),
        iou=_mean([row.iou.mean() for row in rows]),
        iou_best=_mean([row.iou.max() for row in rows]),
    )


def _mean(values: Sequence[float]) -> float:
    return float(exact_mean(np.array(values, dtype=np.float64)))
