"""The procedural grounds of the scenes: one function per kind of ground, a random picture per call.

Each takes a side in pixels and a generator and returns (side, side, 3) float32 RGB in 0..1.
"""

from collections.abc import Callable

import numpy as np

from maskwright.datasets.made_grounds import carpet, cobblestone, leaves, marble, road, sunset, tiles
from maskwright.datasets.textures import Array, coordinates, mix, smooth_noise, vary


def grass(side: int, rng: np.random.Generator) -> Array:
    """Green, with upright blades."""
    blades = smooth_noise(side, (max(side // 8, 2), side), rng) * 0.6 + smooth_noise(side, (4, 4), rng) * 0.4
    return mix(blades, vary(rng, 0.08, 0.33, 0.06), vary(rng, 0.42, 0.78, 0.22))


def sky(side: int, rng: np.random.Generator) -> Array:
    """Blue, paler towards the horizon, with soft clouds."""
    rows, _ = coordinates(side)
    blue = mix(rows, vary(rng, 0.25, 0.52, 0.88), vary(rng, 0.62, 0.82, 0.97))
    clouds = np.clip((smooth_noise(side, (3, 4), rng) * 0.7 + smooth_noise(side, (7, 9), rng) * 0.3 - rng.uniform(0.4, 0.7)) * 3, 0, 1)
    return blue + clouds[..., None] * (np.float32(0.97) - blue)


def sand(side: int, rng: np.random.Generator) -> Array:
    """Yellow, with ripples and grain."""
    rows, columns = coordinates(side)
    ripples = 0.5 + 0.5 * np.sin(2 * np.pi * (rows * rng.uniform(3, 7) + columns * rng.uniform(-2, 2) + smooth_noise(side, (3, 3), rng)))
    grain = rng.random((side, side), dtype=np.float32)
    return mix(ripples * 0.6 + grain * 0.4, vary(rng, 0.82, 0.68, 0.40), vary(rng, 0.98, 0.90, 0.64))


def water(side: int, rng: np.random.Generator) -> Array:
    """Teal, with wavy bright lines."""
    rows, columns = coordinates(side)
    bend = smooth_noise(side, (4, 5), rng) * rng.uniform(0.6, 1.4) + columns * rng.uniform(-0.4, 0.4)
    waves = np.abs(np.sin(np.pi * (rows * rng.uniform(4, 8) + 2 * bend))) ** 2
    return mix(waves, vary(rng, 0.03, 0.30, 0.42), vary(rng, 0.25, 0.62, 0.72))


def snow(side: int, rng: np.random.Generator) -> Array:
    """Nearly white, with bluish hollows."""
    hollows = smooth_noise(side, (3, 3), rng) * 0.8 + smooth_noise(side, (12, 12), rng) * 0.2
    return mix(hollows, vary(rng, 0.80, 0.84, 0.92, spread=0.03), vary(rng, 0.97, 0.97, 0.98, spread=0.02))


def brick(side: int, rng: np.random.Generator) -> Array:
    """Red bricks in running bond with pale mortar."""
    rows, columns = coordinates(side)
    courses = rng.uniform(5, 8)
    y = rows * courses + rng.random()
    x = columns * courses / 2.2 + (np.floor(y) % 2) * 0.5 + rng.random()
    mortar = ((y % 1 < 0.14) | (x % 1 < 0.06)).astype(np.float32)
    tones = rng.random((32, 32), dtype=np.float32)[np.floor(y).astype(int) % 32, np.floor(x).astype(int) % 32]
    wall = mix(tones * 0.7 + smooth_noise(side, (16, 16), rng) * 0.3, vary(rng, 0.55, 0.20, 0.12), vary(rng, 0.80, 0.38, 0.24))
    painted: Array = wall + mortar[..., None] * (vary(rng, 0.80, 0.72, 0.66) - wall)
    return painted


def wood(side: int, rng: np.random.Generator) -> Array:
    """Brown planks with grain, level or upright."""
    rows, _ = coordinates(side)
    planks = rng.uniform(2.5, 4.5)
    y = rows * planks + rng.random()
    tones = rng.random(8, dtype=np.float32)[np.floor(y).astype(int) % 8]
    grain = smooth_noise(side, (side // 2, 3), rng)
    board = mix(tones * 0.4 + grain * 0.6, vary(rng, 0.33, 0.20, 0.10), vary(rng, 0.62, 0.43, 0.25))
    board = board * np.where(y % 1 < 0.06, np.float32(0.45), np.float32(1))[..., None]
    return board.transpose(1, 0, 2) if rng.random() < 0.5 else board


def night(side: int, rng: np.random.Generator) -> Array:
    """Nearly black, with stars."""
    rows, _ = coordinates(side)
    dark = mix(rows * 0.6 + smooth_noise(side, (3, 3), rng) * 0.4, vary(rng, 0.02, 0.02, 0.07, spread=0.02), vary(rng, 0.12, 0.07, 0.22))
    stars = (rng.random((side, side), dtype=np.float32) > 0.985) * rng.random((side, side), dtype=np.float32)
    return dark + stars[..., None] * (np.float32(0.95) - dark)


GROUNDS: dict[str, Callable[..., Array]] = {
    ground.__name__: ground
    for ground in (
        grass, sky, sand, water, snow, brick, wood, night, leaves, road, tiles, carpet, sunset, cobblestone, marble,
    )
}  # fmt: skip
