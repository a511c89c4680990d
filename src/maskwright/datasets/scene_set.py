"""The bundled scenes as an evaluation set: nothing lies on disk, each picture is rendered from its seed."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from maskwright.datasets.contract import EvaluationItem, EvaluationSet, Kind, LabelMap
from maskwright.datasets.masks import check_size
from maskwright.datasets.scenes import ATLAS, Scene, load_words, render
from maskwright.images import Picture
from maskwright.vocabulary import Label

SIZE = 200  # scenes in a split


@dataclass(frozen=True)
class SceneItem(EvaluationItem):
    """One scene; its picture and its label map are rendered when asked for.

    Attributes:
        split: of the scenes.
        seed: of this one.
    """

    kind: ClassVar[Kind] = "classes"
    split: str
    seed: int

    def open(self) -> Picture:
        """The scene, (64, 64, 3)."""
        return Picture(_rendered(self.seed, self.split).image, self.name, "scenes")

    def labels(self, picture: Picture) -> LabelMap:
        """See EvaluationItem.labels; every pixel has a class."""
        labels = _rendered(self.seed, self.split).labels.astype(np.int64)
        check_size(labels, picture, self.picture)
        return labels


@functools.lru_cache(maxsize=4)
def _rendered(seed: int, split: str) -> Scene:
    """A scene; the last few are kept, because whoever opens the picture asks for its label map next."""
    return render(seed, split=split)


def read_scenes(*, split: str = "benchmark") -> EvaluationSet:
    """The first 200 scenes of a split: 48 objects and 8 grounds, none of which is background.

    Args:
        split: "benchmark", or "tuning" for choosing settings.
    """
    items = tuple(SceneItem(f"{split}-{seed:03d}", ATLAS, split, seed) for seed in range(SIZE))
    classes = tuple(Label(word.name, word.synonyms) for word in load_words().all)
    return EvaluationSet("scenes", split, "classes", items, classes)
