"""The words of a command line: labels, and what counts as background."""

import math
from collections.abc import Sequence
from pathlib import Path

from maskwright.errors import SettingsError, VocabularyError
from maskwright.vocabulary import Label, Vocabulary


def read_labels(texts: Sequence[str], file: Path | None, *, background: str) -> Vocabulary:
    """The labels of --labels, then those of --labels-file, with a background word marked or added.

    Raises:
        VocabularyError: no labels, or labels that cannot be used.
        SettingsError: as `read_background`.
    """
    if not texts and file is None:
        raise VocabularyError("no labels: name what to look for, --labels 'dog, red apple, grass' or --labels-file FILE")
    labels: list[Label] = []
    if file is None or any(text.strip() for text in texts):
        labels += Vocabulary.parse(",".join(texts))
    if file is not None:
        labels += Vocabulary.from_file(file)
    word = read_background(background)
    return Vocabulary.parse(labels, background=word if isinstance(word, str) and word not in ("auto", "none") else None)


def read_background(text: str) -> float | str:
    """What --background says: a threshold, a word, "none" or "auto".

    Raises:
        SettingsError: an empty word, or a number that is none.
    """
    text = text.strip()
    if not text:
        raise SettingsError("--background is empty: give a threshold such as 0.5, a word, none or auto")
    if text.lower() in ("auto", "none"):
        return text.lower()
    try:
        threshold = float(text)
    except ValueError:
        return text
    if not math.isfinite(threshold):
        raise SettingsError(f"--background {text} is no threshold: give a number such as 0.5, a word, none or auto")
    return threshold
