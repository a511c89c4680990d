"""From the statistics of one method's pictures to its metrics, each still open for the bootstrap."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from maskwright.evaluation.bootstrap import Metric, mean_metric, ratio
from maskwright.evaluation.calibration import UNIT
from maskwright.evaluation.confusion import Counts, mean_iou
from maskwright.evaluation.matching import Spare, assign_segments, matched_counts
from maskwright.evaluation.means import Floats
from maskwright.evaluation.protocol import Protocol
from maskwright.evaluation.saliency import SELFMASK_BETA_SQUARED as SELFMASK
from maskwright.evaluation.saliency import TOKENCUT_BETA_SQUARED as TOKENCUT
from maskwright.evaluation.saliency import e_adaptive, e_curves, f_curves, foreground_accuracy, foreground_iou
from maskwright.evaluation.statistics import NO_THRESHOLD, from_triples, read_boundary, read_calibration, read_saliency
from maskwright.evaluation.tally import Tally

Row = Mapping[str, Any]
CHOSEN = "chosen on the ground truth"
ORACLE = "oracle: asked for the classes of each picture's truth"


@dataclass(frozen=True, eq=False)
class Findings:
    """What one method's pictures say.

    Attributes:
        metrics: by name, the main one first.
        per_picture: (pictures,) the value of each picture, NaN where it has none.
        total: (classes, classes + 1) confusion counts of the set, None where no classes were counted.
        thresholds: mIoU of the set by background threshold, where several were tried.
        best: the one of them with the highest mIoU.
    """

    metrics: Mapping[str, Metric]
    per_picture: Floats
    total: Counts | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    best: str | None = None


def find(rows: Sequence[Row], dataset: Mapping[str, Any], protocol: Protocol) -> Findings:
    """All metrics of one method; pictures without statistics (their truth cannot be read) count as 0 where pictures are averaged.

    Args:
        rows: the "statistics" of its pictures, by rising number.
        dataset: its part of evaluation.json.
        protocol: how to match and average.
    """
    kinds = {kind for row in rows for kind in row}
    found: list[Findings] = []
    if "saliency" in kinds:
        found.append(_saliency(rows))
    if "confusion" in kinds:
        found.append(_labelled(rows, len(dataset["classes"]), protocol))
    if "overlaps" in kinds:
        found.append(_segmented(rows, len(dataset["classes"]), dataset["background"], protocol))
    if "agreement" in kinds:
        found.append(_agreement(rows))
    if "boxes" in kinds:
        found.append(_boxes(rows))
    if not found:
        return Findings({}, np.full(len(rows), np.nan))
    first, *others = found
    for other in others:
        first = replace(
            first, metrics={**first.metrics, **other.metrics}, total=other.total, thresholds=other.thresholds, best=other.best
        )  # fmt: skip
    return first


def _labelled(rows: Sequence[Row], classes: int, protocol: Protocol) -> Findings:
    """Confusion counts at one or several background thresholds, the first of which is the fixed one."""
    keys = next(list(row["confusion"]) for row in rows if "confusion" in row)
    tallies = {key: Tally.of(_tables(rows, key, classes), classes) for key in keys}
    fixed = keys[0]
    oracle = ORACLE if protocol.tells_classes else ""
    note = _joined("" if fixed == NO_THRESHOLD else f"background threshold {float(fixed):g}", oracle)
    found = _of_tally(tallies[fixed], protocol, note)
    metrics = dict(found.metrics)
    if any("boundary" in row for row in rows):
        bands = np.array([read_boundary(row.get("boundary", ()), classes).T.ravel() for row in rows], dtype=np.float64)
        metrics["boundary_iou"] = Metric(bands, lambda sums: Tally.miou(sums, protocol), note)
    if any("calibration" in row for row in rows):
        bins = np.array([read_calibration(row.get("calibration", ())).ravel() for row in rows], dtype=np.float64)
        metrics["calibration_error"] = Metric(bins, _calibration, _joined("scores taken as probabilities, 15 bins", note))
    if len(keys) == 1:
        return replace(found, metrics=metrics)
    thresholds = {key: mean_iou(tallies[key].total, only_predicted=protocol.only_predicted) for key in sorted(keys, key=float)}
    best = max(thresholds, key=lambda key: (not np.isnan(thresholds[key]), thresholds[key]))
    chosen = _of_tally(tallies[best], protocol, _joined(f"background threshold {float(best):g}, {CHOSEN}", oracle))
    (main, metric), *others = metrics.items()
    ordered = dict([(main, metric), (f"{main}_best_threshold", chosen.metrics[main]), *others])
    return replace(found, metrics=ordered, thresholds=thresholds, best=best)


def _tables(rows: Sequence[Row], key: str, classes: int) -> Iterable[Counts]:
    return (from_triples(row.get("confusion", {}).get(key, ()), (classes, classes + 1)) for row in rows)


def _segmented(rows: Sequence[Row], classes: int, background: int | None, protocol: Protocol) -> Findings:
    """Overlaps with segments without names: matched per picture, or once over the data set."""
    spare: Spare = "published" if protocol.spare == "background" and background is None else protocol.spare
    if protocol.matching == "picture":
        own = (_overlaps(row, classes, row.get("segments", 0)) for row in rows)
        tally = Tally.of((matched_counts(table, spare=spare, background=background) for table in own), classes)
        return _of_tally(tally, protocol, f"segments matched per picture, spare ones: {protocol.spare}")
    most = max(row.get("segments", 0) for row in rows)
    padded = [_overlaps(row, classes, most) for row in rows]
    assigned = np.append(assign_segments(np.sum(padded, axis=0), spare=spare), classes)
    tally = Tally.of((_assign(table, assigned, leave_out=classes if spare == "stego" else None) for table in padded), classes)
    return _of_tally(tally, protocol, f"the k-th largest segments of all pictures matched together, spare ones: {protocol.spare}")


def _overlaps(row: Row, classes: int, segments: int) -> Counts:
    """(classes, segments + 1); what is in no segment stays in the last column."""
    last = row.get("segments", 0)
    counts = from_triples(row.get("overlaps", ()), (classes, last + 1))
    wide = np.zeros((classes, segments + 1), dtype=np.int64)
    wide[:, :last], wide[:, -1] = counts[:, :last], counts[:, last]
    return wide


def _assign(overlaps: Counts, assigned: Counts, *, leave_out: int | None) -> Counts:
    """Confusion counts of one picture for classes that the whole set has given its segments; see `matching` on what STEGO leaves out."""
    classes, columns = overlaps.shape
    if leave_out is not None:
        numbers = np.arange(columns)
        overlaps = np.where((numbers < leave_out) & (numbers < columns - 1), overlaps, 0)
    counts = np.zeros((classes, classes + 1), dtype=np.int64)
    np.add.at(counts.T, assigned, overlaps.T)
    return counts


def _of_tally(tally: Tally, protocol: Protocol, note: str) -> Findings:
    """The metrics of confusion counts, the protocol's own mean IoU first."""
    own = Tally.miou(tally.rows, protocol)
    metrics = {
        "miou": Metric(tally.rows, lambda sums: Tally.miou(sums, protocol, over_set=True), _joined("counts summed over the set", note)),
        "picture_miou": mean_metric(np.where(tally.unread, 0.0, own), note=_joined("mean over pictures", note)),
    }
    if protocol.average == "pictures":
        metrics = dict(reversed(metrics.items()))
    metrics |= {
        "pixel_accuracy": Metric(tally.rows, Tally.pixel_accuracy, note),
        "mean_accuracy": Metric(tally.rows, Tally.mean_accuracy, note),
        "frequency_weighted_iou": Metric(tally.rows, Tally.frequency_weighted_iou, note),
    }
    return Findings(metrics, own, tally.total)


def _calibration(sums: Floats) -> Floats:
    """`calibration.calibration_error` of each row of (draws, bins x 3)."""
    pixels, right, confidence = np.moveaxis(sums.reshape(len(sums), -1, 3), 2, 0)
    return ratio(np.abs(confidence / UNIT - right).sum(1), pixels.sum(1))


def _saliency(rows: Sequence[Row]) -> Findings:
    """Saliency; a picture without statistics has the worst value of each metric."""
    there = [row for row in rows if "saliency" in row]
    places = [place for place, row in enumerate(rows) if "saliency" in row]
    counts = read_saliency([row["saliency"] for row in there])

    def spread(values: Floats, worst: float = 0.0) -> Floats:
        full = np.full((len(rows), *values.shape[1:]), worst)
        full[places] = values
        return full

    own, curve, aligned = (spread(v) for v in (foreground_iou(counts), f_curves(counts, beta_squared=TOKENCUT), e_curves(counts)))
    metrics = {
        "iou": mean_metric(own, note="foreground at 0.5, mean over pictures"),
        "accuracy": mean_metric(spread(foreground_accuracy(counts)), note="foreground at 0.5, mean over pictures"),
        "mae": mean_metric(spread(counts.error, 1.0), note="0 is best"),
        "max_f_tokencut": _largest(curve[:, 1:], "beta squared 0.3, largest of the mean curve"),
        "max_f_selfmask": mean_metric(
            spread(f_curves(counts, beta_squared=SELFMASK)[:, 1:].max(1)), note="beta squared 0.09, mean of each picture's largest"
        ),
        "mean_f": mean_metric(curve.mean(1), note="beta squared 0.3"),
        "max_e": _largest(aligned, "largest of the mean curve"),
        "mean_e": mean_metric(aligned.mean(1)),
        "adaptive_e": mean_metric(spread(e_adaptive(counts))),
        **{name: mean_metric(spread(np.array([row["structure"][name] for row in there]))) for name in ("s_measure", "weighted_f")},
    }
    return Findings(metrics, own)


def _largest(curves: Floats, note: str) -> Metric:
    """The largest value of the mean of curves (pictures, thresholds)."""
    rows = np.concatenate([curves, np.ones((len(curves), 1))], axis=1)
    return Metric(rows, lambda sums: (sums[:, :-1] / sums[:, -1:]).max(1), note)


def _agreement(rows: Sequence[Row]) -> Findings:
    """Region agreement: of a picture the mean over annotators or the best one, then the mean over pictures."""
    there = [row.get("agreement") for row in rows]

    def own(name: str, choose: Callable[[Sequence[float]], float], worst: float = 0.0) -> Floats:
        return np.array([worst if row is None else choose([_number(value) for value in row[name]]) for row in there])

    covered = own("covering", statistics.fmean)
    pooled = [_pooled(row["covering"], row["pixels"]) if row else (0.0, 0.0) for row in there]
    metrics = {
        "covering": mean_metric(covered, note="mean over annotators"),
        "covering_best": mean_metric(own("covering", max), note="best annotator"),
        "covering_pooled": Metric(np.array(pooled), _ratio_of_two, "all regions of all annotators at once, as the BSDS benchmark"),
        "rand": mean_metric(own("rand", statistics.fmean), note="probabilistic Rand index"),
        "variation": mean_metric(own("variation", statistics.fmean, np.nan), note="of information in bits, 0 is best"),
        "variation_best": mean_metric(own("variation", min, np.nan), note="best annotator; bits, 0 is best"),
        "region_iou": mean_metric(own("iou", statistics.fmean), note="matched regions, mean over annotators"),
        "region_iou_best": mean_metric(own("iou", max), note="matched regions, best annotator"),
    }
    return Findings(metrics, covered)


def _pooled(shares: Sequence[float | None], pixels: Sequence[int]) -> tuple[float, float]:
    """Covered and all pixels of one picture, over its annotators."""
    covered = [share * count for share, count in zip(map(_number, shares), pixels, strict=True) if count]
    return sum(covered), float(sum(pixels))


def _ratio_of_two(sums: Floats) -> Floats:
    return ratio(sums[:, 0], sums[:, 1])


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _boxes(rows: Sequence[Row]) -> Findings:
    own = np.array([row["boxes"]["iou"] if "boxes" in row else 0.0 for row in rows])
    hits = np.array([float("boxes" in row and row["boxes"]["hit"]) for row in rows])
    return Findings({"corloc": mean_metric(hits, note="a box hits at IoU 0.5"), "box_iou": mean_metric(own)}, own)


def _joined(one: str, other: str) -> str:
    return "; ".join(part for part in (one, other) if part)
