"""Confidence intervals: the pictures of a set are drawn again with replacement, and every metric is computed of each draw.

A metric is a sum of rows, one row per picture, and a function of the sum. So a draw is a vector of weights, all draws are one
matrix product, and no picture is looked at twice. Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13
(percentile intervals); two methods are compared on the same draws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum

import numpy as np
import numpy.typing as npt

from maskwright.evaluation.means import Floats

DRAWS, LEVEL = 1000, 0.95
CHUNK = 100  # draws at a time: their weights for 5,000 pictures are 4 MB


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric of a set of pictures.

    Attributes:
        rows: (pictures, k) float64, what each picture adds.
        finish: (draws, k) sums to (draws,) values; NaN where a draw has none.
        note: what a reader of the number has to know.
    """

    rows: Floats
    finish: Callable[[Floats], Floats]
    note: str = ""

    def value(self) -> float:
        """The metric of all pictures; their order does not matter, not even to the last bit. NaN where it has no value."""
        sums = np.array([fsum(column) for column in self.rows.T.tolist()])
        return float(self.finish(sums[None])[0]) if len(self.rows) else float("nan")

    def draws(self, weights: Floats) -> Floats:
        """The metric of each draw, (draws,), for weights (draws, pictures)."""
        parts = [self.finish(weights[first : first + CHUNK] @ self.rows) for first in range(0, len(weights), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)


def mean_metric(values: Floats, *, note: str = "") -> Metric:
    """The mean of one value per picture, (pictures,); pictures whose value is NaN are left out."""
    there = ~np.isnan(values)
    return Metric(np.stack([np.where(there, values, 0.0), there], axis=1), lambda sums: ratio(sums[:, 0], sums[:, 1]), note)


def ratio(above: Floats | npt.NDArray[np.integer], below: Floats | npt.NDArray[np.integer]) -> Floats:
    """One over the other, (draws,); NaN where the other is 0."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def draw_weights(pictures: int, *, seed: int = 0, draws: int = DRAWS) -> Floats:
    """How often each picture is in each draw, (draws, pictures) float64; each draw has as many pictures as there are."""
    if not pictures:
        return np.zeros((draws, 0))
    rng = np.random.default_rng(seed)
    return rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=draws).astype(np.float64)


def interval(values: Floats, *, level: float = LEVEL) -> tuple[float, float]:
    """The middle part of the draws, (low, high); draws without a value are left out, and NaN stands for none at all."""
    there = values[~np.isnan(values)]
    if not len(there):
        return float("nan"), float("nan")
    low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
