"""What to look for: labels with synonyms, in order. Imports nothing heavy."""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from maskwright.errors import VocabularyError

LONGEST = 200  # characters in one name or synonym
MOST = 65_535  # label maps are uint16
COMMAS = re.compile(r"[,，،、\n\r]")  # also the full-width, the Arabic and the ideographic comma
COMMENT = re.compile(r"(^|\s)#.*")
SPECIAL = re.compile(r"<\|[^<>]*\|>|</?s>|<(pad|unk|mask|extra_id_\d+)>", re.IGNORECASE)  # tokens of CLIP, T5 and their kin
JOINERS = "\u200c\u200d"  # invisible, but part of how Persian and emoji are written


@dataclass(frozen=True)
class Label:
    """One thing to look for. Texts are normalised (Unicode NFC, single spaces) and checked.

    Attributes:
        name: what the results call it.
        synonyms: further texts for the same thing.
        background: its own map competes, but pixels it wins are background (number 0).

    Raises:
        VocabularyError: a text that is empty, repeated, over 200 characters, or holds control characters or special tokens.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    background: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.synonyms, str):
            raise VocabularyError(f"the synonyms of '{self.name}' are one text: give a tuple, as in ('{self.synonyms}',)")
        object.__setattr__(self, "name", _clean(self.name))
        object.__setattr__(self, "synonyms", tuple(_clean(text) for text in self.synonyms))
        _refuse_repeats([self])

    @property
    def texts(self) -> tuple[str, ...]:
        """The name, then the synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class Vocabulary:
    """Labels in order; no text occurs twice (upper and lower case count as the same), and at least one is not background.

    Raises:
        VocabularyError: no labels, only background, too many labels, or a text that two labels share.
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        if not self.labels:
            raise VocabularyError("no labels: name at least one thing to look for, for example 'dog, grass'")
        if not self.foreground:
            raise VocabularyError("every label is background: name at least one other thing to look for")
        if len(self.labels) > MOST:
            raise VocabularyError(f"{len(self.labels)} labels: a label map holds at most {MOST}; split them over several runs")
        _refuse_repeats(self.labels)

    @classmethod
    def parse(cls, labels: "str | Iterable[str | Label]", *, background: str | None = None) -> "Vocabulary":
        """Reads labels from text.

        Args:
            labels: "dog, red apple, cat|kitten": commas and line breaks separate labels, | separates synonyms. In a
                list every item is one label, commas included.
            background: words separated by |. A label that has one of these texts is marked as background; the words
                that no label has make one new background label, put first.

        Raises:
            VocabularyError: labels that cannot be used; the message names the label and the fix.
        """
        items = [item for item in COMMAS.split(labels) if item.strip()] if isinstance(labels, str) else labels
        parsed = [_parse_label(item) for item in items]
        return cls(tuple(parsed if background is None else _mark(parsed, _parse_label(background))))

    @classmethod
    def from_file(cls, path: str | Path, *, background: str | None = None) -> "Vocabulary":
        """Reads a UTF-8 file: one label a line (| for synonyms, # begins a comment), or a JSON list of such texts.

        Raises:
            VocabularyError: a file that cannot be read, or labels that cannot be used.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise VocabularyError(f"{path} is not UTF-8 text: save it as UTF-8, one label a line") from error
        except OSError as error:
            raise VocabularyError(f"cannot read labels from {path} ({error.strerror}): give a file, one label a line") from error
        if Path(path).suffix.lower() == ".json" or text.lstrip().startswith("["):
            return cls.parse(_parse_json(text, path), background=background)
        lines = (COMMENT.sub("", line).strip() for line in text.splitlines())
        return cls.parse([line for line in lines if line], background=background)

    @property
    def names(self) -> tuple[str, ...]:
        """Every label's name, background included."""
        return tuple(label.name for label in self.labels)

    @property
    def foreground(self) -> tuple[Label, ...]:
        """The labels that are not background; the i-th, counted from 1, is number i in a label map."""
        return tuple(label for label in self.labels if not label.background)

    @property
    def numbers(self) -> tuple[int, ...]:
        """For each label the number that it has in a label map: 1, 2, ... in order, 0 for background."""
        foreground = iter(range(1, len(self.labels) + 1))
        return tuple(0 if label.background else next(foreground) for label in self.labels)

    def index(self, text: str) -> int:
        """Position of the label with this name or synonym, in upper or lower case.

        Raises:
            VocabularyError: no label has this text.
        """
        wanted = _clean(text).casefold()
        for position, label in enumerate(self.labels):
            if wanted in map(str.casefold, label.texts):
                return position
        shown = ", ".join(self.names[:12]) + (", ..." if len(self) > 12 else "")
        raise VocabularyError(f"no label '{text}': choose one of {shown}")

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __getitem__(self, position: int) -> Label:
        return self.labels[position]


def _clean(text: str) -> str:
    """NFC, single spaces; refuses what a text encoder would misread or a terminal would misprint."""
    if not isinstance(text, str):
        raise VocabularyError(f"a label is text, not {type(text).__name__}: write {text!r} as a word")
    _refuse_special(text)
    clean = " ".join(unicodedata.normalize("NFC", text).split())
    if not clean:
        raise VocabularyError("a label or synonym is empty: write a word, or remove the extra separator")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in JOINERS for c in clean):
        raise VocabularyError(f"the label {clean[:60]!a} holds control or invisible characters: remove them")
    if len(clean) > LONGEST:
        raise VocabularyError(f"the label '{clean[:30]}...' has {len(clean)} characters: shorten it to {LONGEST} at most")
    if "|" in clean:
        raise VocabularyError(f"the text '{clean}' holds |, which separates synonyms: give its parts as name and synonyms")
    return clean


def _refuse_special(text: str) -> None:
    if found := SPECIAL.search(text):
        raise VocabularyError(f"{found[0]} is a special token of the text encoder: remove it from the label")


def _parse_label(item: "str | Label") -> Label:
    """"cat|kitten" to a label."""
    if isinstance(item, Label):
        return item
    if not isinstance(item, str):
        raise VocabularyError(f"a label is text, not {type(item).__name__}: write {item!r} as a word")
    _refuse_special(item)  # here too: | would split <|endoftext|> into innocent parts
    name, *synonyms = item.split("|")
    if synonyms and not all(map(str.strip, [name, *synonyms])):
        raise VocabularyError(f"the label '{item.strip()}' has an empty synonym: write a word on both sides of |")
    return Label(name, tuple(synonyms))


def _parse_json(text: str, path: str | Path) -> list[str]:
    try:
        labels = json.loads(text)
    except ValueError as error:
        raise VocabularyError(f"{path} is not valid JSON ({error}): mend it, or write one label a line") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise VocabularyError(f'{path} is not a list of texts: write ["dog", "cat|kitten"]')
    return labels


def _mark(labels: list[Label], background: Label) -> list[Label]:
    """Marks the labels that share a text with `background`; its other texts become a new label in front."""
    words = {text.casefold(): text for text in background.texts}
    marked = []
    for label in labels:
        found = [text.casefold() for text in label.texts if text.casefold() in words]
        marked.append(replace(label, background=True) if found else label)
        for text in found:
            del words[text]
    if not words:
        return marked
    name, *synonyms = words.values()
    return [Label(name, tuple(synonyms), background=True), *marked]


def _refuse_repeats(labels: Iterable[Label]) -> None:
    owners: dict[str, str] = {}
    for label in labels:
        for text in label.texts:
            if (key := text.casefold()) in owners:
                raise VocabularyError(f"'{text}' stands for the label '{owners[key]}' and for '{label.name}': keep one of them")
            owners[key] = label.name
