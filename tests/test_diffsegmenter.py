"""DiffSegmenter, its steps and properties as numbered on the method's page; 1 to 3, 5, 6 and 9 are in the tests of their rooms:
test_sites, test_unet_backbone, test_attention, test_planning and test_method_contract."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import SettingsError
from maskwright.methods import make_method
from maskwright.methods.diffsegmenter.method import DiffSegmenter
from maskwright.methods.maps import min_max, resize_maps
from maskwright.readings.attention import CrossAttention, CrossLayer
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.readings.sites import Site
from maskwright.segmenter import Segmenter
from maskwright.text.filtering import CategoryFilter
from maskwright.text.planning import plan_text
from maskwright.vocabulary import Vocabulary
from tests.tiny import pixels, random
from tests.tolerances import assert_close


def made_reading(queries: dict[int, Tensor], *, size: tuple[int, int] = (8, 8), mean: Tensor | None = None) -> tuple[Reading, TextKeys]:
    """One cross-attention layer of one head per factor with these queries (tokens, 2), and two labels: (1, 0) and (0, 1)."""
    layers = tuple(
        CrossLayer(f"{factor}", factor, query[None, None], torch.eye(2), 1.0, (size[0] // factor, size[1] // factor))
        for factor, query in queries.items()
    )
    tokens = size[0] * size[1]
    folded = {1: (torch.eye(tokens)[None] if mean is None else mean, size, 1)}
    sites = tuple(Site(layer.name, "cross", "up", layer.factor, "", "") for layer in layers)
    reading = Reading(Probe(cross=Select(), self_attention=Select(factors="finest")), size, 1, layers, (), folded, sites=sites)
    return reading, TextKeys(torch.eye(2)[None], torch.zeros(1, 2), ((((0, 0),),), (((0, 1),),)))


def stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low)


@torch.inference_mode()
def test_steps_5_to_7_written_out(sd_backbone: UNetBackbone) -> None:
    """On the structure of SD 1.x, with all four grids, from captured queries and keys, written a second time."""
    method = DiffSegmenter(keep=True, emphasis=1.0, padding="exact")
    vocabulary = Vocabulary.parse(["dog", "traffic light"])
    plan = plan_text(sd_backbone.text, vocabulary, method.wording(), "shared")
    reading = sd_backbone.read(random(1, 4, 16, 24), method.probe(), condition=plan.passes[0].condition)
    prompts = [f"a photograph of a {name}" for name in vocabulary.names]
    embeddings = sd_backbone.text.encode(prompts).embeddings
    fused = torch.zeros(2, 16, 24)
    for side, weight in ((8, 0.3), (4, 0.5), (2, 0.1), (1, 0.1)):
        layers = [layer for layer in reading.cross_layers if layer.factor == side]
        assert len(layers) == {8: 1, 4: 5, 2: 5, 1: 5}[side]
        for label, columns in enumerate(plan.keys.columns):
            own = [place for _, place in columns[0]]
            total = torch.zeros(16 // side, 24 // side)
            for layer in layers:
                key = sd_backbone.unet.get_submodule(module_path(sd_backbone, layer.name)).to_k(embeddings[label])
                key = key.unflatten(-1, (8, -1)).transpose(0, 1)  # heads, text, dim
                attention = (layer.query[0] @ key.transpose(1, 2) / key.shape[-1] ** 0.5).softmax(-1)
                total += attention[..., own].mean((0, 2)).unflatten(0, total.shape) / len(layers)
            up = F.interpolate(total[None, None], (16, 24), mode="bilinear", align_corners=False)[0, 0]
            fused[label] += weight * stretched(up)
    matrix = torch.stack([(x.query[0] @ x.key[0].mT / x.query.shape[-1] ** 0.5).softmax(-1) for x in reading.self_layers]).mean((0, 1))
    expected = (matrix @ fused.flatten(1).T).T.unflatten(-1, (16, 24))
    assert_close(method.score(reading, plan.keys)[0], expected)


def module_path(backbone: UNetBackbone, name: str) -> str:
    (path,) = [site.path for site in backbone.sites if site.name == name]
    return path


def test_step_3_the_published_prompt_and_emphasis(backbone: UNetBackbone) -> None:
    wording = DiffSegmenter().wording()
    assert wording.write("dog") == "a photograph of a dog" and wording.emphasis == 1.21 and wording.participle


def test_step_2_the_published_noise() -> None:
    probe = DiffSegmenter().probe()
    assert probe.timesteps == (100,) and probe.noise and probe.cross == Select() and probe.self_attention == Select(factors="finest")


class TestFusion:
    def test_grids_that_a_model_lacks_are_left_out(self) -> None:
        queries = {1: random(64, 2), 2: random(16, 2, seed=1)}
        reading, keys = made_reading(queries)
        maps = {layer.factor: min_max(resize_maps(layer.maps, (8, 8))) for layer in reading.cross_attention.maps(keys)}
        expected = (0.1 * maps[1] + 0.3 * maps[2]) / 0.4
        assert_close(DiffSegmenter(fusion=((8, 0.6), (2, 0.3), (1, 0.1))).score(reading, keys), expected)
        assert_close(DiffSegmenter(fusion=((2, 5.0),)).score(reading, keys), maps[2])

    def test_grids_of_no_weight_are_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reading, keys = made_reading({1: random(64, 2), 2: random(16, 2, seed=1), 4: random(4, 2, seed=2)})
        asked: list[int] = []
        maps_of = CrossAttention._softmax
        monkeypatch.setattr(CrossAttention, "_softmax", lambda self, layer, keys: asked.append(layer.factor) or maps_of(self, layer, keys))
        method = DiffSegmenter(fusion=((4, 0.0), (2, 0.5), (8, 0.5)))
        method.score(reading, keys)
        assert asked == [2]
        method.strength(reading, keys)
        assert asked == [2, 2]

    def test_none_of_the_grids(self) -> None:
        reading, keys = made_reading({1: random(64, 2)})
        with pytest.raises(SettingsError, match=r"names no grid of this model, which has \[1\]"):
            DiffSegmenter(fusion=((8, 1.0),)).score(reading, keys)

    @pytest.mark.parametrize(
        "wrong", [{"fusion": ()}, {"fusion": ((8, -1.0),)}, {"fusion": ((8, 0.0),)}, {"hops": -1}, {"reject": -0.5}, {"tokens": "first"},
                  {"padding": "half"}, {"template": "a photo"}, {"timesteps": ()}, {"samples": 0}],
    )  # fmt: skip
    def test_settings_that_cannot_be_used(self, wrong: dict[str, object]) -> None:
        with pytest.raises(SettingsError):
            make_method("diffsegmenter", wrong)

    def test_without_hops_the_fused_map_itself(self, backbone: UNetBackbone) -> None:
        reading, keys = made_reading({1: random(64, 2)})
        assert_close(DiffSegmenter(hops=0).score(reading, keys), DiffSegmenter().score(reading, keys))  # A is the identity here
        found = Segmenter(backbone, DiffSegmenter(hops=0)).segment(pixels(), "dog, cat")
        assert found.scores.shape == (2, 24, 24)


class TestProperty4:
    def test_completion_stays_within_the_fused_map(self, backbone: UNetBackbone) -> None:
        plan = plan_text(backbone.text, Vocabulary.parse("dog, cat"), DiffSegmenter().wording(), "shared")
        reading = backbone.read(random(1, 4, 8, 12), DiffSegmenter().probe(), condition=plan.passes[0].condition)
        fused, done = (DiffSegmenter(hops=hops).score(reading, plan.keys) for hops in (0, 1))
        assert bool((done.amin((-2, -1)) >= fused.amin((-2, -1)) - 1e-6).all())
        assert bool((done.amax((-2, -1)) <= fused.amax((-2, -1)) + 1e-6).all())

    def test_scaling_the_self_attention_leaves_the_final_map(self) -> None:
        matrix = random(1, 64, 64).softmax(-1)
        final = []
        for scale in (1.0, 7.0):
            reading, keys = made_reading({1: 3 * random(64, 2)}, mean=scale * matrix)
            final.append(stretched(DiffSegmenter().score(reading, keys)))
        assert_close(final[1], final[0])

    def test_a_constant_map_gives_zeros(self) -> None:
        reading, keys = made_reading({1: torch.ones(64, 2), 2: torch.ones(16, 2)}, mean=random(1, 64, 64).softmax(-1))
        assert torch.equal(DiffSegmenter().score(reading, keys), torch.zeros(1, 2, 8, 8))


class TestMinMax:
    def test_it_does_not_depend_on_the_maps_scale(self) -> None:
        maps = random(2, 3, 5, 7).abs()
        for scale in (1e-9, 1.0, 1e6):
            assert_close(min_max(scale * maps), stretched(maps))

    @pytest.mark.parametrize("value", [0.0, 1e-12, 0.013, 7.0])
    def test_a_constant_that_was_resized_is_still_a_constant(self, value: float) -> None:
        """Interpolation turns a constant into noise of the last digit, which a stretch would blow up to a map."""
        maps = resize_maps(torch.full((1, 1, 3, 5), value), (17, 31))
        assert torch.equal(min_max(maps), torch.zeros(1, 1, 17, 31))

    def test_resizing_does_not_shift(self) -> None:
        maps = random(1, 1, 4, 6)
        grown = resize_maps(maps, (12, 18))
        assert_close(grown[..., 1::3, 1::3], maps)  # an odd factor puts a pixel on each cell's centre
        assert_close(resize_maps(maps.flip(-1), (12, 18)), grown.flip(-1))


class TestProperty7:
    def test_a_threshold_above_1_leaves_background_only(self, backbone: UNetBackbone) -> None:
        found = Segmenter(backbone, background=1.01).segment(pixels(), "dog, cat")
        assert not found.label_map.any() and np.all(found.confidence == np.float32(1.01))

    def test_zero_kept_labels_give_background_that_is_counted(self, backbone: UNetBackbone) -> None:
        found = Segmenter(backbone, category_filter=CategoryFilter("given", given=[])).segment(pixels(), "dog, cat")
        assert not found.label_map.any() and [region.area for region in found.regions] == [0, 0]
        assert np.isneginf(found.scores).all() and np.isfinite(found.confidence).all()

    def test_no_nan_on_a_picture_of_one_colour(self, backbone: UNetBackbone) -> None:
        found = Segmenter(backbone).segment(np.full((24, 24, 3), 127, np.uint8), "dog, cat")
        assert np.isfinite(found.scores).all()


class TestReject:
    def test_labels_weaker_than_the_absent_word_are_dropped(self, backbone: UNetBackbone) -> None:
        kept = {}
        for reject in (1e-6, 1.0, 1e6):
            found = Segmenter(backbone, DiffSegmenter(reject=reject)).segment(pixels(), "dog, cat, owl, sky")
            kept[reject] = {name for name in found.names if np.isfinite(found.score(name)).all()}
        assert kept[1e-6] == {"dog", "cat", "owl", "sky"} and kept[1e6] == set()
        assert kept[1.0] <= kept[1e-6]

    @pytest.mark.parametrize("prompting", ["shared", "per-label", "joint"])
    def test_strength_is_the_unstretched_maximum(self, backbone: UNetBackbone, prompting: str) -> None:
        method = DiffSegmenter(reject=1.0, prompting=prompting)
        plan = plan_text(backbone.text, Vocabulary.parse("dog, thing"), method.wording(), prompting)
        reading = backbone.read(random(1, 4, 8, 8), method.probe(), condition=plan.passes[0].condition)
        coarse, fine = (layer.maps.amax((-2, -1)) for layer in reversed(reading.cross_attention.maps(plan.keys)))
        assert_close(method.strength(reading, plan.keys), (coarse + fine) / 2)  # weights 0.1 and 0.1

    def test_background_labels_are_never_dropped(self, backbone: UNetBackbone) -> None:
        found = Segmenter(backbone, DiffSegmenter(reject=1e6), background="grass").segment(pixels(), "dog, cat")
        assert np.isfinite(found.score("grass")).all() and not found.label_map.any()

    def test_the_absent_word_may_be_a_label(self, backbone: UNetBackbone) -> None:
        found = Segmenter(backbone, DiffSegmenter(reject=1e-6)).segment(pixels(), "dog, thing")
        assert found.names == ("dog", "thing") and np.isfinite(found.scores).all()

    def test_the_absent_word_may_be_a_synonym(self, backbone: UNetBackbone) -> None:
        method = DiffSegmenter(reject=1e-6, absent="Thing")
        found = Segmenter(backbone, method).segment(pixels(), "cat, object|thing")
        assert found.names == ("cat", "object") and np.isfinite(found.scores).all()
