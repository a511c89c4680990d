"""Sentences for the bundled scenes: templates, articles, synonyms, and captions that leave something out."""

import re
from collections.abc import Sequence

import numpy as np

from maskwright.datasets.word_list import Word

SYNONYM_RATE = 0.15
PARTIAL_RATE = 0.15  # captions that name one thing only, as the published per-label prompts do

FULL = (
    "{things} on {ground}",
    "{things} on {ground}",
    "a photograph of {things} on {ground}",
    "a picture of {things} on {ground}",
    "{ground} with {things}",
    "{things} and {ground}",
    "a photograph of {things} and {ground}",
    "there is {things} on the {ground}",
)
PARTIAL = ("a photograph of {thing}", "a picture of {thing}", "{thing}")
JOINERS = (" and ", " and ", ", ", " with ")
TEMPLATE_WORDS = "a an the one of on and with there is in other background photograph photo picture".split()


def with_article(noun: str) -> str:
    """The article before a noun: "an owl", "a unicorn"; by spelling, so "hour" is known and rarer words are not."""
    word = noun.lower()
    vowel = word[:1] in set("aeiou") and not re.match(r"uni|use|eu|ufo|one\b|ukulele|uk\b", word)
    return f"{'an' if vowel or re.match(r'hour|honest|heir|honou?r', word) else 'a'} {noun}"


def call(word: Word, name: str) -> str:
    """A word under one of its names with the article that it wants: "a dog", "Tokyo Tower", "the Statue of Liberty"."""
    if word.article:
        return f"{word.article} {name}"
    return name if word.proper else with_article(name)


def choose_name(word: Word, rng: np.random.Generator) -> str:
    """The name mostly, a synonym sometimes."""
    if word.synonyms and rng.random() < SYNONYM_RATE:
        return word.synonyms[int(rng.integers(len(word.synonyms)))]
    return word.name


def write_caption(objects: Sequence[Word], ground: Word, rng: np.random.Generator) -> str:
    """A caption for a scene.

    Args:
        objects: what the scene shows, each kind once.
        ground: what lies behind it.
        rng: decides template, order, articles and synonyms.
    """
    names = [(choose_name(word, rng), word) for word in objects]
    place = choose_name(ground, rng)
    rng.shuffle(names)
    if rng.random() < PARTIAL_RATE:
        name, word = [*names, (place, ground)][int(rng.integers(len(names) + 1))]
        return str(rng.choice(PARTIAL)).format(thing=name if rng.random() < 0.3 else call(word, name))
    bare = rng.random() < 0.25
    things = str(rng.choice(JOINERS)).join(name if bare else call(word, name) for name, word in names)
    return str(rng.choice(FULL)).format(things=things, ground=place)
