"""What to draw: for each place of a data set, and each attempt at it, a prompt and the labels that it names, in a balanced order."""

import heapq
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from maskwright.discovery.seeds import mix, shuffled
from maskwright.discovery.templates import Templates, fill
from maskwright.errors import SettingsError
from maskwright.text.prompts import find_labels
from maskwright.vocabulary import Label, Vocabulary

log = logging.getLogger("maskwright")
PLAIN_ONE_IN = 3  # prompts of the plain form, where there are both forms
Fits = Callable[[str], bool]


@dataclass(frozen=True)
class Request:
    """What one attempt should draw.

    Attributes:
        prompt: names every label of `labels`, and no other label of the vocabulary.
        labels: in the vocabulary's order.
    """

    prompt: str
    labels: tuple[Label, ...]


class Prompts(Protocol):
    """Where prompts come from. What is asked for depends on the seed, the place and the attempt alone."""

    vocabulary: Vocabulary

    @property
    def most(self) -> int:
        """Labels that one prompt names, at most."""
        ...

    def request(self, number: int, attempt: int) -> Request:
        """What to draw in place `number`, from 0; a later attempt keeps the label that the place belongs to."""
        ...

    def texts(self) -> tuple[str, ...]:
        """What prompts are made of."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """All that decides the prompts, as plain JSON values."""
        ...


class LabelPrompts:
    """Prompts for labels, from templates.

    The labels stand in rounds, each round in an order of its own, and a scene takes the next ones that it does not hold yet: in every
    prefix of the data set no label occurs twice more often than another.

    Args:
        vocabulary: its labels that are not background are drawn.
        templates: what is said of them.
        objects: the least and the most labels in a scene.
        seed: of the order, the number of labels and the choice of templates.
        fits: whether a prompt is short enough for the model; templates that make it too long are passed over.

    Raises:
        SettingsError: a number of objects that is none, or a template that fits no label.
    """

    def __init__(
        self, vocabulary: Vocabulary, templates: Templates, *, objects: tuple[int, int] = (1, 1), seed: int = 0,
        fits: Fits = lambda prompt: True,
    ) -> None:  # fmt: skip
        count = len(vocabulary.foreground)
        if not 1 <= objects[0] <= objects[1] <= count:
            raise SettingsError(f"a scene cannot hold {_span(objects)} of {count} labels: choose from 1 to {count}")
        self.vocabulary, self.objects, self.seed, self.fits = vocabulary, objects, seed, fits
        self.templates = templates.without(vocabulary)
        self._scenes: list[tuple[int, ...]] = []
        self._queue: list[int] = []
        self._rounds = 0
        longest = sorted(vocabulary.foreground, key=lambda label: -len(label.name))[: objects[1]]
        self._prompt(longest, 0, 0)  # what will not fit is told before anything is drawn

    @property
    def most(self) -> int:
        """See `Prompts`."""
        return self.objects[1]

    def request(self, number: int, attempt: int) -> Request:
        """See `Prompts`; every attempt at a place names the same labels."""
        while len(self._scenes) <= number:
            self._scenes.append(self._next_scene(len(self._scenes)))
        scene = [self.vocabulary.foreground[index] for index in self._scenes[number]]
        ordered = tuple(label for label in self.vocabulary.foreground if label in scene)
        return Request(self._prompt(scene, number, attempt), ordered)

    def texts(self) -> tuple[str, ...]:
        """The templates, and the labels' names."""
        return (*self.templates.plain, *self.templates.scenes, *(label.name for label in self.vocabulary.foreground))

    def settings(self) -> dict[str, Any]:
        """Templates and number of objects."""
        return {"plain": list(self.templates.plain), "templates": list(self.templates.scenes), "objects": list(self.objects)}

    def _next_scene(self, number: int) -> tuple[int, ...]:
        low, high = self.objects
        size = low + mix("objects", self.seed, number) % (high - low + 1)
        scene: list[int] = []
        if len(self._queue) < size:  # the rest of one round and a whole new one hold every label, so that never a third is needed
            self._queue += shuffled(len(self.vocabulary.foreground), "round", self.seed, self._rounds)
            self._rounds += 1
        for label in list(self._queue):
            if label not in scene and len(scene) < size:
                scene.append(label)
                self._queue.remove(label)
        return tuple(scene)

    def _prompt(self, labels: Sequence[Label], number: int, attempt: int) -> str:
        """The first template, from a drawn one on, that holds each label once, no other one, and is short enough."""
        draw = mix("template", self.seed, number, attempt)
        plain = not self.templates.scenes or (bool(self.templates.plain) and draw % PLAIN_ONE_IN == 0)
        first, second = (self.templates.plain, self.templates.scenes) if plain else (self.templates.scenes, self.templates.plain)
        start = draw // PLAIN_ONE_IN % len(first)
        names = [label.name for label in labels]
        for template in (*first[start:], *first[:start], *second):
            prompt = fill(template, names)
            found = find_labels(prompt, self.vocabulary.foreground)
            if set(found) == set(labels) and all(len(spans) == 1 for spans in found.values()) and self.fits(prompt):
                return prompt
        raise SettingsError(
            f"no template holds {' and '.join(names)} once and is short enough for the model: give others with --templates, "
            "or name fewer labels a scene with --objects"
        )


class ListedPrompts:
    """Prompts that someone wrote; the labels that one names are masked.

    Each place goes to the label that was named least often so far, and takes the prompt naming it that was used least often: as balanced
    as these prompts allow. A later attempt draws among all prompts that name the place's label.

    Args:
        vocabulary: its labels that are not background are looked for, by name and synonym.
        prompts: texts, each used as it is.
        seed: of the order.
        fits: whether a prompt is short enough for the model; others are skipped, with a warning.

    Raises:
        SettingsError: no prompt names a label and fits.
    """

    def __init__(
        self, vocabulary: Vocabulary, prompts: Sequence[str], *, seed: int = 0, fits: Fits = lambda prompt: True
    ) -> None:  # fmt: skip
        self.vocabulary, self.seed, self.given = vocabulary, seed, tuple(prompts)
        labels = vocabulary.foreground
        named = [(prompt, tuple(find_labels(prompt, labels))) for prompt in dict.fromkeys(prompts)]
        self.requests = tuple(Request(prompt, found) for prompt, found in named if found and fits(prompt))
        nameless = sum(not found for _, found in named)
        long = len(named) - nameless - len(self.requests)
        if not self.requests:
            raise SettingsError(f"no prompt can be used: {nameless} of {len(named)} name no label, {long} are too long for the model")
        if nameless:
            log.warning("%d of %d prompts name no label and are skipped", nameless, len(named))
        if long:
            log.warning("%d of %d prompts are too long for the model and are skipped", long, len(named))
        index = {label: number for number, label in enumerate(labels)}
        self._labels = tuple(tuple(index[label] for label in request.labels) for request in self.requests)
        self._named_by = {number: [i for i, own in enumerate(self._labels) if number in own] for number in index.values()}
        if absent := [label.name for label in labels if not self._named_by[index[label]]]:
            log.warning("no prompt names %s", few(absent))
        self._order: list[tuple[int, int]] = []  # of each place: its label, its first prompt
        self._counts = {number: 0 for number, naming in self._named_by.items() if naming}
        ranks = shuffled(len(self.requests), "prompts", seed)
        self._uses = [0] * len(self.requests)
        self._heaps = {number: [(0, ranks[i], i) for i in self._named_by[number]] for number in self._counts}
        for heap in self._heaps.values():
            heapq.heapify(heap)

    @property
    def most(self) -> int:
        """See `Prompts`."""
        return max(len(request.labels) for request in self.requests)

    def request(self, number: int, attempt: int) -> Request:
        """See `Prompts`."""
        while len(self._order) <= number:
            self._order.append(self._next_place())
        label, prompt = self._order[number]
        if attempt:
            naming = self._named_by[label]
            prompt = naming[mix("prompt", self.seed, number, attempt) % len(naming)]
        return self.requests[prompt]

    def texts(self) -> tuple[str, ...]:
        """The prompts that are used."""
        return tuple(request.prompt for request in self.requests)

    def settings(self) -> dict[str, Any]:
        """How many prompts, and a number that changes with any of them."""
        return {"prompts": len(self.given), "prompts_digest": f"{mix(*self.given):016x}"}

    def _next_place(self) -> tuple[int, int]:
        label = min(self._counts, key=lambda one: (self._counts[one], mix("label", self.seed, self._counts[one], one)))
        heap = self._heaps[label]
        while heap[0][0] != self._uses[heap[0][2]]:  # another label has used it meanwhile
            _, rank, prompt = heap[0]
            heapq.heapreplace(heap, (self._uses[prompt], rank, prompt))
        _, rank, prompt = heap[0]
        self._uses[prompt] += 1
        for one in self._labels[prompt]:
            self._counts[one] += 1
        return label, prompt


def unknown_words(prompts: Prompts, known: Sequence[str] | None) -> tuple[str, ...]:
    """Words of prompts, or of templates and labels, that a closed model does not know; none for an open one (`known` is None)."""
    if known is None:
        return ()
    closed = set(known)
    words = (word for text in prompts.texts() for word in re.findall(r"[^\W_]+", text.lower()))
    return tuple(word for word in dict.fromkeys(words) if word not in closed)


def few(names: Sequence[str], most: int = 12) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _span(objects: tuple[int, int]) -> str:
    return f"{objects[0]}" if objects[0] == objects[1] else f"{objects[0]}-{objects[1]}"
