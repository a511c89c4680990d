"""Word shares: its steps as numbered on the method's page, on readings made by hand, and what it reaches on bundled scenes."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.datasets.scenes import open_scenes
from maskwright.errors import SettingsError
from maskwright.evaluation.scenes import run_benchmark
from maskwright.methods.word_shares.method import WordShares
from maskwright.readings.attention import CrossLayer
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.readings.sites import Site
from maskwright.segmenter import Segmenter
from tests.tolerances import assert_close

METHOD = WordShares(factors=(1, 2), rest=0, smooth=0)
SIDE = 8
LEFT = torch.zeros(SIDE, SIDE)
LEFT[:, :4] = 1


def made(
    *labels: Tensor, coarse: tuple[Tensor, ...] | None = None, begin: float = 0.0, hop: Tensor | None = None
) -> tuple[Reading, TextKeys]:  # fmt: skip
    """A reading of two grids on the way up with these logits in one prompt "begin, words"; of the coarse grid their means if not given."""
    grids = {1: labels, 2: coarse or tuple(label.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).mean((1, 3)) for label in labels)}
    width, layers = len(labels) + 1, []
    for factor, logits in grids.items():
        side = SIDE // factor
        query = torch.stack([torch.full((side, side), begin), *logits]).flatten(1).T[None, None]  # 1 1 pixels width
        layers.append(CrossLayer(f"up.{factor}.cross", factor, query, torch.eye(width), 1.0, (side, side)))
    sites = tuple(Site(layer.name, "cross", "up", layer.factor, "", "") for layer in layers)
    folded = {1: ((torch.eye(SIDE * SIDE) if hop is None else hop)[None], (SIDE, SIDE), 1)}
    reading = Reading(Probe(cross=Select()), (SIDE, SIDE), 1, tuple(layers), folded=folded, sites=sites)
    columns = tuple((((0, 1 + number),),) for number in range(len(labels)))
    return reading, TextKeys(torch.eye(width)[None], torch.zeros(1, width), columns)


def score(*labels: Tensor, method: dict[str, Any] | None = None, **options: Any) -> Tensor:
    """(labels, side, side) of a reading made so."""
    return dataclasses.replace(METHOD, **(method or {})).score(*made(*labels, **options))[0]


class TestShares:
    def test_labels_part_what_they_get_whatever_the_begin_token_gets(self) -> None:
        one, two = 3 * LEFT, 3 * (1 - LEFT)
        low, high = score(one, two, begin=-5.0), score(one, two, begin=5.0)
        assert_close(low, high)
        assert_close(low.sum(0), torch.ones(SIDE, SIDE))
        assert_close(low[0, 0, 0], torch.tensor(3.0).sigmoid())

    def test_each_grid_counts_alike(self) -> None:
        flat = torch.zeros(SIDE // 2, SIDE // 2)
        found = score(9 * LEFT, 9 * (1 - LEFT), coarse=(flat, flat))
        assert_close(found[0], 0.5 * (0.5 + torch.where(LEFT > 0, torch.tensor(9.0).sigmoid(), 1 - torch.tensor(9.0).sigmoid())))

    def test_an_absent_word_takes_nothing_though_its_own_maximum_is_somewhere(self) -> None:
        weak = torch.linspace(-4, -3, SIDE).expand(SIDE, SIDE)
        found = score(3 * LEFT, 3 * (1 - LEFT), weak)
        assert bool((found.argmax(0) < 2).all()) and float(found[2].max()) < 0.05

    def test_the_rest_is_a_rival_where_no_label_gets_much(self) -> None:
        alone = score(6 * LEFT - 4, method={"rest": 0.3})
        assert torch.equal(alone[0] > METHOD.background, LEFT > 0)
        assert_close(score(6 * LEFT - 4), torch.ones(1, SIDE, SIDE))

    def test_a_part_is_taken_after_a_sharpened_hop(self) -> None:
        hop = torch.rand(SIDE**2, SIDE**2, generator=torch.Generator().manual_seed(0)) + 0.1
        hop /= hop.sum(1, keepdim=True)
        raised = hop**2 / (hop**2).sum(1, keepdim=True)
        plain = score(3 * LEFT, 3 * (1 - LEFT))
        expected = 0.75 * plain + 0.25 * (raised @ plain.flatten(1).T).T.reshape(plain.shape)
        assert_close(score(3 * LEFT, 3 * (1 - LEFT), hop=hop, method={"smooth": 0.25, "sharpen": 2.0}), expected)

    def test_without_a_hop_no_self_attention_is_read(self) -> None:
        assert METHOD.probe().self_attention is None
        assert dataclasses.replace(METHOD, smooth=0.5).probe().self_attention == Select(factors="finest")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rest": -0.1}, "rest must lie in 0..1"),
        ({"smooth": 2}, "smooth must lie in 0..1"),
        ({"sharpen": -1}, "sharpen must be 0 or more"),
        ({"factors": ()}, "must each name one or more"),
        ({"stages": ()}, "must each name one or more"),
        ({"template": "x"}, "must hold {}"),
        ({"timesteps": ()}, "timesteps must be one or more"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        WordShares(**wrong)


class TestBundledModel:
    def test_one_word_is_told_from_what_it_does_not_name(self) -> None:
        """Nobody names the ground: the threshold leaves it. Mean IoU of the objects of four scenes, each asked for alone."""
        names, ious = [word.name for word in open_scenes("scenes-full").words.all], []
        segmenter = Segmenter("sticker-full", "word-shares", settings={"rest": 0.3})
        for scene in open_scenes("scenes-full").scenes(4):
            for name in scene.words[:-1]:
                found, truth = segmenter.segment(scene.image, [name]).mask(name), scene.labels == names.index(name)
                ious.append((found & truth).sum() / (found | truth).sum())
        assert sum(ious) / len(ious) > 0.3

    def test_absent_words_take_little(self) -> None:
        """Of all 130 words asked at once, without a filter, where stretched maps leave nothing."""
        own, other = (
            run_benchmark(Segmenter("sticker-full", method, background="none"), limit=5, labels="all", scenes="scenes-full").miou
            for method in ("word-shares", "diffsegmenter")
        )
        assert own > other + 0.1
