"""A tiny data set and a tiny student for the tests of `students` and of `maskwright distill`."""

from pathlib import Path

import numpy as np
from PIL import Image

from maskwright.students.settings import StudentSettings

SIDE = 32
NAMES = ("red square", "blue disc")
TINY = StudentSettings(size=32, channels=(16, 32), layers=(1, 1), width=32)


def draw_pair(seed: int, *, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A red square (1) and a blue disc (2) on grey noise, with a band of 255 along the upper border."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    image = rng.integers(90, 160, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), dtype=np.uint8)
    top, left = rng.integers(2, side // 2, 2)
    square = (rows >= top) & (rows < top + side // 3) & (columns >= left) & (columns < left + side // 3)
    y, x = rng.integers(side // 3, 2 * side // 3, 2)
    disc = (rows - y) ** 2 + (columns - x) ** 2 < (side // 4) ** 2
    for number, (where, colour) in enumerate(((square, (220, 30, 30)), (disc, (30, 40, 220))), start=1):
        image[where], mask[where] = colour, number
    mask[:2] = 255
    return image, mask


def write_pairs(folder: Path, *, count: int = 8, side: int = SIDE) -> Path:
    """A plain data set."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for seed in range(count):
        for part, pixels in zip(("images", "masks"), draw_pair(seed, side=side), strict=True):
            Image.fromarray(pixels).save(folder / part / f"{seed:03d}.png")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return folder


def write_checkpoint(folder: Path, *, classes: int = 5) -> Path:
    """A tiny SegFormer of transformers with other classes than the data set's."""
    from maskwright.students.network import build_student

    build_student(TINY, [f"old {number}" for number in range(1, classes)], seed=9).model.save_pretrained(folder)
    return folder
