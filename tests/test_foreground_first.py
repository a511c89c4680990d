"""Foreground first: its steps as numbered on the method's page, on readings made by hand, and what it reaches on bundled scenes."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.backbones.unet import UNetBackbone
from maskwright.datasets.scenes import benchmark
from maskwright.errors import ModelError, SettingsError
from maskwright.evaluation.scenes import run_benchmark
from maskwright.methods.foreground_first.keys import begin_keys, begin_logits, duel_keys
from maskwright.methods.foreground_first.method import ForegroundFirst
from maskwright.readings.attention import CrossLayer
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.readings.sites import Site
from maskwright.segmenter import Segmenter
from maskwright.text.planning import plan_text
from maskwright.vocabulary import Vocabulary
from tests.tiny import random
from tests.tolerances import assert_close

METHOD = ForegroundFirst(factors=(1,), smooth=0)
SIDE = 8
SINK = 4.0  # the begin token's logit outside of objects
LEFT, RIGHT = (torch.zeros(SIDE, SIDE) for _ in range(2))
LEFT[2:5, 1:3] = 1
RIGHT[4:7, 5:7] = 1
OBJECTS = LEFT + RIGHT


def thing(where: Tensor, *, peak: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits of a word and of the rest of its prompt: the word where the object is, the rest like the sink."""
    return peak * where - 2 * (1 - where), begin()


def ground(strength: float) -> tuple[Tensor, Tensor]:
    """A ground's word is like the sink, it is the rest of its prompt that finds the ground."""
    return begin(), strength * (1 - OBJECTS)


def begin() -> Tensor:
    """Logits of the begin token."""
    return SINK - 3 * OBJECTS


def made(*labels: tuple[Tensor, Tensor], sink: Tensor | None = None) -> tuple[Reading, TextKeys]:
    """A reading of one layer in each stage, with these logits in prompts "begin, word, rest"; self-attention links each pixel to itself."""
    logits = [begin() if sink is None else sink, *(part for label in labels for part in label)]
    width = len(logits)
    query = torch.stack(logits).flatten(1).T[None, None]  # 1 1 pixels width
    names = {"down": "down.0.0.cross", "up": "up.0.0.cross"}
    layers = tuple(CrossLayer(name, 1, query, torch.eye(width), 1.0, (SIDE, SIDE)) for name in names.values())
    sites = tuple(Site(name, "cross", stage, 1, "", "") for stage, name in names.items())  # type: ignore[arg-type]
    folded = {1: (torch.eye(SIDE * SIDE)[None], (SIDE, SIDE), 1)}
    reading = Reading(Probe(cross=Select()), (SIDE, SIDE), 1, layers, folded=folded, sites=sites)
    one_hot = torch.eye(width)
    embeddings = torch.stack([torch.stack([one_hot[0], one_hot[1 + 2 * n], one_hot[2 + 2 * n]]) for n in range(len(labels))])
    return reading, TextKeys(embeddings, torch.zeros(len(labels), 3), tuple((((n, 1),),) for n in range(len(labels))))


def winners(*labels: tuple[Tensor, Tensor], **changed: Any) -> Tensor:
    """(side, side) number of the label that wins each pixel."""
    return dataclasses.replace(METHOD, **changed).score(*made(*labels))[0].argmax(0)


class TestTheTwoDecisions:
    def test_things_win_inside_and_grounds_outside_though_nobody_says_which_is_which(self) -> None:
        found = winners(ground(1.0), thing(LEFT), ground(2.0), thing(RIGHT))
        expected = torch.where(OBJECTS > 0, torch.where(LEFT > 0, 1, 3), 2)
        assert torch.equal(found, expected)

    def test_the_order_of_labels_does_not_matter(self) -> None:
        labels = [thing(LEFT), ground(1.0), thing(RIGHT), ground(2.0)]
        maps = METHOD.score(*made(*labels))
        assert_close(METHOD.score(*made(*labels[::-1])), maps.flip(1))

    def test_a_word_of_high_attention_everywhere_takes_no_pixel_from_the_ground(self) -> None:
        """Its attention is above that of the ground's word: competing at once, it would win all pixels."""
        everywhere = (SINK * 0.4 * torch.ones(SIDE, SIDE) + LEFT * 3, begin())
        assert torch.equal(winners(everywhere, ground(0.1)) == 0, OBJECTS > 0)

    def test_absent_words_take_no_pixel(self) -> None:
        present = [thing(LEFT), thing(RIGHT), ground(2.0)]
        absent = [thing(OBJECTS, peak=1.0), thing(torch.zeros_like(LEFT)), thing(torch.rot90(OBJECTS), peak=0.5), ground(1.0)]
        assert torch.equal(winners(*present, *absent), winners(*present))

    def test_without_ground_words_the_threshold_keeps_the_foreground(self) -> None:
        maps = METHOD.score(*made(thing(LEFT), thing(RIGHT)))[0]
        assert METHOD.background == 0.5 and torch.equal(maps.amax(0) > 0.5, OBJECTS > 0)

    def test_scores_lie_between_0_and_1(self) -> None:
        for inside in (0.0, 0.1, 1.0):
            maps = dataclasses.replace(METHOD, inside=inside).score(*made(thing(LEFT, peak=9.0), ground(2.0)))
            assert bool(((maps >= 0) & (maps <= 1)).all())

    def test_where_nothing_stands_out_all_is_ground(self) -> None:
        flat = torch.ones(SIDE, SIDE)
        maps = METHOD.score(*made((-2 * flat, SINK * flat), (SINK * flat, 2 * flat), sink=SINK * flat))[0]
        assert bool((maps[0] < 0.5).all()) and bool((maps[1] > 0.5).all())


class TestGrounds:
    def test_a_ground_is_a_word_that_is_a_sink_itself(self) -> None:
        reading, keys = made(thing(LEFT), ground(1.0), thing(torch.ones_like(LEFT), peak=1.0))
        assert METHOD.grounds(METHOD.duels(reading, keys), METHOD.sink(reading, keys)).tolist() == [[False, True, False]]

    def test_the_setting_decides_how_much_of_one(self) -> None:
        reading, keys = made(ground(1.0), thing(LEFT))
        duels, sink = METHOD.duels(reading, keys), METHOD.sink(reading, keys)
        for least, expected in ((0.45, True), (0.55, False)):  # it gets as much as the begin token, that is a half
            assert dataclasses.replace(METHOD, ground=least).grounds(duels, sink)[0].tolist() == [expected, False]

    def test_grounds_compete_by_the_rest_of_their_prompts(self) -> None:
        for strengths in ((1.0, 3.0, 2.0), (3.0, 1.0, 2.0)):
            found = winners(*(ground(one) for one in strengths), thing(OBJECTS))
            assert set(found[OBJECTS == 0].tolist()) == {max(range(3), key=strengths.__getitem__)}


class TestForeground:
    def test_it_is_found_without_any_word_of_an_object(self) -> None:
        reading, keys = made(ground(1.0))
        sink = METHOD.sink(reading, keys)
        edge = METHOD.foreground(reading, METHOD.duels(reading, keys), sink, torch.tensor([[True]]))
        assert torch.equal(edge[0, 0] > 0, OBJECTS > 0)

    def test_the_words_alone_find_it_with_no_weight_on_the_sink(self) -> None:
        method = dataclasses.replace(METHOD, sink_weight=0.0)
        reading, keys = made(thing(LEFT), thing(RIGHT), sink=torch.zeros(SIDE, SIDE))
        edge = method.foreground(reading, method.duels(reading, keys), method.sink(reading, keys), torch.tensor([[False, False]]))
        assert torch.equal(edge[0, 0] > 0, OBJECTS > 0)

    @pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
    def test_what_half_precision_spoils_is_told_as_such(self, wrong: float) -> None:
        reading, keys = made(thing(LEFT), sink=begin().index_fill(0, torch.tensor(3), wrong))
        with pytest.raises(ModelError, match="hold NaN or infinity, as half precision overflows do: use dtype float32"):
            METHOD.score(reading, keys)


class TestKeys:
    @pytest.fixture
    def reading(self, backbone: UNetBackbone) -> Reading:
        return backbone.read(random(2, 4, 8, 8), METHOD.probe(), condition=backbone.text.encode([""]).embeddings)

    @pytest.fixture
    def keys(self, backbone: UNetBackbone) -> TextKeys:
        return plan_text(backbone.text, Vocabulary.parse("dog, red apple|apple, owl"), METHOD.wording(), "shared").keys

    def test_begin_keys_are_the_attention_on_the_begin_token(self, reading: Reading, keys: TextKeys) -> None:
        found = reading.cross_attention.maps(begin_keys(keys))[0].maps.flatten(2)[:, 0]  # of "dog"
        layers = [layer for layer in reading.cross_layers if layer.factor == 1]
        expected = [
            (layer.query @ layer.keys(keys.embeddings[0]) + keys.log_weight[0]).softmax(-1)[..., 0].mean(1) for layer in layers
        ]
        assert_close(found, torch.stack(expected).mean(0))

    def test_a_duel_is_a_softmax_of_a_name_and_the_begin_token(self, reading: Reading, keys: TextKeys) -> None:
        found = reading.cross_attention.maps(duel_keys(keys))[0].maps.flatten(2)[:, 0]  # of "dog"
        ((text, place),) = keys.columns[0][0]
        layers = [layer for layer in reading.cross_layers if layer.factor == 1]
        pair = keys.embeddings[text, [0, place]]
        assert_close(found, torch.stack([(layer.query @ layer.keys(pair)).softmax(-1)[..., 1].mean(1) for layer in layers]).mean(0))

    def test_a_duel_knows_no_other_label(self, reading: Reading, keys: TextKeys) -> None:
        together = reading.cross_attention.maps(duel_keys(keys))[0].maps
        for number in range(3):
            assert_close(reading.cross_attention.maps(duel_keys(keys.label(number)))[0].maps[:, 0], together[:, number])

    def test_logits_of_the_begin_token_are_averaged_over_heads_and_samples(self, backbone: UNetBackbone, keys: TextKeys) -> None:
        probe = dataclasses.replace(METHOD, samples=2).probe()
        reading = backbone.read(random(2, 4, 8, 8), probe, condition=backbone.text.encode([""]).embeddings)
        begin = keys.embeddings[0, 0]
        for layer, found in zip(reading.cross_layers, begin_logits(reading.cross_attention, begin), strict=True):
            expected = (layer.query @ layer.keys(begin[None]))[..., 0].mean(1).unflatten(0, (2, 2)).mean(1)
            assert_close(found.flatten(1), expected)


class TestSettings:
    @pytest.mark.parametrize(
        "wrong", [{"smooth": 1.5}, {"inside": -0.1}, {"ground": 2.0}, {"sink_weight": -1.0}, {"factors": ()}, {"template": "a photo"}]
    )
    def test_what_cannot_be_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            ForegroundFirst(**wrong)

    def test_more_smoothing_takes_more_of_what_pixels_attend_to(self, backbone: UNetBackbone) -> None:
        keys = plan_text(backbone.text, Vocabulary.parse("dog, owl"), METHOD.wording(), "shared").keys
        reading = backbone.read(random(1, 4, 8, 8), METHOD.probe(), condition=backbone.text.encode([""]).embeddings)
        none, half, whole = (  # with no grounds, and words alone
            dataclasses.replace(METHOD, smooth=part, inside=1.0, ground=1.0).score(reading, keys) for part in (0.0, 0.5, 1.0)
        )
        assert not torch.allclose(none, whole) and torch.allclose(half, (none + whole) / 2, atol=1e-5)


class TestBundledModel:
    def test_absent_words_cost_little_where_they_ruin_a_published_method(self) -> None:
        ours, published = (
            run_benchmark(Segmenter(method=name, background="none"), limit=12, split="tuning", labels="all").miou
            for name in ("foreground-first", "maskdiffusion")
        )
        assert ours > published + 0.1

    def test_its_foreground_is_that_of_the_scenes(self) -> None:
        segmenter = Segmenter(method="foreground-first")
        overlap = union = 0
        for scene in benchmark(8, split="tuning"):
            objects = scene.labels < 48
            found = segmenter.segment(scene.image, list(scene.words)[:-1]).label_map > 0
            overlap, union = overlap + int((found & objects).sum()), union + int((found | objects).sum())
        assert overlap / union > 0.7
