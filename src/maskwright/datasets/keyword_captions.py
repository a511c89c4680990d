"""Keyword lists: captions that name what a scene does not show beside what it does, as texts beside pictures on the web do.

A network that has only seen true captions never meets a word without its thing, so nothing tells it how little attention such a word
deserves. With keyword lists it has to look before it believes a word. No mask is needed for that: the captions are merely worse.
"""

import re
from collections.abc import Sequence

import numpy as np

from maskwright.datasets.captions import PARTIAL, call, choose_name
from maskwright.datasets.word_list import Word, Words

SINGLE_RATE = 0.25  # lists of one word
ABSENT_SINGLE_RATE = 0.5  # of these, words of what is not there
NAMED_RATE = 0.85  # of what is there, in longer lists
RELATED_RATE = 0.5  # of the words of what is not there, those that are hard to tell from a word of the scene, where it has any
BARE_RATE = 0.6  # lists without articles
MOST_ABSENT = 11
MOST_TOKENS = 28  # of a list, for the prompts of the small model hold 32, begin and end included
JOINERS = (" and ", " and ", ", ")
BEGINNINGS = ("", "", "a photograph of ", "a photograph of ", "a picture of ")


def list_keywords(shown: Sequence[int], words: Words, rng: np.random.Generator) -> str:
    """A caption for a scene, not to be trusted.

    Args:
        shown: positions in `words.all` of what the scene shows, its ground included, each once.
        words: of the list.
        rng: decides what is named, in which order and words.
    """
    absent = draw_absent(shown, words, rng)
    if rng.random() < SINGLE_RATE:
        chosen = absent[:1] if absent and rng.random() < ABSENT_SINGLE_RATE else [int(rng.choice(shown))]
        template = PARTIAL[int(rng.integers(len(PARTIAL)))]
        return template.format(thing=_noun(words.all[chosen[0]], rng, bare=rng.random() < 0.3))
    named = [place for place in shown if rng.random() < NAMED_RATE]
    wanted = [*named, *absent[: int(rng.integers(1, MOST_ABSENT + 1))]] or [*shown]
    bare, joiner = rng.random() < BARE_RATE, JOINERS[int(rng.integers(len(JOINERS)))]
    beginning = BEGINNINGS[int(rng.integers(len(BEGINNINGS)))]
    nouns, left = [], MOST_TOKENS - count_tokens(beginning)
    for place in wanted:
        noun = _noun(words.all[place], rng, bare=bare)
        left -= count_tokens(noun + joiner)
        if left < 0:
            break
        nouns.append(noun)
    return beginning + joiner.join(nouns[place] for place in rng.permutation(len(nouns)))


def count_tokens(text: str) -> int:
    """How many tokens a text has when each of its words is one: words, digits and signs, as CLIP parts them."""
    return len(re.findall(r"[^\W\d]+|\d|[^\w\s]", text))


def draw_absent(shown: Sequence[int], words: Words, rng: np.random.Generator) -> list[int]:
    """Positions of what the scene does not show, in random order, those that are hard to tell from it more often than others."""
    related = {kin for place in shown for kin in words.rivals[place]} - {*shown} if words.rivals else set()
    near = [int(place) for place in rng.permutation(sorted(related))]
    far = [int(place) for place in rng.permutation([place for place in range(len(words.all)) if place not in {*shown, *related}])]
    mixed: list[int] = []
    while (near or far) and len(mixed) < MOST_ABSENT:
        mixed.append(near.pop() if near and (not far or rng.random() < RELATED_RATE) else far.pop())
    return mixed


def _noun(word: Word, rng: np.random.Generator, *, bare: bool) -> str:
    """A word, with its article if it is an object's."""
    name = choose_name(word, rng)
    return name if bare or word.draw else call(word, name)
