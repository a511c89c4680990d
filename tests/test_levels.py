"""Decoder levels: what each of them hands on, read without touching it."""

import pytest
import torch
from torch import Tensor, nn

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import ModelError
from maskwright.readings.probe import Probe, Select
from maskwright.readings.recorder import Recorder
from maskwright.readings.sites import choose, unet_sites
from tests.tiny import build_backbone, build_unet, digest, random
from tests.tolerances import assert_close

LEVELS = Probe(levels=Select())


def empty(backbone: UNetBackbone) -> Tensor:
    return backbone.text.encode([""]).embeddings


def test_the_levels_of_stable_diffusion(sd_backbone: UNetBackbone) -> None:
    """SD 1.x: 1280 channels at 8, 1280 at 16, 640 at 32, 320 at 64; here 320 is 16."""
    sites = choose(sd_backbone.sites, "level", Select())
    assert [(site.name, site.factor) for site in sites] == [("up.0.level", 8), ("up.1.level", 4), ("up.2.level", 2), ("up.3.level", 1)]
    reading = sd_backbone.read(random(1, 4, 64, 64), LEVELS, condition=empty(sd_backbone))
    shapes = {name: tuple(values.shape) for name, values in reading.levels.items()}
    expected = {0: (1280, 8), 1: (1280, 16), 2: (640, 32), 3: (320, 64)}
    assert shapes == {f"up.{number}.level": (1, channels // 20, side, side) for number, (channels, side) in expected.items()}


@torch.no_grad()
def test_a_level_is_the_input_of_its_upsampler_and_the_last_that_of_the_output_layers(backbone: UNetBackbone) -> None:
    """By what the network makes of them: the upsampler's output is the next block's input, the output layers' is the prediction."""
    latents, condition, step = random(2, 4, 8, 12), empty(backbone).expand(2, -1, -1), torch.tensor(50)
    predicted, reading = backbone.read_rows(latents, step, condition, LEVELS)
    unet, levels = backbone.unet, reading.levels_of(Select())
    ups: list[Tensor] = []
    handle = unet.up_blocks[0].register_forward_hook(lambda module, inputs, output: ups.append(output))
    backbone.predict(latents, step, condition)
    handle.remove()
    assert_close(unet.up_blocks[0].upsamplers[0](levels["up.0.level"]), ups[0])
    assert_close(unet.conv_out(unet.conv_act(unet.conv_norm_out(levels["up.1.level"]))), predicted)


@torch.no_grad()
def test_reading_levels_leaves_the_output_bit_equal() -> None:
    backbone = build_backbone()
    latents, condition, step = random(2, 4, 8, 8), empty(backbone).expand(2, -1, -1), torch.tensor(100)
    before, plain = digest(backbone.unet), backbone.predict(latents, step, condition)
    predicted, reading = backbone.read_rows(latents, step, condition, LEVELS)
    assert torch.equal(predicted, plain) and digest(backbone.unet) == before
    assert [tuple(values.shape) for values in reading.levels.values()] == [(2, 32, 4, 4), (2, 16, 8, 8)]


@pytest.mark.parametrize(("factor", "expected"), [(2, []), (1, ["up_blocks.1"])])
@torch.no_grad()
def test_stopping_early_leaves_out_what_comes_after_the_last_level(factor: int, expected: list[str]) -> None:
    unet, ran = build_unet(), []
    for name in ("up_blocks.0.upsamplers.0.conv", "up_blocks.1", "conv_norm_out", "conv_out"):
        unet.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    sites = choose(unet_sites(unet), "level", Select(factors=(factor,)))
    recorder = Recorder(unet, kept=sites, folded=())
    latents, text = random(1, 4, 8, 8), random(1, 5, 16)
    assert recorder.run(lambda: unet(latents, 100, encoder_hidden_states=text)) is None
    last = ["up_blocks.0.upsamplers.0.conv"] if factor == 1 else []
    assert [name for name in ran if name != "conv_norm_out"] == last + expected  # its own hook stands before the recorder's
    assert list(recorder.recording.levels) == [site.name for site in sites]


def test_levels_join_and_part_like_everything_that_is_read(backbone: UNetBackbone) -> None:
    latents, condition = random(3, 4, 8, 8), empty(backbone)
    probe = LEVELS.union(Probe(features=Select(last=True), self_attention=Select(factors="finest")))
    together = backbone.read(latents, probe, condition=condition)
    alone = backbone.read(latents[1:2], Probe(levels=Select(factors="finest")), condition=condition)
    assert list(alone.levels) == ["up.1.level"]
    assert_close(together.picture(1).levels["up.1.level"], alone.levels["up.1.level"])
    assert list(together.levels_of(Select(factors="coarsest"))) == ["up.0.level"]
    assert together.features.keys() == {"up.0.1.input", "up.1.1.input"}
    without = backbone.read(latents, Probe(features=Select(last=True)), condition=condition)
    assert probe.levels == Select() and together.bytes() > without.bytes()


def test_timesteps_and_samples_are_averaged(backbone: UNetBackbone) -> None:
    latents, condition = random(1, 4, 8, 8), empty(backbone)
    both = backbone.read(latents, Probe(timesteps=(50, 150), levels=Select()), condition=condition)
    each = [backbone.read(latents, Probe(timesteps=(t,), levels=Select()), condition=condition) for t in (50, 150)]
    for name, values in both.levels.items():
        assert values.dtype == torch.float32
        assert_close(values, (each[0].levels[name] + each[1].levels[name]) / 2)


def test_networks_without_a_last_normalisation() -> None:
    """diffusers leaves it out where there are no groups; then the last convolution takes what the last level hands on."""
    unet = build_unet()
    unet.conv_norm_out = None
    assert choose(unet_sites(unet), "level", Select(factors="finest"))[0].path == "conv_out"
    plain: nn.Module = build_unet()
    assert choose(unet_sites(plain), "level", Select(factors="finest"))[0].path == "conv_norm_out"


def test_a_level_that_there_is_not(backbone: UNetBackbone) -> None:
    with pytest.raises(ModelError, match=r"no level layer .*at 1/\[1, 2\]"):
        choose(backbone.sites, "level", Select(factors=(8,)))
