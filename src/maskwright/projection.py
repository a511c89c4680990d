"""From the model's grid to the picture's pixels, one label at a time: memory stays at a few full-size maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwright.images import upsample
from maskwright.score_maps import ScoreMaps

FloatMap = npt.NDArray[np.float32]
FLAT = 1e-6  # a spread below this part of the largest value is rounding, not signal


@dataclass(frozen=True, eq=False)
class Projection:
    """Computes the full-size score of a label whenever it is asked for.

    Attributes:
        maps: the method's maps.
        size: (H, W) of the picture.
        refiner: (1, H, W) to (1, H, W) float32, sharpens a map along the picture's edges; None for none.
    """

    maps: ScoreMaps
    size: tuple[int, int]
    refiner: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def __call__(self, index: int) -> FloatMap:
        """Score of vocabulary entry `index`: upsampled, then refined, then stretched.

        Returns:
            (H, W) float32: 0..1 after a stretch (a constant map becomes 0), -inf everywhere for a label that is not kept.
        """
        if not self.maps.kept[index]:
            return np.full(self.size, -np.inf, dtype=np.float32)
        small = self.maps.maps[index : index + 1]
        if self.maps.stretch == "label" and _is_flat(small):
            return np.zeros(self.size, dtype=np.float32)  # before upsampling, which turns a constant into noise of 1e-7
        full = upsample(small, self.size)
        if self.refiner is not None:
            full = self.refiner(full)
        if self.maps.stretch == "label":
            full = _stretch(full)
        return full[0].float().cpu().numpy()


def compete(
    projection: Projection, numbers: Sequence[int], *, threshold: float | None
) -> tuple[npt.NDArray[np.uint16], FloatMap]:
    """The best label at every pixel.

    A tie goes to the earlier label. The threshold stands before all labels: a label wins a pixel only with a score
    above it, and pixels that nobody wins are background.

    Args:
        projection: gives the scores.
        numbers: for each vocabulary entry the number that it writes, 0 for background.
        threshold: score that a label must exceed, or None.

    Returns:
        (H, W) uint16 label numbers, and (H, W) float32 winning scores: the threshold where it won, 0 where nothing competed.
    """
    best = np.full(projection.size, -np.inf if threshold is None else threshold, dtype=np.float32)
    winner = np.zeros(projection.size, dtype=np.uint16)
    for index, number in enumerate(numbers):
        if projection.maps.kept[index]:
            score = projection(index)
            wins = score > best
            np.copyto(best, score, where=wins)
            winner[wins] = number
    np.copyto(best, 0, where=np.isneginf(best))
    return winner, best


def _is_flat(map_: Tensor) -> bool:
    low, high = map_.aminmax()
    return bool(high - low <= FLAT * map_.abs().max())


def _stretch(map_: Tensor) -> Tensor:
    """Min-max to 0..1; a flat map, which has no order to keep, becomes 0."""
    if _is_flat(map_):
        return torch.zeros_like(map_)
    low, high = map_.aminmax()
    return (map_ - low) / (high - low)
