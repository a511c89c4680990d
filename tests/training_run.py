"""A training of a second, in the test's process or, to be killed, in one of its own: `python -m tests.training_run DATA OUT`."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.training import loop
from maskwright.training.examples import Example, ExampleSet
from maskwright.training.loop import Progress, TrainingSettings, train

SETTINGS = TrainingSettings(epochs=3, batch=3, rate=0.01, validation=0.2, seed=5)
DECISIVE = {"network": {"width": 4}}


def build() -> nn.Module:
    """With everything that has a state: statistics of a batch normalisation, and chance."""
    with loop.seeded(1, torch.device("cpu")):
        layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 1, 1)]
    return nn.Sequential(*layers)


class Redness:
    """Whether a pixel is anything."""

    def loss(self, module: nn.Module, batch: Sequence[Example]) -> Tensor:
        images, masks = (torch.from_numpy(np.stack(part)) for part in zip(*((one.image, one.mask) for one in batch), strict=True))
        logits = module(images.permute(0, 3, 1, 2).float() / 255)[:, 0]
        return F.binary_cross_entropy_with_logits(logits, (masks > 0).float())

    def measure(self, module: nn.Module, batch: Sequence[Example]) -> Any:
        return float(self.loss(module, batch)) * len(batch), len(batch)

    def figures(self, counts: Sequence[Any]) -> dict[str, float]:
        return {"entropy": sum(total for total, _ in counts) / sum(count for _, count in counts)}


def go(data: Path, out: Path, *, resume: bool = False, settings: TrainingSettings = SETTINGS, **options: Any) -> Iterator[Progress]:
    return train(build(), Redness(), ExampleSet.open(data), settings, out, resume=resume, **({"decisive": DECISIVE} | options))


if __name__ == "__main__":
    torch.set_num_threads(1)
    loop.SECONDS = 0.02  # a checkpoint every few steps
    for progress in go(Path(sys.argv[1]), Path(sys.argv[2])):
        print(progress.step, flush=True)
        time.sleep(0.01)
