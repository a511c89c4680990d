"""From the lines of an evaluation to its numbers: pure functions, so that shards, a merged folder and a single run give the same bits."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from maskwright.evaluation.bootstrap import DRAWS, draw_weights, interval
from maskwright.evaluation.confusion import Counts, class_iou
from maskwright.evaluation.findings import Findings, find
from maskwright.evaluation.means import Floats
from maskwright.evaluation.protocol import Protocol

Line = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Drawn:
    """One method's metrics by name, of the set and of each draw, and the pictures that they are of."""

    pictures: tuple[int, ...]
    values: Mapping[str, float]
    draws: Mapping[str, Floats]


def summarise(evaluation: Mapping[str, Any], lines: Sequence[Line], *, draws: int = DRAWS) -> dict[str, Any]:
    """Every metric of every method with its 95 % interval, and the differences between methods with theirs.

    Args:
        evaluation: of evaluation.json.
        lines: of pictures.jsonl, in any order.
        draws: of the bootstrap over pictures; two methods are compared on the same ones.

    Returns:
        {"methods": {key: {"metrics": {name: {"value", "low", "high", "note"}}, "headline": name of the main metric, "evaluated":
        number of pictures, "classes": [{"name", "iou", "pixels"}], "pictures": [{"name", "value"}], "confusion": [[...]] or None,
        "failed": [{"picture", "reason"}], "seconds": median, "peak_mb": largest, "settings", "best_threshold", "thresholds":
        {threshold: mIoU} or None}}, "pairs": [{"one", "other", "metric", "difference", "low", "high"}], "dataset", "protocol",
        "versions", "model"}; a number without a value is None.
    """
    protocol = Protocol.from_dict(dict(evaluation["protocol"]))
    methods: dict[str, Any] = {}
    drawn: dict[str, Drawn] = {}
    for entry in evaluation["methods"]:
        own = sorted((line for line in lines if line["method"] == entry["key"]), key=lambda line: line["number"])
        found = find([line["statistics"] for line in own], evaluation["dataset"], protocol)
        weights = draw_weights(len(own), seed=evaluation["seed"], draws=draws)
        one = Drawn(
            tuple(line["number"] for line in own), {name: metric.value() for name, metric in found.metrics.items()},
            {name: metric.draws(weights) for name, metric in found.metrics.items()},
        )  # fmt: skip
        drawn[entry["key"]] = one
        methods[entry["key"]] = _describe(found, one, own, evaluation["dataset"]["classes"]) | {"settings": entry["settings"]}
    kept = {key: evaluation[key] for key in ("dataset", "protocol", "versions", "model")}
    return {"methods": methods, "pairs": _pairs(drawn), **kept}


def _describe(found: Findings, drawn: Drawn, lines: Sequence[Line], names: Sequence[str]) -> dict[str, Any]:
    """One method's part of the summary."""
    metrics = {}
    for name, metric in found.metrics.items():
        low, high = interval(drawn.draws[name])
        metrics[name] = {"value": _plain(drawn.values[name]), "low": _plain(low), "high": _plain(high), "note": metric.note}
    seconds = [line["seconds"]["all"] for line in lines if not line["failed"]]
    memory = [line["peak_mb"] for line in lines if line["peak_mb"] is not None]
    values = zip(lines, found.per_picture.tolist(), strict=True)
    return {
        "metrics": metrics,
        "headline": next(iter(metrics), None),
        "evaluated": len(lines),
        "classes": [] if found.total is None else _classes(found.total, names),
        "pictures": [{"name": line["picture"], "value": _plain(value)} for line, value in values],
        "confusion": None if found.total is None else found.total.tolist(),
        "failed": [{"picture": line["picture"], "reason": line["failed"]} for line in lines if line["failed"]],
        "seconds": statistics.median(seconds) if seconds else None,
        "peak_mb": max(memory, default=None),
        "best_threshold": None if found.best is None else float(found.best),
        "thresholds": {key: _plain(value) for key, value in found.thresholds.items()} or None,
    }


def _classes(counts: Counts, names: Sequence[str]) -> list[dict[str, Any]]:
    """IoU and true pixels of each class."""
    rows = zip(names, class_iou(counts).tolist(), counts.sum(1).tolist(), strict=True)
    return [{"name": name, "iou": _plain(iou), "pixels": pixels} for name, iou, pixels in rows]


def _pairs(drawn: Mapping[str, Drawn]) -> list[dict[str, Any]]:
    """The difference of every two methods in every metric that both have, where both have the same pictures."""
    pairs = []
    for (one, mine), (other, theirs) in combinations(drawn.items(), 2):
        for name in mine.values if mine.pictures == theirs.pictures else ():
            if name in theirs.values:
                low, high = interval(mine.draws[name] - theirs.draws[name])
                difference = _plain(mine.values[name] - theirs.values[name])
                pairs.append(
                    {"one": one, "other": other, "metric": name, "difference": difference, "low": _plain(low), "high": _plain(high)}
                )
    return pairs


def _plain(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else value
