"""What every text-driven method keeps. A new method adds one class of a few lines at the end."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import VocabularyError
from maskwright.methods import METHODS
from maskwright.methods.diffsegmenter.method import DiffSegmenter
from maskwright.methods.diffusion_classifier.method import DiffusionClassifier
from maskwright.methods.foreground_first.method import ForegroundFirst
from maskwright.methods.maskdiffusion.method import MaskDiffusion
from maskwright.methods.word_shares.method import WordShares
from maskwright.passes import run_passes
from maskwright.segmenter import Segmenter
from maskwright.text.planning import plan_text
from maskwright.text.wording import PROMPTINGS
from maskwright.vocabulary import Vocabulary
from tests.tiny import Passes, digest, pixels, random
from tests.tolerances import assert_close

LABELS = ["dog", "traffic light|light", "sky"]


class MethodContract:
    """Inherited by one class per method."""

    method: ClassVar[Any]
    noisy: ClassVar[bool] = True  # whether the seed matters
    halved: ClassVar[float] = 0.98  # correlation of scores in half precision with those in full

    def segmenter(self, backbone: UNetBackbone, **options: Any) -> Segmenter:
        return Segmenter(backbone, self.method, **options)

    def score(self, backbone: UNetBackbone, *, prompting: str, pictures: int = 1, chunk: int = 4, **changed: Any) -> torch.Tensor:
        method = dataclasses.replace(self.method, **changed)
        plan = plan_text(backbone.text, Vocabulary.parse(LABELS), method.wording(), prompting)
        return run_passes(backbone, random(pictures, 4, 8, 12), method, method.probe(), plan, seed=0, chunk=chunk).maps

    def test_it_is_frozen_settings_under_its_name(self) -> None:
        assert dataclasses.is_dataclass(self.method) and self.method.name in METHODS
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.method.prompting = "joint"

    @pytest.mark.parametrize("prompting", PROMPTINGS)
    def test_scores_are_maps_of_all_labels_of_all_pictures(self, backbone: UNetBackbone, prompting: str) -> None:
        maps = self.score(backbone, prompting=prompting, pictures=2)
        assert maps.shape == (2, 3, 8, 12) and maps.dtype == torch.float32 and bool(maps.isfinite().all())
        assert bool((maps.amax((-2, -1)) > maps.amin((-2, -1))).all())

    @pytest.mark.parametrize("prompting", PROMPTINGS)
    @pytest.mark.parametrize("size", [(24, 24), (20, 45), (45, 20), (1, 3)])
    def test_results_have_the_pictures_own_size(self, backbone: UNetBackbone, size: tuple[int, int], prompting: str) -> None:
        found = self.segmenter(backbone, prompting=prompting).segment(pixels(size=size), LABELS)
        assert found.label_map.shape == size and found.label_map.dtype == np.uint16
        assert found.scores.shape == (3, *size) and found.scores.dtype == np.float32
        assert found.record.prompting == prompting and found.record.method == self.method.name
        assert found.record.as_dict()["settings"]["prompting"] == prompting

    def test_the_same_seed_gives_the_same_bits(self, backbone: UNetBackbone) -> None:
        one, two = (self.segmenter(backbone, seed=4).segment(pixels(), LABELS) for _ in range(2))
        assert np.array_equal(one.scores, two.scores) and np.array_equal(one.label_map, two.label_map)

    def test_another_seed_matters_exactly_where_there_is_noise(self, backbone: UNetBackbone) -> None:
        one, two = (self.segmenter(backbone, seed=seed).segment(pixels(), LABELS) for seed in (4, 5))
        assert np.array_equal(one.scores, two.scores) != self.noisy

    @pytest.mark.parametrize("prompting", PROMPTINGS)
    def test_neighbours_in_a_batch_do_not_matter(self, backbone: UNetBackbone, prompting: str) -> None:
        pictures = [pixels(number, size=(20, 28)) for number in range(4)]
        segmenter = self.segmenter(backbone, prompting=prompting, batch=4)
        for together, picture in zip(segmenter.segment(pictures, LABELS), pictures, strict=True):
            alone = segmenter.segment(picture, LABELS)
            np.testing.assert_allclose(together.scores, alone.scores, atol=2e-3)
            assert float(np.mean(together.label_map != alone.label_map)) < 0.01

    @pytest.mark.parametrize("prompting", ["shared", "per-label"])
    def test_permuting_labels_permutes_maps(self, backbone: UNetBackbone, prompting: str) -> None:
        segmenter = self.segmenter(backbone, prompting=prompting)
        one, two = (segmenter.segment(pixels(), labels) for labels in (LABELS, LABELS[::-1]))
        for name in one.names:
            np.testing.assert_allclose(one.score(name), two.score(name), atol=2e-3)

    def test_reading_leaves_the_model_as_it_was(self, backbone: UNetBackbone) -> None:
        before = [digest(part) for part in (backbone.unet, backbone.vae, backbone.text.encoder)]
        for prompting in PROMPTINGS:
            self.segmenter(backbone, prompting=prompting).segment(pixels(), LABELS)
        assert [digest(part) for part in (backbone.unet, backbone.vae, backbone.text.encoder)] == before

    @pytest.mark.parametrize("padding", ["merged", "exact"])
    def test_property_9_shared_under_a_labels_own_prompt_is_per_label(self, backbone: UNetBackbone, padding: str) -> None:
        method = dataclasses.replace(self.method, padding=padding)
        vocabulary = Vocabulary.parse(LABELS)
        shared, own = (plan_text(backbone.text, vocabulary, method.wording(), mode) for mode in ("shared", "per-label"))
        per_label = self.score(backbone, prompting="per-label", padding=padding)
        for number, one in enumerate(own.passes):
            reading = backbone.read(random(1, 4, 8, 12), method.probe(), condition=one.condition)
            assert_close(method.score(reading, shared.keys)[0, number], per_label[0, number])

    def check_label_by_label(self, backbone: UNetBackbone, padding: str) -> None:
        """Property 9 of methods whose labels look at each other, also where they are read in one pass."""
        method = dataclasses.replace(self.method, padding=padding)
        per_label = self.score(backbone, prompting="per-label", padding=padding)
        for number, label in enumerate(LABELS):
            plan = plan_text(backbone.text, Vocabulary.parse([label]), method.wording(), "per-label")
            reading = backbone.read(random(1, 4, 8, 12), method.probe(), condition=plan.passes[0].condition)
            keys = plan_text(backbone.text, Vocabulary.parse(LABELS), method.wording(), "shared").keys.label(number)
            assert_close(method.score(reading, keys)[0, 0], per_label[0, number])

    def test_per_label_passes_may_be_chunked_in_any_way(self, backbone: UNetBackbone) -> None:
        whole = self.score(backbone, prompting="per-label", pictures=2, chunk=6)
        for chunk in (1, 4):
            assert_close(self.score(backbone, prompting="per-label", pictures=2, chunk=chunk), whole)

    @pytest.mark.parametrize(("prompting", "rows"), [("shared", 1), ("joint", 1), ("per-label", 3)])
    def test_how_many_passes_it_takes(self, backbone: UNetBackbone, prompting: str, rows: int) -> None:
        with Passes(backbone.unet) as passes:
            self.score(backbone, prompting=prompting)
        assert passes.rows == rows * self.method.probe().repeats

    def test_half_precision_gives_nearly_the_same(self, backbone: UNetBackbone, half_backbone: UNetBackbone) -> None:
        plan = plan_text(backbone.text, Vocabulary.parse(LABELS), self.method.wording(), "shared")
        one, other = (
            run_passes(model, random(1, 4, 8, 12), self.method, self.method.probe(), plan, seed=0, chunk=4).maps.flatten()
            for model in (backbone, half_backbone)
        )
        assert other.dtype == torch.float32
        assert float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > self.halved

    def test_one_label_and_none(self, backbone: UNetBackbone) -> None:
        for prompting in PROMPTINGS:
            assert self.segmenter(backbone, prompting=prompting).segment(pixels(), "dog").scores.shape == (1, 24, 24)
        with pytest.raises(VocabularyError, match="no labels"):
            self.segmenter(backbone).segment(pixels(), [])


class TestDiffSegmenter(MethodContract):
    method = DiffSegmenter()


class TestDiffSegmenterKeeping(MethodContract):
    method = DiffSegmenter(keep=True, timesteps=(50, 150), samples=2, emphasis=1.0)


class TestMaskDiffusion(MethodContract):
    method = MaskDiffusion(attention_factors=(1, 2), feature_factors=(2, 1))
    noisy = False


class TestMaskDiffusionNoisySoftmax(MethodContract):
    method = MaskDiffusion(attention_factors=(1, 2), feature_factors=(1,), attention="softmax", noise=True, timesteps=(50,), components=4)


class TestForegroundFirst(MethodContract):
    method = ForegroundFirst(factors=(1, 2), inside=0.5)

    @pytest.mark.parametrize("padding", ["merged", "exact"])
    def test_property_9_shared_under_a_labels_own_prompt_is_per_label(self, backbone: UNetBackbone, padding: str) -> None:
        """Of one label: several have one foreground in common, which none has when it is read alone."""
        self.check_label_by_label(backbone, padding)


class TestWordShares(MethodContract):
    method = WordShares(factors=(1, 2))

    @pytest.mark.parametrize("padding", ["merged", "exact"])
    def test_property_9_shared_under_a_labels_own_prompt_is_per_label(self, backbone: UNetBackbone, padding: str) -> None:
        """Of one label: several share what they get."""
        self.check_label_by_label(backbone, padding)


class TestDiffusionClassifier(MethodContract):
    method = DiffusionClassifier(factors=(1, 2), looks=(350, 650))
    halved = 0.9  # a gain is the small difference of two large errors

    @pytest.mark.parametrize("padding", ["merged", "exact"])
    def test_property_9_shared_under_a_labels_own_prompt_is_per_label(self, backbone: UNetBackbone, padding: str) -> None:
        """Of one label: several compete in one prompt."""
        self.check_label_by_label(backbone, padding)

    @pytest.mark.parametrize(("prompting", "rows"), [("shared", 1), ("joint", 1), ("per-label", 3)])
    def test_how_many_passes_it_takes(self, backbone: UNetBackbone, prompting: str, rows: int) -> None:
        """Beside the reading, at two timesteps, the noise with both signs: four names of three labels, the empty prompt with each group."""
        with Passes(backbone.unet) as passes:
            self.score(backbone, prompting=prompting)
        assert passes.rows == rows + 2 * 2 * (4 + rows)
