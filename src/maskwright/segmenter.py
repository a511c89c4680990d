"""The whole flow: words and pictures in, masks out."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from maskwright.backbones.contract import Backbone
from maskwright.background import Background, read_background
from maskwright.errors import SettingsError
from maskwright.images import ImageLike, Picture, Size
from maskwright.methods import METHODS, make_method
from maskwright.passes import Scored, run_passes, score_reading
from maskwright.projection import Projection
from maskwright.reader import Reader
from maskwright.readings.reading import Reading
from maskwright.record import Record
from maskwright.rejection import kept_labels, with_baseline
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.text.filtering import CategoryFilter
from maskwright.text.planning import Continue, TextPlan, plan_text
from maskwright.text.wording import PROMPTINGS, Prompting
from maskwright.tiled import sharpen_by_tiles, tiles_are_worthwhile
from maskwright.vocabulary import Label, Vocabulary

Labels = str | Iterable[str | Label] | Vocabulary
TILINGS = ("none", "auto")


@dataclass(frozen=True, eq=False)
class PictureReading:
    """A picture and what the model read in it; any labels can be asked of it without another pass.

    Attributes:
        picture: the picture.
        reading: queries, keys and features of that one picture, read under a neutral prompt.
    """

    picture: Picture
    reading: Reading


class Segmenter:
    """Segments pictures by words.

    Args:
        model: catalogue name, hub id, local folder, live diffusers pipeline, or a loaded backbone.
        method: "diffsegmenter", "maskdiffusion", "word-shares", "foreground-first", "diffusion-classifier", or a settings
            object of a method.
        settings: settings over the method's (and the model's) defaults, when `method` is a name.
        prompting: "shared", "per-label" or "joint"; None for the method's own.
        background: a threshold, a background word, "none", or "auto" for the method's own threshold, which gives way where the
            vocabulary marks a label as background.
        refine: "none", "guided" or "pamr".
        tile: "none", or "auto" to read large pictures also in tiles.
        flip: whether a picture is read in a mirror as well, and its labels score the mean of both: twice the time.
        category_filter: decides per picture which labels compete; None for all.
        captioner: continues each label's prompt with a caption of the picture (`text.captioning.Captioner`); None for none.
        seed: of the noise.
        device: "auto", "cpu", "cuda", ...
        dtype: "auto", "float32", "float16" or "bfloat16".
        batch: pictures (or per-label passes) in one call of the model; "auto" chooses by device.
        offline: never touch the network.

    Raises:
        ModelError: a model that cannot be loaded.
        SettingsError: an option that cannot be used.
    """

    def __init__(
        self, model: Any = "sticker", method: Any = "diffsegmenter", *, settings: Mapping[str, Any] | None = None,
        prompting: Prompting | None = None, background: Background = "auto",
        refine: Literal["none", "guided", "pamr"] = "none", tile: Literal["none", "auto"] = "none", flip: bool = False,
        category_filter: CategoryFilter | None = None, captioner: Any = None, seed: int = 0, device: str = "auto",
        dtype: str = "auto", batch: int | Literal["auto"] = "auto", offline: bool = False,
    ) -> None:  # fmt: skip
        if tile not in TILINGS:
            raise SettingsError(f"unknown tile {tile!r}: use {', '.join(TILINGS)}")
        if prompting is not None and prompting not in PROMPTINGS:
            raise SettingsError(f"unknown prompting {prompting!r}: use {', '.join(PROMPTINGS)}")
        if isinstance(method, str):
            make_method(method, settings)  # a wrong name or setting is told before a model is loaded
        self.reader = Reader(model, refine=refine, seed=seed, device=device, dtype=dtype, batch=batch, offline=offline)
        method = self.reader.make_method(method, settings, among=METHODS)
        self.method = method if prompting is None else dataclasses.replace(method, prompting=prompting)
        if captioner is not None and self.method.prompting == "joint":
            raise SettingsError("a captioner continues the prompt of each label, not a joint one: use prompting 'shared' or 'per-label'")
        self.threshold, self.background_word = read_background(background, self.method.background)
        self._gives_way = background == "auto"
        self.tile, self.flip, self.category_filter, self.captioner = tile, flip, category_filter, captioner

    @property
    def backbone(self) -> Backbone:
        """The model."""
        return self.reader.backbone

    @property
    def refine(self) -> str:
        """Name of the refiner."""
        return self.reader.refine

    @property
    def seed(self) -> int:
        """Of the noise."""
        return self.reader.seed

    def segment(self, image: Any, labels: Labels) -> Any:
        """Segments one picture, or each of a list.

        Args:
            image: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W), a `PictureReading`, or a list of these.
            labels: "dog, red apple, cat|kitten", a list of words, or a Vocabulary.

        Returns:
            A Segmentation, or a list of them.

        Raises:
            MaskwrightError: for pictures, labels or settings that cannot be used.
        """
        vocabulary = self.vocabulary(labels)
        if not isinstance(image, list | tuple):
            return self._segment_one(image, vocabulary)
        if any(isinstance(one, PictureReading) for one in image):
            return [self._segment_one(one, vocabulary) for one in image]
        return list(self._segment_all(image, vocabulary))

    def segment_many(self, images: Iterable[ImageLike], labels: Labels) -> Iterator[Segmentation]:
        """Segments pictures one after the other, neighbours of one shape together; yields in their order.

        The labels are checked at once, a picture when its turn comes.
        """
        return self._segment_all(images, self.vocabulary(labels))

    def draw(self, picture: Picture, vocabulary: Vocabulary, maps: ScoreMaps) -> Segmentation:
        """Lets labels compete at the picture's own size: what is left to do after `score`.

        Args:
            picture: what was scored.
            vocabulary: as `vocabulary` returns it, with this segmenter's background word.
            maps: as `score` returns them.
        """
        return self._draw(picture, vocabulary, maps, self.record(vocabulary), {})

    def redraw(self, result: Segmentation) -> Segmentation:
        """The scores of a result, drawn with this segmenter's refiner and background: nothing is read again.

        Args:
            result: of a segmenter with the same method. A background word that took part in it stays.

        Raises:
            SettingsError: the result is of another method, or this segmenter's background word took no part in it.
        """
        if not isinstance(result.score_source, Projection) or result.record.method != self.method.name:
            raise SettingsError(f"a result of {result.record.method} cannot be drawn again by {self.method.name}: use its own method")
        if self.background_word is not None and Vocabulary.parse(result.vocabulary, background=self.background_word) != result.vocabulary:
            raise SettingsError(f"{self.background_word!r} took no part in this result as background: segment the picture again")
        background = self._recorded_background(result.vocabulary)
        if background is None and isinstance(result.record.background, str):
            background = result.record.background  # the word still competes
        record = dataclasses.replace(result.record, refine=self.refine, background=background)
        return self._draw(result.picture, result.vocabulary, result.score_source.maps, record, result.record.timings)

    def read(self, image: ImageLike) -> PictureReading:
        """Reads a picture once under a neutral prompt; `segment(reading, labels)` then needs no further pass."""
        picture = Picture.open(image)
        neutral = self.backbone.text.encode([self.method.wording().neutral]).embeddings
        latents = self.reader.latents([picture], self._size(picture))
        return PictureReading(picture, self.backbone.read(latents, self.method.probe(), condition=neutral, seed=self.seed))

    def vocabulary(self, labels: Labels) -> Vocabulary:
        """Parses labels, adds the background word, and warns of words that a closed model cannot know."""
        vocabulary = Vocabulary.parse(labels, background=self.background_word)
        self.reader.warn_of_unknown(vocabulary)
        return vocabulary

    def score(self, pictures: Sequence[Picture], vocabulary: Vocabulary) -> list[ScoreMaps]:
        """Score maps of pictures that share a pass, that is, of one shape and not in tiles, or of a single picture."""
        if self.category_filter is not None or self.captioner is not None:  # the text then depends on the picture
            return [self._score_own(one, vocabulary, self.method.prompting, partial(self._score, [one])) for one in pictures]
        scored = self._score(pictures, self._plan(with_baseline(self.method, vocabulary), self.method.prompting, None))
        return [
            self._score_maps(scored.maps[row, : len(vocabulary)], kept_labels(self.method, scored, row, vocabulary))
            for row in range(len(pictures))
        ]

    def _segment_one(self, image: Any, vocabulary: Vocabulary) -> Segmentation:
        if isinstance(image, PictureReading):
            return self._answer(image, vocabulary)
        return next(self._segment_all([image], vocabulary))

    def _segment_all(self, images: Iterable[ImageLike], vocabulary: Vocabulary) -> Iterator[Segmentation]:
        def shared(picture: Picture) -> Size | None:
            return None if self._is_tiled(picture) else self._size(picture)

        for pictures in self.reader.batches(images, shared):
            yield from self._segment_batch(pictures, vocabulary)

    def _is_tiled(self, picture: Picture) -> bool:
        return self.tile != "none" and tiles_are_worthwhile(picture.size, self._size(picture))

    def _segment_batch(self, pictures: Sequence[Picture], vocabulary: Vocabulary) -> Iterator[Segmentation]:
        """Pictures that share a pass: one encoding, one pass, then each by itself."""
        began = time.perf_counter()
        scores = self.score(pictures, vocabulary)
        each = (time.perf_counter() - began) / len(pictures)
        record = self.record(vocabulary)
        for picture, maps in zip(pictures, scores, strict=True):
            yield self._draw(picture, vocabulary, maps, record, {"read_and_score": each})

    def _answer(self, read: PictureReading, vocabulary: Vocabulary) -> Segmentation:
        """Asks labels of a stored reading, which was made of the whole picture."""
        began = time.perf_counter()
        maps = self._score_own(read.picture, vocabulary, "shared", lambda plan: score_reading(self.method, read.reading, plan))
        seconds = {"score": time.perf_counter() - began}
        record = dataclasses.replace(self.record(vocabulary), prompting="shared", tile="none", flip=False)
        return self._draw(read.picture, vocabulary, maps, record, seconds)

    def _score(self, pictures: Sequence[Picture], plan: TextPlan) -> Scored:
        """(pictures, labels, h, w) of pictures that share a pass; a large one, which is alone, also by tiles."""
        size = self._size(pictures[0])
        probe = self.method.probe()

        def look(batch: Sequence[Picture], *, mirrored: bool = False) -> Scored:
            latents = self.reader.latents(batch, size, mirrored=mirrored)
            return run_passes(self.backbone, latents, self.method, probe, plan, seed=self.seed, chunk=self.reader.batch)

        def score(batch: Sequence[Picture]) -> Scored:
            return look(batch).mean_with_mirrored(look(batch, mirrored=True)) if self.flip else look(batch)

        whole = score(pictures)
        if not self._is_tiled(pictures[0]):
            return whole
        finer = sharpen_by_tiles(pictures[0], whole.maps[0], size, lambda batch: score(batch).maps)
        return Scored(finer[None], whole.strength)

    def _score_own(self, picture: Picture, vocabulary: Vocabulary, prompting: Prompting, score: Callable[[TextPlan], Scored]) -> ScoreMaps:
        """Maps of one picture by itself: the filter chooses which labels count, captions continue their prompts."""
        chosen = (True,) * len(vocabulary)
        if self.category_filter is not None:
            chosen = self.category_filter.keep(picture.pixels, vocabulary).kept
        numbers = [number for number, keep in enumerate(chosen) if keep]
        if all(vocabulary[number].background for number in numbers):  # nothing to look for: no pass
            return self._score_maps(torch.zeros(len(vocabulary), 1, 1), chosen)
        continue_prompt: Continue | None = None
        if self.captioner is not None:
            continue_prompt = lambda prefix: self.captioner.continue_prompt(picture.pixels, prefix)  # noqa: E731
        part = Vocabulary(tuple(vocabulary[number] for number in numbers))
        scored = score(self._plan(with_baseline(self.method, part), prompting, continue_prompt))
        maps = scored.maps.new_zeros(len(vocabulary), *scored.maps.shape[-2:])
        maps[numbers] = scored.maps[0, : len(numbers)]
        survivors = dict(zip(numbers, kept_labels(self.method, scored, 0, part), strict=True))
        return self._score_maps(maps, tuple(survivors.get(number, False) for number in range(len(vocabulary))))

    def _score_maps(self, maps: Tensor, kept: tuple[bool, ...]) -> ScoreMaps:
        return ScoreMaps(maps, self.method.stretch, kept, self.method.meaning)

    def record(self, vocabulary: Vocabulary) -> Record:
        """How this segmenter makes its results for a vocabulary: everything but the timings."""
        return dataclasses.replace(
            self.reader.record(self.method, vocabulary), prompting=self.method.prompting, tile=self.tile, flip=self.flip,
            background=self._recorded_background(vocabulary),
            category_filter=self.category_filter.settings if self.category_filter is not None else None,
            captioner=self.captioner.source if self.captioner is not None else None,
        )  # fmt: skip

    def _threshold_for(self, vocabulary: Vocabulary) -> float | None:
        """The threshold; the method's own gives way to a label that is marked as background."""
        return None if self._gives_way and any(label.background for label in vocabulary) else self.threshold

    def _recorded_background(self, vocabulary: Vocabulary) -> float | str | None:
        return self._threshold_for(vocabulary) if self.background_word is None else self.background_word

    def _draw(
        self, picture: Picture, vocabulary: Vocabulary, maps: ScoreMaps, record: Record, seconds: Mapping[str, float]
    ) -> Segmentation:
        return self.reader.draw(picture, vocabulary, maps, record, seconds, threshold=self._threshold_for(vocabulary))

    def _plan(self, vocabulary: Vocabulary, prompting: Prompting, continue_prompt: Continue | None) -> TextPlan:
        return plan_text(self.backbone.text, vocabulary, self.method.wording(), prompting, continue_prompt=continue_prompt)

    def _size(self, picture: Picture) -> Size:
        return self.reader.size(picture, squash=self.method.squash)
