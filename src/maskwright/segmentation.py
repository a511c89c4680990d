"""The result: which label each pixel of the picture has, how sure, and how it was made."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from maskwright.images import Picture
from maskwright.projection import FloatMap, Projection, compete
from maskwright.record import Record
from maskwright.regions import Region, summarise
from maskwright.score_maps import ScoreMaps
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A picture, segmented. Everything is at the picture's own size (H, W).

    Attributes:
        picture: the picture.
        vocabulary: the labels that were looked for.
        label_map: (H, W) uint16, 0 = background, i = the i-th label that is not background (`names[i - 1]`).
        confidence: (H, W) float32, the winning score: the threshold where that won, 0 where nothing competed.
        record: how it was made.
        score_source: gives the (H, W) float32 score of the vocabulary entry at an index, computed when asked for.

    Raises:
        ValueError: arrays that do not fit the picture or the vocabulary.
    """

    picture: Picture
    vocabulary: Vocabulary
    label_map: npt.NDArray[np.uint16]
    confidence: FloatMap
    record: Record
    score_source: Callable[[int], FloatMap]

    def __post_init__(self) -> None:
        size = self.picture.size
        if self.label_map.shape != size or self.label_map.dtype != np.uint16:
            raise ValueError(f"the label map is {self.label_map.shape} {self.label_map.dtype}, not {size} uint16")
        if self.confidence.shape != size or self.confidence.dtype != np.float32:
            raise ValueError(f"the confidence is {self.confidence.shape} {self.confidence.dtype}, not {size} float32")
        if self.label_map.max() > len(self.names):
            raise ValueError(f"the label map holds number {self.label_map.max()}, but there are {len(self.names)} labels")
        if not np.isfinite(self.confidence).all():
            raise ValueError("the confidence holds NaN or infinity")

    @classmethod
    def from_maps(
        cls,
        maps: ScoreMaps,
        picture: Picture,
        vocabulary: Vocabulary,
        record: Record,
        *,
        background: float | None = None,
        refiner: Callable[[Tensor], Tensor] | None = None,
    ) -> "Segmentation":
        """Lets the labels compete at full size: upsample, refine, stretch, take the best; one label at a time.

        A tie goes to the earlier label. Labels that the vocabulary marks as background compete with their own maps and
        win number 0. Labels that `maps.kept` leaves out win nothing; with none kept, everything is background.

        Args:
            maps: one map per vocabulary entry.
            picture: gives the size.
            vocabulary: the labels.
            record: how the maps were made.
            background: threshold on the same scale as the final scores; a label must score above it, or the pixel is
                background.
            refiner: (1, H, W) to (1, H, W) float32.

        Raises:
            ValueError: not one map per label.
        """
        if len(maps) != len(vocabulary):
            raise ValueError(f"{len(maps)} score maps for {len(vocabulary)} labels")
        projection = Projection(maps, picture.size, refiner)
        label_map, confidence = compete(projection, vocabulary.numbers, threshold=background)
        return cls(picture, vocabulary, label_map, confidence, record, projection)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the labels that are not background: number i in the label map is names[i - 1]."""
        return tuple(label.name for label in self.vocabulary.foreground)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Area, share, mean score and box of every label that is not background, in order."""
        return summarise(self.label_map, self.confidence, self.names)

    @property
    def scores(self) -> FloatMap:
        """(C, H, W) float32, all score maps in the vocabulary's order: large, and computed anew at each call."""
        return np.stack([self.score_source(index) for index in range(len(self.vocabulary))])

    def number(self, name: str) -> int:
        """Number in the label map of the label with this name or synonym, 0 for one marked as background.

        Raises:
            VocabularyError: no such label.
        """
        return self.vocabulary.numbers[self.vocabulary.index(name)]

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """(H, W) bool, where the label with this name or synonym won.

        Raises:
            VocabularyError: no such label.
        """
        return np.equal(self.label_map, self.number(name))

    def score(self, name: str) -> FloatMap:
        """(H, W) float32, the score of the label with this name or synonym; -inf everywhere if it was filtered out.

        Raises:
            VocabularyError: no such label.
        """
        return self.score_source(self.vocabulary.index(name))

    def overlay(self) -> Image.Image:
        """The picture with coloured regions, their names and a legend."""
        from maskwright.exports import draw_overlay  # exports import this module

        return draw_overlay(self)

    def save(self, folder: str | Path, *, stem: str | None = None) -> tuple[Path, ...]:
        """Writes STEM.labels.png, STEM.overlay.png and STEM.json.

        Args:
            folder: made if it is not there.
            stem: the picture's name unless given.

        Raises:
            OutputError: the files cannot be written.
        """
        from maskwright.exports import write_outputs  # exports import this module

        return write_outputs(self, folder, stem or self.picture.name)

    def __repr__(self) -> str:
        height, width = self.picture.size
        found = sorted((region for region in self.regions if region.area), key=lambda region: -region.area)
        shares = ", ".join(f"{region.name} {region.share:.1%}" for region in found[:5]) or "all background"
        return f"Segmentation({width} x {height} px: {shares}{', ...' if len(found) > 5 else ''})"
