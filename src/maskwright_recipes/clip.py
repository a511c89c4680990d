"""Trains the CLIP that comes with a model: a picture and words in, how well each word fits out.

The category filter of `maskwright segment` asks it which of many words are worth a look, and `train --align` what is where. It learns from
pictures and the words that are in them, whole pictures only: no place, no mask. A small ResNet and a text encoder meet in one space and
are trained by the sigmoid loss over all words of the list (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343,
algorithm 1), each written into a template.
"""

import copy
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPTokenizer,
    ResNetConfig,
    ResNetModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from maskwright.backbones.hub import CLIP
from maskwright.datasets.scenes import SceneSet
from maskwright.text.filtering import PROMPT
from maskwright_recipes.export import edit_json
from maskwright_recipes.networks import Size, build_text_encoder
from maskwright_recipes.streams import Batch
from maskwright_recipes.tokenizer import save_tokenizer, tokenizer_of
from maskwright_recipes.training import Progress, cosine_rate, keep_freed_memory, load_state, save_state
from maskwright_recipes.warm_start import start_text_encoder

RATE, WARMUP, DECAY, AVERAGE = 2e-3, 200, 0.03, 0.998
SCALE, BIAS = 20.0, -6.0  # at first: a picture of five words can be near each by a cosine of 0.45 at most, and nearly all words are absent
WIDTHS, DEPTHS, EMBEDDING = (64, 192), (2, 4), 192  # EMBEDDING: at least as wide as any text encoder of sizes.toml
TEMPLATES = (PROMPT.replace("{label}", "{}"), "{}", "a photograph of a {}", "a picture of a {}", "a {}", "there is a {}")
PROMPTED = 0.3  # share of the texts that are written as the filter will ask
NAMED = 0.7  # share of the texts that take a word's name, not one of its synonyms
SAVE_SECONDS = 180
SHRINKAGE = 0.1  # of the whitening, against directions in which no text has anything


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


def build_clip(size: Size, tokenizer: CLIPTokenizer) -> Any:
    """An image encoder of 2.7 million parameters, whose last feature map has an eighth of a picture's side, and a text encoder of the size.

    Convolutions with batch normalisation, since they are seven times as fast on a CPU as the same work in layer normalisations,
    depthwise convolutions or attention.
    """
    text = build_text_encoder(size, tokenizer)
    vision: Any = ResNetConfig(embedding_size=WIDTHS[0], hidden_sizes=list(WIDTHS), depths=list(DEPTHS), layer_type="basic")
    vision.hidden_size = WIDTHS[-1]  # VisionTextDualEncoderModel asks for it, and ResNet's own configuration has none
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text.config, projection_dim=EMBEDDING)
    return VisionTextDualEncoderModel(config=config, vision_model=ResNetModel(vision), text_model=text)


def load_clip(folder: Path) -> Any:
    """A CLIP that was exported, float32, frozen, in eval mode."""
    model: Any = VisionTextDualEncoderModel.from_pretrained(folder, dtype=torch.float32)
    return model.eval().requires_grad_(False)


def pool_pictures(model: Any, pictures: Tensor) -> Tensor:
    """(n, 3, H, W) in -1..1 to the image encoder's features, averaged over places: (n, channels) float32."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        pooled: Tensor = model.vision_model(pictures).pooler_output.flatten(1)
    return pooled.float()


def project_pictures(model: Any, pooled: Tensor) -> Tensor:
    """What `pool_pictures` gives to unit vectors (n, EMBEDDING) in the space of the texts."""
    return F.normalize(model.visual_projection(pooled), dim=-1)


def embed_pictures(model: Any, pictures: Tensor) -> Tensor:
    """(n, 3, H, W) in -1..1 to unit vectors (n, EMBEDDING), float32."""
    return project_pictures(model, pool_pictures(model, pictures))


def embed_texts(model: Any, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Texts to unit vectors (texts, EMBEDDING), float32."""
    encoded = tokenizer(list(texts), padding=True, return_tensors="pt").to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16):
        embedded = model.text_projection(model.text_model(**encoded).pooler_output)
    return F.normalize(embedded.float(), dim=-1)


def words_shown(scenes: SceneSet, seeds: Sequence[int], split: str = "train") -> Tensor:
    """(seeds, words) bool: which words of the list are in the scenes with these seeds."""
    shown = torch.zeros(len(seeds), len(scenes.words.all), dtype=torch.bool)
    for row, seed in enumerate(seeds):
        contents = scenes.contents(int(seed), split=split)
        shown[row, [*contents.objects, len(scenes.words.objects) + contents.ground]] = True
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
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.head.load_state_dict(state["head"])
            with torch.no_grad():
                self.scale.copy_(state["scale"])
                self.bias.copy_(state["bias"])
            self.first = int(state["samples"]) // course.batch

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
        nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimiser.step()
        decay = min(AVERAGE, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
            for own, other in zip(self.average.buffers(), self.model.buffers(), strict=True):
                own.copy_(other)
        return loss.detach()

    def run(self, batches: Iterator[Batch], seeds: Iterator[Sequence[int]]) -> None:
        """Trains to the last step, or until time is up; then exports and says how well the words of tuning scenes are told.

        Args:
            batches: of training scenes from step `first` on; captions are not looked at.
            seeds: of the same scenes.
        """
        progress = Progress(self.course.steps, self.course.batch)
        began = saved = time.monotonic()
        end = float("inf") if self.course.minutes is None else began + 60 * self.course.minutes
        done = self.first
        for step, (pictures, _), own in zip(range(self.first, self.course.steps), batches, seeds, strict=False):
            progress.step(step, self.step(step, pictures, words_shown(self.scenes, own)))
            done = step + 1
            if time.monotonic() > end:
                print(f"time is up after step {done}", flush=True)
                break
            if time.monotonic() > saved + SAVE_SECONDS:
                self.save(done)
                saved = time.monotonic()
        self.save(done)
        export_clip(self.average, self.tokenizer, self.out / CLIP, side=self.scenes.list.side)
        print(f"clip: {report(self.average, self.tokenizer, self.scenes)}", flush=True)

    def save(self, step: int) -> None:
        """Writes the checkpoint."""
        save_state(self.out / "clip.pt", {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "optimiser": self.optimiser.state_dict(),
            "head": self.head.state_dict(), "scale": self.scale.detach(), "bias": self.bias.detach(), "samples": step * self.course.batch,
        })  # fmt: skip


def start_clip(model: Any, tokenizer: CLIPTokenizer, folder: Path) -> bool:
    """Starts from the CLIP of a pipeline folder if there is one with the same words, else its text encoder from that of the pipeline.

    Returns:
        Whether there was a CLIP.
    """
    if knows_clip(folder, tokenizer):
        model.load_state_dict(load_clip(folder / CLIP).state_dict())
        return True
    start_text_encoder(model.text_model, tokenizer, folder)
    return False


@torch.no_grad()
def part_texts(model: Any, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> None:
    """Sets the projection of texts so that these lie apart: it whitens them, for a text encoder makes all sentences much alike."""
    states = model.text_model(**tokenizer(list(texts), padding=True, return_tensors="pt")).pooler_output  # texts width
    values, vectors = torch.linalg.eigh(states.T @ states / len(states))
    least = SHRINKAGE * values.median().clamp(min=1e-4 * values[-1])  # of few texts most directions are empty
    whitening = vectors @ torch.diag((values.clamp(min=0) + least).rsqrt()) @ vectors.T
    weight = model.text_projection.weight
    turned = torch.linalg.qr(torch.randn(len(weight), whitening.shape[0]))[0]  # EMBEDDING width, with orthonormal columns
    weight.copy_(turned @ whitening)


def knows_clip(folder: Path, tokenizer: CLIPTokenizer) -> bool:
    """Whether a pipeline folder comes with a CLIP of the same words."""
    return (folder / CLIP).is_dir() and CLIPTokenizer.from_pretrained(folder / CLIP).get_vocab() == tokenizer.get_vocab()


def export_clip(model: Any, tokenizer: CLIPTokenizer, folder: Path, *, side: int) -> None:
    """Writes the model in the hub's layout, fp16, with tokenizer and image processor, in place of one that is there."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    copy.deepcopy(model).half().save_pretrained(fresh)
    save_tokenizer(tokenizer, fresh)
    # the short side as long as in training, the rest as it is: what lies at the ends of a long picture counts, too
    CLIPImageProcessorPil(
        size={"shortest_edge": side}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True
    ).save_pretrained(fresh)  # fmt: skip
    edit_json(fresh / "config.json", dtype="float32", _name_or_path=None)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


@torch.no_grad()
def report(model: Any, tokenizer: CLIPTokenizer, scenes: SceneSet, *, split: str = "tuning", limit: int = 300) -> str:
    """How well the words of some scenes are told, by the rule of the category filter, for the ratio that does best."""
    model.eval()
    texts = embed_texts(model, tokenizer, [PROMPT.format(label=word.name) for word in scenes.words.all])
    drawn = np.stack([scene.image for scene in scenes.scenes(limit, split=split)])
    pictures = (torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1).to(model.device)
    found = torch.cat([embed_pictures(model, part) for part in torch.split(pictures, 50)]) @ texts.T
    model.train()
    shown = words_shown(scenes, range(limit), split).to(found.device)
    best = max(((*told_apart(found, shown, ratio), ratio) for ratio in np.arange(0.05, 1, 0.05)), key=lambda row: row[0])
    return f"F1 {best[0]:.3f} (precision {best[1]:.3f}, recall {best[2]:.3f}) on {limit} {split} scenes with ratio {best[3]:.2f}"


def told_apart(similarities: Tensor, shown: Tensor, ratio: float) -> tuple[float, float, float]:
    """F1, precision and recall of the words that the category filter keeps, over all pictures.

    Args:
        similarities: (pictures, words).
        shown: (pictures, words) bool.
        ratio: of the filter.
    """
    kept = similarities >= ratio * similarities.amax(1, keepdim=True)
    right = (kept & shown).sum().item()
    precision, recall = right / max(1, kept.sum().item()), right / max(1, shown.sum().item())
    return 2 * precision * recall / max(1e-9, precision + recall), precision, recall
