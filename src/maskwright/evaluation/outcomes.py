"""What a method gave for a picture, and what every crew of methods offers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from maskwright.errors import SettingsError, VocabularyError, brief
from maskwright.evaluation.statistics import Statistics
from maskwright.evaluation.task import Truth
from maskwright.images import Picture
from maskwright.record import Record

Seconds = dict[str, float | None]


@dataclass(frozen=True)
class Outcome:
    """What a method gave for a picture.

    Attributes:
        statistics: what it counts.
        seconds: "read" (None where it cannot be told from scoring), "score", "all". A shared reading counts in full for each method.
        failed: the reason in one line, None where it worked.
        result: the Segmentation or Discovery, None where it failed or nothing was looked for.
        threshold: the background threshold that is still to be applied to the result, None for none.
    """

    statistics: Statistics
    seconds: Seconds
    failed: str | None = None
    result: Any = None
    threshold: float | None = None


class Crew(Protocol):
    """Methods that work together on a picture."""

    def work(self, picture: Picture, truth: Truth) -> Iterator[tuple[str, Outcome]]:
        """The outcome of each method by its key."""
        ...

    def records(self) -> dict[str, dict[str, Any]]:
        """How each method makes its results, by its key, without timings."""
        ...

    def fail(self, truth: Truth | None, reason: str) -> Iterator[tuple[str, Outcome]]:
        """The outcome of each method where a picture cannot even be opened."""
        ...


def explain(error: Exception) -> str:
    """Why a picture failed, in one line.

    Raises:
        SettingsError, VocabularyError: what no picture can be blamed for.
    """
    if isinstance(error, SettingsError | VocabularyError):
        raise error
    return brief(error)


def seconds_of(read: float | None, score: float) -> Seconds:
    """Seconds of a picture; `read` is None where reading cannot be told from scoring."""
    return {"read": None if read is None else round(read, 4), "score": round(score, 4), "all": round((read or 0.0) + score, 4)}


def without_timings(record: Record) -> dict[str, Any]:
    """A record as plain JSON values that are the same for every picture."""
    content = record.as_dict()
    del content["timings"]
    return content
