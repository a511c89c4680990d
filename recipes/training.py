"""What both trainings share: device choice, the stream of scenes, checkpoints, learning rate, progress."""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskwright.datasets.scenes import render


def choose_device(name: str = "auto") -> torch.device:
    """"auto" is the first GPU when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _batch(first: int, size: int, side: int) -> tuple[torch.Tensor, list[str]]:
    scenes = [render(seed, side=side) for seed in range(first, first + size)]
    pixels = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    return pixels.permute(0, 3, 1, 2), [scene.caption for scene in scenes]


def scene_batches(start: int, size: int, side: int, *, workers: int = 1) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """Endless batches of training scenes, each seen once; `start` is the first seed.

    Yields:
        pixels (size, 3, side, side) float32 in -1..1, and the captions.
    """
    with ThreadPoolExecutor(workers) as pool:
        ahead = [pool.submit(_batch, start + n * size, size, side) for n in range(workers + 1)]
        following = start + len(ahead) * size
        while True:
            pixels, captions = ahead.pop(0).result()
            ahead.append(pool.submit(_batch, following, size, side))
            following += size
            yield pixels.float() / 127.5 - 1, captions


def cosine_rate(step: int, steps: int, *, warmup: int, floor: float = 0.0) -> float:
    """Learning-rate factor: linear warm-up, then a half cosine to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes the state whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state, or None where there is none. Tensors and plain values only."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


class Progress:
    """Prints a line every `every` steps: step, loss, samples per second, time left."""

    def __init__(self, steps: int, batch: int, *, every: int = 100) -> None:
        self.steps, self.batch, self.every = steps, batch, every
        self.began, self.first, self.losses = time.monotonic(), -1, [0.0]

    def step(self, step: int, loss: float) -> None:
        """Call once a step."""
        if self.first < 0:
            self.first = step
        self.losses.append(loss)
        if step % self.every == self.every - 1 or step == self.steps - 1:
            rate = (step + 1 - self.first) / (time.monotonic() - self.began)
            left = (self.steps - step - 1) / rate
            mean = sum(self.losses[-self.every :]) / len(self.losses[-self.every :])
            print(f"step {step + 1}/{self.steps}  loss {mean:.4f}  {rate * self.batch:.1f} samples/s  {left / 60:.1f} min left", flush=True)
