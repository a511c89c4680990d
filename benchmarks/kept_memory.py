"""What keeping freed memory is worth to a training on the CPU: steps of the recipe's networks with and without it, in one run.

Command: `python benchmarks/kept_memory.py` (two cores: about a minute). Every measurement is a process of its own, because glibc is told
once and for all; the two kinds take turns. Synthetic batches: nothing is painted or encoded.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor

from maskwright_recipes.networks import CHANNELS, FACTOR, Model, choose_size
from maskwright_recipes.tokenizer import build_tokenizer
from maskwright_recipes.training import keep_freed_memory


def measure(size_name: str, side: int, batch: int, steps: int) -> float:
    """Samples a second, after two steps to warm up."""
    torch.manual_seed(0)
    size = choose_size(size_name, side)
    model = Model(size, build_tokenizer("scenes-full", size.text_length), side)
    model.unet.set_attn_processor(AttnProcessor())
    model.unet.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    latents = torch.randn(batch, CHANNELS, side // FACTOR, side // FACTOR).to(memory_format=torch.channels_last)
    timesteps, tokens = torch.randint(0, 1000, (batch,)), torch.randint(0, 100, (batch, size.text_length))
    for step in range(steps + 2):
        if step == 2:
            began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            predicted = model(latents, timesteps, tokens)
        optimiser.zero_grad(set_to_none=True)
        F.mse_loss(predicted.float(), latents).backward()
        optimiser.step()
    return batch * steps / (time.perf_counter() - began)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="medium")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=("usual", "kept"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if options.child == "kept" and not keep_freed_memory():
            raise SystemExit("this system's C library cannot be told to keep memory: there is nothing to compare")
        print(measure(options.size, options.side, options.batch, options.steps))
        return
    rates: dict[str, list[float]] = {"usual": [], "kept": []}
    for _ in range(options.repeats):
        for kind, found in rates.items():
            done = subprocess.run([sys.executable, *sys.argv, "--child", kind], stdout=subprocess.PIPE, text=True, check=True)
            found.append(float(done.stdout))
    print(f"| memory | samples / s, median of {options.repeats} | lowest | highest |\n|---|---|---|---|")
    for kind, found in rates.items():
        print(f"| {kind} | {statistics.median(found):.1f} | {min(found):.1f} | {max(found):.1f} |")
    print(f"\nratio of medians {statistics.median(rates['kept']) / statistics.median(rates['usual']):.2f}")


if __name__ == "__main__":
    main()
