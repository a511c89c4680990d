"""What the model's thread does. Equal tasks on several pictures are one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from maskwright.images import Picture, Size
from maskwright.serve.engine import Engine
from maskwright.serve.options import DiscoverOptions, SegmentOptions
from maskwright.serve.readings import StoredReading
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Read:
    """One pass that serves any label.

    Attributes:
        number: which of the engine's passes.
        size: (h, w) at which pictures are read.
    """

    kind: ClassVar[str] = "read"

    number: int
    size: Size

    def run(self, engine: Engine, stored: Sequence[StoredReading]) -> Sequence[Any]:
        """Adds the reading to each picture that lacks it."""
        engine.read(stored, self.number)
        return [None] * len(stored)


@dataclass(frozen=True)
class Score:
    """Passes under the labels' own prompts; gives score maps."""

    kind: ClassVar[str] = "score"

    labels: Vocabulary
    options: SegmentOptions
    size: Size

    def run(self, engine: Engine, pictures: Sequence[Picture]) -> Sequence[Any]:
        """Score maps of each picture."""
        return engine.score(pictures, self.labels, self.options)


@dataclass(frozen=True)
class Discover:
    """Passes under the words that are looked for; gives discoveries."""

    kind: ClassVar[str] = "discover"

    options: DiscoverOptions
    size: Size

    def run(self, engine: Engine, pictures: Sequence[Picture]) -> Sequence[Any]:
        """The object of each picture."""
        return engine.discover(pictures, self.options)


Task = Read | Score | Discover
