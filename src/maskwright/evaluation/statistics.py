"""What is counted for one picture: numbers that add up over pictures, as plain JSON values, and back to arrays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from maskwright.datasets.contract import IGNORE
from maskwright.evaluation.boundary import count_boundary
from maskwright.evaluation.boxes import THRESHOLD, Box, Boxes, box_iou, is_hit
from maskwright.evaluation.calibration import BINS, count_confidence
from maskwright.evaluation.confusion import Counts, count_pixels
from maskwright.evaluation.covering import RegionAgreement, region_agreement
from maskwright.evaluation.matching import count_overlaps
from maskwright.evaluation.saliency import SaliencyCounts, count_saliency
from maskwright.evaluation.structure import measure_structure

LabelMap = npt.NDArray[np.int64]
FloatMap = npt.NDArray[np.float32]
NO_THRESHOLD = "-"
Statistics = dict[str, Any]


def threshold_key(threshold: float | None) -> str:
    """A background threshold as the key of its counts; "-" for none."""
    return NO_THRESHOLD if threshold is None else repr(float(threshold))


def count_thresholds(
    truth: LabelMap, predicted: LabelMap, confidence: FloatMap, *, classes: int, background: int, thresholds: Sequence[float]
) -> dict[str, Counts]:
    """Confusion counts at several background thresholds from one comparison of the pixels.

    Args:
        truth: (H, W), 0..classes - 1; anything else is ignored.
        predicted: (H, W), the class that wins where no threshold stands in its way.
        confidence: (H, W), its score: it wins where this is above the threshold, as in `projection.compete`.
        classes: how many there are.
        background: the class of pixels that nobody wins; `classes` where that is wrong everywhere.
        thresholds: in any order.

    Returns:
        By threshold (classes, classes + 1), as of `confusion.count_pixels`.
    """
    valid = (truth >= 0) & (truth < classes)
    rows, columns = truth[valid], predicted[valid].copy()
    columns[(columns < 0) | (columns >= classes)] = classes
    steps = np.unique(np.asarray(thresholds, dtype=np.float32))
    levels = np.searchsorted(steps, confidence[valid], side="left")  # how many thresholds the score is above
    joint = rows * (classes + 1) + columns
    pairs = np.flatnonzero(np.bincount(joint, minlength=1))  # few of all pairs of classes occur in one picture
    places = np.zeros(classes * (classes + 1), dtype=np.int64)
    places[pairs] = np.arange(len(pairs))
    levelled = np.bincount(places[joint] * (len(steps) + 1) + levels, minlength=len(pairs) * (len(steps) + 1))
    table = levelled.reshape(len(pairs), len(steps) + 1)
    won = table[:, ::-1].cumsum(1)[:, ::-1]  # (pairs, steps + 1): pixels above at least so many thresholds
    found = {}
    for threshold in thresholds:
        place = int(np.searchsorted(steps, np.float32(threshold))) + 1
        counts = np.zeros((classes, classes + 1), dtype=np.int64)
        np.add.at(counts, (pairs // (classes + 1), pairs % (classes + 1)), won[:, place])
        np.add.at(counts, (pairs // (classes + 1), np.full(len(pairs), background)), won[:, 0] - won[:, place])
        found[threshold_key(threshold)] = counts
    return found


def to_nearest(values: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """A map (H, W) at another size, each pixel from the nearest one (centres on centres)."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, values.shape, strict=True)
    )  # fmt: skip
    return np.asarray(values[rows[:, None], columns])


def to_triples(counts: Counts) -> list[list[int]]:
    """The entries of a matrix that are not 0: [row, column, count]."""
    rows, columns = np.nonzero(counts)
    return np.stack([rows, columns, counts[rows, columns]], axis=1).tolist() if len(rows) else []


def from_triples(triples: Sequence[Sequence[int]], shape: tuple[int, int]) -> Counts:
    """The matrix of `to_triples`."""
    rows, columns, numbers = np.array(triples, dtype=np.int64).reshape(-1, 3).T
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (rows, columns), numbers)
    return counts


def label_statistics(
    truth: LabelMap, predicted: LabelMap, confidence: FloatMap, *, classes: int, background: int | None,
    thresholds: Sequence[float], probable: bool,
) -> Statistics:  # fmt: skip
    """Statistics of a text-driven method on a picture with classes.

    Args:
        truth: as for `count_thresholds`.
        predicted: likewise; -1 where nothing won.
        confidence: likewise.
        classes: how many there are.
        background: the class of pixels that nobody wins, if there is one.
        thresholds: of the background; none means that every pixel keeps its label. The first one is the fixed one.
        probable: whether the confidence claims to be a probability, so that its calibration can be measured.

    Returns:
        "confusion", "boundary" and, where probable, "calibration"; the last two at the fixed threshold.
    """
    nobody = classes if background is None else background
    everywhere = np.where(predicted < 0, nobody, predicted)
    fixed, sure = everywhere, confidence
    if thresholds:
        above = confidence > np.float32(thresholds[0])
        fixed, sure = np.where(above, everywhere, nobody), np.maximum(confidence, np.float32(thresholds[0]))
        counts = count_thresholds(truth, everywhere, confidence, classes=classes, background=nobody, thresholds=thresholds)
    else:
        counts = {NO_THRESHOLD: count_pixels(truth, everywhere, classes=classes)}
    statistics: Statistics = {
        "confusion": {key: to_triples(value) for key, value in counts.items()},
        "boundary": _boundary(truth, fixed, classes),
    }
    if probable:
        table = count_confidence(truth, fixed, sure.clip(0, 1), classes=classes)
        statistics["calibration"] = [[place, *row] for place, row in enumerate(table.tolist()) if row[0]]
    return statistics


def segment_statistics(truth: LabelMap, segments: LabelMap, *, classes: int) -> Statistics:
    """Statistics of segments without names on a picture with classes: "overlaps", and how many "segments" there are.

    Args:
        truth: (H, W), 0..classes - 1; anything else is ignored.
        segments: (H, W), 0, 1, ...; negative: in no segment.
        classes: how many there are.
    """
    overlaps = count_overlaps(truth, segments, classes=classes)
    return {"overlaps": to_triples(overlaps), "segments": overlaps.shape[1] - 1}


def saliency_statistics(probability: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> Statistics:
    """Statistics of a foreground probability (H, W) in 0..1: "saliency" and "structure", one value for each field."""
    counts, structure = count_saliency(probability, truth), measure_structure(probability, truth)
    return {"saliency": _one_row(counts), "structure": _one_row(structure)}


def box_statistics(predicted: Box | None, truth: Boxes) -> Statistics:
    """Statistics of the one box of a picture: "boxes", whether it is a hit, and its best IoU."""
    iou = 0.0 if predicted is None or not len(truth) else float(box_iou(predicted, truth).max())
    return {"boxes": {"hit": is_hit(predicted, truth, threshold=THRESHOLD), "iou": iou}}


def agreement_statistics(annotations: Sequence[LabelMap], predicted: LabelMap) -> Statistics:
    """Statistics of a label map against annotators: "agreement", one value for each annotator in each field."""
    agreement = region_agreement(annotations, predicted)
    values = {entry.name: getattr(agreement, entry.name).tolist() for entry in fields(RegionAgreement)}
    return {"agreement": {name: [None if math.isnan(one) else one for one in row] for name, row in values.items()}}


def wrong_labels(truth: LabelMap, *, classes: int, thresholds: Sequence[float]) -> Statistics:
    """What a failed picture counts where classes were asked for: every pixel is wrong, and no other class suffers."""
    pixels = np.bincount(truth[(truth >= 0) & (truth < classes)].ravel(), minlength=classes)
    wrong = [[place, classes, count] for place, count in enumerate(pixels.tolist()) if count]
    nowhere = np.full(truth.shape, IGNORE, dtype=np.int64)
    keys = [threshold_key(threshold) for threshold in thresholds] or [NO_THRESHOLD]
    return {"confusion": {key: wrong for key in dict.fromkeys(keys)}, "boundary": _boundary(truth, nowhere, classes)}


def wrong_segments(truth: LabelMap, *, classes: int) -> Statistics:
    """What a failed picture counts where segments were asked for: none."""
    return segment_statistics(truth, np.full(truth.shape, IGNORE, dtype=np.int64), classes=classes)


def wrong_saliency(truth: npt.NDArray[np.bool_]) -> Statistics:
    """What a failed picture counts where a foreground was asked for: its opposite."""
    return saliency_statistics((~truth).astype(np.float32), truth)


def wrong_agreement(annotations: Sequence[LabelMap]) -> Statistics:
    """What a failed picture counts where regions were asked for: the worst value of each measure."""
    pixels = [annotation.size for annotation in annotations]
    zeros = [0.0] * len(pixels)
    worst = {"covering": zeros, "rand": zeros, "variation": [math.log2(count) for count in pixels], "iou": zeros}
    return {"agreement": {"pixels": pixels, **worst}}  # two partitions of n pixels differ by log2 n bits at most (Meilă 2005)


def read_saliency(rows: Sequence[Mapping[str, Any]]) -> SaliencyCounts:
    """The counts of several pictures from their "saliency"."""
    columns: dict[str, Any] = {
        entry.name: np.array([row[entry.name] for row in rows], dtype=np.float64 if entry.name == "error" else np.int64)
        for entry in fields(SaliencyCounts)
    }
    return SaliencyCounts(**columns)


def read_calibration(rows: Sequence[Sequence[int]]) -> Counts:
    """(bins, 3) of `calibration.count_confidence` from "calibration"."""
    counts = np.zeros((BINS, 3), dtype=np.int64)
    for place, *row in rows:
        counts[place] += row
    return counts


def read_boundary(rows: Sequence[Sequence[int]], classes: int) -> Counts:
    """(classes, 3) of `boundary.count_boundary` from "boundary"."""
    counts = np.zeros((classes, 3), dtype=np.int64)
    for place, *row in rows:
        counts[place] += row
    return counts


def _boundary(truth: LabelMap, predicted: LabelMap, classes: int) -> list[list[int]]:
    """[class, in both bands, in the true one, in the predicted one] for the classes that have any."""
    counts = count_boundary(truth, predicted, classes=classes).tolist()
    return [[place, *row] for place, row in enumerate(counts) if any(row)]


def _one_row(counts: Any) -> dict[str, Any]:
    """The fields of a single row: numbers, and lists of numbers."""
    return {entry.name: getattr(counts, entry.name)[0].tolist() for entry in fields(counts)}
