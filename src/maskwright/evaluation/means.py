"""Means over pictures that do not depend on the order in which shards are joined."""

from math import fsum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def exact_mean(values: Floats) -> Floats:
    """Mean over the first axis from sums that are exact before one final rounding.

    Floating-point addition depends on its order, this does not: two halves of a set, joined either way, give the same bits
    as the whole set.

    Args:
        values: (n,) or (n, k), one row per picture.

    Returns:
        () or (k,); NaN where there are no rows.
    """
    if not len(values):
        return np.full(values.shape[1:], np.nan)
    columns = values.reshape(len(values), -1).T  # (n, k) -> (k, n)
    return np.array([fsum(column.tolist()) / len(values) for column in columns]).reshape(values.shape[1:])
