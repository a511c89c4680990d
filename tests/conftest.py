"""Fixtures: tiny models, built once per session; reading must leave them as they are."""

import pytest

from maskwright.backbones.text_tower import TextTower
from maskwright.backbones.unet import UNetBackbone
from tests.tiny import build_backbone, build_parts, build_sd_unet, build_vae


@pytest.fixture(scope="session")
def backbone() -> UNetBackbone:
    """16 x 16 pixels, latents 8 x 8, grids 8 x 8 and 4 x 4."""
    return build_backbone()


@pytest.fixture(scope="session")
def half_backbone() -> UNetBackbone:
    """The same model in bfloat16."""
    parts = build_parts()
    return build_backbone(**(parts | {name: parts[name].bfloat16() for name in ("unet", "vae", "text_encoder")}))


@pytest.fixture(scope="session")
def sd_backbone() -> UNetBackbone:
    """Structured like Stable Diffusion 1.x; 512 x 512 pixels would be latents of 64 x 64."""
    return build_backbone(unet=build_sd_unet(), vae=build_vae(levels=4))


@pytest.fixture(scope="session")
def tower(backbone: UNetBackbone) -> TextTower:
    return backbone.text
