"""Leaving out labels that nothing in the picture attends to: the `reject` setting of a method.

A label is compared with a word that is not in the picture, read in the same way, before any map is stretched.
"""

from typing import Any

from maskwright.passes import Scored
from maskwright.vocabulary import Label, Vocabulary


def with_baseline(method: Any, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary and, for a method that rejects labels, the word that they are compared with, if no label has it."""
    if not getattr(method, "reject", 0) or _place(method, vocabulary) is not None:
        return vocabulary
    return Vocabulary((*vocabulary.labels, Label(method.absent)))


def kept_labels(method: Any, scored: Scored, row: int, vocabulary: Vocabulary) -> tuple[bool, ...]:
    """Which labels of one picture are at least `reject` times as strong as the baseline; background labels always are.

    Args:
        method: with `reject` and `absent` where it rejects labels.
        scored: of `with_baseline(method, vocabulary)`.
        row: the picture's.
        vocabulary: without the baseline, unless a label has that very word as its name or synonym.
    """
    if scored.strength is None:
        return (True,) * len(vocabulary)
    place = _place(method, vocabulary)
    least = method.reject * scored.strength[row, -1 if place is None else place]
    strengths = scored.strength[row, : len(vocabulary)]
    return tuple(label.background or bool(strength >= least) for label, strength in zip(vocabulary, strengths, strict=True))


def _place(method: Any, vocabulary: Vocabulary) -> int | None:
    """Which label has the baseline as its name or synonym, in upper or lower case: a text may occur only once in a vocabulary."""
    absent = Label(method.absent).name.casefold()
    return next((place for place, label in enumerate(vocabulary) if absent in (text.casefold() for text in label.texts)), None)
