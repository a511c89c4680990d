"""Sentences for scenes of many objects: counts, order, other phrasings, and objects that go unnamed."""

from collections.abc import Sequence

import numpy as np

from maskwright.datasets.captions import FULL as PLAIN
from maskwright.datasets.captions import JOINERS, PARTIAL, TEMPLATE_WORDS, call, choose_name
from maskwright.datasets.word_list import Word, WordList, plural_of

SINGLE_RATE = 0.15  # captions that name one thing only
UNNAMED_RATE = 0.3  # of the others, captions of two words or more that leave some out
GROUNDLESS_RATE = 0.1  # of the others, captions that do not name the ground
BARE_RATE = 0.25  # captions without articles
MOST_NAMED = 5  # kinds of objects in one caption: longer ones would not fit the tokens of a prompt

FULL = (
    *PLAIN,
    "{things} in front of {ground}",
    "{ground} behind {things}",
    "{things}, {ground} in the background",
    "a drawing of {things} on {ground}",
    "on {ground} there is {things}",
)
GROUNDLESS = ("{things}", "a photograph of {things}", "a picture of {things}", "a drawing of {things}")
PAIR_JOINERS = (*JOINERS, " next to ", " beside ")  # between two
COUNTS = {2: "two", 3: "three", 4: "four"}
MORE_WORDS = "drawing front behind next to beside two three four several".split()


def describe(objects: Sequence[tuple[Word, int]], ground: Word, rng: np.random.Generator) -> str:
    """A caption for a scene.

    Args:
        objects: each kind of object, and how many of it there are.
        ground: what lies behind them.
        rng: decides what is named, in which order and words.
    """
    order = [objects[place] for place in rng.permutation(len(objects))]
    place = choose_name(ground, rng)
    if rng.random() < SINGLE_RATE:
        chosen = int(rng.integers(len(order) + 1))
        single = place if chosen == len(order) else _noun(order[chosen], rng, bare=rng.random() < 0.3)
        return PARTIAL[int(rng.integers(len(PARTIAL)))].format(thing=single)
    bare = rng.random() < BARE_RATE
    named = len(order)
    if named > 1 and rng.random() < UNNAMED_RATE:
        named = int(rng.integers(1, named))
    nouns = [_noun(thing, rng, bare=bare) for thing in order[: min(named, MOST_NAMED)]]
    joiners = PAIR_JOINERS if len(nouns) == 2 else JOINERS
    things = joiners[int(rng.integers(len(joiners)))].join(nouns)
    templates = GROUNDLESS if rng.random() < GROUNDLESS_RATE else FULL
    return templates[int(rng.integers(len(templates)))].format(things=things, ground=place)


def _noun(thing: tuple[Word, int], rng: np.random.Generator, *, bare: bool) -> str:
    """A word with its article, or several of it with their number."""
    word, count = thing
    name = choose_name(word, rng)
    if count > 1 and word.plural and rng.random() < 0.8:
        many = word.plural if name == word.name else plural_of(name)
        number = ("several", "", COUNTS.get(count, "several"))[min(2, int(rng.integers(5)))]
        return f"{number} {many}".strip()
    return name if bare else call(word, name)


def caption_words(words: WordList) -> list[str]:
    """Every single word, in small letters, that captions of a list can hold, sorted."""
    names = [name for word in words.words.all for name in word.names]
    known = set(TEMPLATE_WORDS)
    if words.style.captions == "rich":
        known |= set(MORE_WORDS)
        countable = [word for word in words.words.objects if word.plural]
        names += [plural for word in countable for plural in (word.plural, *map(plural_of, word.synonyms))]
    return sorted({part.lower() for name in names for part in name.split()} | known)
