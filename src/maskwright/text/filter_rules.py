"""The three rules of the category filter as plain functions: each gives {position of a kept label: why it is kept}."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from maskwright.errors import ModelError
from maskwright.text.clip import cosines
from maskwright.text.nouns import contains
from maskwright.vocabulary import Vocabulary

Array = npt.NDArray[np.float32]
Reasons = dict[int, str]
RATIO = 0.97
COSINE = 0.8


def label_texts(vocabulary: Vocabulary) -> tuple[list[str], npt.NDArray[np.intp]]:
    """All names and synonyms, T texts, and (T,) for each the position of its label."""
    pairs = [(text, i) for i, label in enumerate(vocabulary) for text in label.texts]
    return [text for text, _ in pairs], np.array([i for _, i in pairs], dtype=np.intp)


def best_of_labels(values: Array, owners: npt.NDArray[np.intp]) -> Array:
    """The best of each label's texts.

    Args:
        values: (T, ...) one row a text.
        owners: (T,) position of each text's label, as of `label_texts`.

    Returns:
        (C, ...), labels in their order.
    """
    return np.stack([values[owners == i].max(axis=0) for i in range(owners[-1] + 1)])


def in_table(captions: Sequence[str], vocabulary: Vocabulary, table: Mapping[str, Sequence[str]]) -> Reasons:
    """Rule (a): labels for which a caption contains a word that the table gives.

    Args:
        captions: any texts.
        vocabulary: C labels.
        table: case-folded label name to words; a word of several parts has to occur with its parts side by side.
    """
    return {
        i: f"caption word '{word}' (synonym table)"
        for i, label in enumerate(vocabulary)
        for word in table.get(label.name.casefold(), ())
        if any(contains(caption, word) for caption in captions)
    }


def near_best(similarities: Sequence[float], vocabulary: Vocabulary, *, ratio: float = RATIO) -> Reasons:
    """Rule (b) among the labels that are not background. Never empty.

    Args:
        similarities: for each label its similarity with the picture.
        vocabulary: C labels.
        ratio: see `keep_near_best`.
    """
    positions = [i for i, label in enumerate(vocabulary) if not label.background]
    values = [similarities[i] for i in positions]
    near = keep_near_best(values, ratio=ratio)
    reason = "similarity {:.4f} is near the best, {:.4f}"
    return {i: reason.format(similarities[i], max(values)) for i, good in zip(positions, near, strict=True) if good}


def keep_near_best(similarities: Sequence[float], *, ratio: float = RATIO) -> tuple[bool, ...]:
    """Which similarities are at least `ratio` x the best.

    Cosines can be negative; ratio x a negative best would lie above the best and keep nothing. So a similarity may lie
    (1 - ratio) x |best| below the best, which for a positive best is the same rule. The best is always kept, and scaling all
    similarities by one positive number changes nothing.

    Raises:
        ModelError: a similarity is not finite.
    """
    refuse_damaged(similarities)
    best = max(similarities, default=0.0)
    least = ratio * best if best > 0 else (2 - ratio) * best
    return tuple(bool(similarity >= least) for similarity in similarities)


def refuse_damaged(similarities: Sequence[float] | Array) -> None:
    """Raises ModelError where a similarity is not finite."""
    if not np.isfinite(similarities).all():
        raise ModelError("CLIP's similarities are not finite, its weights are damaged: fetch the checkpoint again")


def near_nouns(
    labels: Array, owners: npt.NDArray[np.intp], features: Array, nouns: Sequence[str], *, cosine: float = COSINE
) -> Reasons:
    """Rule (c): labels of which a text lies close to a noun.

    Args:
        labels: (T, d) features of the labels' texts.
        owners: (T,) position of each text's label.
        features: (N, d) features of the nouns, N at least 1.
        nouns: the N nouns.
        cosine: a label is kept above it.
    """
    table = cosines(labels, features)  # (T, N)
    found = {}
    for i, nearest in enumerate(best_of_labels(table, owners)):  # (N,): the label's best text for each noun
        if nearest.max() > cosine:
            found[i] = f"cosine {nearest.max():.4f} with the caption word '{nouns[int(nearest.argmax())]}'"
    return found
