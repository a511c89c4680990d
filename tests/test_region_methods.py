"""What the text-free methods have in common, on hand-made readings; then spectral clusters and k-means."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import SettingsError
from maskwright.methods import REGION_METHODS, make_method
from maskwright.methods.diffcut.method import DiffCut
from maskwright.methods.diffseg.method import DiffSeg
from maskwright.methods.kmeans.method import KMeans
from maskwright.methods.maskdiffusion_unsupervised.method import MaskDiffusionUnsupervised
from maskwright.methods.region_count import eigengap_count, is_flat
from maskwright.readings.reading import Reading
from maskwright.solvers.affinity import cosine_affinity
from maskwright.solvers.kmeans import kmeans
from maskwright.solvers.spectral import leading_eigenvectors
from tests.clusterings import adjusted_rand, attending, coloured, folded, grouped, made, three_blobs
from tests.tiny import random
from tests.tolerances import assert_close

SPECTRAL = MaskDiffusionUnsupervised(feature_factors=(1,))
KWAY = dataclasses.replace(SPECTRAL, solver="kway")
CUT, SEG, MEANS = DiffCut(factors=(1,)), DiffSeg(), KMeans(feature_factors=(1,))
BY_FEATURES = [pytest.param(method, id=name) for method, name in ((SPECTRAL, "spectral"), (KWAY, "kway"), (CUT, "cut"), (MEANS, "means"))]
ALL = [*BY_FEATURES, pytest.param(SEG, id="seg")]


def blob_reading(method: Any) -> Reading:
    where = three_blobs()
    if isinstance(method, DiffSeg):
        return folded((attending(where), (8, 12), 5), (attending(where[::2, ::2]), (4, 6), 5))
    return coloured(where)


class TestThreeBlobs:
    """Property 6."""

    @pytest.mark.parametrize("method", ALL)
    @pytest.mark.parametrize("regions", ["auto", 3])
    def test_are_found(self, method: Any, regions: Any) -> None:
        maps = grouped(method, blob_reading(method), regions=regions)
        assert len(maps) == 3
        assert adjusted_rand(maps.argmax(0), three_blobs()) == 1

    @pytest.mark.parametrize("method", ALL)
    def test_two_runs_are_identical_and_another_seed_finds_the_same(self, method: Any) -> None:
        """Property 5."""
        reading = blob_reading(method)
        one, two, other = (method.group(reading, seed=seed)[0] for seed in (0, 0, 1))
        assert torch.equal(one, two)
        assert adjusted_rand(one.argmax(0), other.argmax(0)) == 1

    @pytest.mark.parametrize("method", [SPECTRAL, KWAY, MEANS])
    def test_bounds_of_auto(self, method: Any) -> None:
        reading = blob_reading(method)
        assert len(grouped(method, reading, most=2)) == 2
        assert len(grouped(method, reading, least=4)) >= 4
        assert len(grouped(method, reading, least=200, most=300)) == 96  # all its pixels

    @pytest.mark.parametrize("method", ALL)
    def test_no_more_regions_than_pixels(self, method: Any) -> None:
        assert len(grouped(method, blob_reading(method), regions=1000)) <= 96


class TestConstantFeatures:
    @pytest.mark.parametrize("method", BY_FEATURES)
    @pytest.mark.parametrize("value", [0.0, 1.0, 1e-20])
    def test_are_one_region(self, method: Any, value: float) -> None:
        reading = made(torch.full((6, 8, 12), value))
        for regions in ("auto", 3):
            maps = grouped(method, reading, regions=regions)
            assert len(maps) == 1 and bool(maps.isfinite().all())

    def test_attention_that_is_the_same_everywhere_is_one_region(self) -> None:
        flat = torch.full((96, 96), 1 / 96)
        reading = folded((flat, (8, 12), 1))
        assert len(grouped(SEG, reading)) == 1
        assert bool(grouped(SEG, reading, regions=3).isfinite().all())

    def test_rounding_is_no_difference(self) -> None:
        """Without a guard DiffCut's min-max makes an affinity of the last bits."""
        features = F.normalize(torch.ones(64, 8, 12) * (1 + 1e-7 * random(64, 8, 12)), dim=0)
        assert is_flat(features.flatten(1).T) and len(grouped(CUT, made(features))) == 1
        assert not is_flat(F.normalize(torch.ones(96, 64) + 1e-3 * random(96, 64), dim=1))


def kept_share(affinity: Tensor, maps: Tensor) -> float:
    """Affinity inside the regions (regions, ...) over all affinity of their pixels, summed over regions."""
    inside = maps.flatten(1)
    return float(((inside @ affinity * inside).sum(1) / (inside @ affinity.sum(1))).sum())


class TestMaskDiffusionUnsupervised:
    @pytest.mark.parametrize("components", [0, 3])
    def test_features_have_unit_norm(self, backbone: UNetBackbone, components: int) -> None:
        method = MaskDiffusionUnsupervised(feature_factors=(2, 1), components=components)
        reading = backbone.read(random(2, 4, 8, 12), method.probe(), condition=backbone.text.encode([""]).embeddings)
        features = method.features(reading)
        assert features.shape == (2, components or 48 + 32, 8, 12)
        assert_close(features.norm(dim=1), torch.ones(2, 8, 12))

    def test_property_7_the_iteration_agrees_with_a_dense_decomposition(self, sd_backbone: UNetBackbone) -> None:
        method = MaskDiffusionUnsupervised()
        reading = sd_backbone.read(random(1, 4, 32, 32), method.probe(), condition=sd_backbone.text.encode([""]).embeddings)
        affinity = cosine_affinity(method.features(reading)[0].flatten(1).T)
        values, vectors = leading_eigenvectors(affinity, 6)
        scale = affinity.sum(1).rsqrt()
        expected, basis = torch.linalg.eigh(scale[:, None] * affinity * scale)
        assert_close(values, expected.flip(0)[:6])
        assert_close((basis.flip(1)[:, :6].T @ vectors).abs().diagonal(), torch.ones(6))

    @pytest.mark.parametrize("method", [SPECTRAL, KWAY])
    def test_memberships_sum_to_one(self, method: Any) -> None:
        maps = grouped(method, blob_reading(method), regions=4)
        assert_close(maps.sum(0), torch.ones(8, 12))
        assert float(maps.min()) >= 0

    def test_kway_cuts_better_than_its_start_and_spectral_clusters_are_soft(self) -> None:
        reading = coloured(three_blobs(), noise=2.0)
        points = SPECTRAL.features(reading)[0].flatten(1).T
        soft, hard = (grouped(method, reading, regions=4) for method in (SPECTRAL, KWAY))
        assert set(hard.unique().tolist()) == {0, 1} and len(soft.unique()) > 100
        affinity = cosine_affinity(points)
        assert kept_share(affinity, hard) > kept_share(affinity, F.one_hot(kmeans(points, 4).labels).T.float())

    def test_the_working_grid(self) -> None:
        assert grouped(SPECTRAL, coloured(three_blobs()), grid=(5, 9)).shape == (3, 5, 9)

    @pytest.mark.parametrize("solver", ["spectral", "kway"])
    def test_the_spatial_factor_parts_what_is_far_apart(self, solver: str) -> None:
        """Two areas of the same features at the ends of a wide picture."""
        ends = (torch.arange(24) // 8 == 1).long().expand(4, 24)  # 0 1 0
        everywhere, near = (
            grouped(SPECTRAL, coloured(ends), solver=solver, regions=regions, spatial=spatial).argmax(0)
            for regions, spatial in ((2, 0.0), (3, 0.1))
        )
        assert adjusted_rand(everywhere, ends) == 1
        assert adjusted_rand(near, torch.arange(24).expand(4, 24) // 8) == 1

    def test_defaults_are_the_published_ones(self) -> None:
        method = MaskDiffusionUnsupervised()
        assert (method.timesteps, method.noise, method.feature_factors, method.power) == ((0,), False, (4, 2), 10)
        assert (method.regions, method.spatial, method.solver, method.restarts) == ("auto", 0, "spectral", 10)


class TestKMeans:
    def test_maps_are_distances_to_the_centres(self) -> None:
        reading = made(random(6, 8, 12))
        points = MEANS.features(reading)[0].flatten(1).T
        found = kmeans(points, 4)
        maps = grouped(MEANS, reading, regions=4)
        assert_close(maps.flatten(1).T, -(torch.cdist(points, found.centres) ** 2) / 2)
        assert torch.equal(maps.argmax(0).flatten(), found.labels)

    def test_auto_is_the_eigengap_that_spectral_clustering_uses(self) -> None:
        reading = made(random(6, 8, 12))
        assert len(grouped(MEANS, reading)) == len(grouped(SPECTRAL, reading))
        for power in (1, 10, 40):
            affinity = cosine_affinity(MEANS.features(reading)[0].flatten(1).T, power=power)
            assert len(grouped(MEANS, reading, power=power)) == eigengap_count(affinity, least=2, most=10)


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "wrong"),
        [
            *((name, wrong) for name in REGION_METHODS for wrong in ({"regions": 0}, {"regions": "all"}, {"timesteps": ()})),
            *(
                (name, wrong)
                for name in ("maskdiffusion-unsupervised", "kmeans")
                for wrong in ({"least": 0}, {"most": 1}, {"components": -1}, {"grid": (0, 5)}, {"power": 0}, {"restarts": 0})
            ),
            ("maskdiffusion-unsupervised", {"solver": "greedy"}),
            ("maskdiffusion-unsupervised", {"spatial": -0.1}),
            ("diffseg", {"threshold": 0}),
            ("diffseg", {"anchors": 0}),
            ("diffseg", {"rounds": 0}),
            ("diffcut", {"threshold": -1}),
            ("diffcut", {"power": 0}),
            ("diffcut", {"affinity": "softmax"}),
            ("diffcut", {"split_points": 0}),
            ("diffcut", {"scale": 0}),
            ("diffcut", {"stage": "left"}),
            ("diffcut", {"factors": "middle"}),
        ],
    )
    def test_settings_that_cannot_be_used(self, name: str, wrong: dict[str, object]) -> None:
        with pytest.raises(SettingsError):
            make_method(name, wrong, among=REGION_METHODS)

    def test_tiny_grids_bound_the_eigengap(self) -> None:
        assert eigengap_count(torch.ones(2, 2), least=2, most=10) == 2
        assert eigengap_count(torch.ones(1, 1), least=2, most=10) == 1
        assert 2 <= eigengap_count(torch.ones(4, 4), least=2, most=10) <= 3
