"""What procedural grounds are made of: smooth noise, blends, colours, coordinates, cells."""

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]


def smooth_noise(side: int, cells: tuple[int, int], rng: np.random.Generator) -> Array:
    """Smooth noise in 0..1, (side, side): a random grid of `cells` (rows, columns), bicubically enlarged."""
    grid = Image.fromarray(rng.random(cells, dtype=np.float32))
    smooth: Array = np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32).clip(0, 1)
    return smooth


def mix(weight: Array, low: Array, high: Array) -> Array:
    """Blends two colours (3,) by a weight map (side, side)."""
    return low + weight[..., None] * (high - low)


def vary(rng: np.random.Generator, *rgb: float, spread: float = 0.06) -> Array:
    """A colour near this one, (3,) in 0..1."""
    return np.clip(np.array(rgb) + rng.uniform(-spread, spread, 3), 0, 1).astype(np.float32)


def vary_hex(rng: np.random.Generator, text: str, spread: float = 0.05) -> Array:
    """A colour near "#rrggbb", (3,) in 0..1."""
    return vary(rng, *(int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)), spread=spread)


def coordinates(side: int) -> tuple[Array, Array]:
    """Row and column coordinates in 0..1, each (side, side)."""
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    return rows, columns


def turned(side: int, angle: float) -> tuple[Array, Array]:
    """Coordinates whose axes are turned by an angle in radians, each (side, side)."""
    rows, columns = coordinates(side)
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    return rows * cosine - columns * sine, rows * sine + columns * cosine


def cells(side: int, count: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Irregular cells, about `count` along a side: each pixel belongs to the nearest point of a shaken grid.

    Returns:
        How far inside of its cell a pixel lies (0 on the seam, in cell sides), and the cell's own random tone in 0..1; both (side, side).
    """
    rows, columns = (axis * np.float32(count) for axis in coordinates(side))
    size = int(count) + 4
    shaken = rng.random((3, size, size), dtype=np.float32)
    row, column = rows.astype(np.int32), columns.astype(np.int32)
    inner_y, inner_x = rows - row.astype(np.float32), columns - column.astype(np.float32)
    nearest, second = np.full((side, side), 9, dtype=np.float32), np.full((side, side), 9, dtype=np.float32)
    tone = np.zeros((side, side), dtype=np.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            up, across, own = shaken[:, row + down + 1, column + right + 1]
            y = 0.7 * up + (down + 0.15 - inner_y)
            x = 0.7 * across + (right + 0.15 - inner_x)
            distance = np.sqrt(y * y + x * x)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            nearest = np.where(closer, distance, nearest)
            tone = np.where(closer, own, tone)
    return second - nearest, tone
