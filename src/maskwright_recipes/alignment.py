"""Aligns what a U-Net sees in a noisy picture with what an image encoder sees in the clean one.

Yu et al., "Representation Alignment for Generation", arXiv 2410.06940 (equation 8): a few layers are told, beside the noise that they
have to predict, which features another network has at the same place. There that network was trained on pictures alone (DINOv2), here on
pictures and words (the CLIP of `clip.py`): no mask takes part either way. The projections are thrown away after the training.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright_recipes.clip import load_clip
from maskwright_recipes.networks import Size

WIDTH = 256  # of the hidden layer of a projection


class Alignment(nn.Module):
    """Projections of the U-Net's features to an image encoder's, and the loss between them.

    Args:
        folder: the CLIP whose image encoder is meant.
        size: of the U-Net.
        pictures: (n, 3, H, W) in -1..1, for the mean and deviation of each channel of the encoder's features.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, folder: Path, size: Size, pictures: Tensor) -> None:
        super().__init__()
        encoder = load_clip(folder).vision_model.to(memory_format=torch.channels_last)
        self.encoder = [encoder]  # in a list: no part of what is trained and kept
        features = self.features(pictures)
        self.register_buffer("mean", features.mean((0, 2, 3), keepdim=True), persistent=False)
        self.register_buffer("deviation", features.std((0, 2, 3), keepdim=True) + 1e-3, persistent=False)  # some channels are always 0
        self.down, self.up = (_projection(width, features.shape[1]) for width in (size.unet[1], size.unet[-1]))
        for projection in (self.down, self.up):
            projection.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """The encoder's last feature map (n, channels, h, w), float32."""
        with torch.autocast(pictures.device.type, torch.bfloat16):
            found: Tensor = self.encoder[0](pictures).last_hidden_state
        return found.float()

    def forward(self, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """Projections of the two feature maps that `networks.Model.observe` gives."""
        return self.down(down), self.up(up)

    def loss(self, projected: tuple[Tensor, Tensor], pictures: Tensor) -> Tensor:
        """One minus the mean cosine over places, mean over the two projections: 0 where they agree, 1 where they have nothing in common."""
        wanted = (self.features(pictures) - self.mean) / self.deviation
        losses = []
        for found in projected:
            there = wanted if wanted.shape[-2:] == found.shape[-2:] else F.interpolate(wanted, found.shape[-2:], mode="bilinear")
            losses.append(1 - F.cosine_similarity(found.float(), there, dim=1).mean())
        return torch.stack(losses).mean()

    def move(self, device: torch.device) -> "Alignment":
        """To a device, with the encoder."""
        self.encoder[0].to(device)
        return self.to(device)


def _projection(width: int, to: int) -> Any:
    return nn.Sequential(nn.Conv2d(width, WIDTH, 1), nn.SiLU(), nn.Conv2d(WIDTH, to, 1))
