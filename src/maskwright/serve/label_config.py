"""Label Studio's labelling configuration: which labels are asked for, on which picture, and in which form they are answered.

A label is asked for by its `value`, or by the words of `predicted_values="car,truck"` where it has them, as Label Studio's own examples
of backends do it; it is answered by its `alias` where it has one, because that is what Label Studio stores. A control tag may carry
`model_skip="true"` (it is not answered) and `model_background` (a threshold, background words or "none"; the method's own otherwise).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from xml.parsers import expat

from maskwright.errors import SettingsError, VocabularyError
from maskwright.vocabulary import Label, Vocabulary

LONGEST = 512 * 1024  # characters of a configuration
DEEPEST = 64  # tags inside each other
Kind = Literal["brushlabels", "polygonlabels", "rectanglelabels"]
KINDS: tuple[Kind, ...] = ("brushlabels", "polygonlabels", "rectanglelabels")
PROMPTS = ("keypointlabels", "rectanglelabels")  # what an annotator points with where the tag is smart="true"
TRUE = ("true", "1", "yes")


@dataclass(frozen=True)
class Answer:
    """How a label is asked for and answered.

    Attributes:
        label: the words that the model is asked for.
        written: what a result calls it.
        control: name of the control tag that answers, `from_name`.
        kind: type of that tag, in lower case.
    """

    label: Label
    written: str
    control: str
    kind: Kind


@dataclass(frozen=True)
class ImageQuestion:
    """What is asked of one picture of a task.

    Attributes:
        name: name of the Image tag, `to_name`.
        field: where the task's data holds the picture.
        answers: one for each label, in the order of the configuration; a label of several controls is answered by the first.
        background: a threshold, background words, "none" or "auto".
    """

    name: str
    field: str
    answers: tuple[Answer, ...]
    background: str

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The labels, in the order of the answers; number i of a label map is `answers[i - 1]`.

        Raises:
            VocabularyError: labels that cannot be asked for together.
        """
        return Vocabulary(tuple(answer.label for answer in self.answers))


def read_config(xml: str) -> tuple[ImageQuestion, ...]:
    """What a labelling configuration asks for.

    Args:
        xml: the configuration. Document types and entities are refused, so that a small text cannot become a large one.

    Returns:
        One question for each Image tag that BrushLabels, PolygonLabels or RectangleLabels point to, in their order.

    Raises:
        SettingsError: no XML, too large, or nothing in it that can be answered.
        VocabularyError: labels that cannot be asked for.
    """
    if len(xml) > LONGEST:
        raise SettingsError(f"the labelling configuration has {len(xml)} characters: shorten it to {LONGEST} at most")
    collector = _Collector()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler = collector.start, collector.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(xml.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise SettingsError(f"the labelling configuration is no valid XML ({error}): mend it in Label Studio") from error
    questions = tuple(_question(name, field, collector) for name, field in collector.images.items())
    found = tuple(question for question in questions if question.answers)
    if not found:
        raise SettingsError(
            "the labelling configuration asks for no mask: give an Image tag with a value such as $image, and BrushLabels, PolygonLabels "
            "or RectangleLabels with labels that point to it"
        )
    for question in found:
        _ = question.vocabulary
    return found


@dataclass(frozen=True)
class _Control:
    """A tag that holds labels: (words, what is written) of each."""

    name: str
    kind: str
    targets: tuple[str, ...]
    attributes: Mapping[str, str]
    labels: list[tuple[Label, str]]

    @property
    def answers(self) -> bool:
        return self.kind in KINDS and not self._has("model_skip") and not (self.kind in PROMPTS and self._has("smart"))

    def _has(self, attribute: str) -> bool:
        return self.attributes.get(attribute, "").lower() in TRUE


class _Collector:
    """Takes the tags as they are read, which needs no tree."""

    def __init__(self) -> None:
        self.images: dict[str, str] = {}
        self.controls: list[_Control] = []
        self._open: list[_Control | None] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= DEEPEST:
            raise SettingsError(f"the labelling configuration has tags more than {DEEPEST} deep: make it flatter")
        kind, name, value = tag.lower(), attributes.get("name", ""), attributes.get("value", "")
        control = None
        if kind == "image" and name and value.startswith("$"):
            self.images[name] = value[1:]
        elif name and attributes.get("toName"):
            targets = tuple(target.strip() for target in attributes["toName"].split(","))
            control = _Control(name, kind, targets, attributes, [])
            self.controls.append(control)
        elif kind == "label" and (owner := next((one for one in reversed(self._open) if one), None)) and owner.answers:
            if written := attributes.get("alias") or value:
                owner.labels.append((_words(attributes.get("predicted_values", ""), value or written), written))
        self._open.append(control)

    def end(self, _: str) -> None:
        self._open.pop()


def _words(predicted: str, name: str) -> Label:
    """The words that are asked for: those of `predicted_values`, otherwise the label's name."""
    words = [word for word in predicted.split(",") if word.strip()] or [name]
    try:
        return Label(words[0], tuple(words[1:]))
    except VocabularyError as error:
        raise VocabularyError(f"{error}; in Label Studio, predicted_values=\"...\" gives a label other words") from error


def _question(name: str, field: str, collector: _Collector) -> ImageQuestion:
    controls = [control for control in collector.controls if control.answers and name in control.targets]
    answers: dict[tuple[str, ...], Answer] = {}
    for control in controls:
        kind = next(kind for kind in KINDS if kind == control.kind)
        for label, written in control.labels:
            answer = Answer(label, written, control.name, kind)
            first = answers.setdefault(tuple(text.casefold() for text in label.texts), answer)
            if first is not answer and first.control == control.name:
                raise VocabularyError(f"'{label.name}' stands for the labels '{first.written}' and '{written}': give each its own words")
    background = next((text for control in controls if (text := control.attributes.get("model_background", "").strip())), "auto")
    return ImageQuestion(name, field, tuple(answers.values()), background)


def _refuse_doctype(*_: object) -> None:
    raise SettingsError("the labelling configuration has a document type: remove the line <!DOCTYPE ...>")
