"""Endless batches of training scenes: painted by the renderer on the CPU, or composed on the device."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from maskwright.datasets.scenes import SceneSet
from maskwright_recipes.composing import Library, compose_batch

Batch = tuple[torch.Tensor, list[str]]
Given = TypeVar("Given")
Plan = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_], list[str]]


def _painted(scenes: SceneSet, first: int, size: int) -> Batch:
    drawn = [scenes.render(seed) for seed in range(first, first + size)]
    pixels = torch.from_numpy(np.stack([scene.image for scene in drawn]))
    return pixels.permute(0, 3, 1, 2), [scene.caption for scene in drawn]


def painted_batches(scenes: SceneSet, start: int, size: int, *, workers: int = 1) -> Iterator[Batch]:
    """Endless batches of training scenes, each seen once; `start` is the first seed.

    Yields:
        pixels (size, 3, side, side) float32 in -1..1, and the captions.
    """
    with ThreadPoolExecutor(workers) as pool:
        ahead = [pool.submit(_painted, scenes, start + n * size, size) for n in range(workers + 1)]
        following = start + len(ahead) * size
        while True:
            pixels, captions = ahead.pop(0).result()
            ahead.append(pool.submit(_painted, scenes, following, size))
            following += size
            yield pixels.float() / 127.5 - 1, captions


def alternate(main: Iterator[Given], other: Iterator[Given], share: float, *, first: int = 0) -> Iterator[Given]:
    """What comes for each step: in a share of the steps the next one of `other`, evenly strewn in, else the next one of `main`.

    Args:
        main: for the other steps.
        other: for the share.
        share: 0 to 1.
        first: number of the first step.
    """
    for step in itertools.count(first):
        yield next(other if int((step + 1) * share) > int(step * share) else main)


class Plans(Dataset[Plan]):
    """What the scenes of each batch show: objects (size, most) with -1 for none, grounds (size,), portraits (size,), captions.

    Args:
        scenes: the set.
        start: the first seed of the first batch.
        size: scenes in a batch.
        batches: how many.
    """

    def __init__(self, scenes: SceneSet, start: int, size: int, batches: int) -> None:
        self.scenes, self.start, self.size, self.batches = scenes, start, size, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> Plan:
        seeds = range(self.start + number * self.size, self.start + (number + 1) * self.size)
        objects = np.full((self.size, self.scenes.list.most), -1, dtype=np.int64)
        grounds, portraits = np.zeros(self.size, dtype=np.int64), np.zeros(self.size, dtype=np.bool_)
        for row, seed in enumerate(seeds):
            shown = self.scenes.contents(seed)
            objects[row, : len(shown.objects)] = shown.objects
            grounds[row], portraits[row] = shown.ground, shown.portrait
        return objects, grounds, portraits, [self.scenes.captions(seed, count=1)[0] for seed in seeds]


def composed_batches(library: Library, scenes: SceneSet, start: int, size: int, *, batches: int, workers: int = 4) -> Iterator[Batch]:
    """Batches composed on the library's device; words and captions come from worker processes.

    Yields:
        pixels (size, 3, side, side) float32 in -1..1 on the device, and the captions.
    """
    plans = DataLoader(Plans(scenes, start, size, batches), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    for number, (*planned, captions) in enumerate(plans):
        generator = torch.Generator(library.device).manual_seed(start + number * size)
        shown, ground, portraits = (torch.as_tensor(part).to(library.device) for part in planned)
        with torch.no_grad():
            pixels, _ = compose_batch(library, shown, ground, generator=generator, portraits=portraits)
        yield pixels * 2 - 1, captions
