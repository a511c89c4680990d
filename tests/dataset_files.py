"""Pieces of data sets as they lie on disk: tiny pictures, masks with palettes, lists, and the line that a wrong folder gives."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.datasets.contract import LOADERS, EvaluationSet
from maskwright.datasets.registry import open_dataset
from maskwright.errors import DatasetError

SIZE = (4, 6)  # (H, W)


def add_picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, dtype=np.uint8)).save(path)


def stripes(*values: int) -> np.ndarray:
    """A mask of the usual size whose columns hold the values; the last value fills the rest."""
    row = [*values, *[values[-1]] * (SIZE[1] - len(values))]
    return np.repeat(np.array([row], dtype=np.uint8), SIZE[0], 0)


def add_mask(path: Path, values: np.ndarray, *, palette: bool = False) -> None:
    """A grey PNG, or one with a palette whose colours have nothing to do with the numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image.putpalette(bytes(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8)))
    image.save(path)


def add_list(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def first_row(dataset: EvaluationSet, index: int = 0) -> list[int]:
    """The first row of the label map or mask of one item."""
    item = dataset.items[index]
    return getattr(item, LOADERS[dataset.kind])(item.open())[0].tolist()


def names(dataset: EvaluationSet) -> list[str]:
    return [item.name for item in dataset.items]


def refusal(address: str, **options: str) -> str:
    """The message of the error that opening gives: one printable line."""
    with pytest.raises(DatasetError) as caught:
        open_dataset(address, **options)
    message = str(caught.value)
    assert message.isprintable()
    return message
