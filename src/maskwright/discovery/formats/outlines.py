"""Polygons around the pieces of a mask, along the edges of their pixels."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

# (x, y) steps clockwise on the screen, and for each the pixels ahead on the right and on the left, as offsets from the corner.
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
RIGHT = ((0, 0), (-1, 0), (-1, -1), (0, -1))
LEFT = ((0, -1), (0, 0), (-1, 0), (-1, -1))


def polygons(mask: Mask, *, tolerance: float = 0.5, speck: float = 0.01) -> list[Points]:
    """The outer outline of each piece of a mask; a polygon cannot say where a piece has holes.

    The outline runs through the middles of the pixels' edges, which cuts corners by half a pixel and makes slopes out of stairs.

    Args:
        mask: (H, W) bool.
        tolerance: points are left out where the outline stays within so many pixels. Up to 0.3 no pixel's centre changes sides.
        speck: pieces with less than this part of the mask's pixels are left out, 0..1.

    Returns:
        For each piece of pixels that share sides, the largest first, (n, 2) float64 corners (x, y), clockwise, in pixels from the upper
        left corner of the picture, so that a mask of the whole picture runs from (0, 0) to (W, H).
    """
    pieces, count = ndimage.label(mask)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    windows = ndimage.find_objects(pieces)
    found = []
    for number in np.argsort(-areas, kind="stable"):
        if areas[number] >= speck * areas.sum():
            rows, columns = windows[number]
            corners = outline(pieces[rows, columns] == number + 1)
            found.append(simplify(_middles(corners), tolerance) + np.array([columns.start, rows.start]))
    return found


def outline(piece: Mask) -> npt.NDArray[np.int64]:
    """The corners of the outer outline of one piece, exactly.

    Args:
        piece: (H, W) bool, pixels connected by their sides.

    Returns:
        (n, 2) int64 (x, y), clockwise from the left end of the topmost edge. Where two pixels meet at a corner only, the outline passes
        between them, twice through that corner.
    """
    inside = np.pad(piece, 1).tolist()  # lists are read ten times faster than arrays, pixel by pixel
    y, x = (int(value) for value in np.argwhere(piece)[0])
    start, heading = (x, y), 0
    corners = []
    while True:
        ahead = [(x + dx + 1, y + dy + 1) for dx, dy in (RIGHT[heading], LEFT[heading])]
        right, left = (inside[row][column] for column, row in ahead)
        turn = 1 if not right else -1 if left else 0
        if turn:
            corners.append((x, y))
            heading = (heading + turn) % 4
        x, y = x + STEPS[heading][0], y + STEPS[heading][1]
        if (x, y) == start and heading == 3:
            return np.array([start, *corners], dtype=np.int64)


def _middles(corners: npt.NDArray[np.int64]) -> Points:
    """Of each straight run of edges the middle of the first and of the last one: (n, 2) corners to (m, 2) points."""
    runs = np.roll(corners, -1, axis=0) - corners
    lengths = np.abs(runs).sum(1, keepdims=True)
    half = runs / (2 * lengths)
    pairs = np.stack([corners + half, corners + runs - half], axis=1)  # (n, 2, 2): run, first or last, x or y
    keep = np.concatenate([np.ones_like(lengths, dtype=bool), lengths > 1], axis=1)  # both are the same in a run of one edge
    middles: Points = pairs[keep]
    return middles


def simplify(points: Points, tolerance: float) -> Points:
    """Leaves out corners of a closed outline (Douglas and Peucker 1973), such that it moves by at most `tolerance`.

    Args:
        points: (n, 2) corners.
        tolerance: the largest distance of a corner that is left out from the line that passes it by.

    Returns:
        (m, 2), at least three of the corners, in their order.
    """
    far = int(np.argmax(((points - points[0]) ** 2).sum(1)))
    closed = np.concatenate([points, points[:1]])
    kept = np.zeros(len(closed), dtype=bool)
    kept[[0, far]] = True
    spans = [(0, far), (far, len(points))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        place = first + 1 + int(distances.argmax())
        if distances.max() > tolerance:
            kept[place] = True
            spans += [(first, place), (place, last)]
    simple = points[kept[:-1]]
    return simple if len(simple) > 2 else points


def _distances(points: Points, start: Points, end: Points) -> npt.NDArray[np.float64]:
    """Distance of each point (n, 2) from the line through start and end, which differ."""
    along = end - start
    offset = points - start
    distances: npt.NDArray[np.float64] = np.abs(along[0] * offset[:, 1] - along[1] * offset[:, 0]) / np.hypot(along[0], along[1])
    return distances
