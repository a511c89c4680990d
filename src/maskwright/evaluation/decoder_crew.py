"""A semantic decoder in an evaluation: its classes are those of the data set, as far as it knows them."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from maskwright.decoders.segmenter import DecoderSegmenter
from maskwright.errors import SettingsError
from maskwright.evaluation.outcomes import Outcome, explain, seconds_of, without_timings
from maskwright.evaluation.task import Task, Truth
from maskwright.images import Picture


class DecoderCrew:
    """One semantic decoder, in passes of its own.

    Args:
        task: what is asked.
        key: of the method.
        segmenter: with the decoder. Of its classes those compete that the data set has, by name or synonym; a class that it does not
            know is never found.
    """

    def __init__(self, task: Task, key: str, segmenter: DecoderSegmenter) -> None:
        self.task, self.key, self.segmenter = task, key, segmenter
        self._places = {
            label: place for label in segmenter.decoder.labels for place in task.foreground
            if not {text.casefold() for text in label.texts}.isdisjoint(text.casefold() for text in task.classes[place].texts)
        }  # fmt: skip
        if not self._places:
            raise SettingsError(f"the decoder of {key} knows no class of {task.dataset.name}: choose another decoder or data set")

    def records(self) -> dict[str, dict[str, Any]]:
        """See Crew."""
        return {self.key: without_timings(self.segmenter.record(self.segmenter.vocabulary(tuple(self._places))))}

    def fail(self, truth: Truth | None, reason: str) -> Iterator[tuple[str, Outcome]]:
        """See Crew."""
        yield self.key, Outcome(self.task.count_failure(truth, self.segmenter.method.name, None), seconds_of(None, 0.0), reason)

    def work(self, picture: Picture, truth: Truth) -> Iterator[tuple[str, Outcome]]:
        """See Crew."""
        try:
            chosen = set(self.task.present(truth))
            labels = tuple(label for label, place in self._places.items() if place in chosen)
            began = time.perf_counter()
            result = self.segmenter.segment(picture, labels) if labels else None
            seconds = seconds_of(None, time.perf_counter() - began)
            numbers = np.zeros(picture.size, dtype=np.uint16) if result is None else result.label_map
            confidence = np.zeros(picture.size, dtype=np.float32) if result is None else result.confidence
            predicted = self.task.positions(numbers, [self._places[label] for label in labels])
            statistics = self.task.count_labels(truth, predicted, confidence, None, probable=True)
        except Exception as error:  # noqa: BLE001
            yield from self.fail(truth, explain(error))
            return
        yield self.key, Outcome(statistics, seconds, None, result, next(iter(self.task.thresholds(None)), None))
