"""Sentences for the bundled scenes: templates, articles, synonyms, and captions that leave something out."""

import re
from collections.abc import Sequence

import numpy as np

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


def _name(names: Sequence[str], rng: np.random.Generator) -> str:
    """The first name mostly, a synonym sometimes."""
    if len(names) > 1 and rng.random() < SYNONYM_RATE:
        return names[int(rng.integers(1, len(names)))]
    return names[0]


def write_caption(objects: Sequence[Sequence[str]], ground: Sequence[str], rng: np.random.Generator) -> str:
    """A caption for a scene.

    Args:
        objects: for each object its name and synonyms.
        ground: the ground's name and synonyms.
        rng: decides template, order, articles and synonyms.
    """
    nouns = [_name(names, rng) for names in objects]
    place = _name(ground, rng)
    rng.shuffle(nouns)
    if rng.random() < PARTIAL_RATE:
        thing = str(rng.choice([*nouns, place]))
        return str(rng.choice(PARTIAL)).format(thing=thing if rng.random() < 0.3 else with_article(thing))
    bare = rng.random() < 0.25
    things = str(rng.choice(JOINERS)).join(noun if bare else with_article(noun) for noun in nouns)
    return str(rng.choice(FULL)).format(things=things, ground=place)
