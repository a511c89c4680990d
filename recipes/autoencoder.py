"""Trains the bundled model's autoencoder on rendered scenes.

Command: `python -m recipes.autoencoder --out runs/sticker`. Two CPU cores: about ten minutes. Resumes by itself.

Two phases. First encoder and decoder together. Then the latents are normalised per channel (mean 0, deviation 1: what
diffusion wants) by folding the statistics into the encoder's last convolution, and the decoder alone learns to read
the normalised latents. So `scaling_factor` is 1 and no statistics travel beside the weights.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from recipes.training import Progress, choose_device, cosine_rate, load_checkpoint, save_checkpoint, scene_batches

RATE = 2e-3
JOINT_SHARE = 0.7  # part of the steps in which encoder and decoder train together


def build_autoencoder() -> AutoencoderTiny:
    """Factor 4, 8 latent channels, 0.2 million parameters."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32), decoder_block_out_channels=(32, 32, 32), latent_channels=8,
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), upsampling_scaling_factor=2, scaling_factor=1.0,
    )  # fmt: skip


@torch.no_grad()
def normalise_latents(model: AutoencoderTiny, pictures: torch.Tensor) -> None:
    """Folds the per-channel statistics of these pictures' latents into the encoder's last convolution."""
    latents = model.encode(pictures).latents.float()
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    last = model.encoder.layers[-1]
    last.weight.div_(deviation[:, None, None, None])
    last.bias.sub_(mean).div_(deviation)


@torch.no_grad()
def measure_psnr(model: AutoencoderTiny, pictures: torch.Tensor) -> float:
    """Mean over pictures of 10 log10(1 / MSE), pictures in 0..1, after rounding to 8 bits."""
    decoded = model.decode(model.encode(pictures).latents).sample.clamp(-1, 1)
    decoded = ((decoded + 1) * 127.5).round() / 127.5 - 1
    error = ((decoded - pictures) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def held_out(count: int, side: int, split: str) -> torch.Tensor:
    """Pictures of another split, (count, 3, side, side) in -1..1."""
    import numpy as np

    from maskwright.datasets.scenes import benchmark

    pixels = np.stack([scene.image for scene in benchmark(count, split=split, side=side)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(out: Path, *, steps: int, batch: int, side: int, device: torch.device) -> AutoencoderTiny:
    """Trains or continues; leaves the autoencoder as a diffusers folder in `out/vae`."""
    torch.manual_seed(0)
    model = build_autoencoder().to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    checkpoint, joint = out / "autoencoder.pt", int(steps * JOINT_SHARE)
    state = load_checkpoint(checkpoint)
    first = 0
    if state:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    scenes: Iterator[tuple[torch.Tensor, list[str]]] = scene_batches(first * batch, batch, side)
    progress = Progress(steps, batch)
    for step in range(first, steps):
        pictures = next(scenes)[0].to(device, memory_format=torch.channels_last)
        if step == joint:
            normalise_latents(model, held_out(400, side, "train").to(device))
        model.encoder.requires_grad_(step < joint)
        for group in optimiser.param_groups:
            group["lr"] = RATE * cosine_rate(step, steps, warmup=100)
        with torch.autocast(device.type, torch.bfloat16):
            decoded = model.decode(model.encode(pictures).latents).sample.float()
        loss = F.mse_loss(decoded, pictures) + 0.1 * F.l1_loss(decoded, pictures)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        progress.step(step, loss.item())
        if step % 500 == 499 or step == steps - 1:
            save_checkpoint(checkpoint, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1})
            print(f"  PSNR on 100 tuning scenes {measure_psnr(model, held_out(100, side, 'tuning').to(device)):.2f} dB", flush=True)
    model.save_pretrained(out / "vae")
    return model


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sticker"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    model = train(options.out, steps=options.steps, batch=options.batch, side=options.side, device=device)
    print(f"PSNR on 200 benchmark scenes {measure_psnr(model, held_out(200, options.side, 'benchmark').to(device)):.2f} dB")


if __name__ == "__main__":
    main()
