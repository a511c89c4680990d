"""Small operations on maps that methods share."""

from torch import Tensor

from maskwright.images import upsample

EPS = 1e-8


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(pictures, channels, h, w) to another grid, bilinear, half-pixel centres."""
    return upsample(maps.flatten(0, 1), size).unflatten(0, maps.shape[:2])


def min_max(maps: Tensor) -> Tensor:
    """Stretches each map (.., h, w) to 0..1; a constant map becomes zeros, never NaN."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp(min=EPS)
