"""Otsu's threshold: two classes as far apart as they can be (Otsu, 1979)."""

import numpy as np
import numpy.typing as npt

from maskwright.errors import SettingsError


def otsu_threshold(values: npt.ArrayLike, *, bins: int = 256) -> float:
    """The threshold with the largest variance between the values above it and the others.

    Args:
        values: finite numbers of any shape, at least one.
        bins: of the histogram, of equal width from the smallest to the largest value; the threshold is a border of two bins.

    Returns:
        The threshold; the middle of all thresholds that are equally good, as they are where no value lies between the classes. A
        constant comes back as it is, so that nothing is above it.

    Raises:
        SettingsError: for fewer than two bins, no values, or values that are not finite.
    """
    if bins < 2:
        raise SettingsError(f"bins must be 2 or more, not {bins}")
    flat = np.asarray(values, dtype=np.float64).ravel()
    if flat.size == 0 or not np.isfinite(flat).all():
        raise SettingsError("Otsu's threshold needs one or more finite values")
    low, high = float(flat.min()), float(flat.max())
    if not (high - low) / bins > np.spacing(max(abs(low), abs(high))):  # no room for bins between them
        return (low + high) / 2 if low < high else low
    counts, edges = np.histogram(flat, bins, (low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    share = counts.cumsum()[:-1] / flat.size  # of the values in the lower class, above 0 and below 1
    mass = (counts * centres).cumsum() / flat.size
    between = (mass[-1] * share - mass[:-1]) ** 2 / (share * (1 - share))
    first = int(between.argmax())
    equal = int((between[first:] != between[first]).argmax()) or len(between) - first  # empty bins change nothing
    return float((edges[first + 1] + edges[first + equal]) / 2)
