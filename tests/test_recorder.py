from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.hooks import PyramidAttentionBroadcastConfig, apply_pyramid_attention_broadcast
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import ModelError
from maskwright.readings.probe import Probe, Select
from maskwright.readings.recorder import Recorder, Recording
from maskwright.readings.sites import choose, unet_sites
from tests.tiny import build_backbone, build_parts, build_unet, digest, random
from tests.tolerances import assert_close

EVERYTHING, FINEST = Select(), Select(factors="finest")


@pytest.fixture
def unet() -> nn.Module:
    return build_unet()


def forward(unet: nn.Module, *, rows: int = 2) -> Callable[[], Tensor]:
    dtype = next(unet.parameters()).dtype
    latents, text = random(rows, 4, 8, 8).to(dtype), random(rows, 7, 16, seed=1).to(dtype)
    return lambda: unet(latents, torch.full((rows,), 100), encoder_hidden_states=text, return_dict=False)[0]


def record(unet: nn.Module, *, fold: bool = False, kinds: tuple[str, ...] = ("cross", "self", "feature"), **options: Any) -> Recorder:
    sites = unet_sites(unet)
    kept = tuple(site for kind in kinds if not (fold and kind == "self") for site in choose(sites, kind, EVERYTHING))
    return Recorder(unet, kept=kept, folded=choose(sites, "self", EVERYTHING) if fold else (), **options)


@torch.no_grad()
def test_keeping_leaves_the_output_bit_equal(unet: nn.Module) -> None:
    plain = forward(unet)()
    recorder = record(unet, stop=False)
    assert torch.equal(recorder.run(forward(unet)), plain)
    seen = recorder.recording
    assert (len(seen.queries), len(seen.keys), len(seen.features)) == (14, 7, 4)
    assert torch.equal(forward(unet)(), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_folding_agrees_with_the_plain_output(dtype: torch.dtype) -> None:
    unet = build_unet().to(dtype)
    assert_close(record(unet, fold=True, stop=False).run(forward(unet)), forward(unet)(), dtype=dtype)


@pytest.mark.parametrize("setting", ["upcast_attention", "upcast_softmax"])
@torch.no_grad()
def test_layers_that_ask_for_float32_get_it(setting: str) -> None:
    """Against diffusers' own processor that honours the setting, in float16, whose logits overflow where queries are large."""
    unet = build_unet().half()
    sites = [site for site in unet_sites(unet) if site.kind == "self"]
    for site in sites:
        attention: Any = unet.get_submodule(site.path)
        setattr(attention, setting, True)
        attention.set_processor(AttnProcessor())
        attention.to_q.weight.mul_(2000 if setting == "upcast_attention" else 1)
    expected = forward(unet)()
    recorder = record(unet, fold=True, stop=False)
    assert_close(recorder.run(forward(unet)), expected, dtype=torch.float16)
    for total, layers in recorder.recording.folded.values():
        assert bool(torch.isfinite(expected).all() & torch.isfinite(total).all())
        assert float((total.sum(-1) / layers - 1).abs().max()) < 1e-5  # float16 alone is 1e-3 away


@torch.no_grad()
def test_kept_layers_are_upcast_as_folded_ones_are() -> None:
    parts = build_parts()
    for name in ("unet", "vae", "text_encoder"):
        parts[name].bfloat16()
    backbone = build_backbone(**parts)
    for site in unet_sites(backbone.unet):
        if site.kind == "self":
            backbone.unet.get_submodule(site.path).upcast_attention = True
    latents, text = random(2, 4, 8, 8), backbone.text.encode(["a dog"]).embeddings
    kept, folded = (
        backbone.read(latents, Probe(self_attention=Select(factors=(1,)), self_mode=mode), condition=text) for mode in ("keep", "fold")
    )
    one, other, alone = (reading.self_attention.dense() for reading in (kept, folded, kept.picture(1)))
    assert torch.equal(alone[0], one[1])
    assert_close(one, other, dtype=torch.bfloat16)
    assert max(float((matrix.sum(-1) - 1).abs().max()) for matrix in (one, other)) < 1e-5


@torch.no_grad()
def test_folding_gives_the_mean_of_what_keeping_gives(unet: nn.Module) -> None:
    kept, folded = record(unet), record(unet, fold=True, rows_per_picture=2)
    kept.run(forward(unet, rows=4))
    folded.run(forward(unet, rows=4))
    finest = [site for site in unet_sites(unet) if site.kind == "self" and site.factor == 1]
    explicit = torch.zeros(4, 64, 64)
    for site in finest:
        query, key = (seen[site.name].unflatten(-1, (2, 8)).transpose(1, 2) for seen in (kept.recording.queries, kept.recording.keys))
        explicit += (query @ key.transpose(-1, -2) * 8**-0.5).softmax(-1).mean(1)
    total, layers = folded.recording.folded[1]
    assert layers == len(finest) == 3
    assert_close(total, explicit.unflatten(0, (2, 2)).mean(1))


@pytest.mark.parametrize("fold", [False, True])
@torch.no_grad()
def test_everything_is_as_it_was_afterwards(unet: nn.Module, fold: bool) -> None:
    before = digest(unet)
    for stop in (False, True):
        record(unet, fold=fold, stop=stop).run(forward(unet))
        assert digest(unet) == before


@pytest.mark.parametrize("fold", [False, True])
@torch.no_grad()
def test_everything_is_as_it_was_after_an_error_half_way(unet: nn.Module, fold: bool) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    handle = unet.get_submodule("mid_block").register_forward_pre_hook(fail)
    before = digest(unet)
    with pytest.raises(ZeroDivisionError):
        record(unet, fold=fold).run(forward(unet))
    assert digest(unet) == before
    handle.remove()
    record(unet, fold=fold).run(forward(unet))


@torch.no_grad()
def test_everything_is_as_it_was_after_a_refusal_to_install(unet: nn.Module) -> None:
    last = choose(unet_sites(unet), "self", EVERYTHING)[-1]
    unet.get_submodule(last.path).group_norm = nn.Identity()
    before = digest(unet)
    with pytest.raises(ModelError, match="group_norm"):
        record(unet, fold=True).run(forward(unet))
    assert digest(unet) == before


@torch.no_grad()
def test_the_users_own_processors_come_back(unet: nn.Module) -> None:
    class Parametrised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = AttnProcessor()

        def forward(self, *args: Any, **named: Any) -> Tensor:
            return self.inner(*args, **named)

    layer = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    for own in (AttnProcessor(), Parametrised()):
        layer.set_processor(own)
        before = list(dict(layer.named_modules()))
        record(unet, fold=True).run(forward(unet))
        assert layer.processor is own and list(dict(layer.named_modules())) == before


@torch.no_grad()
def test_stopping_early_skips_what_is_not_needed(unet: nn.Module) -> None:
    ran: list[str] = []
    for name in ("mid_block", "up_blocks.0", "conv_out"):
        unet.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    down = choose(unet_sites(unet), "cross", Select(stages=("down",)))
    assert Recorder(unet, kept=down, folded=()).run(forward(unet)) is None
    assert ran == []
    middle = choose(unet_sites(unet), "self", Select(stages=("mid",)))
    for kept, folded in ((middle, ()), ((), middle)):
        Recorder(unet, kept=kept, folded=folded).run(forward(unet))
        assert ran == ["mid_block"]
        ran.clear()


@torch.no_grad()
def test_what_is_read_early_is_what_a_whole_pass_gives(unet: nn.Module) -> None:
    def seen(stop: bool) -> Recording:
        recorder = record(unet, stop=stop)
        recorder.run(forward(unet))
        return recorder.recording

    early, whole = seen(True), seen(False)
    for part in ("queries", "keys", "features"):
        assert all(torch.equal(tensor, getattr(whole, part)[name]) for name, tensor in getattr(early, part).items())


@torch.no_grad()
def test_fused_projections_are_refused_where_they_hide_something(unet: nn.Module) -> None:
    plain = record(unet, fold=True)
    plain.run(forward(unet))
    unet.fuse_qkv_projections()
    before = digest(unet)
    with pytest.raises(ModelError, match="unfuse_qkv_projections"):
        record(unet, kinds=("self",)).run(forward(unet))
    assert digest(unet) == before
    folded = record(unet, fold=True)
    folded.run(forward(unet))  # folding computes the projections by itself
    assert_close(folded.recording.folded[1][0], plain.recording.folded[1][0])


def test_caches_that_skip_layers_are_refused(unet: nn.Module) -> None:
    apply_pyramid_attention_broadcast(
        unet,
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, spatial_attention_block_identifiers=("transformer_blocks",),
            current_timestep_callback=lambda: 500,
        ),
    )  # fmt: skip
    with pytest.raises(ModelError, match="pyramid_attention_broadcast"):
        record(unet)


@torch.no_grad()
def test_keys_that_are_more_than_a_projection_are_refused(unet: nn.Module) -> None:
    """A LoRA that is not fused: re-keying by the weight alone would silently leave it out."""
    layer = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2")
    layer.to_k = nn.Sequential(layer.to_k)
    with pytest.raises(ModelError, match="fuse_lora"):
        record(unet).run(forward(unet))


def test_reading_does_not_disturb_generation(backbone: UNetBackbone) -> None:
    before = backbone.generate(["a dog"], steps=2)
    condition = backbone.text.encode(["a dog"]).embeddings
    backbone.read(random(1, 4, 8, 8), Probe(cross=EVERYTHING, self_attention=FINEST), condition=condition)
    assert torch.equal(backbone.generate(["a dog"], steps=2), before)
