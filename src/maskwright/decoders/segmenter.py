"""Segmentation by a trained decoder: a picture's features in, one of the classes that it was trained for at every pixel out."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from maskwright.decoders.decoder import Decoder
from maskwright.decoders.identity import identify, open_decoder
from maskwright.decoders.predictor import DecoderPredictor
from maskwright.errors import VocabularyError
from maskwright.images import ImageLike, Picture
from maskwright.methods.diffusionseg.method import DiffusionSegSemantic
from maskwright.reader import Reader
from maskwright.record import Record
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.segmenter import Labels
from maskwright.vocabulary import Label, Vocabulary

BACKGROUND = ("background", "no label", "none of the labels")  # the first of them that no class has
TINY = 1e-12  # of a probability that is shared among the classes that compete
MOST_NAMES = 12  # that an error lists


class DecoderSegmenter:
    """Segments pictures into the classes of a semantic decoder; the shape is that of `Segmenter`.

    Args:
        model: the one that the decoder was trained on: catalogue name, hub id, local folder, live diffusers pipeline, or a loaded backbone.
        decoder: folder of `maskwright train`, or a loaded decoder.
        refine: "none", "guided" or "pamr".
        seed: of the noise.
        device: "auto", "cpu", "cuda", ...
        dtype: "auto", "float32", "float16" or "bfloat16".
        batch: pictures in one call of the model; "auto" chooses by device.
        offline: never touch the network.

    Raises:
        ModelError: a model or decoder that cannot be loaded, or two that do not belong together.
        SettingsError: a saliency decoder, or an option that cannot be used.
    """

    def __init__(
        self, model: Any = "sticker", decoder: "Decoder | str | Path" = "bundled", *,
        refine: Literal["none", "guided", "pamr"] = "none", seed: int = 0, device: str = "auto", dtype: str = "auto",
        batch: int | Literal["auto"] = "auto", offline: bool = False,
    ) -> None:  # fmt: skip
        self.decoder = open_decoder(decoder, task="semantic")
        self.reader = Reader(model, refine=refine, seed=seed, device=device, dtype=dtype, batch=batch, offline=offline)
        self.method = DiffusionSegSemantic()
        self._predictor = DecoderPredictor(self.reader, self.decoder)
        self._identity = identify(self.decoder)
        self._known = Vocabulary(self.decoder.labels)

    def segment(self, image: Any, labels: Labels | None = None) -> Any:
        """Segments one picture, or each of a list.

        Args:
            image: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W), or a list of these.
            labels: those of the decoder's classes that compete with the background, in the order of their numbers; the others are left out,
                as if the decoder did not have them: their pixels go to whichever of the rest is likelier. None for all.

        Returns:
            A Segmentation, or a list of them.

        Raises:
            MaskwrightError: for pictures or labels that cannot be used.
        """
        if isinstance(image, list | tuple):
            return list(self.segment_many(image, labels))
        return next(self.segment_many([image], labels))

    def segment_many(self, images: Iterable[ImageLike], labels: Labels | None = None) -> Iterator[Segmentation]:
        """Segments pictures one after the other, neighbours of one shape together; yields in their order.

        The labels are checked at once, a picture when its turn comes.
        """
        return self._segment_all(images, self.vocabulary(labels))

    def vocabulary(self, labels: Labels | None = None) -> Vocabulary:
        """The background, then the classes that compete under the decoder's names for them, whatever synonym they are asked for by.

        Raises:
            VocabularyError: a label that the decoder was not trained for, or two that are one class.
        """
        chosen = self._known.labels if labels is None else tuple(self._find(label) for label in Vocabulary.parse(labels).foreground)
        taken = {text.casefold() for label in chosen for text in label.texts}
        name = next(word for word in BACKGROUND if word not in taken)
        return Vocabulary((Label(name, background=True), *chosen))

    def record(self, vocabulary: Vocabulary) -> Record:
        """How this segmenter makes its results for a vocabulary: everything but the timings; the settings tell the decoder's weights."""
        name = next(label.name for label in vocabulary if label.background)
        return dataclasses.replace(self.reader.record(self.method), settings=self._identity, background=name)

    def _find(self, label: Label) -> Label:
        """The decoder's class that has one of a label's texts."""
        wanted = {text.casefold() for text in label.texts}
        for known in self._known:
            if wanted & {text.casefold() for text in known.texts}:
                return known
        names = self._known.names
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        raise VocabularyError(f"this decoder was not trained for {label.name!r}: it knows {', '.join(names[:MOST_NAMES])}{more}")

    def _segment_all(self, images: Iterable[ImageLike], vocabulary: Vocabulary) -> Iterator[Segmentation]:
        record = self.record(vocabulary)
        for pictures in self.reader.batches(images, self.reader.size):
            began = time.perf_counter()
            scores = self._score(pictures, vocabulary)
            each = (time.perf_counter() - began) / len(pictures)
            for picture, maps in zip(pictures, scores, strict=True):
                scored = ScoreMaps(maps, "none", (True,) * len(vocabulary), self.method.meaning)
                yield self.reader.draw(picture, vocabulary, scored, record, {"read_and_score": each})

    def _score(self, pictures: Sequence[Picture], vocabulary: Vocabulary) -> Tensor:
        """(pictures, labels, h, w) float32: probabilities among the classes that compete, the background first."""
        known = self._known.labels
        places = [0, *(1 + known.index(label) for label in vocabulary.foreground)]
        competing = self._predictor.probabilities(pictures)[:, places]
        return competing / competing.sum(1, keepdim=True).clamp_min(TINY)
