"""Keyword lists: they name what is there and what is not, fit a prompt, and stay out of the splits that are measured on."""

import dataclasses
import re

import numpy as np
import pytest

from maskwright.datasets.keyword_captions import MOST_TOKENS, count_tokens, list_keywords
from maskwright.datasets.scenes import SceneSet, open_scenes
from maskwright.datasets.word_list import BUNDLED, Words, read_word_list

FULL = open_scenes("scenes-full")
WORDS = FULL.words


def named(text: str, words: Words = WORDS) -> set[int]:
    """Positions of the words that a caption names; longer names first, so that "tree" is not found in "palm tree"."""
    found = set()
    names = {name.lower(): place for place, word in enumerate(words.all) for name in word.names}
    left = f" {text.lower().replace(',', ' ')} "
    for name in sorted(names, key=len, reverse=True):
        if f" {name} " in left:
            left = left.replace(f" {name} ", "  ")
            found.add(names[name])
    return found


def lists(shown: list[int], words: Words = WORDS, count: int = 300) -> list[str]:
    return [list_keywords(shown, words, np.random.default_rng(seed)) for seed in range(count)]


def test_lists_name_what_is_there_and_what_is_not():
    shown = [3, 40, 120]
    found = [named(text) for text in lists(shown)]
    assert len(set(map(frozenset, found))) > 200
    present = np.array([len(one & {*shown}) for one in found])
    absent = np.array([len(one - {*shown}) for one in found])
    assert 0.6 < np.mean(present > 0) < 1 and 0.7 < np.mean(absent > 0) < 1 and absent.max() >= 9
    single = present + absent == 1
    assert 0.2 < single.mean() < 0.35 and 0.3 < np.mean(absent[single]) < 0.7


def test_half_of_what_is_not_there_is_hard_to_tell_from_what_is():
    dog = next(place for place, word in enumerate(WORDS.objects) if word.name == "dog")
    kin = {*WORDS.rivals[dog]} - {dog}
    first = [named(text) - {dog, 120} for text in lists([dog, 120])]
    assert np.mean([bool(one & kin) for one in first if one]) > 0.5
    assert {place for one in first for place in one} > set(range(len(WORDS.objects), len(WORDS.all))) - {120}, "grounds are named as well"


def test_lists_fit_a_prompt_and_know_articles():
    texts = lists([113, 114, 116])
    assert max(map(count_tokens, texts)) <= MOST_TOKENS
    assert count_tokens("a T-shirt, Boeing 747") == 9
    assert any(", a " in text for text in texts) and not any(re.search(r"\ba (Tokyo|grass|water|sand)\b", text) for text in texts)


def test_few_words_are_enough():
    """Where a scene shows all that a list has, nothing is left to be absent."""
    few = Words(WORDS.objects[:2], WORDS.grounds[:1])
    assert all(named(text, few) <= {0, 1, 2} for text in lists([0, 1, 2], few, 50))
    assert any(named(text, few) - {0, 2} for text in lists([0, 2], few, 50))


def test_only_training_scenes_have_them():
    def trusted(split: str) -> float:
        scenes = [(FULL.contents(seed, split=split), FULL.captions(seed, split=split, count=1)[0]) for seed in range(200)]
        return float(np.mean([named(text) <= {*shown.objects, len(WORDS.objects) + shown.ground} for shown, text in scenes]))

    others = trusted("benchmark")
    assert others > 0.85, "plurals aside, the other splits are told what they show"
    assert trusted("train") < others - 0.4 * FULL.list.style.absent
    assert open_scenes("scenes").list.style.absent == 0


def test_they_change_no_picture():
    without = SceneSet("scenes-full")
    without.list = dataclasses.replace(FULL.list, style=dataclasses.replace(FULL.list.style, absent=0.0))
    for seed in range(5):
        assert np.array_equal(FULL.render(seed).labels, without.render(seed).labels)
        assert np.array_equal(FULL.render(seed).image, without.render(seed).image)


@pytest.mark.parametrize("words", BUNDLED)
def test_the_same_seed_writes_the_same_list(words):
    style = read_word_list(BUNDLED[words]).words
    assert list_keywords([0, 5], style, np.random.default_rng(3)) == list_keywords([0, 5], style, np.random.default_rng(3))
