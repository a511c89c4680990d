"""Pixel-adaptive mask refinement (Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020).

Each pixel's score becomes, several times over, the mean of its neighbours' scores, weighted by how alike their colours are. The
affinity follows the published code: |difference| / (0.1 x local standard deviation), averaged over the colours and negated, then
softmax over the neighbours. One deviation: on a small picture the far neighbours are left out (`reach`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from maskwright.decoding import Pixels
from maskwright.images import resize, shrunk_size, upsample


@dataclass(frozen=True)
class PamrSettings:
    """Settings of PAMR. Iterations, dilations and sharpness are the published ones.

    Attributes:
        iterations: how many times the scores are averaged.
        dilations: distances in pixels of the neighbours, eight at each.
        reach: dilations over this part of the picture's side (of a square with its area) are left out, except the smallest; the
            published ones are meant for sides of about 500 pixels, and at 64 they reach across the whole object.
        sharpness: what the local standard deviation is multiplied by; a smaller one follows the colours more strictly.
        pixels: the work is done on at most so many pixels, and its result upsampled.
        chunk: so many maps are worked on at a time, which bounds memory.
    """

    iterations: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    reach: float = 0.1
    sharpness: float = 0.1
    pixels: int = 512 * 512
    chunk: int = 8


class Pamr:
    """PAMR for one picture."""

    def __init__(self, pixels: Pixels, settings: PamrSettings) -> None:
        """Keeps the picture at the working size; the affinity is computed at the first call."""
        self._size = pixels.shape[0], pixels.shape[1]
        self._working = torch.from_numpy(resize(pixels, shrunk_size(self._size, pixels=settings.pixels)).copy())
        self._settings = settings
        reach = settings.reach * (self._working.shape[0] * self._working.shape[1]) ** 0.5
        self._dilations = tuple(d for d in settings.dilations if d <= max(reach, min(settings.dilations)))
        self._affinities: dict[torch.device, torch.Tensor] = {}

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Refines maps (C, h, w) to (C, H, W) float32."""
        if maps.device not in self._affinities:
            colours = self._working.to(maps.device).permute(2, 0, 1).float() / 255  # (h, w, 3) -> (3, h, w)
            self._affinities[maps.device] = _affinity(colours, self._dilations, self._settings.sharpness)
        refined = torch.empty(len(maps), *self._size, device=maps.device)
        for first in range(0, len(maps), self._settings.chunk):
            part = slice(first, first + self._settings.chunk)
            refined[part] = upsample(self._propagate(maps[part], self._affinities[maps.device]), self._size)
        return refined

    def _propagate(self, maps: torch.Tensor, affinity: torch.Tensor) -> torch.Tensor:
        scores = upsample(maps.float(), (affinity.shape[1], affinity.shape[2]))
        for _ in range(self._settings.iterations):
            mean = torch.zeros_like(scores)
            for weight, neighbour in zip(affinity, _neighbours(scores, self._dilations), strict=True):
                mean.addcmul_(weight, neighbour)
            scores = mean
        return scores


def _neighbours(planes: torch.Tensor, dilations: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """For each dilation the eight shifted views of planes (N, h, w), borders repeated outwards."""
    height, width = planes.shape[1:]
    margin = max(dilations)
    padded = functional.pad(planes, [margin] * 4, mode="replicate")
    for dilation in dilations:
        for down, right in ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)):
            top, left = margin + down * dilation, margin + right * dilation
            yield padded[:, top : top + height, left : left + width]


def _affinity(colours: torch.Tensor, dilations: tuple[int, ...], sharpness: float) -> torch.Tensor:
    """Weights of all neighbours (K, h, w), summing to one over K, for colours (3, h, w)."""
    width = 1e-8 + sharpness * _deviation(colours, dilations)
    unlike = [((neighbour - colours).abs() / width).mean(0) for neighbour in _neighbours(colours, dilations)]
    return torch.stack(unlike).neg_().softmax(0)


def _deviation(colours: torch.Tensor, dilations: tuple[int, ...]) -> torch.Tensor:
    """Standard deviation (3, h, w) over a pixel's neighbours, itself counted once for each dilation."""
    count = 9 * len(dilations)
    total, squares = torch.zeros_like(colours), torch.zeros_like(colours)
    for neighbour in _neighbours(colours, dilations):
        difference = neighbour - colours  # small where the picture is flat, so that the squares below lose no digits
        total += difference
        squares.addcmul_(difference, difference)
    return ((squares - total**2 / count) / (count - 1)).clamp_min(0).sqrt()
