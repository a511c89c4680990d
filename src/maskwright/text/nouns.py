"""Which words of a caption may be nouns, without a language model.

Our default, the paper does not say how it finds nouns: every word is one that is not on the list below, and so is every pair
of neighbours of which neither is ("traffic light"). Adjectives therefore slip through. That costs little: a candidate only
matters when it comes close to a label.
"""

import re
from collections.abc import Iterable

# Grammar, counting, and what captions do with things; names of things that also serve as verbs ("light", "train") stay out.
NO_NOUNS = frozenset(
    """
    a an the this that these those some any each every all both another other no not
    i you he she it we they him her them his hers its their theirs our my your who which what there here
    one two three four five six seven eight nine ten many several few lots lot couple
    in on at by of off to from into onto over under up down out with without within through across along around about against
    among between behind beside besides below beneath above near next inside outside toward towards during after before for
    and or nor but as than then while where when if so also just very too only like
    is are was were be been being am has have having had do does doing did done can could will would may might must should
    sitting sits sit standing stands stand lying laying lies laid walking walks riding rides ridden running runs flying flies
    holding holds held wearing wears worn looking looks eating eats playing plays driving drives parked parking hanging hangs
    going goes getting gets taking takes taken making makes made using uses used showing shows shown seen posing
    covered filled surrounded attached placed topped mounted leaning resting sleeping swimming grazing facing talking smiling
    big small large little tall short long old new young open close closed together front back top middle side left right
    """.split()
)
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words_of(caption: str) -> list[str]:
    """Lower-case words in order; hyphens and apostrophes inside a word belong to it."""
    return WORD.findall(caption.lower())


def candidate_nouns(captions: Iterable[str]) -> tuple[str, ...]:
    """Words and pairs of neighbouring words that may be nouns, each once, in the order of the captions."""
    found: dict[str, None] = {}
    for caption in captions:
        words = words_of(caption)
        usable = [len(word) > 1 and word not in NO_NOUNS for word in words]
        found.update((word, None) for word, good in zip(words, usable, strict=True) if good)
        pairs = zip(words, words[1:], usable, usable[1:], strict=False)
        found.update((f"{first} {second}", None) for first, second, good, also in pairs if good and also)
    return tuple(found)


def contains(caption: str, phrase: str) -> bool:
    """Whether the phrase's words stand side by side in the caption, in this form and order."""
    wanted = " ".join(words_of(phrase))
    return bool(wanted) and f" {wanted} " in f" {' '.join(words_of(caption))} "
