"""Trains the CLIP that comes with a model, on pictures and the words that are in them: whole pictures only, no place, no mask.

A small ResNet and a text encoder meet in one space by the sigmoid loss over all words of the list (Zhai et al., "Sigmoid Loss for Language
Image Pre-Training", arXiv 2303.15343, algorithm 1), each word written into a template.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from maskwright.backbones.hub import CLIP
from maskwright.datasets.scenes import SceneSet
from maskwright.errors import SettingsError
from maskwright.text.filter_rules import keep_near_best
from maskwright.text.filtering import PROMPT
from maskwright_recipes.autoencoder import held_out
from maskwright_recipes.clip import (
    WIDTHS,
    build_clip,
    embed_pictures,
    embed_texts,
    export_clip,
    part_texts,
    pool_pictures,
    project_pictures,
    start_clip,
)
from maskwright_recipes.networks import Size
from maskwright_recipes.streams import Batch
from maskwright_recipes.tokenizer import tokenizer_of
from maskwright_recipes.training import Progress, cosine_rate, keep_freed_memory, load_state, run_steps, save_state, update_average

RATE, WARMUP, DECAY, AVERAGE = 2e-3, 200, 0.03, 0.998
SCALE, BIAS = 20.0, -6.0  # at first: a picture of five words can be near each by a cosine of 0.45 at most, and nearly all words are absent
TEMPLATES = (PROMPT.replace("{label}", "{}"), "{}", "a photograph of a {}", "a picture of a {}", "a {}", "there is a {}")
PROMPTED = 0.3  # share of the texts that are written as the filter will ask
NAMED = 0.7  # share of the texts that take a word's name, not one of its synonyms
RATIOS = tuple(round(0.02 * step, 2) for step in range(5, 50))  # of the filter, that are tried


@dataclass(frozen=True)
class ClipCourse:
    """How the training goes: samples in all, samples in a step, highest learning rate, minutes after which to stop (None: no limit)."""

    samples: int
    batch: int = 64
    rate: float = RATE
    minutes: float | None = None

    @property
    def steps(self) -> int:
        """In all."""
        return self.samples // self.batch


def words_shown(scenes: SceneSet, seeds: Sequence[int], split: str = "train") -> Tensor:
    """(seeds, words) bool: which words of the list are in the scenes with these seeds."""
    shown = torch.zeros(len(seeds), len(scenes.words.all), dtype=torch.bool)
    for row, seed in enumerate(seeds):
        shown[row, list(scenes.places(scenes.contents(int(seed), split=split)))] = True
    return shown


class ClipTrainer:
    """Trains or continues; leaves the model in `out/clip`.

    Args:
        out: also holds tokenizer and checkpoint (clip.pt).
        scenes: whose words it learns.
        size: of the text encoder.
        course: how long and how fast.
        device: where to train.
        init: a pipeline folder whose text encoder, and CLIP where it has one, to start from.
    """

    def __init__(
        self, out: Path, scenes: SceneSet, size: Size, course: ClipCourse, *, device: torch.device, init: Path | None = None
    ) -> None:  # fmt: skip
        self.out, self.scenes, self.course, self.device = out, scenes, course, device
        self.tokenizer = tokenizer_of(out, scenes.list.path, length=size.text_length, init=init)
        if device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(0)
        self.model = build_clip(size, self.tokenizer)
        if init is None or not start_clip(self.model, self.tokenizer, init):
            part_texts(self.model, self.tokenizer, [PROMPT.format(label=word.name) for word in scenes.words.all])
        self.model.to(device).vision_model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.head = nn.Linear(WIDTHS[-1], len(scenes.words.all), device=device)
        nn.init.constant_(self.head.bias, BIAS)
        self.scale = nn.Parameter(torch.tensor(math.log(SCALE), device=device))
        self.bias = nn.Parameter(torch.tensor(BIAS, device=device))
        trained = [*self.model.parameters(), *self.head.parameters()]
        groups = [{"params": trained, "weight_decay": DECAY}, {"params": [self.scale, self.bias], "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=course.rate, betas=(0.9, 0.98), fused=True)
        self.first = 0
        if state := load_state(out / "clip.pt"):
            self._resume(state)

    def _resume(self, state: dict[str, Any]) -> None:
        """Takes up the checkpoint.

        Raises:
            SettingsError: it is of another list or size.
        """
        if state["words"] != self._words():
            raise SettingsError(f"the CLIP in {self.out} was begun with other words: choose another --out")
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise SettingsError(f"the CLIP in {self.out} is of another size: name its size with --size") from error
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.head.load_state_dict(state["head"])
        with torch.no_grad():
            self.scale.copy_(state["scale"])
            self.bias.copy_(state["bias"])
        self.first = int(state["samples"]) // self.course.batch

    def _words(self) -> list[str]:
        return [word.name for word in self.scenes.words.all]

    def loss(self, pictures: Tensor, shown: Tensor, rng: np.random.Generator) -> Tensor:
        """Binary cross-entropy of all words for each picture, summed over words: of the cosines, and of a linear head.

        The head is thrown away; until the texts lie apart from each other, it is what teaches the image encoder.

        Args:
            pictures: (n, 3, H, W) in -1..1.
            shown: (n, words) bool.
            rng: chooses how each word is written.
        """
        texts = embed_texts(self.model, self.tokenizer, self.written(rng))
        pooled = pool_pictures(self.model, pictures)
        logits = project_pictures(self.model, pooled) @ texts.T * self.scale.exp() + self.bias
        wanted = shown.to(logits)
        losses = [F.binary_cross_entropy_with_logits(found, wanted, reduction="none") for found in (logits, self.head(pooled))]
        return torch.stack(losses).sum(2).mean()

    def written(self, rng: np.random.Generator) -> list[str]:
        """One text for each word: its name or a synonym in some template."""
        texts = []
        for word in self.scenes.words.all:
            name = word.name if rng.random() < NAMED else word.names[rng.integers(len(word.names))]
            template = TEMPLATES[0] if rng.random() < PROMPTED else TEMPLATES[rng.integers(len(TEMPLATES))]
            texts.append(template.format(name))
        return texts

    def step(self, step: int, pictures: Tensor, shown: Tensor) -> Tensor:
        """One step; returns its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.course.rate * cosine_rate(step, self.course.steps, warmup=WARMUP, floor=0.02)
        pictures = pictures.to(self.device, memory_format=torch.channels_last)
        loss = self.loss(pictures, shown.to(self.device), np.random.default_rng([step, 1]))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.head.parameters(), self.scale, self.bias], 2.0)
        self.optimiser.step()
        update_average(self.average, self.model, step, AVERAGE)
        return loss.detach()

    def run(self, batches: Iterator[Batch], seeds: Iterator[Sequence[int]]) -> None:
        """Trains to the last step, or until time is up; then exports and says how well the words of tuning scenes are told.

        Args:
            batches: of training scenes from step `first` on; captions are not looked at.
            seeds: of the same scenes.
        """
        progress = Progress(self.course.steps, self.course.batch)

        def step(number: int, given: tuple[Batch, Sequence[int]]) -> Tensor:
            (pictures, _), own = given
            return self.step(number, pictures, words_shown(self.scenes, own))

        left = range(self.first, self.course.steps)
        run_steps(left, zip(batches, seeds, strict=False), step, self.save, progress=progress, minutes=self.course.minutes)
        text, ratio = report(self.average, self.tokenizer, self.scenes)
        export_clip(self.average, self.tokenizer, self.out / CLIP, side=self.scenes.list.side, ratio=ratio)
        print(text, flush=True)

    def save(self, step: int) -> None:
        """Writes the checkpoint."""
        save_state(self.out / "clip.pt", {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "optimiser": self.optimiser.state_dict(),
            "head": self.head.state_dict(), "scale": self.scale.detach(), "bias": self.bias.detach(), "samples": step * self.course.batch,
            "words": self._words(),
        })  # fmt: skip


@torch.no_grad()
def report(model: Any, tokenizer: CLIPTokenizer, scenes: SceneSet, *, split: str = "tuning", limit: int = 300) -> tuple[str, float]:
    """How well the words of some scenes are told, by the rule of the category filter: a line, and the ratio that did best."""
    training = model.training
    model.eval()
    texts = embed_texts(model, tokenizer, [PROMPT.format(label=word.name) for word in scenes.words.all])
    pictures = held_out(scenes, limit, split).to(model.device)
    found = torch.cat([embed_pictures(model, part) for part in torch.split(pictures, 50)]) @ texts.T
    model.train(training)
    shown = words_shown(scenes, range(limit), split).to(found.device)
    best = max(((*told_apart(found, shown, ratio), ratio) for ratio in RATIOS), key=lambda row: row[0])
    told = f"clip: F1 {best[0]:.3f} (precision {best[1]:.3f}, recall {best[2]:.3f}) on {limit} {split} scenes with ratio {best[3]:.2f}"
    return told, best[3]


def told_apart(similarities: Tensor, shown: Tensor, ratio: float) -> tuple[float, float, float]:
    """F1, precision and recall of the words that the category filter keeps (`filter_rules.keep_near_best`), over all pictures.

    Args:
        similarities: (pictures, words).
        shown: (pictures, words) bool.
        ratio: of the filter.
    """
    kept = torch.tensor([keep_near_best(row, ratio=ratio) for row in similarities.tolist()], device=shown.device)
    right = (kept & shown).sum().item()
    precision, recall = right / max(1, kept.sum().item()), right / max(1, shown.sum().item())
    return 2 * precision * recall / max(1e-9, precision + recall), precision, recall
