"""Masks at a picture's full size: labels that overlap are settled, and what is not certain is left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwright.discovery.pairs import BACKGROUND, IGNORE
from maskwright.errors import SettingsError
from maskwright.images import upsample
from maskwright.methods.foreground import Foreground
from maskwright.refine import REFINERS, make_refiner

THRESHOLD = 0.5  # what `Foreground.mask` means


@dataclass(frozen=True)
class MaskSettings:
    """How a foreground becomes a mask.

    Attributes:
        refine: the refiner that draws probabilities to the picture's edges, "none", "guided" or "pamr".
        unsure: lowest and highest probability of pixels that are left out, around 0.5.
        mark_changes: leave also the pixels out whose label the refiner changed.
    """

    refine: Literal["none", "guided", "pamr"] = "guided"
    unsure: tuple[float, float] = (0.4, 0.6)
    mark_changes: bool = True

    def __post_init__(self) -> None:
        """Refuses an unknown refiner and a band that does not lie around 0.5."""
        if self.refine not in REFINERS:
            raise SettingsError(f"unknown refine {self.refine!r}: choose one of {', '.join(REFINERS)}")
        if not 0 <= self.unsure[0] <= THRESHOLD <= self.unsure[1] <= 1:
            raise SettingsError(f"unsure must hold 0.5 and lie in 0..1, not {self.unsure}")


@dataclass(frozen=True, eq=False)
class FullMask:
    """What is known of each pixel.

    Attributes:
        mask: (H, W) uint8: 0 background, the labels' numbers, 255 for pixels that are not certain.
        owner: (H, W) uint8: the same before anything was left out.
        probability: (labels, H, W) float32, about 0..1 (a refiner may overshoot).
    """

    mask: npt.NDArray[np.uint8]
    owner: npt.NDArray[np.uint8]
    probability: npt.NDArray[np.float32]


def full_mask(
    foreground: Foreground, pixels: npt.NDArray[np.uint8], numbers: Sequence[int], *, settings: MaskSettings | None = None
) -> FullMask:
    """Brings the probabilities of a picture's labels to its size and decides for each pixel.

    A pixel belongs to the label with the highest probability, if that is above 0.5.

    Args:
        foreground: of L labels on a working grid.
        pixels: (H, W, 3) uint8, the picture.
        numbers: for each label its number in the mask, 1 to 254.
        settings: None for the defaults.
    """
    settings = settings or MaskSettings()
    size = pixels.shape[0], pixels.shape[1]
    coarse = foreground.probability.float().cpu()
    grid = int(coarse.shape[-2]), int(coarse.shape[-1])
    plain = upsample(coarse, size)
    refined = plain if settings.refine == "none" else make_refiner(settings.refine, pixels, grid=grid)(coarse)
    owner = _owners(refined, numbers)
    best = refined.amax(0).numpy()
    unsure = (best >= settings.unsure[0]) & (best <= settings.unsure[1])
    if settings.mark_changes and settings.refine != "none":
        unsure |= owner != _owners(plain, numbers)
    return FullMask(np.where(unsure, np.uint8(IGNORE), owner), owner, refined.numpy())


def _owners(probability: Tensor, numbers: Sequence[int]) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 of probabilities (labels, H, W): the number of the best label, 0 where none is above the threshold."""
    best, place = probability.max(0)
    owner = torch.tensor(list(numbers), dtype=torch.uint8)[place]
    result: npt.NDArray[np.uint8] = torch.where(best > THRESHOLD, owner, BACKGROUND).to(torch.uint8).numpy()
    return result
