"""What every text-free method keeps. A new method adds one class of a few lines at the end."""

import dataclasses
from functools import reduce
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import SettingsError
from maskwright.methods import REGION_METHODS, make_method
from maskwright.methods.diffcut.method import DiffCut
from maskwright.methods.diffseg.method import DiffSeg
from maskwright.methods.diffsegmenter.method import DiffSegmenter
from maskwright.methods.kmeans.method import KMeans
from maskwright.methods.maskdiffusion_unsupervised.method import MaskDiffusionUnsupervised
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from tests.clusterings import adjusted_rand
from tests.tiny import Passes, digest, random

TOGETHER = {"timesteps": (50,), "noise": True, "samples": 2}  # what probes must share to share a pass
SMALL = (2, 1)  # feature grids of a U-Net of two levels


def read(backbone: UNetBackbone, probe: Probe, *, pictures: int = 1, size: tuple[int, int] = (8, 12), seed: int = 0) -> Reading:
    return backbone.read(random(pictures, 4, *size), probe, condition=backbone.text.encode([""]).embeddings, seed=seed)


def stripes(height: int, width: int) -> Tensor:
    """Latents (1, 4, height, width) of a picture in which three things are to be seen."""
    where = torch.arange(width) * 3 // width
    return 2 * random(3, 4, seed=5)[where].T[None, :, None] + 0.1 * random(1, 4, height, width)


def labels(maps: Tensor) -> Tensor:
    return maps.argmax(0)


class RegionContract:
    """Inherited by one class per method."""

    method: ClassVar[Any]

    def group(
        self, backbone: UNetBackbone, *, pictures: int = 1, size: tuple[int, int] = (8, 12), oracle: list[int] | None = None, **changed: Any
    ) -> list[Tensor]:
        method = dataclasses.replace(self.method, **changed)
        return method.group(read(backbone, method.probe(), pictures=pictures, size=size), seed=0, oracle=oracle)

    def test_it_is_frozen_settings_under_its_name(self) -> None:
        assert dataclasses.is_dataclass(self.method) and self.method.name in REGION_METHODS
        assert type(make_method(self.method.name, dataclasses.asdict(self.method), among=REGION_METHODS)) is type(self.method)
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.method.regions = 3

    @pytest.mark.parametrize("size", [(8, 8), (8, 12), (12, 4)])
    def test_each_picture_has_maps_of_its_regions(self, backbone: UNetBackbone, size: tuple[int, int]) -> None:
        found = self.group(backbone, pictures=2, size=size)
        assert len(found) == 2
        for maps in found:
            assert maps.ndim == 3 and len(maps) >= 1 and maps.dtype == torch.float32 and bool(maps.isfinite().all())
            assert maps.shape[-2] * size[1] == maps.shape[-1] * size[0]

    def test_the_smallest_picture(self, backbone: UNetBackbone) -> None:
        for regions in ("auto", 1, 4):
            (maps,) = self.group(backbone, size=(2, 2), regions=regions)
            assert 1 <= len(maps) <= 4 and bool(maps.isfinite().all())

    def test_the_same_seed_gives_the_same_bits(self, backbone: UNetBackbone) -> None:
        assert torch.equal(self.group(backbone)[0], self.group(backbone)[0])

    def test_neighbours_in_a_batch_do_not_matter(self, backbone: UNetBackbone) -> None:
        condition = backbone.text.encode([""]).embeddings
        latents = random(4, 4, 8, 12)
        together = self.method.group(backbone.read(latents, self.method.probe(), condition=condition))
        for number, maps in enumerate(together):
            one = latents[number : number + 1]
            (alone,) = self.method.group(backbone.read(one, self.method.probe(), condition=condition))
            torch.testing.assert_close(maps, alone, rtol=1e-3, atol=1e-4)

    def test_reading_leaves_the_model_as_it_was(self, backbone: UNetBackbone) -> None:
        before = digest(backbone.unet)
        self.group(backbone)
        assert digest(backbone.unet) == before

    def test_grouping_leaves_the_reading_as_it_was(self, backbone: UNetBackbone) -> None:
        reading = read(backbone, self.method.probe())
        held = [mean for mean, _, _ in reading.folded.values()] + [*reading.features.values(), *reading.outputs.values()]
        before = [tensor.clone() for tensor in held]
        self.method.group(reading)
        assert held and all(torch.equal(one, other) for one, other in zip(held, before, strict=True))

    @pytest.mark.parametrize("regions", [1, 2, 5])
    def test_a_number_of_regions_is_kept(self, backbone: UNetBackbone, regions: int) -> None:
        (maps,) = self.group(backbone, regions=regions)
        assert len(maps) == regions and len(labels(maps).unique()) == regions

    def test_oracle_needs_the_truth(self, backbone: UNetBackbone) -> None:
        with pytest.raises(SettingsError, match='regions="oracle" needs the number of regions of each picture: give it ground truth'):
            self.group(backbone, regions="oracle")
        with pytest.raises(SettingsError, match="one number of at least 1 for each of 2 pictures"):
            self.group(backbone, regions="oracle", pictures=2, oracle=[3])

    def test_oracle_gives_the_true_number(self, backbone: UNetBackbone) -> None:
        assert [len(maps) for maps in self.group(backbone, regions="oracle", pictures=3, oracle=[2, 4, 1])] == [2, 4, 1]

    def test_the_truth_is_not_looked_at_otherwise(self, backbone: UNetBackbone) -> None:
        for regions in ("auto", 3):
            assert torch.equal(self.group(backbone, regions=regions, oracle=[7])[0], self.group(backbone, regions=regions)[0])

    @pytest.mark.parametrize("regions", [0, -1, 2.5, True, "many"])
    def test_numbers_that_cannot_be(self, regions: Any) -> None:
        with pytest.raises(SettingsError, match="regions must be a whole number of at least 1"):
            dataclasses.replace(self.method, regions=regions)

    def test_a_shared_reading_gives_the_same_regions(self, backbone: UNetBackbone) -> None:
        method = dataclasses.replace(self.method, **TOGETHER)
        (own,) = method.group(read(backbone, method.probe()))
        (shared,) = method.group(read(backbone, shared_probe(method)))
        assert own.shape == shared.shape
        torch.testing.assert_close(shared, own, rtol=1e-3, atol=1e-4)

    def test_a_reading_that_keeps_serves_as_well_as_one_that_folds(self, backbone: UNetBackbone) -> None:
        method = dataclasses.replace(self.method, **TOGETHER)
        keeping = DiffSegmenter(timesteps=(50,), samples=2, keep=True).probe()
        (own,) = method.group(read(backbone, method.probe()))
        (shared,) = method.group(read(backbone, method.probe().union(keeping)))
        torch.testing.assert_close(shared, own, rtol=1e-3, atol=1e-4)

    def test_a_structure_like_stable_diffusion_with_the_defaults(self, sd_backbone: UNetBackbone) -> None:
        method = type(self.method)()
        for maps in method.group(read(sd_backbone, method.probe(), size=(16, 24))):
            assert maps.shape[1:] == (16, 24) and bool(maps.isfinite().all())

    def test_half_precision_gives_nearly_the_same(self, backbone: UNetBackbone, half_backbone: UNetBackbone) -> None:
        method, condition = dataclasses.replace(self.method, regions=3, noise=False), backbone.text.encode([""]).embeddings
        one, other = (
            method.group(model.read(stripes(8, 12), method.probe(), condition=condition))[0] for model in (backbone, half_backbone)
        )
        assert other.dtype == torch.float32
        assert adjusted_rand(labels(one), labels(other)) > 0.8


def shared_probe(*methods: Any) -> Probe:
    """One probe for these methods, all others of their kind, and a text-driven one."""
    others = (kind(**TOGETHER) for kind in (DiffCut, DiffSeg))
    third, fourth = (kind(feature_factors=SMALL, **TOGETHER) for kind in (MaskDiffusionUnsupervised, KMeans))
    everyone = (*methods, *others, third, fourth, DiffSegmenter(timesteps=(50,), samples=2))
    return reduce(Probe.union, (method.probe() for method in everyone))


def test_one_pass_serves_them_all(backbone: UNetBackbone) -> None:
    methods = [make_method(name, TOGETHER, among=REGION_METHODS) for name in ("diffseg", "diffcut")]
    methods += [
        make_method(name, {**TOGETHER, "feature_factors": SMALL}, among=REGION_METHODS) for name in ("maskdiffusion-unsupervised", "kmeans")
    ]
    assert {method.name for method in methods} == set(REGION_METHODS)
    with Passes(backbone.unet) as passes:
        reading = read(backbone, shared_probe(*methods))
        for method in methods:
            assert len(method.group(reading)) == 1
    assert passes.count == 1


class TestMaskDiffusionUnsupervised(RegionContract):
    method = MaskDiffusionUnsupervised(feature_factors=SMALL)


class TestMaskDiffusionUnsupervisedKWay(RegionContract):
    method = MaskDiffusionUnsupervised(feature_factors=SMALL, solver="kway", spatial=0.1, components=8)


class TestDiffSeg(RegionContract):
    method = DiffSeg(threshold=0.25)  # attention of random weights is nearly the same everywhere


class TestDiffCut(RegionContract):
    method = DiffCut()


class TestKMeans(RegionContract):
    method = KMeans(feature_factors=SMALL)
