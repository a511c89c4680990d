import pytest
import torch
from torch import nn

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import ModelError
from maskwright.readings.probe import Probe, Select
from maskwright.readings.sites import choose, unet_sites
from tests.tiny import build_unet, random


def names(backbone: UNetBackbone, kind: str, select: Select | None) -> list[str]:
    return [site.name for site in choose(backbone.sites, kind, select)]


def test_property_1_inventory_of_stable_diffusion_at_64_x_64(sd_backbone: UNetBackbone) -> None:
    """16 + 16 attention layers of 8 heads, at the grids 8, 16, 32, 64 one, five, five, five."""
    condition = sd_backbone.text.encode(["a dog"]).embeddings
    probe = Probe(cross=Select(), self_attention=Select(), self_mode="keep")
    reading = sd_backbone.read(random(1, 4, 64, 64), probe, condition=condition)
    for layers in (reading.cross_layers, reading.self_layers):
        sides = [layer.grid[0] for layer in layers]
        assert {side: sides.count(side) for side in sorted(set(sides))} == {8: 1, 16: 5, 32: 5, 64: 5}
        assert all(layer.grid[0] == layer.grid[1] == 64 // layer.factor for layer in layers)
        assert all(layer.query.shape[1:3] == (8, layer.grid[0] * layer.grid[1]) for layer in layers)
    maps = reading.cross_attention
    assert maps.layers == reading.cross_layers


def test_maskdiffusion_property_1_six_layers_of_eight_heads_at_a_quarter_and_less(sd_backbone: UNetBackbone) -> None:
    sites = choose(sd_backbone.sites, "cross", Select(factors=(4, 8)))
    assert [site.stage for site in sites] == ["down", "down", "mid", "up", "up", "up"]
    assert sum(sd_backbone.unet.get_submodule(site.path).heads for site in sites) == 48


def test_decoder_inputs_are_those_of_the_third_layer_with_the_skip_connection(sd_backbone: UNetBackbone) -> None:
    """SD 1.x: 1920 channels at a quarter, 960 at a half; here 320 is 16."""
    select = Select(factors=(4, 2), stages=("up",), last=True)
    assert names(sd_backbone, "feature", select) == ["up.1.2.input", "up.2.2.input"]
    reading = sd_backbone.read(random(1, 4, 16, 16), Probe(features=select), condition=sd_backbone.text.encode([""]).embeddings)
    shapes = {name: tuple(values.shape) for name, values in reading.features.items()}
    assert shapes == {"up.1.2.input": (1, 1920 // 20, 4, 4), "up.2.2.input": (1, 960 // 20, 8, 8)}


def test_sites_stand_in_running_order(backbone: UNetBackbone) -> None:
    ran: list[str] = []
    handles = [
        backbone.unet.get_submodule(site.path).register_forward_pre_hook(lambda *_, name=site.name: ran.append(name))
        for site in backbone.sites
    ]
    try:
        with torch.no_grad():
            backbone.unet(random(1, 4, 8, 8), 0, encoder_hidden_states=random(1, 5, 16))
    finally:
        for handle in handles:
            handle.remove()
    assert ran == [site.name for site in backbone.sites]


def test_selections(backbone: UNetBackbone) -> None:
    assert names(backbone, "self", None) == []
    assert names(backbone, "self", Select(factors="finest")) == ["down.0.0.self", "up.1.0.self", "up.1.1.self"]
    assert names(backbone, "cross", Select(stages=("mid",))) == ["mid.0.cross"]
    assert names(backbone, "cross", Select(factors=(2,), stages=("up",), last=True)) == ["up.0.1.cross"]
    assert names(backbone, "feature", Select(last=True)) == ["up.0.1.input", "up.1.1.input"]


def test_a_selection_that_means_nothing_says_what_there_is(backbone: UNetBackbone) -> None:
    with pytest.raises(ModelError, match=r"no cross layer .*at 1/\[1, 2\]"):
        choose(backbone.sites, "cross", Select(factors=(16,)))


def test_grids_of_pictures_that_are_not_square(backbone: UNetBackbone) -> None:
    probe = Probe(cross=Select(), self_attention=Select(factors="finest"))
    reading = backbone.read(random(1, 4, 8, 12), probe, condition=backbone.text.encode([""]).embeddings)
    assert {layer.factor: layer.grid for layer in reading.cross_layers} == {1: (8, 12), 2: (4, 6)}
    assert reading.self_attention.grid == (8, 12)


def test_networks_without_a_middle_and_others() -> None:
    assert all(site.stage != "mid" for site in unet_sites(build_unet(mid_block_type=None)))
    with pytest.raises(ModelError, match="not a Stable-Diffusion-like"):
        unet_sites(nn.Linear(2, 2))
