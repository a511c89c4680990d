"""DiffCut: which layer it reads, how it cuts, how segments become finer masks."""

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from maskwright.backbones.unet import UNetBackbone
from maskwright.methods import diffcut
from maskwright.methods.diffcut.method import DiffCut
from maskwright.refine.pamr import PamrSettings
from tests.clusterings import coloured, grouped, made, three_blobs
from tests.tiny import random
from tests.tolerances import assert_close

CUT = DiffCut(factors=(1,))


class TestDiffCut:
    def test_the_layer_is_the_last_of_the_last_down_block_with_attention(self, sd_backbone: UNetBackbone) -> None:
        condition = sd_backbone.text.encode([""]).embeddings
        for settings, names in (
            ({}, ["down.2.1.output"]),
            ({"stage": "up", "factors": "finest"}, ["up.3.2.output"]),
            ({"stage": "mid"}, ["mid.0.output"]),
            ({"factors": (4, 2)}, ["down.1.1.output", "down.2.1.output"]),
        ):
            method = DiffCut(**settings)
            reading = sd_backbone.read(random(1, 4, 16, 24), method.probe(), condition=condition)
            assert list(reading.outputs) == names
            assert_close(method.features(reading).norm(dim=1), torch.ones(1, *method.features(reading).shape[2:]))

    def test_several_layers_are_joined_on_the_finest(self, sd_backbone: UNetBackbone) -> None:
        method = DiffCut(factors=(4, 2))
        reading = sd_backbone.read(random(1, 4, 16, 24), method.probe(), condition=sd_backbone.text.encode([""]).embeddings)
        assert method.features(reading).shape == (1, 64 + 32, 8, 12)

    @pytest.mark.parametrize(("scale", "size"), [(None, (8, 12)), (1, (4, 6)), (3, (12, 18))])
    def test_the_grid_of_the_masks(self, backbone: UNetBackbone, scale: int | None, size: tuple[int, int]) -> None:
        method = DiffCut(scale=scale)
        reading = backbone.read(random(1, 4, 8, 12), method.probe(), condition=backbone.text.encode([""]).embeddings)
        assert method.features(reading).shape[2:] == (4, 6) and method.group(reading)[0].shape[1:] == size

    def test_similarity_to_mean_features(self) -> None:
        """`renormalise` gives cosines; without it, as published, the dot product with the mean of unit features."""
        where, reading = three_blobs(), coloured(three_blobs(), noise=1.5)
        unit = F.normalize(reading.outputs["o"][0], dim=0).flatten(1)  # channels pixels
        inside = F.one_hot(where.flatten()).T.float()
        means = inside @ unit.T / inside.sum(1, keepdim=True)
        cosines = F.normalize(means, dim=1) @ unit
        assert float(means.norm(dim=1).max()) < 0.98  # else the two were the same
        for renormalise, expected in ((True, cosines), (False, means @ unit)):
            method = dataclasses.replace(CUT, renormalise=renormalise, scale=1)
            assert_close(method._refine(unit.unflatten(1, (8, 12)), inside.unflatten(1, (8, 12)), (8, 12)).flatten(1), expected)

    def test_masks_are_finer_than_the_segments(self) -> None:
        """An edge through the middle of the coarse pixels: resized features know where it is, segments are off by half such a pixel."""
        fine = (torch.arange(24) >= 10).float().expand(8, 24)
        coarse = F.avg_pool2d(fine[None], 4)[0]  # 0 0 1/2 1 1 1
        features = torch.stack([1 - coarse, coarse, torch.full_like(coarse, 0.3)])
        found = grouped(CUT, made(features), scale=4, regions=2).argmax(0)
        assert float((found != found[0, 0]).float().ne(fine).sum(1).max()) <= 1  # pixels of 24; segments would miss 2

    def test_parity_drops_pixels_with_an_affinity_of_zero(self) -> None:
        """Orthogonal areas: after the first cut every pixel has such an affinity, so there is no second."""
        reading = made(torch.eye(4)[three_blobs()].permute(2, 0, 1))
        assert len(grouped(CUT, reading)) == 3 and len(grouped(CUT, reading, drop_zero=True)) == 2

    def test_min_max_and_clamp_scale_the_cosines(self) -> None:
        """Cosines of 0.8 and 1: nearly alike as they are, far apart when stretched or raised to a power."""
        areas = torch.tensor([[1.0, 0.0], [1.0, 0.75]])
        reading = made(areas[(three_blobs() > 0).long()].permute(2, 0, 1))
        for affinity, power, count in (("min-max", 1, 2), ("clamp", 1, 1), ("clamp", 10, 2)):
            assert len(grouped(CUT, reading, affinity=affinity, power=power)) == count

    def test_split_points_are_where_the_eigenvector_is_cut(self) -> None:
        """A single one lies at the eigenvector's smallest entries and parts few pixels from all others."""
        reading = coloured(three_blobs(), noise=1.0)
        one, many = (grouped(CUT, reading, regions=2, split_points=points).argmax(0).flatten() for points in (1, 100))
        assert int(one.bincount().min()) < int(many.bincount().min())

    def test_the_threshold_decides(self) -> None:
        reading = coloured(three_blobs(), noise=1.0)
        assert len(grouped(CUT, reading, threshold=0)) == 1
        counts = [len(grouped(CUT, reading, threshold=threshold)) for threshold in (0.1, 0.5, 0.9)]
        assert counts == sorted(counts) and counts[0] < counts[2]

    def test_defaults_are_the_published_ones(self) -> None:
        method = DiffCut()
        assert (method.timesteps, method.noise, method.power, method.threshold, method.split_points) == ((50,), True, 10, 0.5, 100)
        assert (method.stage, method.factors, method.affinity) == ("down", "coarsest", "min-max")


def test_the_page_says_which_dilations_the_refiner_has() -> None:
    page = (Path(diffcut.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert ", ".join(map(str, PamrSettings().dilations)) in " ".join(page.split())
