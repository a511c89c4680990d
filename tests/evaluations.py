"""Small evaluations for tests: what evaluation.json says, and lines made of truth and predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskwright.evaluation.protocol import Protocol
from maskwright.evaluation.statistics import label_statistics, segment_statistics

NAMES = ("sky", "dog", "grass")


def evaluation(*keys: str, names: Sequence[str] = NAMES, protocol: Protocol | None = None, **dataset: Any) -> dict[str, Any]:
    """Of a set of classes without background."""
    return {
        "dataset": {
            "name": "toy", "split": "all", "kind": "classes", "classes": list(names), "background": None, "pictures": 9, "limit": None,
            "shard": None, "words": None, "digest": "", **dataset,
        },
        "protocol": (protocol or Protocol()).as_dict(),
        "methods": [{"key": key, "method": key, "settings": {}, "record": {}} for key in keys],
        "model": {"name": "toy"}, "seed": 0, "versions": {},
    }  # fmt: skip


def line(number: int, key: str, statistics: Mapping[str, Any], *, failed: str | None = None, seconds: float = 1.0) -> dict[str, Any]:
    """One picture and method."""
    return {
        "picture": f"p{number}", "number": number, "method": key, "failed": failed,
        "seconds": {"read": None, "score": seconds, "all": seconds}, "peak_mb": 10.0 * seconds, "statistics": dict(statistics),
    }  # fmt: skip


def labelled(truth: Any, predicted: Any, *, classes: int = 3, thresholds: Sequence[float] = (), confidence: Any = 1.0) -> dict[str, Any]:
    """Statistics of a label map."""
    maps = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    sure = np.broadcast_to(np.asarray(confidence, dtype=np.float32), maps[0].shape)
    background = 0 if thresholds else None
    return label_statistics(*maps, sure, classes=classes, background=background, thresholds=thresholds, probable=False)


def segmented(truth: Any, segments: Any, *, classes: int = 3) -> dict[str, Any]:
    """Statistics of segments without names."""
    return segment_statistics(np.asarray(truth, dtype=np.int64), np.asarray(segments, dtype=np.int64), classes=classes)


def random_maps(seed: int, *, classes: int = 3, right: float = 0.5, size: tuple[int, int] = (12, 10)) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and a prediction of which a share is surely right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, classes, size)
    return truth, np.where(rng.random(size) < right, truth, rng.integers(-1, classes, size))
