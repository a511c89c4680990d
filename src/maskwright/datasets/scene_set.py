"""Drawn scenes as evaluation sets: nothing lies on disk, each picture is rendered from its seed."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from maskwright.datasets.contract import EvaluationItem, EvaluationSet, Kind, LabelMap
from maskwright.datasets.masks import check_size
from maskwright.datasets.scenes import Scene, open_scenes
from maskwright.images import Picture
from maskwright.vocabulary import Label

SIZE = 200  # scenes in a split


@dataclass(frozen=True)
class SceneItem(EvaluationItem):
    """One scene; its picture and its label map are rendered when asked for.

    Attributes:
        split: of the scenes.
        seed: of this one.
        scenes: the set, a name of a bundled word list.
    """

    kind: ClassVar[Kind] = "classes"
    split: str
    seed: int
    scenes: str = "scenes"

    def open(self) -> Picture:
        """The scene, (side, side, 3)."""
        return Picture(_rendered(self.scenes, self.seed, self.split).image, self.name, self.scenes)

    def labels(self, picture: Picture) -> LabelMap:
        """See EvaluationItem.labels; every pixel has a class."""
        labels = _rendered(self.scenes, self.seed, self.split).labels.astype(np.int64)
        check_size(labels, picture, self.picture)
        return labels


@functools.lru_cache(maxsize=4)
def _rendered(scenes: str, seed: int, split: str) -> Scene:
    """A scene; the last few are kept, because whoever opens the picture asks for its label map next."""
    return open_scenes(scenes).render(seed, split=split)


def read_scenes(*, split: str = "benchmark", scenes: str = "scenes") -> EvaluationSet:
    """The first 200 scenes of a split, none of whose classes is background.

    Args:
        split: "benchmark", "benchmark-fine" (families and proper nouns side by side), or "tuning" for choosing settings.
        scenes: "scenes", 48 objects and 8 grounds at 64 pixels; or "scenes-full", 115 objects and 15 grounds at 128.
    """
    drawn = open_scenes(scenes)
    items = tuple(SceneItem(f"{split}-{seed:03d}", drawn.list.atlas, split, seed, scenes) for seed in range(SIZE))
    classes = tuple(Label(word.name, word.synonyms) for word in drawn.words.all)
    return EvaluationSet(scenes, split, "classes", items, classes, rivals=drawn.words.rivals)
