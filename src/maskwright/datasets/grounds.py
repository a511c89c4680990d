"""The procedural grounds of the bundled scenes: one function per ground word, a random picture per call.

Each takes a side in pixels and a generator and returns (side, side, 3) float32 RGB in 0..1.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]


def _noise(side: int, cells: tuple[int, int], rng: np.random.Generator) -> Array:
    """Smooth noise in 0..1, (side, side): a random grid of `cells` (rows, columns), bicubically enlarged."""
    grid = Image.fromarray(rng.random(cells, dtype=np.float32))
    smooth: Array = np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32).clip(0, 1)
    return smooth


def _mix(weight: Array, low: Array, high: Array) -> Array:
    """Blends two colours (3,) by a weight map (side, side)."""
    return low + weight[..., None] * (high - low)


def _colour(rng: np.random.Generator, *rgb: float, spread: float = 0.06) -> Array:
    return np.clip(np.array(rgb) + rng.uniform(-spread, spread, 3), 0, 1).astype(np.float32)


def _grid(side: int) -> tuple[Array, Array]:
    """Row and column coordinates in 0..1, each (side, side)."""
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    return rows, columns


def grass(side: int, rng: np.random.Generator) -> Array:
    """Green, with upright blades."""
    blades = _noise(side, (max(side // 8, 2), side), rng) * 0.6 + _noise(side, (4, 4), rng) * 0.4
    return _mix(blades, _colour(rng, 0.08, 0.33, 0.06), _colour(rng, 0.42, 0.78, 0.22))


def sky(side: int, rng: np.random.Generator) -> Array:
    """Blue, paler towards the horizon, with soft clouds."""
    rows, _ = _grid(side)
    blue = _mix(rows, _colour(rng, 0.25, 0.52, 0.88), _colour(rng, 0.62, 0.82, 0.97))
    clouds = np.clip((_noise(side, (3, 4), rng) * 0.7 + _noise(side, (7, 9), rng) * 0.3 - rng.uniform(0.4, 0.7)) * 3, 0, 1)
    return blue + clouds[..., None] * (np.float32(0.97) - blue)


def sand(side: int, rng: np.random.Generator) -> Array:
    """Yellow, with ripples and grain."""
    rows, columns = _grid(side)
    ripples = 0.5 + 0.5 * np.sin(2 * np.pi * (rows * rng.uniform(3, 7) + columns * rng.uniform(-2, 2) + _noise(side, (3, 3), rng)))
    grain = rng.random((side, side), dtype=np.float32)
    return _mix(ripples * 0.6 + grain * 0.4, _colour(rng, 0.82, 0.68, 0.40), _colour(rng, 0.98, 0.90, 0.64))


def water(side: int, rng: np.random.Generator) -> Array:
    """Teal, with wavy bright lines."""
    rows, columns = _grid(side)
    bend = _noise(side, (4, 5), rng) * rng.uniform(0.6, 1.4) + columns * rng.uniform(-0.4, 0.4)
    waves = np.abs(np.sin(np.pi * (rows * rng.uniform(4, 8) + 2 * bend))) ** 2
    return _mix(waves, _colour(rng, 0.03, 0.30, 0.42), _colour(rng, 0.25, 0.62, 0.72))


def snow(side: int, rng: np.random.Generator) -> Array:
    """Nearly white, with bluish hollows."""
    hollows = _noise(side, (3, 3), rng) * 0.8 + _noise(side, (12, 12), rng) * 0.2
    return _mix(hollows, _colour(rng, 0.80, 0.84, 0.92, spread=0.03), _colour(rng, 0.97, 0.97, 0.98, spread=0.02))


def brick(side: int, rng: np.random.Generator) -> Array:
    """Red bricks in running bond with pale mortar."""
    rows, columns = _grid(side)
    courses = rng.uniform(5, 8)
    y = rows * courses + rng.random()
    x = columns * courses / 2.2 + (np.floor(y) % 2) * 0.5 + rng.random()
    mortar = ((y % 1 < 0.14) | (x % 1 < 0.06)).astype(np.float32)
    tones = rng.random((32, 32), dtype=np.float32)[np.floor(y).astype(int) % 32, np.floor(x).astype(int) % 32]
    wall = _mix(tones * 0.7 + _noise(side, (16, 16), rng) * 0.3, _colour(rng, 0.55, 0.20, 0.12), _colour(rng, 0.80, 0.38, 0.24))
    painted: Array = wall + mortar[..., None] * (_colour(rng, 0.80, 0.72, 0.66) - wall)
    return painted


def wood(side: int, rng: np.random.Generator) -> Array:
    """Brown planks with grain, level or upright."""
    rows, _ = _grid(side)
    planks = rng.uniform(2.5, 4.5)
    y = rows * planks + rng.random()
    tones = rng.random(8, dtype=np.float32)[np.floor(y).astype(int) % 8]
    grain = _noise(side, (side // 2, 3), rng)
    board = _mix(tones * 0.4 + grain * 0.6, _colour(rng, 0.33, 0.20, 0.10), _colour(rng, 0.62, 0.43, 0.25))
    board = board * np.where(y % 1 < 0.06, np.float32(0.45), np.float32(1))[..., None]
    return board.transpose(1, 0, 2) if rng.random() < 0.5 else board


def night(side: int, rng: np.random.Generator) -> Array:
    """Nearly black, with stars."""
    rows, _ = _grid(side)
    dark = _mix(rows * 0.6 + _noise(side, (3, 3), rng) * 0.4, _colour(rng, 0.02, 0.02, 0.07, spread=0.02), _colour(rng, 0.12, 0.07, 0.22))
    stars = (rng.random((side, side), dtype=np.float32) > 0.985) * rng.random((side, side), dtype=np.float32)
    return dark + stars[..., None] * (np.float32(0.95) - dark)


GROUNDS: dict[str, Callable[[int, np.random.Generator], Array]] = {
    ground.__name__: ground for ground in (grass, sky, sand, water, snow, brick, wood, night)
}
