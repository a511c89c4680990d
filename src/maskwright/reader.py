"""What every flow from pictures to results shares: a loaded model, how pictures come to it, and what a record says of both."""

import dataclasses
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from maskwright.backbones.contract import Backbone
from maskwright.backbones.loading import load_backbone
from maskwright.errors import ImageError, SettingsError
from maskwright.images import ImageLike, Picture, Size, resize, to_tensor, working_size
from maskwright.methods import Methods, suited_method
from maskwright.projection import Projection
from maskwright.record import Record
from maskwright.refine import REFINERS, Refiner, make_refiner
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.versions import package_versions
from maskwright.vocabulary import Vocabulary

log = logging.getLogger("maskwright")
BATCH_ON_GPU, BATCH_ON_CPU = 8, 4
SMALL = 100_000_000  # parameters up to which a batch pays on a CPU


class Reader:
    """Brings pictures to a frozen model.

    Args:
        model: catalogue name, hub id, local folder, live diffusers pipeline, or a loaded backbone.
        refine: "none", "guided" or "pamr".
        seed: of the noise.
        device: "auto", "cpu", "cuda", ...
        dtype: "auto", "float32", "float16" or "bfloat16".
        batch: pictures in one call of the model; "auto" chooses by device.
        offline: never touch the network.

    Raises:
        ModelError: a model that cannot be loaded.
        SettingsError: an option that cannot be used; it is told before the model is loaded.
    """

    def __init__(
        self, model: Any = "sticker", *, refine: str = "none", seed: int = 0, device: str = "auto", dtype: str = "auto",
        batch: int | Literal["auto"] = "auto", offline: bool = False,
    ) -> None:  # fmt: skip
        if refine not in REFINERS:
            raise SettingsError(f"unknown refine {refine!r}: use {', '.join(REFINERS)}")
        if batch != "auto" and batch < 1:
            raise SettingsError(f"batch must be at least 1 or 'auto', not {batch}")
        is_backbone = hasattr(model, "read") and hasattr(model, "info")
        self.backbone: Backbone = model if is_backbone else load_backbone(model, device=device, dtype=dtype, offline=offline)
        self.refine, self.seed = refine, seed
        self.batch = self._choose_batch() if batch == "auto" else batch

    def make_method(self, method: Any, settings: Mapping[str, Any] | None, *, among: Methods) -> Any:
        """`suited_method` for this model."""
        return suited_method(method, settings, suited=self.backbone.info.methods, among=among)

    def batches(self, images: Iterable[ImageLike], key: Callable[[Picture], Hashable]) -> Iterator[list[Picture]]:
        """Opens pictures one after the other and puts neighbours together, at most `batch` of them.

        Args:
            images: opened when their turn comes.
            key: what neighbours must have in common, for instance the size at which they are read; None stands alone.

        Raises:
            ImageError: a picture that cannot be opened; the pictures before it come first.
        """
        group: list[Picture] = []
        for image in images:
            try:
                picture = Picture.open(image)
            except ImageError:
                if group:
                    yield group
                raise
            shared = key(picture)
            if group and (shared is None or shared != key(group[0])):
                yield group
                group = []
            group.append(picture)
            if len(group) == self.batch:
                yield group
                group = []
        if group:
            yield group

    def size(self, picture: Picture, *, squash: bool = False) -> Size:
        """(h, w) at which the model reads a picture: its own aspect ratio, or the model's square."""
        info = self.backbone.info
        size = (info.native, info.native) if squash else picture.size
        return working_size(size, native=info.native, multiple=info.multiple)

    def latents(self, pictures: Sequence[Picture], size: Size, *, mirrored: bool = False) -> Tensor:
        """(pictures, channels, h, w), encoded at a size in pixels; of the pictures seen in a mirror where that is wanted."""
        given = to_tensor([resize(picture, size) for picture in pictures])
        return self.backbone.encode_image(given.flip(-1) if mirrored else given)

    def refiner(self, picture: Picture, grid: tuple[int, ...]) -> "Refiner | None":
        """Draws maps of a grid (h, w), brought to the picture's size, to its edges; None where nothing is refined."""
        return make_refiner(self.refine, picture.pixels, grid=(grid[0], grid[1])) if self.refine != "none" else None

    def projection(self, picture: Picture, maps: ScoreMaps) -> Projection:
        """Score maps at the picture's own size, refined."""
        return Projection(maps, picture.size, self.refiner(picture, maps.maps.shape[-2:]))

    def draw(
        self, picture: Picture, vocabulary: Vocabulary, maps: ScoreMaps, record: Record, seconds: Mapping[str, float], *,
        threshold: float | None = None,
    ) -> Segmentation:  # fmt: skip
        """Lets scored labels compete at the picture's own size.

        Args:
            picture: what was scored.
            vocabulary: one label for each map.
            maps: the scores.
            record: how they were made.
            seconds: what that took, by stage; the time for this stage joins it in the record as "full_size".
            threshold: what a label must score above, or the pixel is background; None for no such threshold.
        """
        began = time.perf_counter()
        refiner = self.refiner(picture, maps.maps.shape[-2:])
        result = Segmentation.from_maps(maps, picture, vocabulary, record, background=threshold, refiner=refiner)
        timings = {**seconds, "full_size": time.perf_counter() - began}
        return dataclasses.replace(result, record=dataclasses.replace(record, timings=timings))

    def unknown_words(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Labels none of whose names are made of words that the model knows; none for an open vocabulary."""
        if self.backbone.info.words is None:
            return ()
        known = set(self.backbone.info.words)
        return tuple(
            label.name for label in vocabulary if not any(set(text.lower().split()) <= known for text in label.texts)
        )  # fmt: skip

    def warn_of_unknown(self, vocabulary: Vocabulary) -> None:
        """Logs the words that a closed model cannot know."""
        if strange := self.unknown_words(vocabulary):
            log.warning("%s does not know %s. %s", self.backbone.info.name, ", ".join(strange), self.backbone.info.advice)

    def record(self, method: Any, vocabulary: Vocabulary | None = None) -> Record:
        """What decides any result of a method on this model; unknown words of a vocabulary are among its warnings."""
        info = self.backbone.info
        strange = self.unknown_words(vocabulary) if vocabulary is not None else ()
        return Record(
            method=method.name, settings=dataclasses.asdict(method), model=info.source, revision=info.revision or None,
            device=str(self.backbone.device), dtype=str(self.backbone.dtype).removeprefix("torch."), seed=self.seed,
            refine=self.refine, versions=package_versions(),
            warnings=(f"{info.name} does not know {', '.join(strange)}",) if strange else (),
        )  # fmt: skip

    def _choose_batch(self) -> int:
        if self.backbone.device.type != "cpu":
            return BATCH_ON_GPU
        unet = getattr(self.backbone, "unet", None)
        small = unet is not None and sum(parameter.numel() for parameter in unet.parameters()) < SMALL
        return BATCH_ON_CPU if small else 1
