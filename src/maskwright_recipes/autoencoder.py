"""Trains a model's autoencoder on rendered scenes. Resumes by itself.

Two phases. First encoder and decoder together. Then the latents are normalised per channel (mean 0, deviation 1: what
diffusion wants) by folding the statistics into the encoder's last convolution, and the decoder alone learns to read
the normalised latents. So `scaling_factor` is 1 and no statistics travel beside the weights.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from maskwright.datasets.scenes import SceneSet
from maskwright.errors import SettingsError
from maskwright_recipes.networks import Size, build_autoencoder, load_autoencoder
from maskwright_recipes.sidecar import edit_json
from maskwright_recipes.streams import Batch
from maskwright_recipes.training import Progress, cosine_rate, keep_freed_memory, load_state, save_state
from maskwright_recipes.warm_start import copy_fitting

RATE = 2e-3
JOINT_SHARE = 0.7  # part of the steps in which encoder and decoder train together


@torch.no_grad()
def normalise_latents(model: Any, pictures: torch.Tensor) -> None:
    """Folds the per-channel statistics of these pictures' latents into the encoder's last convolution."""
    latents = torch.cat([model.encode(part).latents.float() for part in torch.split(pictures, 50)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    last = model.encoder.layers[-1]
    last.weight.div_(deviation[:, None, None, None])
    last.bias.sub_(mean).div_(deviation)


@torch.no_grad()
def measure_psnr(model: Any, pictures: torch.Tensor) -> float:
    """Mean over pictures of 10 log10(1 / MSE), pictures in 0..1, after rounding to 8 bits."""
    errors = []
    for part in torch.split(pictures, 50):
        decoded = model.decode(model.encode(part).latents).sample.clamp(-1, 1)
        decoded = ((decoded + 1) * 127.5).round() / 127.5 - 1
        errors.append(((decoded - part) / 2).square().mean((1, 2, 3)))
    return float((-10 * torch.cat(errors).log10()).mean())


def held_out(scenes: SceneSet, count: int, split: str) -> torch.Tensor:
    """Pictures of a split, (count, 3, side, side) in -1..1."""
    pixels = np.stack([scene.image for scene in scenes.scenes(count, split=split)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_autoencoder(
    out: Path, scenes: SceneSet, size: Size, batches: Iterator[Batch], *, steps: int, batch: int, device: torch.device,
    init: Path | None = None,
) -> Any:  # fmt: skip
    """Trains or continues; leaves the autoencoder as a diffusers folder in `out/vae`.

    Args:
        out: also holds the checkpoint, autoencoder.pt.
        scenes: for statistics and PSNR.
        size: of the model.
        batches: of training scenes, from the step on at which `steps_done` says that training goes on.
        steps: in all.
        batch: scenes in a step.
        device: where to train.
        init: a pipeline folder whose autoencoder to start from, as far as it fits.

    Raises:
        SettingsError: the folder's autoencoder is of another size, or was begun with another number of steps, which decides when its
            latents are normalised.
    """
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(0)
    model = build_autoencoder(size)
    if init:
        copy_fitting(model.state_dict(), load_autoencoder(init).state_dict())
    model = model.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    checkpoint, joint = out / "autoencoder.pt", int(steps * JOINT_SHARE)
    first = 0
    if state := load_state(checkpoint):
        if state.get("steps", steps) != steps:
            raise SettingsError(f"the autoencoder in {out} was begun with --steps {state['steps']}: repeat it, or choose another --out")
        try:
            model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise SettingsError(f"the autoencoder in {out} is not of the size {size.name}: name its size with --size") from error
        optimiser.load_state_dict(state["optimiser"])
        first = int(state["step"])
    progress = Progress(steps, batch)
    for step in range(first, steps):
        pictures = next(batches)[0].to(device, memory_format=torch.channels_last)
        if step == joint:
            normalise_latents(model, held_out(scenes, 400, "train").to(device))
        model.encoder.requires_grad_(step < joint)
        for group in optimiser.param_groups:
            group["lr"] = RATE * cosine_rate(step, steps, warmup=100)
        with torch.autocast(device.type, torch.bfloat16):
            decoded = model.decode(model.encode(pictures).latents).sample.float()
        loss = F.mse_loss(decoded, pictures) + 0.1 * F.l1_loss(decoded, pictures)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        progress.step(step, loss)
        if step % 500 == 499 or step == steps - 1:
            save_state(checkpoint, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1, "steps": steps})
            psnr = measure_psnr(model, held_out(scenes, 100, "tuning").to(device))
            print(f"  PSNR on 100 tuning scenes {psnr:.2f} dB", flush=True)
    model.save_pretrained(out / "vae")
    edit_json(out / "vae" / "config.json", block_out_channels=None)  # a derived value, of which loading would warn
    return model


def steps_done(out: Path) -> tuple[int, int | None]:
    """The step at which the training of this folder goes on, and how many it was begun with; None where it was not."""
    state = load_state(out / "autoencoder.pt")
    return (int(state["step"]), state.get("steps")) if state else (0, None)
