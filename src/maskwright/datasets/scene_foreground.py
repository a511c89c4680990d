"""Drawn scenes asked in two other ways: what stands out of the ground, and which object each pixel belongs to."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from maskwright.datasets.contract import EvaluationItem, EvaluationSet, Kind, LabelMap, Mask
from maskwright.datasets.scene_set import SceneItem, read_scenes
from maskwright.datasets.scenes import open_scenes
from maskwright.images import Picture
from maskwright.vocabulary import Label, Vocabulary


@dataclass(frozen=True)
class SceneForegroundItem(EvaluationItem):
    """One scene; its foreground is all that is not ground.

    Attributes:
        scene: the same scene with its classes.
    """

    kind: ClassVar[Kind] = "foreground"
    scene: SceneItem

    def open(self) -> Picture:
        """The scene, (side, side, 3)."""
        return self.scene.open()

    def foreground(self, picture: Picture) -> Mask:
        """See EvaluationItem.foreground."""
        return self.objects(picture) > 0

    def objects(self, picture: Picture) -> LabelMap:
        """See EvaluationItem.objects: 1 + the place of the object's word."""
        return _without_ground(self.scene.labels(picture), self.scene.scenes)

    def words(self) -> Vocabulary:
        """The scene's objects, and its ground as background."""
        words = open_scenes(self.scene.scenes).words
        places = np.unique(self.scene.labels(self.open())).tolist()
        return Vocabulary(tuple(Label(words.all[place].name, background=place >= len(words.objects)) for place in places))


@dataclass(frozen=True)
class SceneObjectItem(SceneItem):
    """One scene whose grounds are all background."""

    def labels(self, picture: Picture) -> LabelMap:
        """See EvaluationItem.labels: 0 is the ground, then the objects."""
        return _without_ground(super().labels(picture), self.scenes)


def read_scene_foreground(*, split: str = "benchmark", scenes: str = "scenes") -> EvaluationSet:
    """The scenes of a split as a set of foreground: all objects against the ground; the objects of one word have a box together.

    Args:
        split: as for `read_scenes`.
        scenes: "scenes" or "scenes-full".
    """
    drawn = read_scenes(split=split, scenes=scenes).items
    items = tuple(SceneForegroundItem(item.name, item.picture, item) for item in drawn if isinstance(item, SceneItem))
    return EvaluationSet(f"{scenes}-foreground", split, "foreground", items)


def read_scene_objects(*, split: str = "benchmark", scenes: str = "scenes") -> EvaluationSet:
    """The scenes of a split with their objects as classes and all grounds as background, as `synthesize` marks its pairs.

    Args:
        split: as for `read_scenes`.
        scenes: "scenes" or "scenes-full".
    """
    drawn = read_scenes(split=split, scenes=scenes).items
    items = tuple(SceneObjectItem(item.name, item.picture, split, item.seed, scenes) for item in drawn if isinstance(item, SceneItem))
    words = open_scenes(scenes).words.objects
    classes = (Label("background", background=True), *(Label(word.name, word.synonyms) for word in words))
    return EvaluationSet(f"{scenes}-objects", split, "classes", items, classes)


def _without_ground(labels: LabelMap, scenes: str) -> LabelMap:
    """Places of words, objects before grounds, as 0 for ground and objects from 1."""
    return np.where(labels < len(open_scenes(scenes).words.objects), labels + 1, 0)
