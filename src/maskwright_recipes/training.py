"""What the trainings share: device choice, learning rate, progress, the autoencoder's checkpoint."""

import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

SAVE_SECONDS = 180
Given = TypeVar("Given")


def choose_device(name: str = "auto") -> torch.device:
    """"auto" is the first GPU when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def keep_freed_memory() -> bool:
    """Lets the C library keep what a step frees for the next one; returns whether it does.

    Attention maps of 32 x 32 latents are blocks of hundreds of megabytes, which glibc gives back to the system and fetches again, page
    by page, in every step; `benchmarks/kept_memory.py` measures what that costs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    most_mapped, trim, top_pad = -4, -1, -2  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
    return all([mallopt(most_mapped, 0), mallopt(trim, 2**31 - 1), mallopt(top_pad, 2**29)])


def cosine_rate(step: int, steps: int, *, warmup: int, floor: float = 0.0) -> float:
    """Learning-rate factor: linear warm-up, then a half cosine to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Exponential moving average of the weights and of what batch normalisation counts, shorter while training is young."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), share)
    for own, other in zip(average.buffers(), model.buffers(), strict=True):
        if own.is_floating_point():
            own.lerp_(other, share)


def run_steps(
    steps: range, inputs: Iterable[Given], step: Callable[[int, Given], torch.Tensor], save: Callable[[int], None], *,
    progress: "Progress", minutes: float | None = None,
) -> None:  # fmt: skip
    """Does the steps of a training that are left, or those that fit into so many minutes; saves now and then, and at the end.

    Args:
        steps: that are left.
        inputs: one for each step.
        step: does one and returns its loss.
        save: writes the checkpoint; its argument is the next step to do.
        progress: is told each loss.
        minutes: None for no limit.
    """
    began = saved = time.monotonic()
    end = float("inf") if minutes is None else began + 60 * minutes
    done = steps.start
    for number, given in zip(steps, inputs, strict=False):
        progress.step(number, step(number, given))
        done = number + 1
        if time.monotonic() > end:
            print(f"time is up after step {done}", flush=True)
            break
        if time.monotonic() > saved + SAVE_SECONDS:
            save(done)
            saved = time.monotonic()
    save(done)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes the state whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_state(path: Path) -> dict[str, Any] | None:
    """The state, or None where there is none. Tensors and plain values only."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


class Progress:
    """Prints a line every `every` steps: step, loss, samples per second since the last line, time left; and adds it to a log of JSON lines.

    Losses stay on their device until a line is printed: reading one waits for the device.
    """

    def __init__(self, steps: int, batch: int, *, every: int = 100, log: Path | None = None) -> None:
        self.steps, self.batch, self.every, self.log = steps, batch, every, log
        self.began = time.monotonic()
        self.losses: list[torch.Tensor] = []

    def step(self, step: int, loss: torch.Tensor) -> None:
        """Call once a step."""
        self.losses.append(loss.detach())
        if step % self.every == self.every - 1 or step == self.steps - 1:
            mean = torch.stack(self.losses).float().mean().item()
            now = time.monotonic()
            rate = len(self.losses) / (now - self.began)
            self.began = now
            self.losses.clear()
            left = (self.steps - step - 1) / rate
            print(f"step {step + 1}/{self.steps}  loss {mean:.4f}  {rate * self.batch:.1f} samples/s  {left / 60:.1f} min left", flush=True)
            if self.log:
                line = {"step": step + 1, "samples": (step + 1) * self.batch, "loss": round(mean, 5), "rate": round(rate * self.batch, 1)}
                with self.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
