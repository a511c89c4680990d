"""The class lists in classes/*.toml, and the sets of pictures that are scored by them.

A list has names in order, their numbers in the masks, other published texts, and the source of each:

    source = "where the names and numbers are from"
    background = "background"              # the class that is background, if there is one
    ignore = [255]                         # numbers that are not scored
    [classes]
    background = 0
    "traffic light" = 10
    sky = [106, "157-159"]                 # several numbers are one class
    [wordings.NAME]                        # texts that published code uses for the same classes, synonyms after |
    source = "which code"
    background = "wall|floor"              # if it has words for the background
    texts = ["light", "sky|clouds"]        # all others
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskwright.datasets.contract import IGNORE, EvaluationSet
from maskwright.datasets.layout import Layout
from maskwright.datasets.masks import MaskItem
from maskwright.vocabulary import Label

FOLDER = Path(__file__).parent / "classes"


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set.

    Attributes:
        labels: in the order in which they are scored.
        numbers: position among the labels by number in the masks, IGNORE for what is not scored.
        wordings: other texts for the same labels, by name.
        source: where names and numbers are from.
    """

    labels: tuple[Label, ...]
    numbers: Mapping[int, int] = field(repr=False)
    wordings: Mapping[str, tuple[Label, ...]] = field(repr=False)
    source: str


def load_classes(name: str, *, background: bool = True) -> ClassList:
    """Reads classes/NAME.toml.

    Args:
        name: of the file, without extension.
        background: keep the class that is background; if False, its pixels are not scored.
    """
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    marked = table.get("background")
    labels: list[Label] = []
    numbers = dict.fromkeys(_expand(table.get("ignore", [])), IGNORE)
    for text, listed in table["classes"].items():
        kept = background or text != marked
        numbers |= dict.fromkeys(_expand(listed), len(labels) if kept else IGNORE)
        if kept:
            labels.append(Label(text, background=text == marked))
    wordings = {title: _word(labels, entry) for title, entry in table.get("wordings", {}).items()}
    return ClassList(tuple(labels), numbers, wordings, table["source"])


def class_set(
    name: str, split: str, layout: Layout, classes: ClassList, *, names: Sequence[str], pictures: Sequence[Path], masks: Sequence[Path]
) -> EvaluationSet:
    """A set of pictures with masks of class numbers.

    Args:
        name: of the set.
        split: of the set.
        layout: whose set it is, for messages.
        classes: its class list.
        names: one for each picture.
        pictures: the files, in the same order.
        masks: the files, in the same order.

    Raises:
        DatasetError: no pictures, or two with one name.
    """
    unknown = f"{layout.title} does not have: see that these are its own masks, neither recoloured nor converted"
    items = tuple(MaskItem(*files, classes.numbers, unknown) for files in zip(names, pictures, masks, strict=True))
    return EvaluationSet(name, split, "classes", items, classes.labels, classes.wordings)


def _expand(listed: Any) -> Iterator[int]:
    """One number, or a list of numbers and of ranges such as "91-181" (both ends belong to it)."""
    for entry in listed if isinstance(listed, list) else [listed]:
        first, _, last = str(entry).partition("-")
        yield from range(int(first), int(last or first) + 1)


def _word(labels: Sequence[Label], entry: Mapping[str, Any]) -> tuple[Label, ...]:
    """The labels under other texts; a background without words of its own keeps its name."""
    rest = iter(entry["texts"])
    texts = (entry.get("background", label.name) if label.background else next(rest) for label in labels)
    parts = [text.split("|") for text in texts]
    return tuple(Label(name, tuple(synonyms), background=label.background) for label, (name, *synonyms) in zip(labels, parts, strict=True))
