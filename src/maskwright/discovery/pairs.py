"""One attempt at a labelled picture: what was asked for, what came of it, and the arrays while they are new."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

BACKGROUND, IGNORE = 0, 255  # values of a mask beside the labels' numbers 1, 2, ...
MOST_LABELS = 254  # what lies between them in 8 bits


@dataclass(frozen=True)
class Pair:
    """One attempt, whether it was kept or not; all of it is one line of pairs.jsonl.

    Attributes:
        number: place in the data set, from 0; a kept pair's files are named after it. Several attempts may share a number,
            of which at most one is kept.
        attempt: how often this place was tried before, from 0.
        prompt: the text that the picture was made from.
        labels: names of the labels that the picture should show, in the vocabulary's order.
        seed: of the picture's noise; with the prompt and the settings it makes this pair again, alone.
        scores: for each label its measurements by name, finite numbers.
        kept: whether the filters let it pass.
        reasons: why not, empty for a kept pair. Fixed phrases without numbers, so that they can be counted: "too small", or
            "dog: too small" for what concerns one of the labels.
    """

    number: int
    attempt: int
    prompt: str
    labels: tuple[str, ...]
    seed: int
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kept: bool = True
    reasons: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """Name of the pair's files without folder and extension: "000017"."""
        return f"{self.number:06d}"


@dataclass(frozen=True, eq=False)
class Drawn:
    """A pair with its arrays, as it comes out of the model.

    Attributes:
        pair: what was asked for and what came of it.
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8: 0 background, i the i-th label of the vocabulary that is not background, 255 ignore.
    """

    pair: Pair
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
