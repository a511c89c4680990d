"""Small operations on maps that methods share."""

import torch
from torch import Tensor

from maskwright.images import upsample
from maskwright.projection import FLAT

EPS = 1e-8


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(pictures, channels, h, w) to another grid, bilinear, half-pixel centres."""
    return torch.unflatten(upsample(maps.flatten(0, 1), size), 0, maps.shape[:2])


def min_max(maps: Tensor) -> Tensor:
    """Stretches each map (.., h, w) to 0..1, whatever its scale; a map that is constant but for rounding becomes zeros."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    spread = high - low
    flat = spread <= FLAT * torch.maximum(low.abs(), high.abs())
    return torch.where(flat, 0.0, (maps - low) / torch.where(flat, 1.0, spread))
