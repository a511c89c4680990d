"""Geodesic distances on a picture: how much the colour must change on the way from one pixel to another."""

import numpy as np
import numpy.typing as npt

from maskwright.errors import SettingsError

Array = npt.NDArray[np.float64]


def geodesic_distance(image: npt.ArrayLike) -> Array:
    """The least sum of changes along any path between two pixels, for all pairs of pixels.

    A path steps to any of a pixel's eight neighbours, and a step costs the distance of the two values (L2 over channels). The result is
    exact, as Dijkstra's algorithm from every pixel would give it, in a third of the time: rows of pixels are eliminated one by one
    with small (min, +) matrix products. Time grows with (hw)^2 min(h, w).

    Args:
        image: (h, w) or (h, w, channels) of finite numbers in any unit.

    Returns:
        (hw, hw) float64 in the image's unit, symmetric with a zero diagonal; pixels are numbered row by row.

    Raises:
        SettingsError: for another number of axes, no pixels, or values that are not finite.
    """
    array = np.asarray(image, dtype=np.float64)
    if array.ndim not in (2, 3) or array.size == 0 or not np.isfinite(array).all():
        raise SettingsError(f"geodesic distances need a finite image (h, w) or (h, w, channels), not one of shape {array.shape}")
    array = array.reshape(*array.shape[:2], -1)
    height, width = array.shape[:2]
    if width <= height:
        return _by_rows(array)
    turned = _by_rows(array.swapaxes(0, 1)).reshape(width, height, width, height)  # x y x y
    return turned.transpose(1, 0, 3, 2).reshape(height * width, height * width)


def _by_rows(image: Array) -> Array:
    """All distances of an image (h, w, channels), best with w <= h."""
    height, width = image.shape[:2]
    beside, step = _costs(image)
    above, below = _one_sided(beside, step), _one_sided(beside[::-1], step[::-1].swapaxes(1, 2))[::-1]
    inside = _closure(np.minimum(above, below))
    inside = np.minimum(inside, inside.swapaxes(1, 2))  # sums in another order differ in the last bit
    distance = np.empty((height, width, height * width))  # target row, target column, source
    distance[0, :, :width] = inside[0]
    for row in range(1, height):
        first, last = row * width, (row + 1) * width
        # A shortest path from above enters this row a last time and from then on stays at or below it.
        enter = _min_plus(below[row], step[row - 1].T)
        distance[row, :, :first] = _min_plus(enter, distance[row - 1, :, :first])
        distance[row, :, first:last] = inside[row]
    full = distance.reshape(height * width, height * width)
    for last in range(width, height * width, width):
        full[last - width : last, last:] = full[last:, last - width : last].T
    return full


def _costs(image: Array) -> tuple[Array, Array]:
    """What one step costs, infinity where there is none: within each row (h, w, w), and from each row to the next (h - 1, w, w)."""
    height, width = image.shape[:2]
    column = np.arange(width)
    left, right = column[:-1], column[1:]
    beside = np.full((height, width, width), np.inf)
    beside[:, column, column] = 0
    beside[:, left, right] = beside[:, right, left] = _change(image[:, :-1], image[:, 1:])
    step = np.full((height - 1, width, width), np.inf)
    step[:, column, column] = _change(image[:-1], image[1:])
    step[:, left, right] = _change(image[:-1, :-1], image[1:, 1:])
    step[:, right, left] = _change(image[:-1, 1:], image[1:, :-1])
    return beside, step


def _change(one: Array, other: Array) -> Array:
    """L2 distance over the last axis."""
    return np.asarray(np.sqrt(np.square(one - other).sum(-1)))


def _one_sided(beside: Array, step: Array) -> Array:
    """(h, w, w): distances between the pixels of each row by paths through this row and those before it."""
    found = beside.copy()
    for row in range(len(found)):
        if row:
            through = _min_plus(_min_plus(step[row - 1].T, found[row - 1]), step[row - 1])
            np.minimum(found[row], through, out=found[row])
        _closure(found[row])
    return found


def _min_plus(one: Array, other: Array) -> Array:
    """Matrix product (m, k) x (k, n) with the minimum for the sum and the sum for the product."""
    result: Array = one[:, 0, None] + other[0]
    sums = np.empty_like(result)
    for middle in range(1, len(other)):
        np.add(one[:, middle, None], other[middle], out=sums)
        np.minimum(result, sums, out=result)
    return result


def _closure(cost: Array) -> Array:
    """Shortest paths over any number of steps (.., w, w), in place (Floyd and Warshall)."""
    for middle in range(cost.shape[-1]):
        np.minimum(cost, cost[..., :, middle, None] + cost[..., None, middle, :], out=cost)
    return cost
