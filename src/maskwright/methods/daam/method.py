"""DAAM: the mean cross-attention of a word, on the latent grid. See README.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.foreground import Foreground
from maskwright.methods.maps import min_max
from maskwright.readings.attention import LayerMaps, SelfAttention
from maskwright.readings.probe import Probe, Select, Stage
from maskwright.text.wording import Wording


@dataclass(frozen=True)
class Daam:
    """Tang et al., arXiv 2210.04885; step numbers as in README.md beside this file.

    Attributes:
        template: the prompt under which a given picture is read; a generated one has its own.
        timesteps: of a given picture, read at each and averaged; five stand for the steps of a sampler.
        samples: noise samples per timestep, averaged.
        stages: parts of the U-Net whose cross-attention counts; the published ones leave the middle out.
        skip: grids that are left out, by latent side / grid side, where there are others; the published code skips 8.
        threshold: of the stretched heat map, between 0 and 1.
        squash: read at the model's square.
    """

    name: ClassVar[str] = "daam"
    meaning: ClassVar[str] = "mean cross-attention, stretched per label, its threshold moved to 0.5"
    grid_factor: ClassVar[int | None] = None

    template: str = "a photo of a {}"
    timesteps: tuple[int, ...] = (100, 300, 500, 700, 900)
    samples: int = 1
    stages: tuple[Stage, ...] = ("down", "up")
    skip: tuple[int, ...] = (8,)
    threshold: float = 0.4
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or thresholded."""
        if not 0 < self.threshold < 1:
            raise SettingsError(f"threshold must lie between 0 and 1, not {self.threshold}")
        self.wording()  # refuses its own settings
        self.probe()

    def wording(self) -> Wording:
        """Step 1: the prompt; all tokens of a label make its map."""
        return Wording(template=self.template)

    def probe(self) -> Probe:
        """Steps 1 and 2: cross-attention alone."""
        return Probe(timesteps=self.timesteps, samples=self.samples, cross=Select(stages=self.stages))

    def foreground(
        self, maps: Sequence[LayerMaps], attention: SelfAttention | None, pixels: npt.NDArray[np.uint8], *, seed: int = 0
    ) -> Foreground:
        """Steps 3 to 6; arguments as in methods/contract.py, of which only the maps are looked at.

        Raises:
            SettingsError: there are no maps.
        """
        heat = self.heat(maps)
        below, above = heat / (2 * self.threshold), 0.5 + (heat - self.threshold) / (2 * (1 - self.threshold))
        probability = torch.where(heat > self.threshold, above, below).clamp(0, 1)
        return Foreground(probability, probability > 0.5)

    def heat(self, maps: Sequence[LayerMaps]) -> Tensor:
        """Steps 3 to 5: heat maps of one picture's labels, (labels, h, w) float32, each stretched to 0..1, on the latent grid."""
        used = [layer for layer in maps if layer.factor not in self.skip] or list(maps)
        if not used:
            raise SettingsError("daam has no cross-attention maps to work on: its probe reads some")
        finest = min(used, key=lambda layer: layer.factor)
        height, width = (side * finest.factor for side in finest.maps.shape[-2:])
        total = torch.stack([layer.layers * _bicubic(layer.maps, (height, width)).clamp_min(0) for layer in used]).sum(0)
        if len(total) != 1:
            raise ValueError(f"one picture at a time, not {len(total)}")
        return min_max(total[0] / sum(layer.layers for layer in used))


def _bicubic(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, labels, h, w) at another size."""
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size, mode="bicubic", align_corners=False)
