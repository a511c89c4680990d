"""DiffSeg: how grids of self-attention become one map per pixel, and how maps become regions."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.images import upsample
from maskwright.methods.diffseg.method import DiffSeg
from maskwright.readings.attention import SelfAttention
from maskwright.readings.reading import Reading
from tests.clusterings import adjusted_rand, attending, folded, grouped, three_blobs
from tests.tiny import random
from tests.tolerances import assert_close

SEG = DiffSeg()


def two_grids() -> Reading:
    where = three_blobs()
    return folded((attending(where), (8, 12), 5), (attending(where[::2, ::2]), (4, 6), 5))


def slow_aggregate(grids: list[SelfAttention], weights: list[float]) -> Tensor:
    """DiffSeg's sum, one query at a time."""
    height, width = grids[0].grid
    total = torch.zeros(height * width, height * width)
    for one, weight in zip(grids, weights, strict=True):
        for row in range(height):
            for column in range(width):
                at = math.floor((row + 0.5) * one.grid[0] / height) * one.grid[1] + math.floor((column + 0.5) * one.grid[1] / width)
                keys = upsample(one.dense()[0][at].unflatten(0, one.grid)[None], (height, width))[0]
                total[row * width + column] += weight * (keys / keys.sum()).flatten()
    return total


class TestDiffSegAggregation:
    @staticmethod
    def operators() -> list[SelfAttention]:
        """Three grids whose sides are no multiples of each other."""
        sizes = (((6, 10), 5), ((3, 5), 4), ((2, 3), 1))
        return [SelfAttention(grid=g, mean=(2 * random(1, math.prod(g), math.prod(g))).softmax(-1), count=layers) for g, layers in sizes]

    def test_rows_sum_to_one(self) -> None:
        assert_close(SEG.aggregate(self.operators()).sum(1), torch.ones(60))

    @pytest.mark.parametrize(("by_layers", "layers"), [(True, (5, 4, 1)), (False, (1, 1, 1))])
    def test_weights_are_sides_times_layers(self, by_layers: bool, layers: tuple[int, ...]) -> None:
        operators = self.operators()
        weights = [count * math.sqrt(math.prod(one.grid)) for count, one in zip(layers, operators, strict=True)]
        found = dataclasses.replace(SEG, by_layers=by_layers).aggregate(operators)
        assert_close(found, slow_aggregate(operators, [weight / sum(weights) for weight in weights]))

    def test_the_finest_grid_alone_stays_as_it_is(self) -> None:
        (finest, *_) = self.operators()
        assert_close(SEG.aggregate([finest]), finest.dense()[0])

    def test_blocks_stay_blocks(self) -> None:
        where, reading = three_blobs(), two_grids()
        maps = SEG.aggregate([reading.self_attention_at(1), reading.self_attention_at(2)])
        same = where.flatten()[:, None] == where.flatten()
        assert float((maps * same).sum(1).min()) > 0.7
        assert float(maps[same].min()) > float(maps[~same].max()) * 0.5

    def test_pictures_are_taken_apart(self) -> None:
        means = (3 * random(2, 16, 16)).softmax(-1)
        both = SelfAttention(grid=(4, 4), mean=means)
        assert_close(SEG.aggregate([both], 1), means[1])

    def test_factors_choose_grids(self) -> None:
        where = three_blobs()
        reading = folded((attending(where.flip(0)), (8, 12), 5), (attending(where[::2, ::2]), (4, 6), 5))
        maps = grouped(SEG, reading, factors=(2,))
        assert maps.shape == (3, 4, 6) and adjusted_rand(maps.argmax(0), where[::2, ::2]) == 1
        with pytest.raises(SettingsError, match=r"no self-attention at factors \(4,\): it holds \[1, 2\]"):
            grouped(SEG, reading, factors=(4,))


class TestDiffSegMerging:
    def test_proposals_are_distributions(self) -> None:
        maps = grouped(SEG, two_grids())
        assert_close(maps.sum((1, 2)), torch.ones(3))

    def test_a_lower_threshold_leaves_more(self) -> None:
        reading = folded(((3 * random(96, 96)).softmax(-1), (8, 12), 1))
        counts = [len(grouped(SEG, reading, threshold=threshold)) for threshold in (20.0, 2.0, 0.01)]
        assert counts[0] == 1 and counts[2] == 96 and counts == sorted(counts)

    def test_more_regions_than_the_threshold_leaves(self) -> None:
        """Blobs 1 and 2 attend to each other a little less than to themselves: one region at the published threshold."""
        where = three_blobs()
        nested = 0.6 * attending(where) + 0.4 * attending((where > 0).long())
        reading = folded((nested, (8, 12), 1))
        assert len(grouped(SEG, reading)) == 2
        found = grouped(SEG, reading, regions=3)
        assert len(found) == 3 and adjusted_rand(found.argmax(0), where) == 1

    def test_anchors_bound_the_regions(self) -> None:
        reading = folded(((5 * random(96, 96)).softmax(-1), (8, 12), 1))
        assert len(grouped(SEG, reading, anchors=2, threshold=1e-3)) == 4
        assert len(grouped(SEG, reading, anchors=2, regions=50)) == 4
        assert len(grouped(SEG, reading, anchors=100, threshold=1e-3)) == 96

    def test_anchors_stand_where_the_published_ones_do(self) -> None:
        """Every pixel attends to itself alone, so that proposals show their anchors."""
        maps = grouped(DiffSeg(threshold=1e-3), folded((torch.eye(64 * 64), (64, 64), 1)))
        places = maps.flatten(1).argmax(1)
        published = torch.arange(1, 62, 4)
        assert torch.equal(places, (published[:, None] * 64 + published).flatten())

    def test_parity_absorbs_proposals_again(self) -> None:
        """Each pixel of a line attends to its neighbourhood, so that proposals overlap like the links of a chain."""
        line = torch.arange(40.0)
        reading = folded(((-((line[:, None] - line) ** 2) / 18).softmax(-1), (1, 40), 1))
        once, again = (grouped(SEG, reading, anchors=40, again=parity) for parity in (False, True))
        assert len(once) > 1 and (once.shape != again.shape or not torch.allclose(once, again))

    def test_defaults_are_the_published_ones(self) -> None:
        assert (SEG.timesteps, SEG.noise, SEG.threshold, SEG.anchors, SEG.rounds) == ((300,), True, 1.1, 16, 3)
