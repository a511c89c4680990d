"""The steps of the recipe in their order; each is skipped where its result is there already."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from maskwright.backbones.hub import CLIP
from maskwright.datasets.scenes import SceneSet
from maskwright.datasets.word_list import BUNDLED, find_word_list
from maskwright.errors import SettingsError
from maskwright_recipes.atlas import draw_atlas
from maskwright_recipes.autoencoder import held_out, measure_psnr, steps_done, train_autoencoder
from maskwright_recipes.checkpoints import has_checkpoint
from maskwright_recipes.clip_training import ClipCourse, ClipTrainer
from maskwright_recipes.composing import Library, build_library
from maskwright_recipes.networks import Size, choose_size
from maskwright_recipes.pool import Pool, open_pool
from maskwright_recipes.streams import Batch, alternate, composed_batches, painted_batches
from maskwright_recipes.text_to_image import Course, Trainer

AUTOENCODER_STEPS, AUTOENCODER_BATCH = 4000, 24


@dataclass(frozen=True)
class Plan:
    """What is trained, where and with what.

    Attributes:
        scenes: whose words are learned.
        size: of the networks.
        out: folder of the training.
        device: where to train.
        workers: threads that paint, or processes that plan for the device to compose.
        composed: whether batches are composed on the device instead of painted by the renderer.
        skip: training scenes left out at the beginning.
        pool: scenes that are painted once and gone through again and again; 0 for new ones all the time.
        portraits: share of a training's steps that are on portraits of half the side, painted new all the time.
    """

    scenes: SceneSet
    size: Size
    out: Path
    device: torch.device
    workers: int = 1
    composed: bool = False
    skip: int = 0
    pool: int = 0
    portraits: float = 0.0

    def batches(self, start: int, size: int, count: int) -> Iterator[Batch]:
        """Batches of training scenes, without the first `start` of those that are not left out."""
        if self.pool:
            return self.painted.batches(start, size)
        start += self.skip
        if not self.composed:
            return painted_batches(self.scenes, start, size, workers=max(1, self.workers))
        return composed_batches(self.library(), self.scenes, start, size, batches=count, workers=self.workers)

    def seeds(self, start: int, size: int) -> Iterator[Sequence[int]]:
        """The seeds of the scenes in those batches."""
        for first in itertools.count(start, size):
            yield self.painted.seeds(first, size).tolist() if self.pool else range(self.skip + first, self.skip + first + size)

    def feed(self, first: int, size: int, count: int) -> tuple[Iterator[Batch], Iterator[Sequence[int]]]:
        """What a training takes from step `first` on: batches, and the seeds of their scenes, none for portraits."""
        batches, seeds = self.batches(first * size, size, count), self.seeds(first * size, size)
        if not self.portraits:
            return batches, seeds
        side = self.scenes.list.side // 2
        alone = painted_batches(self.scenes.portraits(side), self.skip + first * size, size, workers=max(1, self.workers))
        none: Iterator[Sequence[int]] = itertools.repeat(())
        return alternate(batches, alone, self.portraits, first=first), alternate(seeds, none, self.portraits, first=first)

    @functools.cached_property
    def painted(self) -> Pool:
        """The pool in the training's folder; what is missing of it is painted."""
        folder = self.out / f"pool-{self.scenes.list.side}"
        return open_pool(self.scenes, folder, self.pool, start=self.skip, workers=max(1, self.workers))

    def library(self) -> Library:
        """What batches are composed of."""
        return build_library(self.scenes, self.device, workers=max(1, self.workers))


def open_set(words: str | Path, font: Path) -> SceneSet:
    """The scene set of a list; a list of one's own gets its atlas drawn where that is missing or older than the list asks for.

    Raises:
        SettingsError: a list or artwork that cannot be used.
    """
    path = find_word_list(words)
    try:
        return SceneSet(path)
    except SettingsError:
        if path in BUNDLED.values():
            raise
    print(f"atlas: {draw_atlas(path, font=font)}", flush=True)
    return SceneSet(path)


def folder_of(words: str | Path) -> Path:
    """Where a training lies unless said otherwise."""
    names = {path: name for name, path in BUNDLED.items()}
    path = find_word_list(words)
    return Path("runs") / {"scenes": "sticker", "scenes-full": "sticker-full"}.get(names.get(path, ""), path.stem)


def make_plan(
    words: str | Path, *, out: Path | None, size: str | None, device: torch.device, font: Path, workers: int, compose: str,
    side: int | None = None, skip: int = 0, pool: int = 0, portraits: float = 0.0,
) -> Plan:  # fmt: skip
    """Reads the list and chooses what was left open; with a `side` of its own, scenes are close-ups of that many pixels.

    Raises:
        SettingsError: a choice that cannot be used.
    """
    if compose not in ("auto", "device", "painter"):
        raise SettingsError(f"compose must be auto, device or painter, not {compose!r}")
    if pool and compose == "device":
        raise SettingsError("a pool is painted, not composed: leave out --pool, or --compose device")
    scenes = open_set(words, font)
    composed = not pool and (compose == "device" or (compose == "auto" and device.type != "cpu"))
    chosen = choose_size(size, scenes.list.side)
    if side:
        choose_size(chosen.name, side)
        scenes = scenes.close_up(side)
    if portraits:
        choose_size(chosen.name, scenes.list.side // 2)
    return Plan(scenes, chosen, out or folder_of(words), device, workers, composed, skip, pool, portraits)


def run_autoencoder(plan: Plan, *, steps: int = AUTOENCODER_STEPS, batch: int = AUTOENCODER_BATCH, init: Path | None = None) -> None:
    """Trains or continues the autoencoder, and says how well it does."""
    if init:
        refuse_no_model(init)
    first, _ = steps_done(plan.out)
    batches = plan.batches(first * batch, batch, steps - first)
    model = train_autoencoder(plan.out, plan.scenes, plan.size, batches, steps=steps, batch=batch, device=plan.device, init=init)
    psnr = measure_psnr(model, held_out(plan.scenes, 200, "benchmark").to(plan.device))
    print(f"autoencoder: PSNR on 200 benchmark scenes {psnr:.2f} dB", flush=True)


def run_clip(plan: Plan, course: ClipCourse, *, init: Path | None = None) -> Path:
    """Trains or continues the CLIP; returns its folder.

    Raises:
        SettingsError: a folder that is no model to start from.
    """
    if init:
        refuse_no_model(init)
    trainer = ClipTrainer(plan.out, plan.scenes, plan.size, course, device=plan.device, init=init)
    trainer.run(*plan.feed(trainer.first, course.batch, course.steps - trainer.first))
    return plan.out / CLIP


def refuse_parted(out: Path) -> None:
    """Raises SettingsError for a checkpoint without what it was trained with: another one would scramble its words or latents."""
    if lost := [part for part in ("vae", "tokenizer") if not (out / part).is_dir()]:
        raise SettingsError(f"the checkpoint in {out} was trained with a {' and a '.join(lost)} that is missing there: bring it, too")


def refuse_no_model(folder: Path) -> None:
    """Raises SettingsError for a folder that holds no pipeline to start from."""
    if lost := [part for part in ("unet", "vae", "text_encoder", "tokenizer") if not (folder / part).is_dir()]:
        raise SettingsError(f"{folder} holds no model to start from, {', '.join(lost)} is missing: name a folder in diffusers' layout")


def run_training(plan: Plan, course: Course, *, init: Path | None = None, autoencoder_steps: int = AUTOENCODER_STEPS) -> Path:
    """Everything in order: the autoencoder where there is none, then tokenizer, text-to-image model and export.

    Returns:
        The folder of the model.

    Raises:
        SettingsError: a checkpoint without its autoencoder or tokenizer, a folder that is no model to start from, or a course that
            lacks what another part of it needs.
    """
    if course.teach and not course.attend:
        raise SettingsError("a model teaches its attention only words that it is told: add --attend 0.25, or leave out --teach")
    if course.align and not any((folder / CLIP).is_dir() for folder in (plan.out, init) if folder):
        raise SettingsError(f"there is no CLIP in {plan.out} to align with: train one with `maskwright-recipe clip`, or leave out --align")
    if has_checkpoint(plan.out / "checkpoint"):
        refuse_parted(plan.out)
    elif init:
        refuse_no_model(init)
    elif not (plan.out / "vae").is_dir():
        run_autoencoder(plan, steps=steps_done(plan.out)[1] or autoencoder_steps)
    trainer = Trainer(plan.out, plan.scenes, plan.size, course, device=plan.device, init=init)
    trainer.run(*plan.feed(trainer.first, course.batch, course.steps - trainer.first))
    return plan.out / "model"
