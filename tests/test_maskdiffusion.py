"""MaskDiffusion, its steps and properties as numbered on the method's page; parts of 1 to 3 are in test_sites, test_attention and
test_planning. Properties 6 and 7 belong to the unsupervised variant."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import ModelError, SettingsError
from maskwright.methods import make_method
from maskwright.methods.maskdiffusion.method import MaskDiffusion
from maskwright.readings.attention import CrossLayer
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.readings.sites import Site
from maskwright.segmenter import Segmenter
from maskwright.text.planning import plan_text
from maskwright.vocabulary import Vocabulary
from tests.tiny import pixels, random
from tests.tolerances import assert_close

SMALL = MaskDiffusion(attention_factors=(1, 2), feature_factors=(2, 1))  # what a U-Net of two levels has


def made(logits: Tensor, features: Tensor, *, dtype: torch.dtype = torch.float32) -> tuple[Reading, TextKeys]:
    """A reading with one layer of one head, whose logits (labels, h, w) are given, and features (channels, h, w)."""
    labels, *grid = logits.shape
    layer = CrossLayer("made", 1, logits.flatten(1).T[None, None].to(dtype), torch.eye(labels).to(dtype), 1.0, (grid[0], grid[1]))
    sites = (Site("made", "cross", "up", 1, "", ""), Site("f", "feature", "up", 1, "", ""))
    probe = Probe(cross=Select(), features=Select())
    reading = Reading(probe, (grid[0], grid[1]), 1, (layer,), features={"f": features[None]}, sites=sites)
    return reading, TextKeys(torch.eye(labels)[None], torch.zeros(1, labels), tuple((((0, n),),) for n in range(labels)))


def regions(sizes: tuple[int, ...] = (3, 2, 3)) -> tuple[Tensor, Tensor]:
    """Vertical stripes with orthogonal constant features: which stripe each pixel of (8, 8) is in, and features (5, 8, 8)."""
    where = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).expand(8, 8)
    scale = torch.tensor([1.0, 30.0, 0.2])
    return where, torch.eye(5)[where].permute(2, 0, 1) * scale[where]


METHOD = MaskDiffusion(attention_factors=(1,), attention_grid=1, feature_factors=(1,))


class TestProperty1:
    def test_six_layers_and_48_head_maps(self, sd_backbone: UNetBackbone) -> None:
        """At 512 x 512 the same layers are at 16 x 16 and 8 x 8."""
        reading = sd_backbone.read(random(1, 4, 16, 16), MaskDiffusion().probe(), condition=sd_backbone.text.encode(["a"]).embeddings)
        assert [layer.grid for layer in reading.cross_layers] == [(4, 4), (4, 4), (2, 2), (4, 4), (4, 4), (4, 4)]
        assert sum(layer.query.shape[1] for layer in reading.cross_layers) == 48
        assert list(reading.features) == ["up.1.2.input", "up.2.2.input"] and not reading.self_layers and not reading.folded

    def test_layers_count_equally(self, sd_backbone: UNetBackbone) -> None:
        """Step 4: a plain mean over layers, five of them at one grid and one at the other."""
        method, text = MaskDiffusion(), sd_backbone.text.encode(["a dog"]).embeddings
        keys = TextKeys(text, torch.zeros(1, 77), ((((0, 2),),),))
        reading = sd_backbone.read(random(1, 4, 32, 16), method.probe(), condition=text)
        logits = [layer.query @ layer.keys(text[0, 2:3]) for layer in reading.cross_layers]  # 1 heads tokens 1
        peak = max(float(one.max()) for one in logits)
        maps = [(one - peak).exp().mean(1).mT.unflatten(-1, layer.grid) for one, layer in zip(logits, reading.cross_layers, strict=True)]
        grown = [F.interpolate(one, (16, 8), mode="bilinear", align_corners=False) for one in maps]
        assert_close(method.attention_maps(reading, keys), torch.stack(grown).mean(0))

    def test_models_without_these_grids_say_so(self, backbone: UNetBackbone) -> None:
        with pytest.raises(ModelError, match=r"no cross layer .*1/\[1, 2\] of the latent side"):
            Segmenter(backbone, "maskdiffusion").segment(pixels(), "dog, cat")


class TestProperty2:
    def test_a_constant_on_all_logits_of_a_label_changes_nothing(self) -> None:
        logits, features = random(3, 8, 8), random(6, 8, 8)
        lifted = logits + torch.tensor([20.0, 0.0, -20.0])[:, None, None]
        assert_close(METHOD.score(*made(lifted, features)), METHOD.score(*made(logits, features)))

    def test_half_precision_with_logits_up_to_50(self) -> None:
        logits, features = random(3, 8, 8) * 15, random(6, 8, 8)
        logits[0, 0, 0] = 50
        assert bool(METHOD.score(*made(logits, features, dtype=torch.float16)).isfinite().all())

    def test_exp_and_softmax_differ(self, backbone: UNetBackbone) -> None:
        found = []
        for attention in ("exp", "softmax"):
            method = dataclasses.replace(SMALL, attention=attention)
            found.append(torch.from_numpy(Segmenter(backbone, method).segment(pixels(), "dog, cat").scores))
        assert float((found[0] - found[1]).abs().max()) > 1e-4


class TestProperty4:
    def test_orthogonal_regions_are_told_apart(self) -> None:
        where, features = regions()
        peaks = torch.zeros(3, 8, 8)
        for label, (row, column) in enumerate(((1, 1), (6, 3), (2, 7))):
            peaks[label, row, column] = 12
        scores = METHOD.score(*made(peaks, features))
        assert torch.equal(scores[0].argmax(0), where)

    def test_scaling_the_attention_leaves_the_scores(self) -> None:
        """A factor on a map is a constant on its logits in exp mode; in softmax mode the maps themselves are scaled."""
        features = random(6, 8, 8)

        class Scaled(MaskDiffusion):
            def attention_maps(self, reading: Reading, keys: TextKeys) -> Tensor:
                return super().attention_maps(reading, keys) * torch.tensor([1e-3, 1.0, 50.0])[:, None, None]

        options = {"attention_factors": (1,), "attention_grid": 1, "feature_factors": (1,), "attention": "softmax"}
        one, two = (kind(**options).score(*made(random(3, 8, 8), features)) for kind in (MaskDiffusion, Scaled))
        assert_close(two, one)

    @pytest.mark.parametrize("scale", [1e-4, 1e3])
    def test_scaling_the_features_leaves_the_scores(self, scale: float) -> None:
        logits, features = random(3, 8, 8), random(6, 8, 8)
        assert_close(METHOD.score(*made(logits, scale * features)), METHOD.score(*made(logits, features)))

    def test_scores_are_cosines_with_the_weighted_mean_feature(self) -> None:
        logits, features = random(2, 8, 8), random(6, 8, 8)
        unit = F.normalize(features, dim=0).flatten(1)
        weights = logits.flatten(1).softmax(-1)  # exp(logit) over its sum
        assert_close(weights.sum(-1), torch.ones(2))
        representatives = weights @ unit.T
        expected = F.cosine_similarity(representatives[:, :, None], unit[None], dim=1).unflatten(-1, (8, 8))
        assert_close(METHOD.score(*made(logits, features))[0], expected)
        parity = dataclasses.replace(METHOD, cosine=False).score(*made(logits, features))[0]
        assert_close(parity, (representatives @ unit).unflatten(-1, (8, 8)))


class TestProperty5:
    @pytest.mark.parametrize("components", [0, 3])
    def test_features_have_unit_norm(self, backbone: UNetBackbone, components: int) -> None:
        method = dataclasses.replace(SMALL, components=components)
        reading = backbone.read(random(2, 4, 8, 12), method.probe(), condition=backbone.text.encode(["a"]).embeddings)
        features = method.features(reading, (8, 12))
        assert features.shape[:2] == (2, components or 48 + 32)
        assert_close(features.norm(dim=1), torch.ones(2, 8, 12))

    def test_blocks_count_equally_whatever_their_scale(self, backbone: UNetBackbone) -> None:
        reading = backbone.read(random(1, 4, 8, 8), SMALL.probe(), condition=backbone.text.encode(["a"]).embeddings)
        (name, first), (other, second) = reading.features.items()
        louder = dataclasses.replace(reading, features={name: 100 * first, other: second})
        assert_close(SMALL.features(louder, (8, 8)), SMALL.features(reading, (8, 8)))

    def test_two_runs_are_identical_and_four_are_four_times_one(self, backbone: UNetBackbone) -> None:
        plan = plan_text(backbone.text, Vocabulary.parse("dog, cat"), SMALL.wording(), "joint")
        latents = random(4, 4, 8, 8)

        def score(rows: Tensor) -> Tensor:
            return SMALL.score(backbone.read(rows, SMALL.probe(), condition=plan.passes[0].condition), plan.keys)

        together = score(latents)
        assert torch.equal(score(latents), together)
        assert_close(torch.cat([score(latents[n : n + 1]) for n in range(4)]), together)

    def test_all_principal_components_keep_all_cosines(self, backbone: UNetBackbone) -> None:
        reading = backbone.read(random(1, 4, 8, 8), SMALL.probe(), condition=backbone.text.encode(["a"]).embeddings)
        plain, reduced = (
            dataclasses.replace(SMALL, components=components).features(reading, (8, 8))[0].flatten(1) for components in (0, 80)
        )
        assert_close(reduced.T @ reduced, plain.T @ plain)


class TestSettings:
    def test_the_working_grid(self, backbone: UNetBackbone) -> None:
        method = dataclasses.replace(SMALL, grid=(5, 9))
        plan = plan_text(backbone.text, Vocabulary.parse("dog, cat"), method.wording(), "joint")
        reading = backbone.read(random(1, 4, 8, 8), method.probe(), condition=plan.passes[0].condition)
        assert method.score(reading, plan.keys).shape == (1, 2, 5, 9)

    def test_defaults_are_the_published_ones(self) -> None:
        method = MaskDiffusion()
        assert (method.prompting, method.timesteps, method.noise, method.attention) == ("joint", (0,), False, "exp")
        assert method.wording().write("dog and cat") == "dog and cat" and method.wording().joiner == " and "

    @pytest.mark.parametrize(
        "wrong",
        [{"attention": "sigmoid"}, {"attention_grid": 0}, {"components": -1}, {"grid": (0, 5)}, {"timesteps": ()}, {"template": "x"}],
    )
    def test_settings_that_cannot_be_used(self, wrong: dict[str, object]) -> None:
        with pytest.raises(SettingsError):
            make_method("maskdiffusion", wrong)

    def test_every_pixel_takes_a_label(self, backbone: UNetBackbone) -> None:
        found = Segmenter(backbone, SMALL).segment(pixels(), "dog, cat, sky")
        assert found.label_map.min() >= 1 and found.record.background is None


class TestMethodList:
    def test_unknown_names_and_settings_list_what_there_is(self) -> None:
        with pytest.raises(SettingsError, match="unknown method 'diffcut': choose one of diffsegmenter, maskdiffusion"):
            make_method("diffcut")
        with pytest.raises(SettingsError, match="maskdiffusion has no setting hops: it has attention"):
            make_method("maskdiffusion", {"hops": 1})

    def test_lists_of_data_files_become_tuples(self) -> None:
        assert make_method("diffsegmenter", {"fusion": [[1, 0.5], [2, 0.5]]}).fusion == ((1, 0.5), (2, 0.5))
