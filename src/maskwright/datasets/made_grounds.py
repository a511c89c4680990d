"""More procedural grounds: those that only the full scene set uses. Their colours can be set in a word list.

Each takes a side in pixels and a generator and returns (side, side, 3) float32 RGB in 0..1. Colours are "#rrggbb".
"""

import numpy as np
from PIL import Image, ImageDraw

from maskwright.datasets.textures import Array, cells, coordinates, mix, smooth_noise, turned, vary_hex

LEAF = np.array([[-1, 0], [-0.4, 0.42], [0.3, 0.38], [1, 0], [0.3, -0.38], [-0.4, -0.42]])  # outline (x, y), pointed at both ends

def leaves(side: int, rng: np.random.Generator, *, colours: tuple[str, str] = ("#8a2f0c", "#e8a62a"), shadow: str = "#2c1408") -> Array:
    """Fallen leaves: pointed ovals between two colours, every way round, over a dark floor."""
    low, high, dark = vary_hex(rng, colours[0]), vary_hex(rng, colours[1]), vary_hex(rng, shadow)
    floor = Image.new("RGB", (side, side), tuple(np.round(dark * 255).astype(int).tolist()))
    draw = ImageDraw.Draw(floor)
    count = 220
    centres, angles = rng.uniform(-0.05, 1.05, (count, 2)) * side, rng.uniform(0, 2 * np.pi, count)
    lengths, tones = rng.uniform(0.05, 0.09, count) * side, rng.random((count, 2), dtype=np.float32)
    turns = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], axis=-1).reshape(count, 2, 2)  # (leaf, x y, x y)
    outlines = centres[:, None] + np.einsum("nij,kj->nki", turns, LEAF) * lengths[:, None, None]
    fills = (low + tones[:, :1] * (high - low)) * (0.8 + 0.4 * tones[:, 1:])
    edges = np.round(np.clip(np.stack([fills, fills * 0.6]), 0, 1) * 255).astype(int).tolist()
    for outline, fill, edge in zip(outlines.reshape(count, -1).tolist(), *edges, strict=True):
        draw.polygon(outline, fill=tuple(fill), outline=tuple(edge))
    return np.asarray(floor, dtype=np.float32) / np.float32(255)


def road(side: int, rng: np.random.Generator, *, colours: tuple[str, str] = ("#3a3a3e", "#5c5c60"), line: str = "#f0e6b0") -> Array:
    """Asphalt with grain and one dashed line across it."""
    grain = rng.random((side, side), dtype=np.float32) * 0.6 + smooth_noise(side, (5, 5), rng) * 0.4
    surface = mix(grain, vary_hex(rng, colours[0], 0.03), vary_hex(rng, colours[1], 0.03))
    across, along = turned(side, rng.uniform(0, np.pi))
    offset, dash = across.mean() + rng.uniform(-0.2, 0.2), rng.uniform(2.5, 4)
    painted = (np.abs(across - offset) < 0.025) & ((along * dash + rng.random()) % 1 < 0.6)
    marked: Array = np.where(painted[..., None], vary_hex(rng, line), surface)
    return marked


def tiles(side: int, rng: np.random.Generator, *, colours: tuple[str, str] = ("#cfe3e6", "#7fb3bd"), joint: str = "#f4f4f0") -> Array:
    """Square tiles in two alternating colours with pale joints."""
    rows, columns = coordinates(side)
    count = rng.uniform(4.5, 7)
    y, x = rows * count + rng.random(), columns * count + rng.random()
    odd = ((np.floor(y) + np.floor(x)) % 2).astype(np.float32)
    sheen = 0.94 + 0.12 * smooth_noise(side, (3, 3), rng)
    surface = mix(odd, vary_hex(rng, colours[0]), vary_hex(rng, colours[1])) * sheen[..., None]
    joined: Array = np.where(((y % 1 < 0.07) | (x % 1 < 0.07))[..., None], vary_hex(rng, joint, 0.02), surface)
    return joined


def carpet(side: int, rng: np.random.Generator, *, colours: tuple[str, str] = ("#6a1030", "#a8324e"), thread: str = "#e0b860") -> Array:
    """A woven carpet: rows of diamonds with a thread around each."""
    rows, columns = coordinates(side)
    count = rng.uniform(3.5, 5.5)
    diamond = np.abs((rows * count + rng.random()) % 1 - 0.5) + np.abs((columns * count + rng.random()) % 1 - 0.5)
    weave = 0.9 + 0.2 * rng.random((side, side), dtype=np.float32)
    surface = mix((diamond < 0.38).astype(np.float32), vary_hex(rng, colours[0]), vary_hex(rng, colours[1]))
    woven: Array = np.where((np.abs(diamond - 0.42) < 0.05)[..., None], vary_hex(rng, thread), surface) * weave[..., None]
    return woven


def sunset(side: int, rng: np.random.Generator, *, colours: tuple[str, str] = ("#4a2a6e", "#f2743a"), sun: str = "#ffe08a") -> Array:
    """An evening sky: purple above, orange below, a glow around a low sun and streaks of cloud."""
    rows, columns = coordinates(side)
    evening = mix(rows, vary_hex(rng, colours[0]), vary_hex(rng, colours[1]))
    height, place = rng.uniform(0.65, 0.95), rng.uniform(0.15, 0.85)
    glow = np.exp(-((rows - height) ** 2 + (columns - place) ** 2) / np.float32(0.05))
    streaks = np.clip(smooth_noise(side, (12, 3), rng) - 0.55, 0, 1) * 0.8
    bright = vary_hex(rng, sun, 0.03)
    lit: Array = evening + np.clip(glow + streaks * rows, 0, 1)[..., None] * (bright - evening)
    return lit


def cobblestone(side: int, rng: np.random.Generator, *, colours: tuple[str, str] = ("#77726a", "#aaa69c"), joint: str = "#2b2926") -> Array:
    """Rounded grey stones with dark joints."""
    inside, tone = cells(side, rng.uniform(5, 7.5), rng)
    stones = mix(tone, vary_hex(rng, colours[0], 0.04), vary_hex(rng, colours[1], 0.04))
    height = np.clip((inside - 0.06) * 4, 0, 1)[..., None]
    dark = vary_hex(rng, joint, 0.03)
    paved: Array = dark + height * (stones * (0.8 + 0.2 * height) - dark)
    return paved


def marble(side: int, rng: np.random.Generator, *, colours: tuple[str, str] = ("#e9d3c8", "#f6ece4"), vein: str = "#5a3d48") -> Array:
    """Polished stone, pale rose, with dark winding veins."""
    along, _ = turned(side, rng.uniform(0, np.pi))
    bend = smooth_noise(side, (3, 3), rng) * 1.6 + smooth_noise(side, (8, 8), rng) * 0.6 + smooth_noise(side, (20, 20), rng) * 0.15
    veins = np.clip(1 - 5 * np.abs(np.sin(np.pi * (along * rng.uniform(1.5, 2.5) + bend))), 0, 1)
    surface = mix(smooth_noise(side, (5, 5), rng), vary_hex(rng, colours[0], 0.03), vary_hex(rng, colours[1], 0.03))
    veined: Array = surface + (veins * 0.85)[..., None] * (vary_hex(rng, vein) - surface)
    return veined
