import math
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import SettingsError
from maskwright.readings import attention
from maskwright.readings.attention import CrossAttention, CrossLayer, SelfAttention, SelfLayer
from maskwright.readings.keys import TextKeys, merge_padding
from maskwright.readings.probe import Probe, Select
from tests.tiny import random
from tests.tolerances import assert_close


def all_tokens(embeddings: Tensor) -> TextKeys:
    """Every token of one text as a label of its own."""
    length = embeddings.shape[1]
    return TextKeys(embeddings, torch.zeros(1, length), tuple((((0, place),),) for place in range(length)))


class Captured:
    """Queries and keys of the model's own cross-attention, taken by hooks that know nothing of the reader."""

    def __init__(self, backbone: UNetBackbone) -> None:
        self.layers: dict[str, list[Tensor]] = {}
        self.heads: dict[str, int] = {}
        self._handles = []
        for name, module in backbone.unet.named_modules():
            if name.endswith("attn2"):
                self.layers[name], self.heads[name] = [], module.heads
                for projection in (module.to_q, module.to_k):
                    self._handles.append(projection.register_forward_hook(lambda *seen, name=name: self.layers[name].append(seen[2])))

    def probabilities(self, tokens: int) -> Tensor:
        """(rows, text, tokens) softmax, mean over heads and over the layers of a grid with so many tokens."""
        found = []
        for name, (query, key) in self.layers.items():
            if query.shape[1] == tokens:
                query, key = (part.unflatten(-1, (self.heads[name], -1)).transpose(1, 2) for part in (query, key))
                found.append(torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), -1).mean(1))
        return torch.stack(found).mean(0).transpose(1, 2)

    def __enter__(self) -> "Captured":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


@torch.no_grad()
def test_asking_again_gives_the_models_own_softmax(backbone: UNetBackbone) -> None:
    latents, text = random(2, 4, 8, 12), backbone.text.encode(["a photograph of a dog on grass"]).embeddings
    probe = Probe(timesteps=(50, 150), samples=2, cross=Select())
    with Captured(backbone) as own:
        rows, timesteps = backbone.noised(latents, probe, seed=3)
        backbone.unet(rows, timesteps, encoder_hidden_states=text.expand(len(rows), -1, -1))
    reading = backbone.read(latents, probe, condition=text, seed=3)
    fine, coarse = reading.cross_attention.maps(all_tokens(text))
    assert (fine.factor, fine.layers, coarse.factor, coarse.layers) == (1, 3, 2, 4)
    for maps in (fine, coarse):
        grid = (8 // maps.factor, 12 // maps.factor)
        expected = own.probabilities(grid[0] * grid[1]).unflatten(0, (2, 4)).mean(1).unflatten(-1, grid)
        assert_close(maps.maps, expected)
        assert_close(maps.maps.sum(1), torch.ones(2, *grid))


def test_texts_are_asked_in_parts_of_bounded_size(backbone: UNetBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = backbone.text.encode(["a dog", "a cat on grass", "sky"]).embeddings
    keys = TextKeys(texts, torch.zeros(texts.shape[:2]), ((((2, 1),),), (((0, 2),), ((1, 2), (1, 4)))))
    reading = backbone.read(random(1, 4, 8, 8), Probe(cross=Select()), condition=texts[:1])
    whole = reading.cross_attention.maps(keys)
    monkeypatch.setattr(attention, "CELLS_ON_CPU", 1)
    for one, other in zip(whole, reading.cross_attention.maps(keys), strict=True):
        assert_close(other.maps, one.maps)


def test_a_label_is_the_mean_of_its_tokens(backbone: UNetBackbone) -> None:
    text = backbone.text.encode(["traffic light"]).embeddings
    reading = backbone.read(random(1, 4, 8, 8), Probe(cross=Select(factors=(1,))), condition=text)
    tokens = reading.cross_attention.maps(all_tokens(text))[0].maps
    label = TextKeys(text, torch.zeros(1, 77), ((tuple((0, place) for place in (1, 2, 5)),),))
    assert_close(reading.cross_attention.maps(label)[0].maps[:, 0], tokens[:, [1, 2, 5]].mean(1))


def test_merged_padding_against_exact_padding(backbone: UNetBackbone) -> None:
    """Equal for padding tokens that are equal; near for those that nearly agree, the nearer the less they differ."""
    encoding = backbone.text.encode(["a photograph of a dog"])
    reading = backbone.read(random(1, 4, 8, 8), Probe(cross=Select()), condition=encoding.embeddings)
    for spread, within in ((0.0, 1e-5), (0.03, 0.01), (0.1, 0.1)):
        embeddings = encoding.embeddings.clone()
        padding = embeddings[:, encoding.ends[0] + 1 :]
        padding.copy_(padding.mean(1, keepdim=True) + spread * (padding - padding.mean(1, keepdim=True)))
        exact = TextKeys(embeddings, torch.zeros(1, 77), ((((0, 5),),),))
        merged = TextKeys(*merge_padding(embeddings, encoding.ends), exact.columns)
        for one, other in zip(reading.cross_attention.maps(exact), reading.cross_attention.maps(merged), strict=True):
            assert float(((other.maps - one.maps) / one.maps).abs().max()) < within


def layer_with_logits(logits: Tensor, *, factor: int = 1, dtype: torch.dtype = torch.float32) -> CrossLayer:
    """A layer whose logits against the embeddings (1, n, n) of the identity are given: (heads, tokens, n)."""
    heads, tokens, n = logits.shape
    side = math.isqrt(tokens)
    return CrossLayer("made", factor, logits[None].to(dtype), torch.eye(n).repeat(heads, 1).to(dtype), 1.0, (side, side))


def identity_keys(n: int, columns: Any) -> TextKeys:
    return TextKeys(torch.eye(n)[None], torch.zeros(1, n), columns)


TWO = ((((0, 0), (0, 1)),), (((0, 2),),))  # two labels, the first of two tokens


class TestExponentiated:
    def maps(self, logits: Tensor, **options: Any) -> Tensor:
        layer = layer_with_logits(logits, **options)
        return CrossAttention((layer,), 1).maps(identity_keys(3, TWO), weighting="exp")[0].maps

    def test_each_token_keeps_its_own_scale(self) -> None:
        logits = random(2, 16, 3)
        peak = torch.stack([logits[..., :2].amax(), logits[..., 2].amax()])
        raised = logits.exp().mean(0).T  # token, pixel
        expected = torch.stack([raised[:2].mean(0), raised[2]]) / peak.exp()[:, None]
        assert_close(self.maps(logits), expected.view(1, 2, 4, 4))

    def test_property_2_a_constant_on_all_logits_of_a_label_changes_nothing(self) -> None:
        logits = random(2, 16, 3)
        lifted = logits + torch.tensor([30.0, 30.0, 0.0])
        assert_close(self.maps(lifted), self.maps(logits))

    @pytest.mark.parametrize("largest", [50.0, 3000.0])
    def test_property_2_no_overflow_in_half_precision(self, largest: float) -> None:
        logits = random(2, 16, 3) * largest / 4
        logits[0, 0] = largest
        maps = self.maps(logits, dtype=torch.float16)
        assert bool(maps.isfinite().all()) and float(maps.max()) <= 1 and bool((maps.amax((-2, -1)) > 0).all())

    def test_the_peak_is_taken_over_all_layers_and_samples(self) -> None:
        """Otherwise a layer with small logits would weigh as much as one with large ones."""
        small, large = random(1, 4, 3), random(1, 4, 3, seed=1) + 5
        layers = (layer_with_logits(large, factor=1), layer_with_logits(small, factor=2))
        fine, coarse = CrossAttention(layers, 1).maps(identity_keys(3, TWO), weighting="exp")
        assert_close(coarse.maps[0, 1].flatten(), (small[0, :, 2] - large[..., 2].max()).exp())
        samples = CrossLayer("two", 1, torch.cat([layers[0].query, layers[1].query]), layers[0].key_weight, 1.0, (2, 2))
        both = CrossAttention((samples,), 2).maps(identity_keys(3, TWO), weighting="exp")[0].maps
        assert_close(both, (fine.maps + coarse.maps) / 2)

    def test_it_differs_from_softmax(self, backbone: UNetBackbone) -> None:
        text = backbone.text.encode(["a dog on grass"]).embeddings
        keys = TextKeys(text, torch.zeros(1, 77), ((((0, 2),),), (((0, 4),),)))
        found = backbone.read(random(1, 4, 8, 8), Probe(cross=Select()), condition=text).cross_attention
        one, other = (found.maps(keys, weighting=weighting)[0].maps for weighting in ("exp", "softmax"))
        shares = [maps / maps.sum((-2, -1), keepdim=True) for maps in (one, other)]
        assert float((shares[0] - shares[1]).abs().max()) > 1e-3

    def test_factors_choose_layers(self, backbone: UNetBackbone) -> None:
        text = backbone.text.encode(["a dog"]).embeddings
        found = backbone.read(random(1, 4, 8, 8), Probe(cross=Select()), condition=text).cross_attention
        assert [maps.factor for maps in found.maps(all_tokens(text), factors=(2,))] == [2]
        with pytest.raises(SettingsError, match=r"no cross-attention at factors \(4,\): this reading holds \[1, 2\]"):
            found.maps(all_tokens(text), factors=(4,))


def self_layers(*, count: int = 2, rows: int = 1, heads: int = 3, grid: tuple[int, int] = (4, 6), dim: int = 8) -> tuple[SelfLayer, ...]:
    shape = (rows, heads, grid[0] * grid[1], dim)
    return tuple(SelfLayer(f"{n}", 1, 2 * random(*shape, seed=n), random(*shape, seed=n + 50), dim**-0.5, grid) for n in range(count))


def explicit_mean(layers: tuple[SelfLayer, ...], repeats: int = 1) -> Tensor:
    """(pictures, tokens, tokens), every array written out."""
    arrays = [(layer.query @ layer.key.transpose(-1, -2) * layer.scale).softmax(-1) for layer in layers]
    return torch.stack(arrays).mean((0, 2)).unflatten(0, (-1, repeats)).mean(1)


class TestCompletion:
    @pytest.mark.parametrize("channels", [1, 3, 8, 9, 20])
    @pytest.mark.parametrize("hops", [0, 1, 2])
    def test_property_3_it_equals_the_explicit_mean(self, channels: int, hops: int) -> None:
        """Through values (up to as many channels as a head is wide), through the dense mean, and written out."""
        layers, maps = self_layers(rows=4), random(2, channels, 4, 6)
        kept = SelfAttention(grid=(4, 6), layers=layers, repeats=2)
        folded = SelfAttention(grid=(4, 6), mean=explicit_mean(layers, 2))
        expected = maps.flatten(2)
        for _ in range(hops):
            expected = expected @ explicit_mean(layers, 2).transpose(1, 2)
        for operator in (kept, folded):
            torch.testing.assert_close(operator.complete(maps, hops=hops).flatten(2), expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("channels", [4, 40])
    def test_property_3_peak_memory_is_under_a_fifth_of_the_arrays(self, channels: int) -> None:
        """Every allocation of torch's, also inside its operators, summed over time as the profiler saw them."""
        grid = (24, 32)
        layers = self_layers(count=3, heads=8, grid=grid)
        arrays = 3 * 8 * (grid[0] * grid[1]) ** 2 * 4
        maps = random(1, channels, *grid)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            SelfAttention(grid=grid, layers=layers).complete(maps)
        events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
        steps = torch.tensor([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
        peak = int(steps.cumsum(0).max())
        assert maps.nbytes < peak < arrays / 5

    def test_property_4_bounds_and_constants(self) -> None:
        maps = random(1, 3, 4, 6)
        for operator in (SelfAttention(grid=(4, 6), layers=self_layers()), SelfAttention(grid=(4, 6), mean=explicit_mean(self_layers()))):
            done = operator.complete(maps)
            low, high = (getattr(maps, edge)((-2, -1), keepdim=True) for edge in ("amin", "amax"))
            assert bool((done >= low - 1e-6).all() and (done <= high + 1e-6).all())
            assert_close(operator.complete(torch.full((1, 2, 4, 6), 0.7)), torch.full((1, 2, 4, 6), 0.7))

    def test_rows_of_the_matrix(self) -> None:
        operator = SelfAttention(grid=(4, 6), layers=self_layers(rows=2))
        assert_close(operator.dense().sum(-1), torch.ones(2, 24))
        points = torch.tensor([[0, 23, 5], [1, 1, 2]])
        rows = operator.rows(points)
        assert rows.shape == (2, 3, 24)
        assert torch.equal(rows[0, 1], operator.dense()[0, 23]) and torch.equal(rows[1, 2], operator.dense()[1, 2])

    @pytest.mark.parametrize("power", [0.0, 0.5, 1.5, 3.0])
    def test_sharpened_rows_are_powers_that_sum_to_one(self, power: float) -> None:
        layers = self_layers(rows=2)
        raised = explicit_mean(layers) ** power
        for operator in (SelfAttention(grid=(4, 6), layers=layers), SelfAttention(grid=(4, 6), mean=explicit_mean(layers), count=2)):
            sharp = operator.sharpened(power)
            assert_close(sharp.dense(), raised / raised.sum(-1, keepdim=True))
            assert sharp.count == operator.count and sharp.grid == (4, 6)

    def test_a_large_power_leaves_the_largest_entry(self) -> None:
        operator = SelfAttention(grid=(4, 6), mean=explicit_mean(self_layers()) ** 8)  # the numbers of a large grid are as small
        sharp = operator.sharpened(40.0).dense()
        assert bool(sharp.isfinite().all()) and torch.equal(sharp.argmax(-1), operator.dense().argmax(-1))
        assert_close(sharp.sum(-1), torch.ones(1, 24))

    def test_the_power_one_changes_nothing_and_a_negative_one_is_refused(self) -> None:
        operator = SelfAttention(grid=(4, 6), layers=self_layers())
        assert operator.sharpened(1.0) is operator
        for power in (-1.0, float("nan")):
            with pytest.raises(SettingsError, match="power of 0 or more"):
                operator.sharpened(power)

    def test_half_precision_layers(self) -> None:
        layers = self_layers()
        half = tuple(SelfLayer(x.name, 1, x.query.bfloat16(), x.key.bfloat16(), x.scale, x.grid) for x in layers)
        for channels in (2, 20):
            maps = random(1, channels, 4, 6)
            done = SelfAttention(grid=(4, 6), layers=half).complete(maps)
            assert done.dtype == torch.float32
            assert_close(done, SelfAttention(grid=(4, 6), layers=layers).complete(maps), dtype=torch.bfloat16)

    def test_it_needs_something_to_compute_with(self) -> None:
        with pytest.raises(SettingsError, match="kept layers or a folded mean"):
            SelfAttention(grid=(2, 2))


def test_keep_and_fold_complete_alike(backbone: UNetBackbone) -> None:
    text, maps = backbone.text.encode(["a dog"]).embeddings, random(2, 5, 8, 12)
    done = []
    for mode in ("keep", "fold"):
        probe = Probe(timesteps=(50, 100), self_attention=Select(factors="finest"), self_mode=mode)
        reading = backbone.read(random(2, 4, 8, 12), probe, condition=text)
        assert reading.bytes() == (3 * 2 * 4 * 96 * 16 * 4 if mode == "keep" else 2 * 96 * 96 * 4)
        done.append(reading.self_attention.complete(maps))
    assert_close(done[1], done[0])


def test_one_picture_of_a_reading(backbone: UNetBackbone) -> None:
    text = backbone.text.encode(["a dog"]).embeddings
    probe = Probe(timesteps=(50, 100), cross=Select(), self_attention=Select(factors="finest"), features=Select(last=True))
    for mode in ("keep", "fold"):
        probe = Probe(**(vars(probe) | {"self_mode": mode}))
        reading = backbone.read(random(3, 4, 8, 8), probe, condition=text)
        alone = reading.picture(1)
        assert alone.pictures == 1
        mine, theirs = (one.cross_attention.maps(all_tokens(text))[0].maps for one in (alone, reading))
        assert torch.equal(mine, theirs[1:2])
        assert_close(alone.self_attention.dense(), reading.self_attention.dense()[1:2])
        assert all(torch.equal(values, reading.features[name][1:2]) for name, values in alone.features.items())


def test_a_reading_says_what_it_lacks(backbone: UNetBackbone) -> None:
    text = backbone.text.encode([""]).embeddings
    reading = backbone.read(random(1, 4, 8, 8), Probe(features=Select()), condition=text)
    with pytest.raises(SettingsError, match="holds no cross-attention"):
        _ = reading.cross_attention
    with pytest.raises(SettingsError, match="holds no self-attention"):
        _ = reading.self_attention


class TestProbe:
    def test_refusals(self) -> None:
        for wrong in ({"timesteps": ()}, {"timesteps": (-1,)}, {"samples": 0}, {"self_mode": "store"}):
            with pytest.raises(SettingsError):
                Probe(**wrong)

    def test_one_pass_for_two_probes(self, backbone: UNetBackbone) -> None:
        one = Probe(cross=Select(factors=(2,)))
        other = Probe(self_attention=Select(factors="finest"), self_mode="keep", features=Select(last=True))
        both = one.union(other)
        assert both == Probe(cross=one.cross, self_attention=other.self_attention, self_mode="keep", features=other.features)
        assert one.union(one) == one and both.union(one) == both
        for third in (Probe(timesteps=(1,)), Probe(noise=False), Probe(samples=2)):
            with pytest.raises(SettingsError, match="two passes"):
                one.union(third)

    def test_keeping_serves_folding(self) -> None:
        keep, fold = (Probe(self_attention=Select(), self_mode=mode) for mode in ("keep", "fold"))
        assert keep.union(fold).self_mode == fold.union(keep).self_mode == "keep"
        assert fold.union(Probe(cross=Select())).self_mode == "fold"

    def test_each_finds_its_own_layers_in_a_pass_that_serves_both(self, backbone: UNetBackbone) -> None:
        text = backbone.text.encode(["a dog"])
        last, all_of_it = Select(factors="coarsest", stages=("down",), last=True), Select(stages=("up",))
        one = Probe(cross=Select(factors=(1,)), self_attention=Select(factors="finest"), outputs=last)
        other = Probe(cross=all_of_it, self_attention=Select(), features=Select(last=True), outputs=Select(factors=(1,)))
        both = backbone.read(random(2, 4, 8, 12), one.union(other), condition=text.embeddings)
        keys = all_tokens(text.embeddings)
        for probe in (one, other):
            alone = backbone.read(random(2, 4, 8, 12), probe, condition=text.embeddings)
            mine, theirs = (reading.cross_attention_of(probe.cross).maps(keys) for reading in (alone, both))
            for a, b in zip(mine, theirs, strict=True):
                assert_close(a.maps, b.maps)  # layers that the other wants folded are computed in another order
                assert (a.factor, a.layers) == (b.factor, b.layers)
            for factor in alone.self_factors:
                assert_close(alone.self_attention_at(factor).dense(), both.self_attention_at(factor).dense())
                assert alone.self_attention_at(factor).count == {1: 3, 2: 4}[factor]
            for found, selection in (("features_of", probe.features), ("outputs_of", probe.outputs)):
                mine, theirs = (getattr(reading, found)(selection) for reading in (alone, both))
                assert list(mine) == list(theirs)
                assert all(bool(torch.isclose(mine[name], theirs[name], atol=1e-4).all()) for name in mine)
        assert list(both.outputs_of(last)) == ["down.1.0.output"] and both.outputs["down.1.0.output"].shape == (2, 32, 4, 6)
        with pytest.raises(SettingsError, match="no self-attention at factor 4"):
            both.self_attention_at(4)


def test_outputs_are_what_the_layer_returns(backbone: UNetBackbone) -> None:
    condition = backbone.text.encode(["a dog"]).embeddings
    name = "down.0.0.output"
    seen: list[torch.Tensor] = []
    site = next(site for site in backbone.sites if site.name == name)
    handle = backbone.unet.get_submodule(site.path).register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        reading = backbone.read(random(1, 4, 8, 12), Probe(outputs=Select(stages=("down",))), condition=condition)
    finally:
        handle.remove()
    assert torch.equal(reading.outputs[name].flatten(2).transpose(1, 2), seen[0]) and reading.outputs[name].shape == (1, 16, 8, 12)


def test_what_texts_share_is_computed_once_and_changes_nothing(backbone: UNetBackbone) -> None:
    """The common beginning of a template, split off, gives the maps that every text gives on its own."""
    prompts = ["a photograph of a dog", "a photograph of a traffic light", "a photograph of a cat on grass"]
    encoding = backbone.text.encode(prompts)
    reading = backbone.read(random(2, 4, 8, 12), Probe(cross=Select()), condition=encoding.embeddings[:1])
    columns = tuple(((tuple((text, place) for place in range(5, encoding.ends[text])),)) for text in range(3))
    kept, log_weight = merge_padding(encoding.embeddings, encoding.ends)
    whole = reading.cross_attention.maps(TextKeys(kept, log_weight, columns))
    split = reading.cross_attention.maps(TextKeys(kept, log_weight, columns, shared=5))
    for one, other in zip(whole, split, strict=True):
        assert_close(one.maps, other.maps)
