"""Leaving out labels that nothing in the picture attends to: the `reject` setting of a method.

A label is compared with a word that is not in the picture, read in the same way, before any map is stretched.
"""

from typing import Any

from maskwright.passes import Scored
from maskwright.vocabulary import Label, Vocabulary


def with_baseline(method: Any, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary and, for a method that rejects labels, the word that they are compared with, if it is not among them."""
    if not getattr(method, "reject", 0) or _place(method, vocabulary) is not None:
        return vocabulary
    return Vocabulary((*vocabulary.labels, Label(method.absent)))


def kept_labels(method: Any, scored: Scored, row: int, vocabulary: Vocabulary) -> tuple[bool, ...]:
    """Which labels of one picture are at least `reject` times as strong as the baseline; background labels always are.

    Args:
        method: with `reject` and `absent` where it rejects labels.
        scored: of `with_baseline(method, vocabulary)`.
        row: the picture's.
        vocabulary: without the baseline, unless the user asked for that very word.
    """
    if scored.strength is None:
        return (True,) * len(vocabulary)
    place = _place(method, vocabulary)
    least = method.reject * scored.strength[row, -1 if place is None else place]
    strengths = scored.strength[row, : len(vocabulary)]
    return tuple(label.background or bool(strength >= least) for label, strength in zip(vocabulary, strengths, strict=True))


def _place(method: Any, vocabulary: Vocabulary) -> int | None:
    """Where the baseline stands among the labels themselves."""
    names = [label.name.lower() for label in vocabulary]
    return names.index(method.absent.lower()) if method.absent.lower() in names else None
