"""Discovery in given pictures: one noised reading under a word, what stands out there, its mask and its box."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor

from maskwright.backbones.contract import DrawingBackbone
from maskwright.discovery.masks import MaskSettings, full_mask
from maskwright.discovery.matching import MatchSettings, best_words
from maskwright.discovery.result import Choice, Discovery
from maskwright.errors import SettingsError
from maskwright.images import ImageLike, Picture
from maskwright.methods import DISCOVERY_METHODS, make_method
from maskwright.methods.contract import DiscoveryMethod
from maskwright.methods.foreground import Foreground
from maskwright.reader import Reader
from maskwright.readings.attention import LayerMaps
from maskwright.readings.reading import Reading
from maskwright.record import Record
from maskwright.segmenter import Labels
from maskwright.text.planning import TextPlan, plan_text
from maskwright.vocabulary import Label, Vocabulary


@dataclass(frozen=True)
class Quest:
    """What to look for: all of these words together, or the one that fits a picture best.

    Attributes:
        vocabulary: the words; those marked as background stand in the prompt beside them, are never looked for, and take what is theirs.
        choice: where they come from; a "best match" means that one of them is chosen for each picture.
    """

    vocabulary: Vocabulary
    choice: Choice

    @property
    def words(self) -> tuple[Label, ...]:
        """The words that are looked for."""
        return self.vocabulary.foreground

    @property
    def chooses(self) -> bool:
        """Whether one word is chosen for each picture."""
        return self.choice.startswith("best match")


class Discoverer:
    """Finds the object of a picture.

    Args:
        model: catalogue name, hub id, local folder, live diffusers pipeline, or a loaded backbone.
        method: "attentioncut", "daam", or a settings object of such a method.
        settings: settings over the method's (and the model's) defaults, when `method` is a name.
        generic: the word to look for when none is given and the model knows any word.
        matching: how words are compared where one is chosen; None for the defaults.
        refine: "none", "guided" or "pamr".
        seed: of the noise, and of whatever a method draws at random.
        device: "auto", "cpu", "cuda", ...
        dtype: "auto", "float32", "float16" or "bfloat16".
        batch: pictures in one call of the model; "auto" chooses by device.
        offline: never touch the network.

    Raises:
        ModelError: a model that cannot be loaded.
        SettingsError: an option that cannot be used.
    """

    def __init__(
        self, model: Any = "sticker", method: Any = "attentioncut", *, settings: Mapping[str, Any] | None = None,
        generic: str = "object", matching: MatchSettings | None = None, refine: Literal["none", "guided", "pamr"] = "none",
        seed: int = 0, device: str = "auto", dtype: str = "auto", batch: int | Literal["auto"] = "auto", offline: bool = False,
    ) -> None:  # fmt: skip
        if isinstance(method, str):
            make_method(method, settings, among=DISCOVERY_METHODS)  # a wrong name or setting is told before a model is loaded
        self.generic = Vocabulary.parse([generic])
        self.reader = Reader(model, refine=refine, seed=seed, device=device, dtype=dtype, batch=batch, offline=offline)
        self.method: DiscoveryMethod = self.reader.make_method(method, settings, among=DISCOVERY_METHODS)
        self.matching = matching or MatchSettings()
        self._masks = MaskSettings(refine=refine)

    def discover(self, image: Any, labels: Labels | None = None, *, match: bool = False) -> Any:
        """The object of one picture, or of each of a list.

        Several words mean all that they name together: the picture is read under one prompt that names them, and their cross-attention
        is summed before the method looks at it. Words marked as background ("grass") stand in that prompt too, which keeps the others from
        what is theirs. Without a word the one of the model's own objects is taken that fits the picture best,
        or the generic word where the model's vocabulary is open.

        Args:
            image: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W), or a list of these.
            labels: "dog", "dog, cat", a list of words, or a Vocabulary.
            match: look only for the one of these words that fits the picture best.

        Returns:
            A Discovery, or a list of them.

        Raises:
            MaskwrightError: for pictures, labels or settings that cannot be used.
        """
        if isinstance(image, list | tuple):
            return list(self.discover_many(image, labels, match=match))
        return next(self.discover_many([image], labels, match=match))

    def discover_many(self, images: Iterable[ImageLike], labels: Labels | None = None, *, match: bool = False) -> Iterator[Discovery]:
        """The objects of pictures one after the other, neighbours of one shape together; yields in their order.

        The labels are checked at once, a picture when its turn comes.
        """
        quest = self.quest(labels, match=match)
        self.reader.warn_of_unknown(quest.vocabulary)
        return self._discover_all(images, quest)

    def quest(self, labels: Labels | None = None, *, match: bool = False) -> Quest:
        """What `discover` looks for.

        Raises:
            VocabularyError: labels that cannot be used.
            SettingsError: nothing to choose from.
        """
        if labels is not None:
            return Quest(Vocabulary.parse(labels), "best match of the given words" if match else "given")
        if self.reader.backbone.info.objects:
            return Quest(Vocabulary.parse(self.reader.backbone.info.objects), "best match of the model's words")
        if match:
            raise SettingsError("there is nothing to choose from, since this model's vocabulary is open: give the words that compete")
        return Quest(self.generic, "generic word")

    def record(self, quest: Quest) -> Record:
        """How this discoverer makes its results: everything but the timings."""
        words = [[label.name, list(label.synonyms)] for label in quest.words]
        behind = [[label.name, list(label.synonyms)] for label in quest.vocabulary if label.background]
        naming: dict[str, Any] = {"choice": quest.choice, "labels": words, "background": behind}
        if quest.chooses:
            naming["matching"] = dataclasses.asdict(self.matching)
        return dataclasses.replace(self.reader.record(self.method, quest.vocabulary), naming=naming)

    def _discover_all(self, images: Iterable[ImageLike], quest: Quest) -> Iterator[Discovery]:
        asked = _Asked(self, quest)
        for pictures in self.reader.batches(images, lambda picture: self.reader.size(picture, squash=self.method.squash)):
            yield from self._discover_batch(pictures, asked)

    @torch.inference_mode()
    def _discover_batch(self, pictures: Sequence[Picture], asked: "_Asked") -> Iterator[Discovery]:
        """Pictures that share a pass: one encoding, one choice of words, one pass, then each by itself."""
        began = time.perf_counter()
        latents = self.reader.latents(pictures, self.reader.size(pictures[0], squash=self.method.squash))
        encoded = time.perf_counter()
        wanted = asked.wanted(latents)
        chosen = time.perf_counter()
        condition = torch.cat([one.plan.passes[0].condition for one in wanted])
        reading = self.reader.backbone.read(latents, self.method.probe(), condition=condition, seed=self.reader.seed)
        shared = {"encode": encoded - began, "choose": chosen - encoded, "read": time.perf_counter() - chosen}
        seconds = {stage: passed / len(pictures) for stage, passed in shared.items()}
        record = self.record(asked.quest)
        for row, (picture, one) in enumerate(zip(pictures, wanted, strict=True)):
            before = time.perf_counter()
            foreground = self._foreground(reading.picture(row), one, picture)
            probability = full_mask(foreground, picture.pixels, [1], settings=self._masks).probability[0].clip(0, 1)
            timings = {**seconds, "foreground_and_full_size": time.perf_counter() - before}
            yield Discovery(picture, one.words, asked.quest.choice, probability, dataclasses.replace(record, timings=timings))

    def _foreground(self, reading: Reading, asked: "_Wanted", picture: Picture) -> Foreground:
        """The method's step on one picture: the maps of all words that are looked for as the map of one object."""
        maps = reading.cross_attention_of(self.method.probe().cross).maps(asked.plan.keys)
        together = [LayerMaps(layer.factor, layer.layers, layer.maps[:, asked.columns].sum(1, keepdim=True)) for layer in maps]
        factor = self.method.grid_factor
        attention = None if factor is None else reading.self_attention_at(factor)
        return self.method.foreground(together, attention, picture.pixels, seed=self.reader.seed)


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What one picture is asked: the words to look for, the plan of its prompt, and the places of the words among the plan's labels."""

    words: tuple[str, ...]
    plan: TextPlan
    columns: tuple[int, ...]


class _Asked:
    """A quest in the words of the model: what each picture is asked, each text encoded once."""

    def __init__(self, discoverer: Discoverer, quest: Quest) -> None:
        self.discoverer, self.quest = discoverer, quest
        self._behind = tuple(label for label in quest.vocabulary if label.background)
        self._own: dict[int, _Wanted] = {}

    def wanted(self, latents: Tensor) -> list[_Wanted]:
        """For each picture (pictures, channels, h, w) what it is asked."""
        if not self.quest.chooses:
            return [self._together] * len(latents)
        reader, method = self.discoverer.reader, self.discoverer.method
        best = best_words(
            cast(DrawingBackbone, reader.backbone), latents, Vocabulary(self.quest.words), method.wording(), seed=reader.seed,
            chunk=reader.batch, settings=self.discoverer.matching,
        )  # fmt: skip
        for index in best:
            if index not in self._own:
                self._own[index] = self._plan(Vocabulary((self.quest.words[index], *self._behind)))
        return [self._own[index] for index in best]

    @cached_property
    def _together(self) -> _Wanted:
        return self._plan(self.quest.vocabulary)

    def _plan(self, vocabulary: Vocabulary) -> _Wanted:
        """One prompt that names all labels."""
        plan = plan_text(self.discoverer.reader.backbone.text, vocabulary, self.discoverer.method.wording(), "joint")
        columns = tuple(place for place, label in enumerate(vocabulary) if not label.background)
        return _Wanted(tuple(vocabulary[place].name for place in columns), plan, columns)
