"""Trains a text-to-image model, U-Net and text encoder together, on rendered scenes and their captions.

The network sees pictures and captions, never a mask; with `Course.align` it is also told what an image encoder makes of the clean
pictures (alignment.py), with `Course.attend` which words of a list they show (word_attention.py). Training can be stopped at any time
and goes on from its checkpoint, here or on another machine.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from maskwright.backbones.hub import CLIP
from maskwright.datasets.scenes import SceneSet
from maskwright.errors import SettingsError
from maskwright_recipes.alignment import Alignment
from maskwright_recipes.autoencoder import held_out
from maskwright_recipes.checkpoints import load_checkpoint, moments, restore_moments, save_checkpoint
from maskwright_recipes.clip import knows_clip
from maskwright_recipes.export import export_pipeline
from maskwright_recipes.networks import Model, Size, build_scheduler, load_autoencoder
from maskwright_recipes.self_teaching import TIMESTEPS, Teacher, draw_to_edges
from maskwright_recipes.streams import Batch
from maskwright_recipes.timesteps import DRAWN, READ, USUAL_SIDE, draw_timesteps, shift_timesteps
from maskwright_recipes.tokenizer import tokenizer_of
from maskwright_recipes.training import Progress, cosine_rate, keep_freed_memory, run_steps, update_average
from maskwright_recipes.warm_start import start_from
from maskwright_recipes.word_attention import Asked, ask, least_share, overhear, word_loss, word_shares

WARMUP, DROPOUT = 200, 0.10
ALIGNED = "alignment."  # before the names of its projections in a checkpoint
ALIGNMENT_PICTURES = 200  # for the mean of the encoder's features


@dataclass(frozen=True)
class Course:
    """How a training goes.

    Attributes:
        samples: to see in all; the learning rate falls to its end there.
        batch: samples in a step.
        rate: highest learning rate.
        average: decay of the moving average of the weights.
        compiled: torch.compile.
        minutes: stop after so many, and write what there is; None for no limit.
        align: weight of the alignment with the CLIP of the training, else of the model it starts from; 0 for none.
        attend: weight of what cross-attention is told of words (word_attention.py); 0 for none.
        teach: whether the averaged weights tell it their edges (self_teaching.py); only where `attend` tells it words.
    """

    samples: int
    batch: int
    rate: float
    average: float
    compiled: bool = False
    minutes: float | None = None
    align: float = 0.0
    attend: float = 0.0
    teach: bool = False

    @property
    def steps(self) -> int:
        """In all."""
        return self.samples // self.batch


class Observed(nn.Module):
    """A model, and what it is told beside the noise.

    Args:
        model: that learns.
        alignment: with an image encoder, or None.
        least: as of `word_loss`.
    """

    def __init__(self, model: Model, alignment: Alignment | None, *, least: float) -> None:
        super().__init__()
        self.model, self.alignment, self.least = model, alignment, least

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor, asked: Asked | None, signal: torch.Tensor,
        pictures: torch.Tensor, target: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor | None]:  # fmt: skip
        """The predicted v, the projected features where there is an alignment, and the loss of the words asked where some are.

        Args:
            noisy: as of `Model.observe`.
            timesteps: likewise.
            tokens: likewise.
            asked: words.
            signal: (n,) how much of each picture can be seen, for the weight of its words.
            pictures: (n, 3, H, W) in -1..1.
            target: what a teacher finds, or None.
        """
        heard: list[Any] = []
        predicted, down, up = self.model.observe(noisy, timesteps, tokens, None if asked is None else heard)
        projected = self.alignment(down, up) if self.alignment else ()
        if asked is None:
            return predicted, projected, None
        states = self.model.text_encoder(asked.tokens)[0]
        layers = word_shares(heard, states, asked.owners)
        told = word_loss(layers, asked.shown, signal, pictures=pictures, least=self.least, target=target)
        return predicted, projected, told


class Trainer:
    """Holds what a step needs; `run` trains to the end and leaves the averaged weights in `out/model`.

    A checkpoint or model of another size raises SettingsError.

    Args:
        out: holds vae, tokenizer, checkpoint, log and in the end the model.
        scenes: whose words the model learns.
        size: of the networks.
        course: how long and how fast.
        device: where to train.
        init: a pipeline folder to start from, as far as it fits; where there is a checkpoint only its CLIP is still taken.
    """

    def __init__(self, out: Path, scenes: SceneSet, size: Size, course: Course, *, device: torch.device, init: Path | None = None) -> None:
        self.out, self.scenes, self.size, self.course, self.device = out, scenes, size, course, device
        self.steps = course.steps
        self.tokenizer = tokenizer_of(out, scenes.list.path, length=size.text_length, init=init)
        if init and not (out / "vae").is_dir():
            shutil.copytree(init / "vae", out / "vae")
        if init and not (out / CLIP).is_dir() and knows_clip(init, self.tokenizer):
            shutil.copytree(init / CLIP, out / CLIP)
        self.vae = load_autoencoder(out).to(device)
        self.vae.requires_grad_(False).to(memory_format=torch.channels_last)
        torch.manual_seed(0)
        self.model = Model(size, self.tokenizer, scenes.list.side).to(device)
        self.average = Model(size, self.tokenizer, scenes.list.side).to(device).requires_grad_(False)
        if device.type == "cpu":  # SDPA's backward is slow there
            keep_freed_memory()
            self.model.unet.set_attn_processor(AttnProcessor())
        if course.attend:
            overhear(self.model.unet)
        self.model.unet.to(memory_format=torch.channels_last)
        self.teacher: Callable[..., Any] | None = self._teacher() if course.attend and course.teach else None
        self.alignment = self._align(init) if course.align else None
        self.trained = [*self.model.parameters(), *(self.alignment.parameters() if self.alignment else ())]
        self.optimiser = torch.optim.AdamW(self.trained, lr=course.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.alphas = build_scheduler().alphas_cumprod.to(device)
        self.names = [name for name, _ in self.model.named_parameters()]
        if self.alignment:
            self.names += [f"{ALIGNED}{name}" for name, _ in self.alignment.named_parameters()]
        self.checkpoint = out / "checkpoint"
        self.first = self.warm_from = 0
        self._resume(init)
        network = Observed(self.model, self.alignment, least=least_share(scenes.list.style.scale))
        self.predict: Callable[..., Any] = torch.compile(network, dynamic=False) if course.compiled else network

    def _teacher(self) -> Callable[..., Any]:
        """The averaged weights, reading what words they find."""
        overhear(self.average.unet)
        self.average.unet.to(memory_format=torch.channels_last)
        teacher = Teacher(self.average)
        return torch.compile(teacher, dynamic=False) if self.course.compiled else teacher

    def _align(self, init: Path | None) -> Alignment:
        """With the CLIP in the training's folder, else with that of `init`: only its image encoder counts, its words may be others."""
        folder = next(folder for folder in (self.out / CLIP, *([init / CLIP] if init else [])) if folder.is_dir())
        return Alignment(folder, self.size, held_out(self.scenes, ALIGNMENT_PICTURES, "train")).move(self.device)

    def _resume(self, init: Path | None) -> None:
        """Takes up the checkpoint, else the weights to start from."""
        kept = load_checkpoint(self.checkpoint)
        if kept is None:
            if init:
                print(f"copied {start_from(self.model, self.tokenizer, init):.0%} of the weights from {init}", flush=True)
            self.average.load_state_dict(self.model.state_dict())
            return
        self.first = kept.samples // self.course.batch  # the batch may be another one now
        try:
            self.average.load_state_dict(kept.average)
        except RuntimeError as error:
            raise SettingsError(f"the training in {self.out} is not of the size {self.size.name}: name its size with --size") from error
        if kept.training is None:
            self.warm_from = self.first  # a new optimiser warms up first
            self.model.load_state_dict(kept.average)
        else:
            self.model.load_state_dict({name: kept.training[f"weight {name}"] for name in kept.average})
            if self.alignment:  # a training may have begun without
                prefix = f"weight {ALIGNED}"
                known = {name.removeprefix(prefix): tensor for name, tensor in kept.training.items() if name.startswith(prefix)}
                self.alignment.load_state_dict(known, strict=bool(known))
            restore_moments(self.optimiser, self.names, kept.training)

    def save(self, step: int) -> None:
        """Writes the checkpoint; `step` is the next one to do."""
        weights = {f"weight {name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.alignment:
            weights |= {f"weight {ALIGNED}{name}": tensor for name, tensor in self.alignment.state_dict().items()}
        save_checkpoint(
            self.checkpoint, step=step, samples=step * self.course.batch, average=self.average.state_dict(),
            training={**weights, **moments(self.optimiser, self.names)},
        )  # fmt: skip

    def loss(self, pixels: torch.Tensor, captions: list[str], asked: Asked | None, generator: torch.Generator) -> torch.Tensor:
        """Mean squared error of v at random timesteps, some captions emptied for guidance; and what else the course says."""
        pixels = pixels.to(self.device, memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            latents = self.vae.encode(pixels).latents.float()
        dropped = torch.rand(len(captions), generator=generator, device=generator.device) < DROPOUT
        shifted = shift_timesteps(self.alphas, max(1.0, pixels.shape[-1] / USUAL_SIDE) ** 2)
        only_drawn = pixels.shape[-1] < self.scenes.list.side  # portraits
        timesteps = draw_timesteps(len(latents), shifted, generator, normal=DRAWN if only_drawn else READ)
        noisy, velocity = self._noised(latents, timesteps, generator)
        encoded = self.tokenizer(
            ["", *captions], padding="max_length", max_length=self.size.text_length, truncation=True, return_tensors="pt"
        ).input_ids.to(self.device)  # fmt: skip
        tokens = torch.where(dropped[:, None], encoded[:1], encoded[1:])
        with torch.autocast(self.device.type, torch.bfloat16):
            taught = None if asked is None else self.teach(latents, asked, pixels, generator)
            predicted, projected, attended = self.predict(noisy, timesteps, tokens, asked, self.alphas[timesteps], pixels, taught)
        loss = F.mse_loss(predicted.float(), velocity)
        if self.alignment is not None:
            loss = loss + self.course.align * self.alignment.loss(projected, pixels)
        return loss if attended is None else loss + self.course.attend * attended

    @torch.no_grad()
    def teach(self, latents: torch.Tensor, asked: Asked, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        """What the averaged weights find, drawn to the pictures' edges, where the course says so."""
        if self.teacher is None:
            return None
        timesteps = torch.randint(*TIMESTEPS, (len(latents),), generator=generator, device=generator.device)
        noisy, _ = self._noised(latents, timesteps, generator)
        return draw_to_edges(self.teacher(noisy, timesteps, asked), asked.shown, pixels)

    def _noised(self, latents: torch.Tensor, timesteps: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents under fresh noise, and the v that a network shall see in them."""
        noise = torch.randn(latents.shape, generator=generator, device=generator.device)
        signal, spread = (part.sqrt()[:, None, None, None] for part in (self.alphas[timesteps], 1 - self.alphas[timesteps]))
        return signal * latents + spread * noise, signal * noise - spread * latents

    def ask(self, step: int, seeds: Sequence[int]) -> Asked | None:
        """Words for the scenes with these seeds, where the course says so and there are any."""
        if not self.course.attend or not len(seeds):
            return None
        shown = [self.scenes.places(self.scenes.contents(int(seed))) for seed in seeds]
        rng = np.random.default_rng([step, 2])
        return ask(shown, self.scenes.words, self.tokenizer, rng, length=self.size.text_length).to(self.device)

    def step(self, step: int, batch: Batch, seeds: Sequence[int]) -> torch.Tensor:
        """One step on one batch, of the scenes with these seeds; returns its loss."""
        generator = torch.Generator(self.device).manual_seed(step)
        warming = min(1.0, (step - self.warm_from + 1) / WARMUP) if self.warm_from else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = self.course.rate * warming * cosine_rate(step, self.course.steps, warmup=WARMUP, floor=0.02)
        loss = self.loss(*batch, self.ask(step, seeds), generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        update_average(self.average, self.model, step, self.course.average)
        return loss.detach()

    def run(self, batches: Iterator[Batch], seeds: Iterator[Sequence[int]]) -> None:
        """Trains from where the checkpoint stands to the last step, or until time is up; then exports.

        Args:
            batches: of training scenes, the first being that of step `first`.
            seeds: of the same scenes; none for a batch of which no words shall be asked.
        """
        progress = Progress(self.steps, self.course.batch, log=self.out / "log.jsonl")
        given = zip(batches, seeds, strict=False)
        run_steps(
            range(self.first, self.steps), given, lambda number, one: self.step(number, *one), self.save, progress=progress,
            minutes=self.course.minutes,
        )  # fmt: skip
        export_pipeline(self.average, self.tokenizer, self.vae, self.out / "model", clip=self.out / CLIP)
