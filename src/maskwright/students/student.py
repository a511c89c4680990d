"""A trained student: the folder that `maskwright distill` wrote, ready to segment pictures."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from maskwright.backbones.devices import choose_device
from maskwright.errors import ModelError, SettingsError
from maskwright.images import ImageLike, Picture
from maskwright.projection import FloatMap, Projection, compete
from maskwright.record import Record
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.students.folder import FORMAT, RECORD
from maskwright.students.network import StudentNetwork, load_network
from maskwright.students.pictures import reading_size, to_pixels
from maskwright.students.source import read_json
from maskwright.versions import package_versions
from maskwright.vocabulary import Label, Vocabulary


@dataclass(frozen=True, eq=False, repr=False)
class Student:
    """A small network that knows its labels and nothing of the model that drew what it learned from.

    Attributes:
        folder: where it lies.
        labels: of its classes 1, 2, ...; class 0 is the background.
        network: in eval mode, no parameter asks for a gradient.
        side: shorter side in pixels at which it reads pictures.
        any_shape: whether it reads them in their own shape; if not, as squares.
        made: the content of student.json: how it was made, and what was measured.
    """

    folder: Path
    labels: tuple[Label, ...]
    network: StudentNetwork
    side: int
    any_shape: bool
    made: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Reads a student's folder; the network is not asked.

        Raises:
            ModelError: a folder that holds no student, or a damaged one.
            SettingsError: a device that this machine lacks.
        """
        place, folder = choose_device(device), Path(folder).expanduser()
        made = read_json(folder / RECORD)
        if made.get("format") != FORMAT:
            found = f"of another form ({made['format']})" if "format" in made else f"without {RECORD}"
            raise ModelError(f"{str(folder)!r} is {found}: give a folder that `maskwright distill` has finished")
        network = load_network(folder).requires_grad_(False)
        labels = tuple(Label(name, tuple(synonyms)) for name, *synonyms in made["labels"])
        if network.classes != len(labels) + 1:
            raise ModelError(f"{str(folder)!r} has {network.classes} classes and {len(labels)} labels: make the student again")
        return cls(folder, labels, network.to(place), int(made["size"]), bool(made["any_shape"]), made)

    def segment(self, image: Any) -> Any:
        """Segments one picture, or each of a list.

        Args:
            image: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W), or a list of these.

        Returns:
            A Segmentation, or a list of them. Scores are probabilities; a label's score map is on the picture's own size.

        Raises:
            ImageError: a picture that cannot be opened.
        """
        if isinstance(image, list | tuple):
            return list(self.segment_many(image))
        return next(self.segment_many([image]))

    def segment_many(self, images: Iterable[ImageLike], *, batch: int = 8) -> Iterator[Segmentation]:
        """Segments pictures one after the other, neighbours of one shape together; yields in their order.

        Raises:
            ImageError: a picture that cannot be opened; those before it come first.
        """
        if batch < 1:
            raise SettingsError(f"batch is {batch}: give a number of at least 1")
        group: list[Picture] = []
        for image in images:
            try:
                picture = Picture.open(image)
            except Exception:
                yield from self._segment(group)
                raise
            if group and (len(group) == batch or self._size(picture) != self._size(group[0])):
                yield from self._segment(group)
                group = []
            group.append(picture)
        yield from self._segment(group)

    def __repr__(self) -> str:
        return f"Student({str(self.folder)!r}: {len(self.labels)} labels, reads {self.side} px)"

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The background, then the labels."""
        return Vocabulary((Label(str(self.made["classes"][0]), background=True), *self.labels))

    @cached_property
    def record(self) -> Record:
        """What decides its results."""
        return Record(
            method="student", model=self.folder.resolve().name, settings={"size": self.side, **self.made["network"]},
            device=str(self.network.mean.device), versions=package_versions(),
        )  # fmt: skip

    def _size(self, picture: Picture) -> tuple[int, int]:
        return reading_size(picture.size, side=self.side, any_shape=self.any_shape)

    def _segment(self, group: list[Picture]) -> Iterator[Segmentation]:
        """Pictures that are read at one size."""
        if not group:
            return
        pixels = to_pixels([picture.pixels for picture in group], self._size(group[0])).to(self.network.mean.device)
        with torch.inference_mode():
            logits = self.network.coarse(pixels).cpu()
        for picture, own in zip(group, logits, strict=True):
            yield self._result(picture, own)

    def _result(self, picture: Picture, logits: Tensor) -> Segmentation:
        """The classes compete with their logits at the picture's size, as in model.onnx and in transformers.

        One class after the other is enlarged, so that a large picture needs little memory.
        """
        projection = Projection(ScoreMaps(logits, "none", (True,) * len(logits), "logit of the class"), picture.size)
        label_map, best = compete(projection, self.vocabulary.numbers, threshold=None)
        total = reduce(np.logaddexp, map(projection, range(len(logits))))  # (H, W), the denominator of the softmax

        def probability(index: int) -> FloatMap:
            share: FloatMap = np.exp(projection(index) - total)
            return share

        return Segmentation(picture, self.vocabulary, label_map, np.exp(best - total), self.record, probability)
