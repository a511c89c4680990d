"""The whole flow: words and pictures in, masks out."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from maskwright.backbones.contract import Backbone
from maskwright.backbones.loading import load_backbone
from maskwright.background import Background, read_background
from maskwright.errors import ImageError, SettingsError
from maskwright.images import ImageLike, Picture, resize, to_tensor, working_size
from maskwright.methods import make_method
from maskwright.passes import Scored, run_passes, score_reading
from maskwright.readings.reading import Reading
from maskwright.record import Record
from maskwright.refine import REFINERS, make_refiner
from maskwright.rejection import kept_labels, with_baseline
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.text.filtering import CategoryFilter
from maskwright.text.planning import Continue, TextPlan, plan_text
from maskwright.text.wording import PROMPTINGS, Prompting
from maskwright.tiled import sharpen_by_tiles, tiles_are_worthwhile
from maskwright.versions import package_versions
from maskwright.vocabulary import Label, Vocabulary

log = logging.getLogger("maskwright")
Labels = str | Iterable[str | Label] | Vocabulary
TILINGS = ("none", "auto")
BATCH_ON_GPU, BATCH_ON_CPU = 8, 4
SMALL = 100_000_000  # parameters up to which a batch pays on a CPU


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
        method: "diffsegmenter", "maskdiffusion", or a settings object of a method.
        settings: settings over the method's (and the model's) defaults, when `method` is a name.
        prompting: "shared", "per-label" or "joint"; None for the method's own.
        background: a threshold, a background word, "none", or "auto" for the method's own threshold, which gives way where the
            vocabulary marks a label as background.
        refine: "none", "guided" or "pamr".
        tile: "none", or "auto" to read large pictures also in tiles.
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
        refine: Literal["none", "guided", "pamr"] = "none", tile: Literal["none", "auto"] = "none",
        category_filter: CategoryFilter | None = None, captioner: Any = None, seed: int = 0, device: str = "auto",
        dtype: str = "auto", batch: int | Literal["auto"] = "auto", offline: bool = False,
    ) -> None:  # fmt: skip
        if refine not in REFINERS:
            raise SettingsError(f"unknown refine {refine!r}: use {', '.join(REFINERS)}")
        if tile not in TILINGS:
            raise SettingsError(f"unknown tile {tile!r}: use {', '.join(TILINGS)}")
        if prompting is not None and prompting not in PROMPTINGS:
            raise SettingsError(f"unknown prompting {prompting!r}: use {', '.join(PROMPTINGS)}")
        if batch != "auto" and batch < 1:
            raise SettingsError(f"batch must be at least 1 or 'auto', not {batch}")
        if isinstance(method, str):
            make_method(method, settings)  # a wrong name or setting is told before a model is loaded
        is_backbone = hasattr(model, "read") and hasattr(model, "info")
        self.backbone: Backbone = model if is_backbone else load_backbone(model, device=device, dtype=dtype, offline=offline)
        self.method = self._make_method(method, settings, prompting)
        if captioner is not None and self.method.prompting == "joint":
            raise SettingsError("a captioner continues the prompt of each label, not a joint one: use prompting 'shared' or 'per-label'")
        self.threshold, self.background_word = read_background(background, self.method.background)
        self._gives_way = background == "auto"
        self.refine, self.tile, self.seed = refine, tile, seed
        self.category_filter, self.captioner = category_filter, captioner
        self.batch = self._choose_batch() if batch == "auto" else batch

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

    def read(self, image: ImageLike) -> PictureReading:
        """Reads a picture once under a neutral prompt; `segment(reading, labels)` then needs no further pass."""
        picture = Picture.open(image)
        neutral = self.backbone.text.encode([self.method.wording().neutral]).embeddings
        latents = self._latents([picture], self._size(picture))
        return PictureReading(picture, self.backbone.read(latents, self.method.probe(), condition=neutral, seed=self.seed))

    def vocabulary(self, labels: Labels) -> Vocabulary:
        """Parses labels, adds the background word, and warns of words that a closed model cannot know."""
        vocabulary = Vocabulary.parse(labels, background=self.background_word)
        if strange := self.unknown_words(vocabulary):
            log.warning("%s does not know %s. %s", self.backbone.info.name, ", ".join(strange), self.backbone.info.advice)
        return vocabulary

    def unknown_words(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Labels none of whose names are made of words that the model knows; none for an open vocabulary."""
        if self.backbone.info.words is None:
            return ()
        known = set(self.backbone.info.words)
        return tuple(
            label.name for label in vocabulary if not any(set(text.lower().split()) <= known for text in label.texts)
        )  # fmt: skip

    def _segment_one(self, image: Any, vocabulary: Vocabulary) -> Segmentation:
        if isinstance(image, PictureReading):
            return self._answer(image, vocabulary)
        return next(self._segment_all([image], vocabulary))

    def _segment_all(self, images: Iterable[ImageLike], vocabulary: Vocabulary) -> Iterator[Segmentation]:
        group: list[Picture] = []
        for image in images:
            try:
                picture = Picture.open(image)
            except ImageError:
                yield from self._segment_group(group, vocabulary)  # what came before is not lost
                raise
            if group and not self._share_a_pass(group[0], picture):
                yield from self._segment_group(group, vocabulary)
                group = []
            group.append(picture)
            if len(group) == self.batch:
                yield from self._segment_group(group, vocabulary)
                group = []
        yield from self._segment_group(group, vocabulary)

    def _share_a_pass(self, one: Picture, other: Picture) -> bool:
        """Whether two pictures are read at one size, and neither in tiles."""
        return self._size(one) == self._size(other) and not self._is_tiled(one) and not self._is_tiled(other)

    def _is_tiled(self, picture: Picture) -> bool:
        return self.tile != "none" and tiles_are_worthwhile(picture.size, self._size(picture))

    def _segment_group(self, pictures: Sequence[Picture], vocabulary: Vocabulary) -> Iterator[Segmentation]:
        """Pictures that share a pass: one encoding, one pass, then each by itself."""
        if not pictures:
            return
        began = time.perf_counter()
        prompting = self.method.prompting
        if self.category_filter is not None or self.captioner is not None:  # the text then depends on the picture
            results = [self._score_own(one, vocabulary, prompting, partial(self._score, [one])) for one in pictures]
        else:
            scored = self._score(pictures, self._plan(with_baseline(self.method, vocabulary), prompting, None))
            kept = [kept_labels(self.method, scored, row, vocabulary) for row in range(len(pictures))]
            results = [(scored.maps[row, : len(vocabulary)], kept[row]) for row in range(len(pictures))]
        each = (time.perf_counter() - began) / len(pictures)
        record = self.record(vocabulary)
        for picture, (maps, competing) in zip(pictures, results, strict=True):
            yield self._finish(picture, vocabulary, maps, competing, record, {"read_and_score": each})

    def _answer(self, read: PictureReading, vocabulary: Vocabulary) -> Segmentation:
        """Asks labels of a stored reading, which was made of the whole picture."""
        began = time.perf_counter()
        maps, kept = self._score_own(
            read.picture, vocabulary, "shared", lambda plan: score_reading(self.method, read.reading, plan)
        )  # fmt: skip
        seconds = {"score": time.perf_counter() - began}
        record = dataclasses.replace(self.record(vocabulary), prompting="shared", tile="none")
        return self._finish(read.picture, vocabulary, maps, kept, record, seconds)

    def _score(self, pictures: Sequence[Picture], plan: TextPlan) -> Scored:
        """(pictures, labels, h, w) of pictures that share a pass; a large one, which is alone, also by tiles."""
        size = self._size(pictures[0])
        probe = self.method.probe()

        def score(batch: Sequence[Picture]) -> Scored:
            latents = self._latents(batch, size)
            return run_passes(self.backbone, latents, self.method, probe, plan, seed=self.seed, chunk=self.batch)

        whole = score(pictures)
        if not self._is_tiled(pictures[0]):
            return whole
        finer = sharpen_by_tiles(pictures[0], whole.maps[0], size, lambda batch: score(batch).maps)
        return Scored(finer[None], whole.strength)

    def _score_own(
        self, picture: Picture, vocabulary: Vocabulary, prompting: Prompting, score: Callable[[TextPlan], Scored]
    ) -> tuple[Tensor, tuple[bool, ...]]:
        """Maps (labels, h, w) of one picture, and which labels count: the filter chooses them, captions continue their prompts."""
        chosen = (True,) * len(vocabulary)
        if self.category_filter is not None:
            chosen = self.category_filter.keep(picture.pixels, vocabulary).kept
        numbers = [number for number, keep in enumerate(chosen) if keep]
        if all(vocabulary[number].background for number in numbers):  # nothing to look for: no pass
            return torch.zeros(len(vocabulary), 1, 1), chosen
        continue_prompt: Continue | None = None
        if self.captioner is not None:
            continue_prompt = lambda prefix: self.captioner.continue_prompt(picture.pixels, prefix)  # noqa: E731
        part = Vocabulary(tuple(vocabulary[number] for number in numbers))
        scored = score(self._plan(with_baseline(self.method, part), prompting, continue_prompt))
        maps = scored.maps.new_zeros(len(vocabulary), *scored.maps.shape[-2:])
        maps[numbers] = scored.maps[0, : len(numbers)]
        survivors = dict(zip(numbers, kept_labels(self.method, scored, 0, part), strict=True))
        return maps, tuple(survivors.get(number, False) for number in range(len(vocabulary)))

    def record(self, vocabulary: Vocabulary) -> Record:
        """How this segmenter makes its results for a vocabulary: everything but the timings."""
        info = self.backbone.info
        strange = self.unknown_words(vocabulary)
        threshold = self._threshold_for(vocabulary)
        return Record(
            method=self.method.name, settings=dataclasses.asdict(self.method), model=info.source, revision=info.revision or None,
            device=str(self.backbone.device), dtype=str(self.backbone.dtype).removeprefix("torch."), seed=self.seed,
            prompting=self.method.prompting, background=threshold if self.background_word is None else self.background_word,
            refine=self.refine, tile=self.tile, versions=package_versions(),
            category_filter=self.category_filter.settings if self.category_filter is not None else None,
            captioner=self.captioner.source if self.captioner is not None else None,
            warnings=(f"{info.name} does not know {', '.join(strange)}",) if strange else (),
        )  # fmt: skip

    def _threshold_for(self, vocabulary: Vocabulary) -> float | None:
        """The threshold; the method's own gives way to a label that is marked as background."""
        return None if self._gives_way and any(label.background for label in vocabulary) else self.threshold

    def _finish(
        self, picture: Picture, vocabulary: Vocabulary, maps: Tensor, kept: tuple[bool, ...], record: Record, seconds: Mapping[str, float]
    ) -> Segmentation:
        """Score maps to the picture's own size."""
        began = time.perf_counter()
        scores = ScoreMaps(maps, self.method.stretch, kept, self.method.meaning)
        refiner = None
        if self.refine != "none":
            refiner = make_refiner(self.refine, picture.pixels, grid=(int(maps.shape[-2]), int(maps.shape[-1])))
        threshold = self._threshold_for(vocabulary)
        result = Segmentation.from_maps(scores, picture, vocabulary, record, background=threshold, refiner=refiner)
        timings = {**seconds, "full_size": time.perf_counter() - began}
        return dataclasses.replace(result, record=dataclasses.replace(record, timings=timings))

    def _plan(self, vocabulary: Vocabulary, prompting: Prompting, continue_prompt: Continue | None) -> TextPlan:
        return plan_text(self.backbone.text, vocabulary, self.method.wording(), prompting, continue_prompt=continue_prompt)

    def _size(self, picture: Picture) -> tuple[int, int]:
        """(h, w) at which the model reads a picture."""
        info = self.backbone.info
        size = (info.native, info.native) if self.method.squash else picture.size
        return working_size(size, native=info.native, multiple=info.multiple)

    def _latents(self, pictures: Sequence[Picture], size: tuple[int, int]) -> Tensor:
        return self.backbone.encode_image(to_tensor([resize(picture, size) for picture in pictures]))

    def _make_method(self, method: Any, settings: Mapping[str, Any] | None, prompting: Prompting | None) -> Any:
        if isinstance(method, str):
            suited = self.backbone.info.methods.get(method, {})
            method = make_method(method, {**suited, **(settings or {})})
        elif settings:
            raise SettingsError("settings go into the method object itself when one is given")
        return method if prompting is None else dataclasses.replace(method, prompting=prompting)

    def _choose_batch(self) -> int:
        if self.backbone.device.type != "cpu":
            return BATCH_ON_GPU
        unet = getattr(self.backbone, "unet", None)
        small = unet is not None and sum(parameter.numel() for parameter in unet.parameters()) < SMALL
        return BATCH_ON_CPU if small else 1

