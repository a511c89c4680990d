"""Discovery by a trained decoder: a picture's features in, the probability of its object, its mask and its box out."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch

from maskwright.backbones.contract import DrawingBackbone
from maskwright.decoders.decoder import Decoder
from maskwright.decoders.identity import identify, open_decoder
from maskwright.decoders.predictor import DecoderPredictor
from maskwright.discovery.discoverer import Quest
from maskwright.discovery.masks import MaskSettings, full_mask
from maskwright.discovery.matching import MatchSettings, best_words
from maskwright.discovery.result import Discovery
from maskwright.errors import SettingsError
from maskwright.images import ImageLike, Picture
from maskwright.methods import DISCOVERY_METHODS
from maskwright.methods.diffusionseg.method import DiffusionSeg
from maskwright.methods.foreground import Foreground
from maskwright.reader import Reader
from maskwright.record import Record
from maskwright.segmenter import Labels
from maskwright.text.wording import Wording
from maskwright.vocabulary import Vocabulary

GENERIC = "object"  # what is found is called, where no word is asked for


class DecoderDiscoverer:
    """Finds the object of a picture by a saliency decoder; the shape is that of `discovery.Discoverer`.

    Args:
        model: the one that the decoder was trained on: catalogue name, hub id, local folder, live diffusers pipeline, or a loaded backbone.
        decoder: folder of `maskwright train`, "bundled", or a loaded decoder.
        generic: the word to look for when none is given, the decoder wants one and the model knows any word.
        matching: how words are compared where one is chosen; None for the defaults.
        refine: "none", "guided" or "pamr".
        seed: of the noise.
        device: "auto", "cpu", "cuda", ...
        dtype: "auto", "float32", "float16" or "bfloat16".
        batch: pictures in one call of the model; "auto" chooses by device.
        offline: never touch the network.

    Raises:
        ModelError: a model or decoder that cannot be loaded, or two that do not belong together.
        SettingsError: a decoder of classes, or an option that cannot be used.
    """

    def __init__(
        self, model: Any = "sticker", decoder: "Decoder | str | Path" = "bundled", *, generic: str = GENERIC,
        matching: MatchSettings | None = None, refine: Literal["none", "guided", "pamr"] = "none", seed: int = 0, device: str = "auto",
        dtype: str = "auto", batch: int | Literal["auto"] = "auto", offline: bool = False,
    ) -> None:  # fmt: skip
        self.decoder = open_decoder(decoder, task="saliency")
        self.generic = Vocabulary.parse([generic])
        self.reader = Reader(model, refine=refine, seed=seed, device=device, dtype=dtype, batch=batch, offline=offline)
        self.method = DiffusionSeg()
        self.matching = matching or MatchSettings()
        self._predictor = DecoderPredictor(self.reader, self.decoder)
        self._wording: Wording = self.reader.make_method("attentioncut", None, among=DISCOVERY_METHODS).wording()
        self._identity = identify(self.decoder)
        self._masks = MaskSettings(refine=refine)

    @property
    def wants_words(self) -> bool:
        """Whether the decoder's features are read under the words of the picture."""
        return self.decoder.settings.prior == "match"

    def discover(self, image: Any, labels: Labels | None = None, *, match: bool = False) -> Any:
        """The object of one picture, or of each of a list.

        Args:
            image: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W), or a list of these.
            labels: the words of the picture, several mean all that they name together; for decoders with the prior "match" only, which take
                the best of the decoder's own words, or else of the model's objects otherwise. Words marked as background are left out.
            match: take only the one of these words that fits the picture best.

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
        if self.wants_words:
            self.reader.warn_of_unknown(quest.vocabulary)
        return self._discover_all(images, quest)

    def quest(self, labels: Labels | None = None, *, match: bool = False) -> Quest:
        """What `discover` looks for.

        Raises:
            VocabularyError: labels that cannot be used.
            SettingsError: words for a decoder that reads pictures without any, or nothing to choose from.
        """
        if not self.wants_words:
            if labels is not None or match:
                raise SettingsError("this decoder was trained without words (prior empty): leave labels and match out")
            return Quest(Vocabulary.parse([GENERIC]), "without words")
        if labels is not None:
            words = Vocabulary(Vocabulary.parse(labels).foreground)
            return Quest(words, "best match of the given words" if match else "given")
        if self.decoder.labels:
            return Quest(Vocabulary(self.decoder.labels), "best match of the decoder's words")
        if self.reader.backbone.info.objects:
            return Quest(Vocabulary.parse(self.reader.backbone.info.objects), "best match of the model's words")
        if match:
            raise SettingsError("there is nothing to choose from, since this model's vocabulary is open: give the words that compete")
        return Quest(self.generic, "generic word")

    def record(self, quest: Quest) -> Record:
        """How this discoverer makes its results: everything but the timings; the settings tell the decoder's weights by their digest."""
        naming: dict[str, Any] = {"choice": quest.choice, "labels": [], "background": []}
        if self.wants_words:
            naming["labels"] = [[label.name, list(label.synonyms)] for label in quest.words]
        if quest.chooses:
            naming["matching"] = dataclasses.asdict(self.matching)
        record = self.reader.record(self.method, quest.vocabulary if self.wants_words else None)
        return dataclasses.replace(record, settings=self._identity, naming=naming)

    def _discover_all(self, images: Iterable[ImageLike], quest: Quest) -> Iterator[Discovery]:
        for pictures in self.reader.batches(images, self.reader.size):
            yield from self._discover_batch(pictures, quest)

    @torch.inference_mode()
    def _discover_batch(self, pictures: Sequence[Picture], quest: Quest) -> Iterator[Discovery]:
        """Pictures that share their passes: one choice of words, one reading, then each by itself."""
        began = time.perf_counter()
        words = self._words(pictures, quest)
        chosen = time.perf_counter()
        probabilities = self._predictor.probabilities(pictures, words=words if self.wants_words else None)
        shared = {"choose": chosen - began, "read_and_decode": time.perf_counter() - chosen}
        seconds = {stage: passed / len(pictures) for stage, passed in shared.items()}
        record = self.record(quest)
        for picture, found, own in zip(pictures, probabilities, words, strict=True):
            before = time.perf_counter()
            foreground = Foreground(found, found > 0.5)
            probability = full_mask(foreground, picture.pixels, [1], settings=self._masks).probability[0].clip(0, 1)
            timings = {**seconds, "foreground_and_full_size": time.perf_counter() - before}
            yield Discovery(picture, own, quest.choice, probability, dataclasses.replace(record, timings=timings))

    def _words(self, pictures: Sequence[Picture], quest: Quest) -> list[tuple[str, ...]]:
        """For each picture the words that it is read under, or by which its object is called."""
        if not quest.chooses:
            return [tuple(label.name for label in quest.words)] * len(pictures)
        latents = self.reader.latents(pictures, self.reader.size(pictures[0]))
        best = best_words(
            cast(DrawingBackbone, self.reader.backbone), latents, quest.vocabulary, self._wording, seed=self.reader.seed,
            chunk=self.reader.batch, settings=self.matching,
        )  # fmt: skip
        return [(quest.words[index].name,) for index in best]
