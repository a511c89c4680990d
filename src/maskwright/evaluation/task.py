"""What an evaluation asks of methods: the words, the truth as a protocol wants it, and what a result counts."""

import dataclasses
import re
from collections.abc import Sequence
from functools import cached_property
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from maskwright.datasets.contract import IGNORE, EvaluationItem, EvaluationSet, Kind, LabelMap
from maskwright.errors import SettingsError
from maskwright.evaluation import statistics as count
from maskwright.evaluation.boxes import label_boxes
from maskwright.evaluation.protocol import Protocol
from maskwright.evaluation.statistics import Statistics
from maskwright.images import Picture
from maskwright.methods import DECODER_METHODS, DISCOVERY_METHODS, METHODS
from maskwright.solvers.components import largest_component, tight_box
from maskwright.vocabulary import Label, Vocabulary

GROUND_AND_OBJECT = (Label("background", background=True), Label("foreground"))
DEFAULT_THRESHOLD = 0.5
FINDERS = (*DISCOVERY_METHODS, "diffusionseg")  # what finds one object
Words = Vocabulary | Literal["@name", "@truth"] | None
Truth = Any  # by kind: a label map, a map of objects, several region maps, or boxes


class Task:
    """A data set under a protocol.

    Args:
        dataset: with its truth.
        protocol: how predictions become numbers.
        words: to look for in sets whose truth has no class names, several mean all that they name together; "@name" looks for the
            words in the name of each picture, "bmx trees" in bmx-trees-00016, "@truth" for those that its truth has (an oracle).

    Attributes:
        kind: of the truth.
        names: of the classes that are counted; empty for regions and boxes.
        background: position of the background among them, None where there is none or it is not scored.
    """

    def __init__(self, dataset: EvaluationSet, protocol: Protocol, words: Words = None) -> None:
        """Raises SettingsError for words beside a set that has its own, and for words of a truth that has none."""
        if dataset.kind == "classes" and words is not None:
            raise SettingsError(f"{dataset.name} has its own classes: leave --labels out")
        if words == "@truth" and dataset.items[0].words() is None:
            raise SettingsError(f"the truth of {dataset.name} has no words for its pictures: give them, for instance --labels horse")
        self.dataset, self.protocol, self.words = dataset, protocol, words
        self.kind: Kind = dataset.kind
        foreground = dataset.kind == "foreground"
        self.classes: tuple[Label, ...] = GROUND_AND_OBJECT if foreground else dataset.classes
        self.names = tuple(label.name for label in self.classes)
        self._ground = 0 if foreground else dataset.background
        self.background = None if protocol.background == "none" and not foreground else self._ground

    @property
    def described_words(self) -> Any:
        """The words as plain JSON values."""
        return [list(label.texts) for label in self.words] if isinstance(self.words, Vocabulary) else self.words

    def words_for(self, name: str | None) -> Vocabulary | None:
        """The words to look for in the picture of this name; without a name, for a record, what they are made of.

        Raises:
            VocabularyError: a name without letters.
        """
        if self.words is None or isinstance(self.words, Vocabulary):
            return self.words
        if self.words == "@truth" and name is not None:
            return self._items[name].words()
        return Vocabulary.parse([self.words if name is None else " ".join(re.findall(r"[^\W\d_]+", name))])

    @cached_property
    def _items(self) -> dict[str, EvaluationItem]:
        return {item.name: item for item in self.dataset.items}

    def refuse(self, method: str) -> None:
        """Raises SettingsError for a method that this truth cannot measure, or that lacks words."""
        if method in METHODS and self.kind != "classes" and self.words is None:
            raise SettingsError(f"{self.dataset.name} names no classes, but {method} needs words: add for instance --labels horse")
        if method in FINDERS and self.kind not in ("foreground", "boxes"):
            raise SettingsError(f"{method} finds one object, which a set of {self.kind} cannot measure: choose another method")
        if method == "diffusionseg-semantic" and self.kind != "classes":
            raise SettingsError(f"{method} finds classes, which a set of {self.kind} cannot measure: choose another method")
        if method not in (*METHODS, *DISCOVERY_METHODS, *DECODER_METHODS) and self.kind == "boxes":
            raise SettingsError(f"{method} parts pictures into regions, which a set of boxes cannot measure: choose another method")

    def picture(self, picture: Picture) -> Picture:
        """What is read of a picture."""
        return dataclasses.replace(picture, pixels=self.cropped(picture.pixels))

    def cropped(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of a map or picture (H, W, ...) that the protocol reads and scores."""
        if self.protocol.crop == "none" or self.kind == "boxes":
            return values
        side = min(values.shape[:2])
        top, left = (values.shape[0] - side) // 2, (values.shape[1] - side) // 2
        return values[top : top + side, left : left + side]

    def truth(self, item: EvaluationItem, picture: Picture) -> Truth:
        """The truth of a picture: classes that are not scored become IGNORE, maps have the protocol's resolution.

        Of sets of foreground it is (H, W) int64, 0 for the ground and a number for each object.

        Raises:
            DatasetError: truth that cannot be read.
        """
        if self.kind == "boxes":
            return item.boxes(picture)
        if self.kind == "regions":
            return tuple(self.scaled(self.cropped(regions)) for regions in item.regions(picture))
        if self.kind == "foreground":
            return self.scaled(self.cropped(item.objects(picture)))
        labels = self.cropped(item.labels(picture))
        if self._ground is not None and self.background is None:
            labels = np.where(labels == self._ground, IGNORE, labels)
        return self.scaled(labels)

    def scaled(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A map (H, W) at the protocol's resolution."""
        size = self.protocol.resolution
        return values if size == "original" else count.to_nearest(values, size)

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """The classes in the protocol's wording, each marked as background where its class is."""
        texts = self.dataset.wordings.get(self.protocol.wording, self.classes)
        return tuple(dataclasses.replace(text, background=label.background) for text, label in zip(texts, self.classes, strict=True))

    def thresholds(self, own: float | None) -> tuple[float, ...]:
        """The background thresholds that are counted for a method whose own is `own`, the fixed one first; none where none applies."""
        wanted, ground = self.protocol.background, self.background is not None or self.kind == "boxes"
        if not ground or wanted in ("word", "none") or (wanted == "own" and own is None):
            return ()
        fallback = DEFAULT_THRESHOLD if own is None else own
        fixed = own if wanted == "own" or self.protocol.threshold is None else self.protocol.threshold
        first = fallback if fixed is None else fixed
        return tuple(dict.fromkeys((first, *self.protocol.thresholds))) if wanted == "best" else (first,)

    def vocabulary(self, name: str | None, own: float | None, chosen: Sequence[int] | None = None) -> Vocabulary:
        """What a text-driven method is asked for.

        Args:
            name: of the picture; None for all pictures.
            own: the method's own threshold; where none applies, the background may be a word.
            chosen: positions of the classes that compete beside the background; None for all.
        """
        by_word = not self.thresholds(own) and self.protocol.background in ("own", "word")
        if (words := self.words_for(name)) is not None:
            given = any(word.background for word in words)
            ground = GROUND_AND_OBJECT[:1] if by_word and not given and self.kind != "regions" else ()
            return Vocabulary((*ground, *words))
        kept = {*(self.foreground if chosen is None else chosen), *([self.background] if by_word else [])}
        return Vocabulary(tuple(label for place, label in enumerate(self.labels) if place in kept))

    def present(self, truth: Truth) -> tuple[int, ...]:
        """Positions of the classes that compete in a picture."""
        if not self.protocol.tells_classes:
            return self.foreground
        there = set(np.unique(self._classes_of(truth)).tolist())
        if self.protocol.labels == "family":
            there = {kin for place in there if place >= 0 for kin in self.dataset.rivals[place]}
        return tuple(place for place in self.foreground if place in there)

    @cached_property
    def foreground(self) -> tuple[int, ...]:
        """Positions of the classes that are not background."""
        return tuple(place for place, label in enumerate(self.classes) if not label.background)

    def positions(self, numbers: npt.NDArray[np.uint16], chosen: Sequence[int]) -> LabelMap:
        """Numbers of a label map (H, W) as positions of classes: IGNORE for what is no class, for words the foreground."""
        nobody = IGNORE if self.background is None else self.background
        if self.words is not None:
            return numbers.astype(np.int64) if self.kind == "regions" else (numbers > 0).astype(np.int64)
        return np.array([nobody, *chosen], dtype=np.int64)[numbers]

    def regions_in(self, truth: Truth) -> int:
        """How many regions the truth has; of several annotators' the median."""
        maps = truth if self.kind == "regions" else (self._classes_of(truth),)
        return max(1, round(median(len(np.unique(one[one >= 0])) for one in maps)))

    def count_labels(
        self, truth: Truth, classes: LabelMap, confidence: npt.NDArray[np.float32], own: float | None, *, probable: bool
    ) -> Statistics:  # fmt: skip
        """What a text-driven result counts.

        Args:
            truth: of `truth`.
            classes: (H, W) the class that wins each pixel where no threshold stands in its way.
            confidence: (H, W) its score.
            own: the method's own threshold.
            probable: whether the scores claim to be probabilities.
        """
        thresholds = self.thresholds(own)
        if self.kind == "regions":
            return count.agreement_statistics(truth, self.scaled(classes))
        mask = classes > 0
        if thresholds:
            mask &= confidence > np.float32(thresholds[0])
        if self.kind == "boxes":
            return count.box_statistics(tight_box(largest_component(mask)), truth)
        counted = count.label_statistics(
            self._classes_of(truth), self.scaled(classes), self.scaled(confidence), classes=len(self.names), background=self.background,
            thresholds=thresholds, probable=probable,
        )  # fmt: skip
        return counted if self.kind == "classes" else counted | _count_mask(truth, self.scaled(mask).astype(np.float32))

    def count_regions(self, truth: Truth, segments: LabelMap) -> Statistics:
        """What segments without names, (H, W) from 0, count."""
        if self.kind == "regions":
            return count.agreement_statistics(truth, self.scaled(segments))
        return count.segment_statistics(self._classes_of(truth), self.scaled(segments), classes=len(self.names))

    def count_foreground(self, truth: Truth, probability: npt.NDArray[np.float32], box: Sequence[float] | None) -> Statistics:
        """What a discovered object, a probability (H, W) and a box, counts."""
        if self.kind == "boxes":
            return count.box_statistics(None if box is None else (box[0], box[1], box[2], box[3]), truth)
        return _count_mask(truth, self.scaled(probability))

    def count_failure(self, truth: Truth | None, method: str, own: float | None) -> Statistics:
        """What a picture counts that failed: wrong everywhere; nothing where not even its truth is known."""
        if self.kind == "boxes":
            return count.box_statistics(None, np.zeros((0, 4)))
        if truth is None:
            return {}
        if self.kind == "regions":
            return count.wrong_agreement(truth)
        if method in FINDERS:
            return _wrong_mask(truth)
        labels = self._classes_of(truth)
        if method not in (*METHODS, *DECODER_METHODS):
            return count.wrong_segments(labels, classes=len(self.names))
        wrong = count.wrong_labels(labels, classes=len(self.names), thresholds=self.thresholds(own))
        return wrong if self.kind == "classes" else wrong | _wrong_mask(truth)

    def _classes_of(self, truth: LabelMap) -> LabelMap:
        """Classes of pixels, (H, W) int64: in a set of foreground all objects are one."""
        return (truth > 0).astype(np.int64) if self.kind == "foreground" else truth


def _count_mask(truth: LabelMap, probability: npt.NDArray[np.float32]) -> Statistics:
    """Saliency, and whether the box of the largest piece at 0.5 hits the box of any object of the truth."""
    found = tight_box(largest_component(probability > DEFAULT_THRESHOLD))
    return count.saliency_statistics(probability, truth > 0) | count.box_statistics(found, list(label_boxes(truth).values()))


def _wrong_mask(truth: LabelMap) -> Statistics:
    return count.wrong_saliency(truth > 0) | count.box_statistics(None, [])
