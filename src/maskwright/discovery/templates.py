"""Sentences with a gap for labels, and how the gap is filled."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.datasets.captions import with_article
from maskwright.errors import SettingsError
from maskwright.text.prompts import find_labels
from maskwright.text.wording import LABELS
from maskwright.vocabulary import Vocabulary

TEMPLATES = Path(__file__).parent / "templates.toml"


@dataclass(frozen=True)
class Templates:
    """Sentences with {} for the label.

    Attributes:
        plain: the plain form, a third of the prompts.
        scenes: the others; where one of the two is empty the other makes all prompts.

    Raises:
        SettingsError: no templates, or one that does not hold {} exactly once.
    """

    plain: tuple[str, ...]
    scenes: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, texts in (("plain", self.plain), ("templates", self.scenes)):
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                raise SettingsError(f"{name} must be a list of texts such as 'a photo of a {{}}', not {texts!r}")
        if not self.plain and not self.scenes:
            raise SettingsError("no templates: write at least one such as 'a photo of a {}'")
        if wrong := [text for text in (*self.plain, *self.scenes) if text.count(LABELS) != 1]:
            raise SettingsError(f"the template {wrong[0]!r} must hold {{}} exactly once, where the label goes")

    @classmethod
    def suited(cls, synthesis: Mapping[str, Any]) -> "Templates":
        """Those that a model brings (`ModelInfo.synthesis`), where it brings none the package's own."""
        own = tomllib.loads(TEMPLATES.read_text(encoding="utf-8"))
        plain, scenes = (_as_tuple(synthesis.get(model, own[file])) for model, file in (("plain", "plain"), ("templates", "scenes")))
        return cls(plain, scenes)

    @classmethod
    def from_file(cls, path: Path) -> "Templates":
        """One template a line, all drawn equally often; blank lines and lines that begin with # are skipped.

        Raises:
            SettingsError: a file that cannot be read, or a template that cannot be used.
        """
        return cls((), tuple(read_lines(path, "templates")))

    def without(self, vocabulary: Vocabulary) -> "Templates":
        """Without the templates that name a label themselves: that thing would be in the picture and not in the mask.

        Raises:
            SettingsError: none is left.
        """
        plain, scenes = (
            tuple(text for text in texts if not find_labels(text, vocabulary.foreground)) for texts in (self.plain, self.scenes)
        )
        if not plain and not scenes:
            raise SettingsError("every template names one of the labels itself: give others with --templates FILE")
        return Templates(plain, scenes)


def fill(template: str, names: Sequence[str]) -> str:
    """Puts names in the place of {}: "on the left, a {}" and "owl", "dog" to "on the left, an owl and a dog".

    An article before {} is fitted to each name and stands before each; without one the names stay bare.
    """
    before = re.search(r"(?<!\w)(an?|the) $", template[: template.index(LABELS)], re.IGNORECASE)
    if before is None:
        return template.replace(LABELS, join(names))
    first, *others = (name if before[1].lower() == "the" else with_article(name) for name in names)
    if before[1].lower() == "the":
        first, others = f"the {first}", [f"the {name}" for name in others]
    head = template[: before.start(1)]
    first = first[0].upper() + first[1:] if before[1][0].isupper() else first
    return head + join([first, *others]) + template[template.index(LABELS) + len(LABELS) :]


def join(names: Sequence[str]) -> str:
    """Names in a row: "dog, cat and owl"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a UTF-8 file that are neither blank nor begin with #, with single spaces.

    Raises:
        SettingsError: a file that cannot be read, or that holds none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text: save it as UTF-8, one of the {what} a line") from error
    except OSError as error:
        raise SettingsError(f"cannot read {what} from {path} ({error.strerror}): give a text file, one a line") from error
    lines = [" ".join(line.split()) for line in text.splitlines()]
    if not (found := [line for line in lines if line and not line.startswith("#")]):
        raise SettingsError(f"{path} holds no {what}: write one a line")
    return found


def _as_tuple(texts: Any) -> Any:
    return tuple(texts) if isinstance(texts, list) else texts
