"""A sheet of samples: what a model draws for captions of scenes, or for one object at a time."""

from collections.abc import Sequence
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image

from maskwright.datasets.captions import call
from maskwright.datasets.scenes import SceneSet
from maskwright.quiet import quiet
from maskwright_recipes.networks import load_pipeline

COLUMNS, CELL, GAP = 8, 128, 2
STEPS, GUIDANCE = 25, 5.0


def portrait_captions(scenes: SceneSet, count: int, *, seed: int = 0) -> list[str]:
    """Captions of one object on one ground each, drawn by a seed; no object twice before each was there once.

    Args:
        scenes: whose words.
        count: captions.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    objects, grounds = scenes.words.objects, scenes.words.grounds
    order = np.concatenate([rng.permutation(len(objects)) for _ in range(-(-count // len(objects)))])[:count]
    return [f"a photograph of {call(objects[place], objects[place].name)} on {rng.choice([g.name for g in grounds])}" for place in order]


def draw_sheet(folder: Path, prompts: Sequence[str], path: Path, *, device: torch.device, side: int | None = None, seed: int = 0) -> None:
    """Generates one picture a prompt (DDIM 25 steps, guidance 5) and writes them side by side.

    Args:
        folder: of the pipeline.
        prompts: one for each picture.
        path: of the sheet; its folder is made.
        device: where to draw.
        side: of the pictures in pixels; None for the model's own.
        seed: of the noise.
    """
    with quiet(diffusers, transformers):
        pipeline = load_pipeline(folder).to(device)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    pictures = pipeline(
        list(prompts), height=side, width=side, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator
    ).images  # fmt: skip
    columns, cell = min(COLUMNS, len(pictures)), CELL + GAP
    sheet = Image.new("RGB", (columns * cell, -(-len(pictures) // columns) * cell))
    for number, picture in enumerate(pictures):
        shown = picture.resize((CELL, CELL), Image.Resampling.BICUBIC)
        sheet.paste(shown, (number % columns * cell, number // columns * cell))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
