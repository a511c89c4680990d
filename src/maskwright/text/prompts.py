"""Words inside a free sentence: where a label stands in a prompt, and the keys that follow it there."""

import re
from collections.abc import Sequence

import torch

from maskwright.backbones.text_tower import TextTower
from maskwright.errors import VocabularyError
from maskwright.readings.keys import TextKeys
from maskwright.text.spans import token_span
from maskwright.vocabulary import Label

Span = tuple[int, int]  # characters (start, end)


def find_labels(prompt: str, labels: Sequence[Label]) -> dict[Label, tuple[Span, ...]]:
    """Where a prompt names labels, by name or synonym, as words of their own, in upper or lower case.

    A plural "s" or "es" belongs to the word: "two dogs" holds "dog". Inside another label's longer name a label is not meant: "red
    apple" does not hold "apple" where both are labels.

    Returns:
        The characters of each label that the prompt names, in the labels' order; the others are left out.
    """
    spans = {label: _find(prompt, label) for label in labels}

    def stands_alone(span: Span, owner: Label) -> bool:
        others = (other for label, found in spans.items() if label is not owner for other in found)
        return not any(start <= span[0] and span[1] <= end and (start, end) != span for start, end in others)

    alone = {label: tuple(span for span in found if stands_alone(span, label)) for label, found in spans.items()}
    return {label: found for label, found in alone.items() if found}


def _find(prompt: str, label: Label) -> tuple[Span, ...]:
    names = sorted(label.texts, key=len, reverse=True)  # of names that overlap the longest wins
    pattern = "|".join(re.escape(name) for name in names)
    return tuple(match.span() for match in re.finditer(rf"(?<!\w)(?:{pattern})(?:e?s)?(?!\w)", prompt, re.IGNORECASE))


def prompt_keys(tower: TextTower, prompt: str, labels: Sequence[Label]) -> TextKeys:
    """The tokens of labels in a prompt that the model is drawing: attention to them is what the model computes itself.

    Args:
        tower: the model's text side.
        prompt: holds every label at least once.
        labels: what to follow; a label's map is the mean over its tokens.

    Raises:
        VocabularyError: a label that the prompt does not hold, or a prompt that does not fit the model.
    """
    encoding = tower.encode([prompt])
    places = find_labels(prompt, labels)
    columns = []
    for label in labels:
        spans = [token_span(encoding.offsets[0], start, end) for start, end in places.get(label, ())]
        tokens = tuple(dict.fromkeys((0, position) for span in spans for position in span))
        if not tokens:
            raise VocabularyError(f"the prompt {prompt!r} does not hold {label.name!r}: write it there, or leave the label out")
        columns.append((tokens,))
    return TextKeys(encoding.embeddings, torch.zeros(encoding.embeddings.shape[:2]), tuple(columns))
