"""Lets a model teach its own cross-attention where the edges of the words are that a picture shows.

The averaged weights look at a picture that little noise hides and say which of its words each place is about; words that are not there
are left out, and what is left is drawn to the edges that can be seen. That is what the learning weights shall find, under whatever noise
they look. A mean teacher (Tarvainen and Valpola 1703.01780) with the targets of Araslanov and Roth (CVPR 2020), who refine a network's
own scores by PAMR to learn from them: words of pictures and colours go in, no mask does.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.refine.pamr import Pamr, PamrSettings
from maskwright_recipes.networks import Model
from maskwright_recipes.word_attention import EPS, Asked, word_shares

TIMESTEPS = 50, 350  # of 1000; of what the teacher looks at
SIDE = 64  # pixels; edges are looked for in a picture made as small as this
PAMR = PamrSettings(reach=0.15)  # neighbours up to 8 pixels away at that side
SHARPEN = 2.0  # power of the refined shares: refining blurs what is sure


class Teacher(nn.Module):
    """Reads word shares by weights that are not trained here.

    Args:
        model: whose U-Net hands on its queries (`word_attention.overhear`).
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, noisy: Tensor, timesteps: Tensor, asked: Asked) -> Tensor:
        """Shares (n, words, side, side) of the words asked that are there, at the finest grid, mean over grids.

        Args:
            noisy: (n, channels, h, w) latents.
            timesteps: (n,).
            asked: the words, which are the prompt, too.
        """
        heard: list[Any] = []
        self.model.observe(noisy, timesteps, asked.tokens, heard)
        states = self.model.text_encoder(asked.tokens)[0]
        layers = word_shares(heard, states, asked.owners)
        grids = [torch.unflatten(shares.transpose(1, 2), -1, (math.isqrt(shares.shape[1]),) * 2) for shares in layers]
        finest = max(grid.shape[-1] for grid in grids)
        mean = torch.stack([F.interpolate(grid, (finest, finest), mode="bilinear") for grid in grids]).mean(0)
        there = mean * asked.shown[:, :, None, None]
        return there / there.sum(1, keepdim=True).clamp(min=EPS)


def draw_to_edges(shares: Tensor, shown: Tensor, pictures: Tensor) -> Tensor:
    """Shares refined by PAMR in the pictures made small, each place then averaged: (n, words, side, side) as they came.

    Args:
        shares: (n, words, side, side), summing to 1 over the words that are there.
        shown: (n, words), 1 for those.
        pictures: (n, 3, H, W) in -1..1.
    """
    small = F.adaptive_avg_pool2d(pictures, min(SIDE, pictures.shape[-1]))
    pixels = ((small + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    drawn = torch.zeros_like(shares)
    for own, there, picture, to in zip(shares, shown > 0, pixels, drawn, strict=True):
        if there.any():
            sure = Pamr(picture, PAMR)(own[there]).clamp(min=0) ** SHARPEN
            to[there] = F.adaptive_avg_pool2d(sure / sure.sum(0, keepdim=True).clamp(min=EPS), own.shape[-2:])
    return drawn

