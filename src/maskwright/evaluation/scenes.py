"""The bundled benchmark: held-out scenes with exact masks, and the mean IoU of a method on them."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright.datasets.scene_set import SIZE
from maskwright.datasets.scenes import Scene, SceneSet, open_scenes
from maskwright.errors import SettingsError
from maskwright.evaluation.confusion import Counts, class_iou, count_pixels, mean_iou, pixel_accuracy
from maskwright.images import Picture
from maskwright.segmentation import Segmentation
from maskwright.segmenter import Segmenter
from maskwright.vocabulary import Vocabulary

Asked = Literal["caption", "absent", "family", "all"]
ASK: dict[Asked, str] = {  # what the scenes of a run are asked for
    "caption": "the words in them",
    "absent": "the words in them and two to four others",
    "family": "the words in them and their families",
    "all": "all words",
}


@dataclass(frozen=True)
class SceneScore:
    """One scene of a run: its seed, the words in it, their mean IoU in this scene, and the share of right pixels."""

    scene: int
    words: tuple[str, ...]
    miou: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """What a run on the bundled scenes gave.

    Attributes:
        miou: mean IoU in 0..1 over all words that occur, pixels summed over the whole set first.
        accuracy: share of pixels with the right word.
        words: IoU by word, for the words that occur.
        scenes: how many were segmented.
        labels: what was asked for, a key of `ASK`.
        seconds: per scene, for reading, scoring and drawing it.
    """

    miou: float
    accuracy: float
    words: dict[str, float]
    scenes: int
    labels: Asked
    seconds: float


def run_benchmark(
    segmenter: Segmenter, *, limit: int = SIZE, split: str = "benchmark", labels: Asked = "caption",
    scenes: str | Path = "scenes", on_scene: Callable[[SceneScore], Any] | None = None,
) -> BenchmarkResult:  # fmt: skip
    """Segments the bundled scenes and scores the result.

    Every pixel of a scene belongs to a word (an object or the ground): make the segmenter with `background="none"`, for
    what it calls background counts as wrong.

    Args:
        segmenter: model, method and settings.
        limit: the first so many scenes.
        split: "benchmark", "benchmark-fine", or "tuning" for choosing settings.
        labels: "caption": the words that are in the scene compete; "absent": these and two to four others; "family": these and the
            families of its objects; "all": all words compete in every scene.
        scenes: "scenes", "scenes-full", or the file of a word list.
        on_scene: called after each scene with its own score.

    Raises:
        SettingsError: for a limit or label choice that cannot be used.
    """
    return compare_drawings([segmenter], limit=limit, split=split, labels=labels, scenes=scenes, on_scene=on_scene)[0]


def compare_drawings(
    segmenters: Sequence[Segmenter], *, limit: int = SIZE, split: str = "benchmark", labels: Asked = "caption",
    scenes: str | Path = "scenes", on_scene: Callable[[SceneScore], Any] | None = None,
) -> list[BenchmarkResult]:  # fmt: skip
    """`run_benchmark` for segmenters that differ in how they draw scores, by refiner or threshold: the first alone reads the scenes.

    Args:
        segmenters: one or more with the same method and settings; of all but the first only `Segmenter.redraw` is used.
        limit: as for `run_benchmark`, like what follows.
        split: which scenes.
        labels: what competes.
        scenes: which set.
        on_scene: called after each scene with the score of the first one's drawing.

    Returns:
        One result for each segmenter.

    Raises:
        SettingsError: none to compare, segmenters that would score differently, or a limit or label choice that cannot be used.
    """
    if labels not in ASK:
        raise SettingsError(f"labels must be one of {', '.join(ASK)}, not {labels!r}")
    if limit < 1:
        raise SettingsError(f"limit must be at least 1, not {limit}")
    drawn = open_scenes(scenes)
    names = [word.name for word in drawn.words.all]
    asking = [_asking(one, Vocabulary.parse(names)) for one in segmenters]
    if not asking or any(one != asking[0] for one in asking):
        raise SettingsError("give one or more segmenters that differ in refiner and threshold only")
    counts: list[Counts] = [np.zeros((len(names), len(names) + 1), dtype=np.int64) for _ in segmenters]
    seconds = [0.0] * len(segmenters)
    done = 0
    for batch in _batches(drawn, limit, split, 25):
        for scene, result in zip(batch, _segment(segmenters[0], batch, drawn, labels, done), strict=True):
            drawings = [result, *(other.redraw(result) for other in segmenters[1:])]
            own = [count_pixels(scene.labels, _to_words(drawing, names), classes=len(names)) for drawing in drawings]
            for place, (drawing, one) in enumerate(zip(drawings, own, strict=True)):
                counts[place] += one
                seconds[place] += sum(drawing.record.timings.values())
            if on_scene:
                on_scene(SceneScore(done, scene.words, mean_iou(own[0]), pixel_accuracy(own[0])))
            done += 1
    return [_result(total, names, done, labels, spent / done) for total, spent in zip(counts, seconds, strict=True)]


def _asking(segmenter: Segmenter, vocabulary: Vocabulary) -> dict[str, Any]:
    """All that a segmenter's scores depend on, as its records tell it."""
    return {**segmenter.record(vocabulary).as_dict(), "refine": None, "background": segmenter.background_word}


def _result(counts: Counts, names: Sequence[str], scenes: int, labels: Asked, seconds: float) -> BenchmarkResult:
    ious = class_iou(counts)
    occurring = {name: float(ious[n]) for n, name in enumerate(names) if counts[n].sum() and not math.isnan(ious[n])}
    return BenchmarkResult(
        miou=mean_iou(counts), accuracy=pixel_accuracy(counts), words=occurring, scenes=scenes, labels=labels, seconds=seconds
    )  # fmt: skip


def _batches(drawn: SceneSet, limit: int, split: str, size: int) -> list[list[Scene]]:
    scenes = list(drawn.scenes(limit, split=split))
    return [scenes[first : first + size] for first in range(0, len(scenes), size)]


def with_absent(number: int, words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Words and two to four other names, drawn by a number, in the order of the names."""
    rng = random.Random(number)
    strangers = [name for name in names if name not in words]
    others = rng.sample(strangers, min(rng.randint(2, 4), len(strangers)))
    return [name for name in names if name in words or name in others]


def _segment(segmenter: Segmenter, scenes: list[Scene], drawn: SceneSet, labels: Asked, first: int) -> list[Segmentation]:
    """All words share one vocabulary and hence batches; other words differ from scene to scene. `first`: the number of the first scene."""
    pictures = [Picture(scene.image, "scene", "scene") for scene in scenes]
    names = [word.name for word in drawn.words.all]
    if labels == "all":
        return list(segmenter.segment_many(pictures, Vocabulary.parse(names)))
    asked = [_asked(labels, number, scene, drawn, names) for number, scene in enumerate(scenes, first)]
    return [segmenter.segment(picture, Vocabulary.parse(words)) for picture, words in zip(pictures, asked, strict=True)]


def _asked(labels: Asked, number: int, scene: Scene, drawn: SceneSet, names: Sequence[str]) -> list[str]:
    """The words that a scene by itself is asked for."""
    if labels == "absent":
        return with_absent(number, scene.words, names)
    if labels == "family":
        return [names[place] for place in drawn.rivals(scene.words)]
    return list(scene.words)


def _to_words(result: Segmentation, names: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Label numbers of a result to positions in the word list; background to -1, which is wrong everywhere."""
    lookup = np.array([-1, *(names.index(name) for name in result.names)], dtype=np.int64)
    return lookup[result.label_map]
