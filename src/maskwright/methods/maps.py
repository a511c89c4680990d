"""Small operations on maps that methods share."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskwright.images import upsample
from maskwright.projection import FLAT
from maskwright.readings.attention import LayerMaps

EPS = 1e-8


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(pictures, channels, h, w) to another grid, bilinear, half-pixel centres."""
    return torch.unflatten(upsample(maps.flatten(0, 1), size), 0, maps.shape[:2])


def mean_over_layers(grids: Sequence[LayerMaps], size: tuple[int, int]) -> Tensor:
    """The plain mean over all layers of several grids, (pictures, labels, h, w) at one size: each grid counts by its layers."""
    total = torch.stack([grid.layers * resize_maps(grid.maps, size) for grid in grids]).sum(0)
    return total / sum(grid.layers for grid in grids)


def min_max(maps: Tensor) -> Tensor:
    """Stretches each map (.., h, w) to 0..1, whatever its scale; a map that is constant but for rounding becomes zeros."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    spread = high - low
    flat = spread <= FLAT * torch.maximum(low.abs(), high.abs())
    return torch.where(flat, 0.0, (maps - low) / torch.where(flat, 1.0, spread))
