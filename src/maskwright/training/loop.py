"""The loop: examples in batches, a step each, figures after each epoch, and a checkpoint from which it goes on exactly.

What a step does depends on the settings and the step's number alone: order, variations and the network's own chance are drawn anew
from them. So a training that was killed and resumed writes the same curve as one that was not; on one CPU thread to the last bit.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from maskwright.datasets.masks import quote
from maskwright.discovery.claim import TEMPORARY
from maskwright.discovery.seeds import mix, shuffled
from maskwright.errors import OutputError, SettingsError
from maskwright.exports.files import explained
from maskwright.training.augment import AugmentSettings, augment
from maskwright.training.checkpoint import CHECKPOINT, load_checkpoint, read_head, refuse_differences, save_checkpoint
from maskwright.training.curve import CURVE, Curve
from maskwright.training.examples import Example, Examples
from maskwright.training.schedule import cosine_rate

LEAST = 4  # examples
SECONDS = 60.0  # between checkpoints, at most
READERS = 4  # threads that open and vary examples while the model works


@dataclass(frozen=True)
class TrainingSettings:
    """How something is trained.

    Attributes:
        epochs: passes over the examples.
        batch: examples in a step; what is left of an epoch is left out, in another order each time.
        rate: the largest learning rate of AdamW, which falls to 0 along a cosine.
        weight_decay: of AdamW.
        warmup: share of all steps in which the rate rises.
        clip: the largest norm of a step's gradient; 0 for any.
        validation: share of the examples that is never trained on, 0 for none.
        side: of the square that examples are cropped to, in pixels; None for the shorter side of the first example.
        seed: of the split, the order, the variations and the network's own chance.
        augment: how examples are varied.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    validation: float = 0.1
    side: int | None = None
    seed: int = 0
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        """Refuses what cannot be trained with."""
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}: give a number of at least 1")
        if not 0 < self.rate < math.inf or not 0 <= self.weight_decay < math.inf or not 0 <= self.clip < math.inf:
            raise SettingsError(f"rate, weight_decay and clip are {self.rate}, {self.weight_decay} and {self.clip}: give positive numbers")
        if not 0 <= self.warmup < 1 or not 0 <= self.validation < 1:
            raise SettingsError(f"warmup and validation are {self.warmup} and {self.validation}: give shares from 0 to below 1")
        if self.side is not None and self.side < 1:
            raise SettingsError(f"side is {self.side}: give a number of pixels")


class LearningTask(Protocol):
    """What is learned: the loop knows nothing else of it."""

    def loss(self, module: nn.Module, batch: Sequence[Example]) -> Tensor:
        """A scalar with a gradient; the examples are squares of one size."""
        ...

    def measure(self, module: nn.Module, batch: Sequence[Example]) -> Any:
        """Counts of a batch that is not trained on; the examples are as they were drawn, all of one size."""
        ...

    def figures(self, counts: Sequence[Any]) -> dict[str, float]:
        """Figures by name from what `measure` returned for each batch."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step.

    Attributes:
        epoch: from 1.
        epochs: of the whole training.
        step: from 1.
        steps: of the whole training.
        loss: of this step; at the end of an epoch the mean of the epoch's.
        rate: with which the step was made.
        validation: figures by name at the end of an epoch, empty where nothing validates; None within an epoch.
        round: of several trainings after each other, from 1.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rate: float
    validation: Mapping[str, float] | None = None
    round: int = 1


def train(
    module: nn.Module, task: LearningTask, examples: Examples, settings: TrainingSettings, out: Path, *, resume: bool = False,
    decisive: Mapping[str, Any] | None = None,
) -> Iterator[Progress]:  # fmt: skip
    """Trains a module; a progress after every step, and one more after every epoch.

    Everything is checked at once, the training runs as the iterator is asked. `out` gets curve.jsonl and checkpoint.safetensors: before
    the first step, after every epoch and every 60 seconds. Resuming a training that is over gives no progress.

    Args:
        module: with its first weights, on its device; trained in place, the last weights are kept.
        task: what it learns.
        examples: what it learns from. A data set that has grown since is cut back to what it was.
        settings: how.
        out: folder, made if it is not there.
        resume: go on with the training that is there, if any.
        decisive: plain JSON values that decide the result beside the settings and the examples.

    Raises:
        SettingsError: too few examples; on resume, settings, examples or `decisive` values that differ, named.
        OutputError: a folder with a training, without `resume`; with other files; in which another run trains; that cannot be written.
        MaskwrightError: while it runs, examples that cannot be read, or a loss that is no number.
    """
    found = claim(out, resume=resume)
    if found is not None and len(examples) > (count := found["decisive"]["examples"]["count"]):
        examples = examples.first(count)
    refuse_few(examples)
    wanted = {
        **(decisive or {}), "training": dataclasses.asdict(settings),
        "examples": {"count": len(examples), "digest": examples.digest},
    }  # fmt: skip
    if found is not None:
        refuse_differences(found["decisive"], wanted, out)
    with explained(out, "choose another folder with --out"):
        out.mkdir(parents=True, exist_ok=True)
    return _Training(module, task, examples, settings, out, wanted).run()


def refuse_few(examples: Examples) -> None:
    """Raises SettingsError for examples that cannot be trained on."""
    if len(examples) < LEAST:
        raise SettingsError(f"{len(examples)} examples are too few to train on: give at least {LEAST}, better some hundreds")


def claim(out: Path, *, resume: bool) -> dict[str, Any] | None:
    """The head of a folder's checkpoint, None where nothing has begun. Changes nothing.

    Raises:
        OutputError: a training, without `resume`; other files; or a checkpoint that cannot be read.
    """
    try:
        names = {path.name for path in out.iterdir() if not TEMPORARY.fullmatch(path.name)}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"cannot use {quote(out)} ({error.strerror}): choose another folder with --out") from error
    if CHECKPOINT not in names:
        if names - {CURVE}:
            raise OutputError(f"{quote(out)} is not empty and holds no training to go on with: choose another folder with --out")
        return None
    if not resume:
        raise OutputError(f"{quote(out)} holds a training already: go on with it by --resume, or choose another folder with --out")
    return read_head(out / CHECKPOINT)


class _Training:
    """One run, from the checkpoint or the beginning to the end."""

    def __init__(
        self, module: nn.Module, task: LearningTask, examples: Examples, settings: TrainingSettings, out: Path, decisive: Mapping[str, Any]
    ) -> None:
        self.module, self.task, self.examples, self.settings, self.out, self.decisive = module, task, examples, settings, out, decisive
        self.learned, self.held = examples.split(settings.validation, settings.seed)
        self.batch = min(settings.batch, len(self.learned))
        self.each = len(self.learned) // self.batch  # steps of an epoch
        self.steps = self.each * settings.epochs
        self.warmup = round(settings.warmup * self.steps)
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
        self.device = next(module.parameters()).device
        side = settings.side or min(examples.read(self.learned[0]).size)
        self.size = (side, side)
        self.step, self.total = 0, 0.0  # steps that are made; the loss of those of this epoch together
        self._ordered: tuple[int, list[int]] = (-1, [])

    def run(self) -> Iterator[Progress]:
        """See `train`."""
        curve = Curve.open(self.out / CURVE)
        try:
            self._begin(curve)
            last = time.monotonic()
            with ThreadPoolExecutor(READERS, thread_name_prefix="examples") as pool:
                for batch in self._batches(pool):
                    progress = self._advance(batch, curve)
                    yield progress
                    if self.step % self.each == 0:
                        yield self._finish_epoch(progress, curve, pool)
                    elif time.monotonic() - last < SECONDS:
                        continue
                    else:
                        self._save(curve)
                    last = time.monotonic()
        finally:
            curve.close()

    def _begin(self, curve: Curve) -> None:
        """Goes to where the checkpoint stood, or makes the first one; the curve is cut back to it."""
        path = self.out / CHECKPOINT
        for torn in filter(lambda path: TEMPORARY.fullmatch(path.name), self.out.iterdir()):
            torn.unlink()
        if path.exists():
            position = load_checkpoint(path, self.module, self.optimizer)["position"]
            self.step, self.total = position["step"], position["total"]
            curve.cut(position["curve"])
        else:
            curve.cut(0)
            self._save(curve)

    def _advance(self, batch: Sequence[Example], curve: Curve) -> Progress:
        """One step."""
        settings = self.settings
        rate = cosine_rate(self.step, steps=self.steps, peak=settings.rate, warmup=self.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.module.train()
        with seeded(mix("step", settings.seed, self.step), self.device):
            loss = self.task.loss(self.module, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SettingsError(f"the loss is no number any more at step {self.step + 1}: train with a smaller --rate, or in float32")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), settings.clip)
        self.optimizer.step()
        epoch = self.step // self.each + 1
        self.step += 1
        self.total += value
        curve.append({"epoch": epoch, "step": self.step, "loss": value, "rate": rate})
        return Progress(epoch, settings.epochs, self.step, self.steps, value, rate)

    def _finish_epoch(self, progress: Progress, curve: Curve, pool: ThreadPoolExecutor) -> Progress:
        """Validates, and makes the checkpoint that knows of it."""
        figures = self._validate(pool)
        mean, self.total = self.total / self.each, 0.0
        curve.append({"epoch": progress.epoch, "step": self.step, "loss": mean, "validation": figures})
        self._save(curve)
        return dataclasses.replace(progress, loss=mean, validation=figures)

    @torch.no_grad()
    def _validate(self, pool: ThreadPoolExecutor) -> dict[str, float]:
        """Figures on what is not trained on, as it was drawn; neighbours of one size share a batch."""
        self.module.eval()
        counts, group = [], list[Example]()
        for first in range(0, len(self.held), self.batch):
            for example in pool.map(self.examples.read, self.held[first : first + self.batch]):
                if group and (example.size != group[0].size or len(group) == self.batch):
                    counts.append(self.task.measure(self.module, group))
                    group = []
                group.append(example)
        if group:
            counts.append(self.task.measure(self.module, group))
        return self.task.figures(counts) if counts else {}

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[list[Example]]:
        """The batches that are left, each read and varied while the one before it is trained on."""
        ahead: list[Future[Example]] | None = None
        for step in range(self.step, self.steps):
            now = ahead or self._ask(step, pool)
            ahead = self._ask(step + 1, pool) if step + 1 < self.steps else None
            yield [one.result() for one in now]

    def _ask(self, step: int, pool: ThreadPoolExecutor) -> list[Future[Example]]:
        """Sets out to read the examples of a step."""
        epoch, place = divmod(step, self.each)
        order = self._order(epoch)
        return [pool.submit(self._vary, index, epoch) for index in order[place * self.batch : (place + 1) * self.batch]]

    def _order(self, epoch: int) -> list[int]:
        """The numbers to train on, in the order of an epoch, remembered for the last one."""
        if self._ordered[0] != epoch:
            places = shuffled(len(self.learned), "epoch", self.settings.seed, epoch)
            self._ordered = (epoch, [self.learned[place] for place in places])
        return self._ordered[1]

    def _vary(self, index: int, epoch: int) -> Example:
        seed = mix("augment", self.settings.seed, epoch, index)
        return augment(self.examples.read(index), self.settings.augment, size=self.size, seed=seed)

    def _save(self, curve: Curve) -> None:
        curve.sync()  # the checkpoint must not know of lines that a power failure takes away
        position = {"step": self.step, "total": self.total, "curve": curve.end}
        head = {"decisive": self.decisive, "position": position}
        save_checkpoint(self.out / CHECKPOINT, self.module, self.optimizer, head)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Chance that networks take from torch's global generators (dropout, first weights) depends on `seed` alone; then all is as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
