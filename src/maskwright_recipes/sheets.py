"""A sheet of samples: what a model draws for captions of scenes, or for one object at a time."""

from collections.abc import Sequence
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image

from maskwright.backbones.hub import CLIP
from maskwright.datasets.captions import call
from maskwright.datasets.scenes import SceneSet
from maskwright.discovery.recognition import Recogniser
from maskwright.errors import SettingsError
from maskwright.quiet import quiet
from maskwright.text.clip import Clip
from maskwright.vocabulary import Label, Vocabulary
from maskwright_recipes.networks import load_pipeline

COLUMNS, CELL, GAP = 8, 128, 2
STEPS, GUIDANCE = 25, 5.0
FURTHER = 1_000_003  # between the seeds of attempts


def portrait_captions(scenes: SceneSet, count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Names of objects, and captions of each on a ground, drawn by a seed; no object twice before each was there once.

    Args:
        scenes: whose words.
        count: captions.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    objects, grounds = scenes.words.objects, [ground.name for ground in scenes.words.grounds]
    order = np.concatenate([rng.permutation(len(objects)) for _ in range(-(-count // len(objects)))])[:count]
    chosen = [objects[place] for place in order]
    return [(one.name, f"a photograph of {call(one, one.name)} on {rng.choice(grounds)}") for one in chosen]


def recogniser_of(folder: Path, scenes: SceneSet) -> Recogniser:
    """Of a model's pictures: by the CLIP in its folder, which knows the words of the scenes.

    Raises:
        SettingsError: there is none.
    """
    if not (folder / CLIP).is_dir():
        raise SettingsError(f"{folder} has no folder {CLIP}, which would recognise pictures: leave --attempts out, or copy one there")
    labels = tuple(Label(word.name, word.synonyms) for word in scenes.words.objects)
    return Recogniser(Clip.from_pretrained(folder / CLIP, offline=True), Vocabulary(labels))


def draw_sheet(
    folder: Path, prompts: Sequence[str], path: Path, *, device: torch.device, side: int | None = None, seed: int = 0,
    shown: Sequence[str] = (), attempts: int = 1, recogniser: Recogniser | None = None,
) -> list[float]:  # fmt: skip
    """Generates one picture a prompt (DDIM 25 steps, guidance 5) and writes them side by side.

    Args:
        folder: of the pipeline.
        prompts: one for each picture.
        path: of the sheet; its folder is made.
        device: where to draw.
        side: of the pictures in pixels; None for the model's own.
        seed: of the noise; that of the first attempt is the same however many there are.
        shown: for each prompt the label that its picture should show, where a recogniser looks.
        attempts: pictures drawn for each prompt; the one that shows its label most clearly is kept.
        recogniser: that looks; None to take the only one.

    Returns:
        For each picture the margin of its label (`Recogniser.margins`); empty where nobody looked.
    """
    with quiet(diffusers, transformers):
        pipeline = load_pipeline(folder).to(device)
    pipeline.set_progress_bar_config(disable=True)
    drawn = [
        pipeline(
            list(prompts), height=side, width=side, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed + attempt * FURTHER),
        ).images
        for attempt in range(attempts if recogniser else 1)
    ]  # fmt: skip
    if recogniser is None:
        _paste(drawn[0], path)
        return []
    kept, margins = [], []
    for name, pictures in zip(shown, zip(*drawn, strict=True), strict=True):
        found = [recogniser.margins(np.asarray(picture), [name])[0] for picture in pictures]
        margins.append(max(found))
        kept.append(pictures[found.index(margins[-1])])
    _paste(kept, path)
    return margins


def _paste(pictures: Sequence[Image.Image], path: Path) -> None:
    """Writes the pictures side by side, in rows."""
    columns, cell = min(COLUMNS, len(pictures)), CELL + GAP
    sheet = Image.new("RGB", (columns * cell, -(-len(pictures) // columns) * cell))
    for number, picture in enumerate(pictures):
        shown = picture.resize((CELL, CELL), Image.Resampling.BICUBIC)
        sheet.paste(shown, (number % columns * cell, number // columns * cell))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
