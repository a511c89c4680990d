"""What a text-driven method is: settings, a probe, and a score. Nothing here knows which model is read."""

from typing import ClassVar, Literal, Protocol

from torch import Tensor

from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from maskwright.text.wording import Prompting, Wording


class TextDrivenMethod(Protocol):
    """A frozen dataclass of settings with the two steps of a method.

    Attributes:
        name: as on the command line.
        meaning: what a score is, for the record.
        stretch: "label" when each full-size map is stretched to 0..1 before labels compete, else "none".
        background: the method's own default: a threshold, or None when every pixel takes a label.
        prompting: the default mode.
        squash: read pictures at the model's square instead of their own aspect ratio (parity with published code).

    A method with a `reject` setting also has `absent`, the baseline word, and `strength(reading, keys)`, (pictures, labels).
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    stretch: ClassVar[Literal["label", "none"]]
    background: ClassVar[float | None]

    @property
    def prompting(self) -> Prompting: ...  # noqa: D102
    @property
    def squash(self) -> bool: ...  # noqa: D102

    def wording(self) -> Wording:
        """How labels become prompts."""
        ...

    def probe(self) -> Probe:
        """What must be read; the same for all labels, so that a stored reading serves labels that are asked for later."""
        ...

    def score(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Label maps of each picture, (pictures, labels, h, w) float32 on the method's working grid."""
        ...
