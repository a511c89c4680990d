"""Drawing labelled pictures: the model draws a prompt, what it attends to meanwhile is cut into masks, filters decide what is kept."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from maskwright.backbones.contract import GUIDANCE, STEPS, DrawingBackbone
from maskwright.backbones.sampling import chosen_steps, drawn_shape, evaluations, sample
from maskwright.decoding import from_tensor
from maskwright.discovery.filters import FilterSettings, measure, reasons
from maskwright.discovery.masks import MaskSettings, full_mask
from maskwright.discovery.pairs import MOST_LABELS, Drawn, Pair
from maskwright.discovery.prompts import Prompts, few, unknown_words
from maskwright.discovery.recognition import Recogniser
from maskwright.discovery.seeds import pair_seed
from maskwright.errors import SettingsError, VocabularyError
from maskwright.methods import DISCOVERY_METHODS, suited_method
from maskwright.reader import BATCH_ON_GPU
from maskwright.readings.running import RunningReading
from maskwright.record import plain
from maskwright.text.prompts import prompt_keys
from maskwright.vocabulary import Vocabulary

if TYPE_CHECKING:
    from maskwright.discovery.store import PairStore

log = logging.getLogger("maskwright")
Task = tuple[int, int]  # place in the data set, and how often it was tried before


@dataclass(frozen=True)
class SynthesisSettings:
    """How pictures are drawn and read.

    Attributes:
        steps: of the sampler.
        guidance: weight of classifier-free guidance; 1 for none.
        side: of the pictures, in pixels; None for the model's native one.
        attempts: how often a place is tried, at most.
        read_part: first and last place of the part of the sampler's way at which attention is read, 0..1.
        read_steps: at how many of its timesteps it is read, evenly spread; 0 for all. A step is one timestep of most samplers, two of some.
        masks: see `MaskSettings`.
        filters: see `FilterSettings`.
    """

    steps: int = STEPS
    guidance: float = GUIDANCE
    side: int | None = None
    attempts: int = 5
    read_part: tuple[float, float] = (0.4, 0.7)
    read_steps: int = 2
    masks: MaskSettings = field(default_factory=MaskSettings)
    filters: FilterSettings = field(default_factory=FilterSettings)

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn or read."""
        if self.steps < 1:
            raise SettingsError(f"steps is {self.steps}: give a number of at least 1")
        if not math.isfinite(self.guidance) or self.guidance < 0:
            raise SettingsError(f"guidance is {self.guidance}: give a number of at least 0, for instance 7.5")
        if self.side is not None and self.side < 1:
            raise SettingsError(f"side is {self.side}: give a number of pixels, for instance 512")
        if self.attempts < 1:
            raise SettingsError(f"attempts is {self.attempts}: give a number of at least 1")
        chosen_steps(self.steps, self.read_part, self.read_steps)  # refuses its own settings

    @classmethod
    def suited(cls, synthesis: Mapping[str, Any], **given: Any) -> "SynthesisSettings":
        """What is given and not None, else what suits the model (`ModelInfo.synthesis`), else the defaults."""
        own = {key: synthesis[key] for key in ("steps", "guidance", "side") if key in synthesis}
        return cls(**{**own, **{key: value for key, value in given.items() if value is not None}})


class Synthesizer:
    """Draws labelled pictures.

    What is drawn for a place of the data set is a function of the seed, the place and the number of the attempt alone, so that a run can
    be stopped and resumed, and any pair be drawn again.

    Args:
        backbone: the model that draws.
        prompts: what to draw.
        method: name of a discovery method, with the settings that suit the model, or a settings object of one.
        settings: None for those that suit the model.
        method_settings: over the method's (and the model's) own, when `method` is a name.
        recogniser: of what was drawn, so that only what it recognises is kept; None to look at masks alone.
        seed: of the data set.
        batch: places that are drawn together; "auto" chooses by device. Rounding depends on it, so it is part of `decisive`.

    Raises:
        SettingsError: a setting that cannot be used.
        VocabularyError: more labels than an 8-bit mask can hold.
    """

    def __init__(
        self, backbone: DrawingBackbone, prompts: Prompts, method: Any = "attentioncut", *, settings: SynthesisSettings | None = None,
        method_settings: Mapping[str, Any] | None = None, recogniser: Recogniser | None = None, seed: int = 0,
        batch: int | Literal["auto"] = "auto",
    ) -> None:  # fmt: skip
        refuse_many(prompts.vocabulary)
        self.backbone, self.prompts, self.recogniser, self.seed = backbone, prompts, recogniser, seed
        if strange := unknown_words(prompts, backbone.info.words):
            log.warning("%s does not know %s. %s", backbone.info.name, few(strange), backbone.info.advice)
        self.settings = settings or SynthesisSettings.suited(backbone.info.synthesis)
        method = suited_method(method, method_settings, suited=backbone.info.methods, among=DISCOVERY_METHODS)
        if batch != "auto" and batch < 1:
            raise SettingsError(f"batch must be at least 1 or 'auto', not {batch}")
        self.method = method
        # On a CPU a picture is drawn as fast alone, and alone it can be drawn again exactly.
        self.batch = (1 if backbone.device.type == "cpu" else BATCH_ON_GPU) if batch == "auto" else batch
        asked = evaluations(backbone, self.settings.steps)
        self.read_at = chosen_steps(asked, self.settings.read_part, self.settings.read_steps)
        drawn_shape(backbone, self.settings.side)  # refuses what the model cannot draw
        self._probe = method.probe()
        self._numbers = {label: number for number, label in enumerate(prompts.vocabulary.foreground, start=1)}

    def decisive(self) -> dict[str, Any]:
        """All that decides what a pair looks like, as plain JSON values; two runs that agree in it draw the same pairs."""
        info, backbone = self.backbone.info, self.backbone
        drawing = dataclasses.asdict(self.settings)
        masks, filters, _ = drawing.pop("masks"), drawing.pop("filters"), drawing.pop("attempts")  # more attempts add, and change nothing
        if drawing["side"] is None:  # as data sets say that were drawn before there was a choice
            del drawing["side"]
        return {
            "model": info.source, "revision": info.revision or None, "method": self.method.name,
            "settings": plain(dataclasses.asdict(self.method)), **plain(drawing), "masks": plain(masks), "filters": filters,
            **(self.recogniser.settings if self.recogniser else {}),
            "prompts": dict(self.prompts.settings()), "seed": self.seed, "batch": self.batch,
            "device": backbone.device.type, "dtype": str(backbone.dtype).removeprefix("torch."),
        }  # fmt: skip

    def run(self, places: Iterable[int], store: "PairStore") -> Iterator[Drawn]:
        """Draws what a data set lacks, and adds it.

        Places are drawn in blocks of `batch`, each block attempt by attempt until it is full: the pairs that share a pass of the model
        are the same in every run, whatever was there before.

        Args:
            places: to fill; a range in rising order, or numbers in any order.
            store: where the pairs go; those that it holds already are not drawn again.

        Yields:
            Every new attempt, kept or not, once it is in the store.
        """
        found = {(pair.number, pair.attempt): pair.kept for pair in store.pairs}
        ordered = places if isinstance(places, range) else sorted(set(places))
        for block, wanted in itertools.groupby(ordered, lambda place: place // self.batch):
            first = block * self.batch
            yield from self._fill(range(first, first + self.batch), frozenset(wanted), found, store)

    def make(self, number: int, attempt: int = 0) -> Drawn:
        """One attempt at one place, alone: exactly what a run with `batch` 1 draws there, and that of another batch up to rounding."""
        return self.draw([(number, attempt)])[0]

    def draw(self, tasks: Sequence[Task]) -> list[Drawn]:
        """Attempts that share the passes of the model, in their order."""
        requests = [self.prompts.request(*task) for task in tasks]
        seeds = [pair_seed(self.seed, *task) for task in tasks]
        running = RunningReading([prompt_keys(self.backbone.text, one.prompt, one.labels) for one in requests])
        pictures = sample(
            self.backbone, [one.prompt for one in requests], steps=self.settings.steps, guidance=self.settings.guidance, seeds=seeds,
            side=self.settings.side, probe=self._probe, read_at=self.read_at, on_reading=running.add,
        )  # fmt: skip
        drawn, factor = [], self.method.grid_factor
        for row, (request, seed, task) in enumerate(zip(requests, seeds, tasks, strict=True)):
            pixels = from_tensor(pictures[row])
            attention = running.self_attention(row, factor) if factor is not None else None
            foreground = self.method.foreground(running.maps(row), attention, pixels, seed=seed)
            numbers = [self._numbers[label] for label in request.labels]
            full = full_mask(foreground, pixels, numbers, settings=self.settings.masks)
            names = tuple(label.name for label in request.labels)
            scores = dict(zip(names, measure(full, numbers), strict=True))
            if self.recogniser:
                ranks = self.recogniser.ranks(pixels, names)
                scores = {name: {**score, "rank": float(rank)} for (name, score), rank in zip(scores.items(), ranks, strict=True)}
            why = reasons(scores, settings=self.settings.filters)
            pair = Pair(
                number=task[0], attempt=task[1], prompt=request.prompt, labels=names, seed=seed, scores=scores, kept=not why, reasons=why
            )  # fmt: skip
            drawn.append(Drawn(pair, pixels, full.mask))
        return drawn

    def _fill(self, block: range, wanted: frozenset[int], found: dict[Task, bool], store: "PairStore") -> Iterator[Drawn]:
        """Attempts at the places of a block until the wanted ones are full or given up; the others are drawn along, and dropped."""
        pending = list(block)
        for attempt in range(self.settings.attempts):
            if not any(self._is_open(place, found) for place in wanted):
                return
            tasks = [(place, attempt) for place in pending]
            kept = {task: found[task] for task in tasks if task in found}
            if len(kept) < len(tasks):
                drawn = self.draw(tasks)
                new = [one for task, one in zip(tasks, drawn, strict=True) if task[0] in wanted and task not in found]
                store.add(new)
                kept |= {task: one.pair.kept for task, one in zip(tasks, drawn, strict=True)}
                found |= {task: kept[task] for task in tasks if task[0] in wanted}
                yield from new
            pending = [place for place, _ in tasks if not kept[place, attempt]]

    def _is_open(self, place: int, found: Mapping[Task, bool]) -> bool:
        """Whether a place is neither filled nor given up."""
        tried = [found.get((place, attempt)) for attempt in range(self.settings.attempts)]
        return True not in tried and None in tried


def refuse_many(vocabulary: Vocabulary) -> None:
    """Refuses more labels than the values of a mask.

    Raises:
        VocabularyError: there are more than 254.
    """
    if (count := len(vocabulary.foreground)) > MOST_LABELS:
        raise VocabularyError(f"{count} labels: a mask of 8 bits holds at most {MOST_LABELS}; split them over several data sets")
