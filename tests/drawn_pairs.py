"""A data set as `synthesize` writes it, painted in a moment: one shape of a label's own colour before a dull ground."""

from pathlib import Path

import numpy as np

from maskwright.discovery.pairs import Drawn, Pair
from maskwright.discovery.store import PairStore
from maskwright.vocabulary import Vocabulary

WORDS = Vocabulary.parse(["dog|puppy", "cat", "owl"])
COLOURS = ((220, 40, 30), (30, 200, 60), (40, 60, 230))
SETTINGS = {"model": "tiny", "revision": None, "method": "attentioncut"}


def draw(number: int, *, side: int = 16) -> Drawn:
    """A pair that is a function of its number; its shape has an uncertain border of one pixel on the left."""
    rng = np.random.default_rng(number)
    label = number % len(WORDS)
    image = np.full((side, side, 3), rng.integers(90, 130), dtype=np.int64)
    mask = np.zeros((side, side), dtype=np.uint8)
    (top, left), (height, width) = rng.integers(1, side // 2, 2), rng.integers(side // 4, side // 2, 2)
    image[top : top + height, left : left + width] = COLOURS[label]
    mask[top : top + height, left : left + width] = label + 1
    mask[top : top + height, left - 1] = 255
    image = np.clip(image + rng.integers(-10, 11, image.shape), 0, 255)
    name = WORDS.names[label]
    pair = Pair(number, 0, f"a {name}", (name,), number, {name: {"area": float((mask == label + 1).mean())}})
    return Drawn(pair, image.astype(np.uint8), mask)


def draw_pairs(folder: Path, count: int = 12, *, side: int = 16) -> Path:
    """Writes a data set of so many pairs, or goes on with the one that is there."""
    with PairStore.open(folder, SETTINGS, WORDS, resume=folder.exists()) as store:
        store.add([draw(number, side=side) for number in range(len(store.pairs), count)])
    return folder
