"""The only part that is trained: a small convolutional decoder from coarse levels to fine ones."""

from collections.abc import Sequence
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.errors import SettingsError

GROUPS = 32  # of the normalisation, as in Stable Diffusion's own networks


class LightDecoder(nn.Module):
    """One stage a level, each at twice the resolution of the one before. The weights are random until it is trained.

    A stage takes its level, beside what the stage before gave: 1x1 convolution to `width`, two times (3x3 convolution, group
    normalisation, ReLU), x2 bilinear. A last 1x1 convolution gives the logits.

    Args:
        channels: of each level, coarsest first.
        width: channels inside.
        outputs: channels of the logits.

    Raises:
        SettingsError: no level, or a number below 1.
    """

    def __init__(self, channels: Sequence[int], *, width: int, outputs: int) -> None:
        super().__init__()
        if not channels or min(*channels, width, outputs) < 1:
            raise SettingsError(f"a decoder needs levels, a width and outputs of 1 or more, not {list(channels)}, {width} and {outputs}")
        self.channels, self.width, self.outputs = tuple(channels), width, outputs
        before = [0, *[width] * (len(channels) - 1)]  # channels that the stage before hands on
        self.stages = nn.ModuleList(_stage(own + handed, width) for own, handed in zip(channels, before, strict=True))
        self.last = nn.Conv2d(width, outputs, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Logits.

        Args:
            levels: (pictures, channels, h, w) float32, coarsest first, each with twice the sides of the one before.

        Returns:
            (pictures, outputs, H, W) at twice the sides of the finest level.
        """
        hidden: Tensor | None = None
        for stage, level in zip(self.stages, levels, strict=True):
            # Channels last: several times faster to convolve on a CPU, and what the backbone gives anyway.
            level = level.contiguous(memory_format=torch.channels_last)
            hidden = stage(level if hidden is None else torch.cat([_twice(hidden), level], 1))
        # The last 1x1 and the last doubling commute, and before it there is a quarter of the work.
        return _twice(self.last(hidden))


def _stage(channels: int, width: int) -> nn.Sequential:
    def layer() -> list[nn.Module]:
        return [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(gcd(GROUPS, width), width), nn.ReLU()]

    return nn.Sequential(nn.Conv2d(channels, width, 1), *layer(), *layer())


def _twice(maps: Tensor) -> Tensor:
    """At twice the sides, bilinear, no half-pixel shift."""
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
