"""What every evaluation set offers, whatever its layout on disk: pictures in a fixed order, and the truth of each on request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from maskwright.errors import DatasetError, SettingsError
from maskwright.images import Picture
from maskwright.vocabulary import Label, Vocabulary

Kind = Literal["classes", "foreground", "regions", "boxes"]
LabelMap = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
BoxArray = npt.NDArray[np.float64]

IGNORE = -1  # in a label map: not scored
LOADERS: dict[Kind, str] = {"classes": "labels", "foreground": "foreground", "regions": "regions", "boxes": "boxes"}


@dataclass(frozen=True)
class EvaluationItem:
    """One picture and its truth; plain data, so it can be pickled, and nothing is decoded before a loader is called.

    A reader's item defines the loader of its kind. Loaders want the opened picture, because it decides the size.

    Attributes:
        kind: which of the four loaders this item has.
        name: unique in its set.
        picture: the file that the picture is read from; several items may share one (crops of a tile, scenes of an atlas).
    """

    kind: ClassVar[Kind]
    name: str
    picture: Path

    def open(self) -> Picture:
        """The picture, upright.

        Raises:
            ImageError: a picture that cannot be read.
        """
        return Picture.open(self.picture)

    def labels(self, picture: Picture) -> LabelMap:
        """The class of each pixel, (H, W) int64: position in the set's classes, IGNORE (-1) where nothing is scored.

        Raises:
            DatasetError: truth that cannot be read or does not fit the picture.
            SettingsError: a set of another kind.
        """
        raise self._lacks("classes")

    def foreground(self, picture: Picture) -> Mask:
        """The true foreground, (H, W) bool. Raises as `labels` does."""
        raise self._lacks("foreground")

    def objects(self, picture: Picture) -> LabelMap:
        """Which object of the foreground each pixel belongs to, (H, W) int64, 0 for none: one and the same, unless a set tells them apart.

        Raises as `labels` does.
        """
        return self.foreground(picture).astype(np.int64)

    def words(self) -> Vocabulary | None:
        """What the truth calls the foreground of this picture, and as background what lies behind it; None where it has no names."""
        return None

    def regions(self, picture: Picture) -> tuple[LabelMap, ...]:
        """Each annotator's region map, (H, W) int64; the numbers mean nothing. Raises as `labels` does."""
        raise self._lacks("regions")

    def boxes(self, picture: Picture) -> BoxArray:
        """The true boxes, (n, 4) float64: x, y, width, height in pixels, maximum exclusive; n may be 0. Raises as `labels` does."""
        raise self._lacks("boxes")

    def _lacks(self, asked: Kind) -> SettingsError:
        return SettingsError(f"{self.name!r} belongs to a set of {self.kind}, not of {asked}: load it with {LOADERS[self.kind]}()")


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures with their truth, in an order that is the same on every machine.

    Attributes:
        name: what the command line calls it.
        split: which part of it.
        kind: what the truth is, hence the loader that every item has.
        items: at least one; their names are unique.
        classes: for "classes", in the order of the label maps' positions; the one that is background, if any, is marked so. Else empty.
        wordings: published texts for the same classes, by name; each is aligned with `classes`.
        rivals: for each class the positions of those that are hard to tell from it, itself included; empty where the set tells of none.

    Raises:
        DatasetError: no items, or two with one name.
    """

    name: str
    split: str
    kind: Kind
    items: tuple[EvaluationItem, ...] = field(repr=False)
    classes: tuple[Label, ...] = field(default=(), repr=False)
    wordings: Mapping[str, tuple[Label, ...]] = field(default_factory=dict, repr=False, hash=False)
    rivals: tuple[tuple[int, ...], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.items:
            raise DatasetError(f"{self.name} has no pictures in {self.split}: check the list of this split")
        seen: set[str] = set()
        for item in self.items:
            if item.name in seen:
                raise DatasetError(f"{self.name} has two pictures named {item.name!r}: keep one of them")
            seen.add(item.name)

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes as a vocabulary.

        Raises:
            SettingsError: a set of another kind.
        """
        if not self.classes:
            raise SettingsError(f"{self.name} is a set of {self.kind} and names no classes: give the labels yourself")
        return Vocabulary(self.classes)

    @property
    def background(self) -> int | None:
        """Position of the class that is background; None where every class is one to look for."""
        return next((position for position, label in enumerate(self.classes) if label.background), None)

    def __len__(self) -> int:
        return len(self.items)
