"""The methods of an evaluation at work on one picture: those that can share a pass of the model do."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskwright.decoders.discoverer import DecoderDiscoverer
from maskwright.decoders.segmenter import DecoderSegmenter
from maskwright.discovery.discoverer import Discoverer
from maskwright.evaluation.decoder_crew import DecoderCrew
from maskwright.evaluation.outcomes import Crew, Outcome, explain, seconds_of, without_timings
from maskwright.evaluation.task import Task, Truth
from maskwright.grouping import Grouper
from maskwright.images import Picture
from maskwright.methods import DECODER_METHODS, DISCOVERY_METHODS, METHODS, REGION_METHODS, make_method
from maskwright.reader import Reader
from maskwright.readings.probe import Probe
from maskwright.segmentation import Segmentation
from maskwright.segmenter import PictureReading, Segmenter
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Choice:
    """A method with its settings, under the key that lines and tables have.

    Attributes:
        key: unique; the method's name, and in a sweep the settings that differ: "diffsegmenter[timesteps=100]".
        method: its name.
        settings: over the method's (and the model's) defaults.
    """

    key: str
    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class TextCrew:
    """Text-driven methods, of which those in shared prompting whose probes are compatible read a picture together.

    Args:
        task: what is asked.
        segmenters: by key, made without background, because thresholds are applied when pixels are counted.
    """

    def __init__(self, task: Task, segmenters: Mapping[str, Segmenter]) -> None:
        self.task, self.segmenters = task, dict(segmenters)
        self._groups = _group(self.segmenters)

    def records(self) -> dict[str, dict[str, Any]]:
        """See Crew."""
        return {key: self._record(segmenter) for key, segmenter in self.segmenters.items()}

    def _record(self, segmenter: Segmenter) -> dict[str, Any]:
        own = segmenter.method.background
        vocabulary = self.task.vocabulary(None, own)
        thresholds = self.task.thresholds(own)
        words = "|".join(label.name for label in vocabulary if label.background)
        background = thresholds[0] if thresholds else words or None
        return without_timings(dataclasses.replace(segmenter.record(vocabulary), background=background))

    def fail(self, truth: Truth | None, reason: str) -> Iterator[tuple[str, Outcome]]:
        """See Crew."""
        for key in self.segmenters:
            yield key, self._failed(key, truth, reason)

    def work(self, picture: Picture, truth: Truth) -> Iterator[tuple[str, Outcome]]:
        """See Crew."""
        for probe, keys in self._groups:
            if probe is None:
                yield keys[0], self._outcome(keys[0], picture, truth, None)
                continue
            read, seconds, reason = self._read(picture, probe, self.segmenters[keys[0]])
            for key in keys:
                yield key, self._failed(key, truth, reason) if read is None else self._outcome(key, read, truth, seconds)

    def _read(self, picture: Picture, probe: Probe, first: Segmenter) -> tuple[PictureReading | None, float, str]:
        """One reading for a whole group, and how long it took; without one, why."""
        began = time.perf_counter()
        try:
            reader, method = first.reader, first.method
            condition = reader.backbone.text.encode([method.wording().neutral]).embeddings
            latents = reader.latents([picture], reader.size(picture, squash=method.squash))
            reading = reader.backbone.read(latents, probe, condition=condition, seed=reader.seed)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with a picture, the evaluation goes on
            return None, 0.0, explain(error)
        return PictureReading(picture, reading), time.perf_counter() - began, ""

    def _outcome(self, key: str, source: Picture | PictureReading, truth: Truth, read: float | None) -> Outcome:
        segmenter = self.segmenters[key]
        own, picture = segmenter.method.background, source.picture if isinstance(source, PictureReading) else source
        try:
            chosen = self.task.present(truth)
            began = time.perf_counter()
            result: Segmentation | None = None
            if chosen or self.task.words is not None:
                result = segmenter.segment(source, self.task.vocabulary(picture.name, own, chosen))
            seconds = seconds_of(read, time.perf_counter() - began)
            numbers = np.zeros(picture.size, dtype=np.uint16) if result is None else result.label_map
            confidence = np.zeros(picture.size, dtype=np.float32) if result is None else result.confidence
            predicted, probable = self.task.positions(numbers, chosen), segmenter.method.stretch == "label"
            statistics = self.task.count_labels(truth, predicted, confidence, own, probable=probable)
            return Outcome(statistics, seconds, None, result, next(iter(self.task.thresholds(own)), None))
        except Exception as error:  # noqa: BLE001
            return self._failed(key, truth, explain(error))

    def _failed(self, key: str, truth: Truth | None, reason: str) -> Outcome:
        method = self.segmenters[key].method
        return Outcome(self.task.count_failure(truth, method.name, method.background), seconds_of(None, 0.0), reason)


class RegionCrew:
    """Text-free methods; the grouper lets them share passes.

    Args:
        task: what is asked.
        grouper: the methods.
        keys: by name of the method.
    """

    def __init__(self, task: Task, grouper: Grouper, keys: Mapping[str, str]) -> None:
        self.task, self.grouper, self.keys = task, grouper, dict(keys)

    def records(self) -> dict[str, dict[str, Any]]:
        """See Crew."""
        return {key: without_timings(self.grouper.record(name)) for name, key in self.keys.items()}

    def fail(self, truth: Truth | None, reason: str) -> Iterator[tuple[str, Outcome]]:
        """See Crew."""
        for name, key in self.keys.items():
            yield key, Outcome(self.task.count_failure(truth, name, None), seconds_of(None, 0.0), reason)

    def work(self, picture: Picture, truth: Truth) -> Iterator[tuple[str, Outcome]]:
        """See Crew."""
        asks = any(method.regions == "oracle" for method in self.grouper.methods.values())
        try:
            found: Mapping[str, Segmentation] = self.grouper.by_method(picture, oracle=self.task.regions_in(truth) if asks else None)
            outcomes = {name: self._outcome(result, truth) for name, result in found.items()}
        except Exception as error:  # noqa: BLE001
            yield from self.fail(truth, explain(error))
            return
        yield from ((self.keys[name], outcome) for name, outcome in outcomes.items())

    def _outcome(self, result: Segmentation, truth: Truth) -> Outcome:
        timings = dict(result.record.timings)
        seconds = seconds_of(timings.pop("read"), sum(timings.values()))
        return Outcome(self.task.count_regions(truth, result.label_map.astype(np.int64) - 1), seconds, None, result)


class DiscoveryCrew:
    """One discovery method or saliency decoder, in passes of its own; a decoder that wants no words is not told any."""

    def __init__(self, task: Task, key: str, discoverer: Discoverer | DecoderDiscoverer) -> None:
        self.task, self.key, self.discoverer = task, key, discoverer

    def records(self) -> dict[str, dict[str, Any]]:
        """See Crew."""
        return {self.key: without_timings(self.discoverer.record(self.discoverer.quest(self._words(None))))}

    def _words(self, name: str | None) -> Vocabulary | None:
        wanted = isinstance(self.discoverer, Discoverer) or self.discoverer.wants_words
        return self.task.words_for(name) if wanted else None

    def fail(self, truth: Truth | None, reason: str) -> Iterator[tuple[str, Outcome]]:
        """See Crew."""
        yield self.key, Outcome(self.task.count_failure(truth, self.discoverer.method.name, None), seconds_of(None, 0.0), reason)

    def work(self, picture: Picture, truth: Truth) -> Iterator[tuple[str, Outcome]]:
        """See Crew."""
        try:
            result = self.discoverer.discover(picture, self._words(picture.name))
            timings = dict(result.record.timings)
            score = timings.pop("foreground_and_full_size")
            statistics = self.task.count_foreground(truth, result.probability, result.box)
        except Exception as error:  # noqa: BLE001
            yield from self.fail(truth, explain(error))
            return
        yield self.key, Outcome(statistics, seconds_of(sum(timings.values()), score), None, result)


def make_crews(task: Task, choices: Sequence[Choice], reader: Reader, **segmenting: Any) -> list[Crew]:
    """The methods in as few crews as need be.

    Args:
        task: what is asked.
        choices: the methods.
        reader: the model, its seed and refiner.
        segmenting: further options of `Segmenter`, such as `category_filter`.

    Raises:
        SettingsError: a method or setting that cannot be used, or that this data set cannot measure.
    """
    common: dict[str, Any] = {"refine": reader.refine, "seed": reader.seed, "batch": 1}
    for choice in choices:
        task.refuse(choice.method)
    crews: list[Crew] = []
    texts = {
        choice.key: Segmenter(reader.backbone, choice.method, settings=choice.settings, background="none", **common, **segmenting)
        for choice in choices if choice.method in METHODS
    }  # fmt: skip
    if texts:
        crews.append(TextCrew(task, texts))
    for names in _without_repeats([choice for choice in choices if choice.method in REGION_METHODS]):
        methods = [reader.make_method(choice.method, choice.settings, among=REGION_METHODS) for choice in names]
        grouper = Grouper(reader.backbone, methods, **common)
        crews.append(RegionCrew(task, grouper, {choice.method: choice.key for choice in names}))
    crews += [
        DiscoveryCrew(task, choice.key, Discoverer(reader.backbone, choice.method, settings=choice.settings, **common))
        for choice in choices if choice.method in DISCOVERY_METHODS
    ]  # fmt: skip
    crews += [_decoder_crew(task, choice, reader, common) for choice in choices if choice.method in DECODER_METHODS]
    return crews


def _decoder_crew(task: Task, choice: Choice, reader: Reader, common: Mapping[str, Any]) -> Crew:
    """A trained decoder at work on what it was trained for."""
    decoder = make_method(choice.method, choice.settings, among=DECODER_METHODS).decoder
    if choice.method == "diffusionseg":
        return DiscoveryCrew(task, choice.key, DecoderDiscoverer(reader.backbone, decoder, **common))
    return DecoderCrew(task, choice.key, DecoderSegmenter(reader.backbone, decoder, **common))


def _group(segmenters: Mapping[str, Segmenter]) -> list[tuple[Probe | None, tuple[str, ...]]]:
    """Keys that read together, with the probe that serves them all; None where a method reads by itself."""
    groups: list[tuple[Probe, tuple[bool, str], tuple[str, ...]]] = []
    alone: list[tuple[Probe | None, tuple[str, ...]]] = []
    for key, segmenter in segmenters.items():
        method = segmenter.method
        if method.prompting != "shared" or segmenter.tile != "none" or segmenter.flip:
            alone.append((None, (key,)))
            continue
        probe, needs = method.probe(), (method.squash, method.wording().neutral)
        for place, (shared, others, keys) in enumerate(groups):
            if needs == others and shared.compatible(probe):
                groups[place] = (shared.union(probe), needs, (*keys, key))
                break
        else:
            groups.append((probe, needs, (key,)))
    return [*((probe if len(keys) > 1 else None, keys) for probe, _, keys in groups), *alone]


def _without_repeats(choices: Sequence[Choice]) -> list[list[Choice]]:
    """Lists in each of which a method occurs once."""
    lists: list[list[Choice]] = []
    for choice in choices:
        free = next((one for one in lists if all(other.method != choice.method for other in one)), None)
        if free is None:
            lists.append([choice])
        else:
            free.append(choice)
    return lists
