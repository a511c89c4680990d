"""A pool: training scenes that are painted once, kept on disk, and gone through again and again.

On two CPU cores painting a scene of 128 pixels takes an eighth of the time that training on it takes, and more where the network is
small; in a pool it is paid once. Captions are written anew each time round.
"""

import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from maskwright.datasets.scenes import SceneSet
from maskwright.errors import SettingsError
from maskwright.exports.files import explained
from maskwright_recipes.streams import Batch

CHUNK = 500  # scenes that a process paints at a time


@dataclass(frozen=True, eq=False)
class Pool:
    """Painted scenes.

    Attributes:
        scenes: the set that they are of.
        pixels: (count, side, side, 3) uint8 RGB, on disk.
        start: seed of the first; the others follow.
    """

    scenes: SceneSet
    pixels: npt.NDArray[np.uint8]
    start: int

    def seeds(self, first: int, size: int) -> npt.NDArray[np.int64]:
        """Which scenes the samples `first` and following are: every time round all of them, in another order."""
        samples, count = np.arange(first, first + size), len(self.pixels)
        rounds = samples // count
        orders = {turn: np.random.default_rng([self.start, turn]).permutation(count) for turn in np.unique(rounds)}
        return np.array([self.start + orders[turn][sample % count] for turn, sample in zip(rounds, samples, strict=True)])

    def batches(self, first: int, size: int) -> Iterator[Batch]:
        """Endless batches from the sample `first` on.

        Yields:
            pixels (size, 3, side, side) float32 in -1..1, and captions.
        """
        while True:
            seeds, turn = self.seeds(first, size), first // len(self.pixels)
            pixels = torch.from_numpy(self.pixels[seeds - self.start]).permute(0, 3, 1, 2)
            captions = [self.scenes.captions(int(seed), count=turn + 1)[-1] for seed in seeds]
            yield pixels.float() / 127.5 - 1, captions
            first += size


def _painted_of(scenes: SceneSet) -> str:
    """All of a list that decides what its scenes look like: captions may be written otherwise from one time to the next."""
    style = dataclasses.replace(scenes.list.style, captions="plain", absent=0.0)
    return repr(dataclasses.replace(scenes.list, path=Path(), style=style))


def _paint(scenes: SceneSet, path: Path, place: int, seeds: range) -> int:
    """Paints some scenes into the file, from a place on; returns how many."""
    pixels = np.load(path, mmap_mode="r+")
    for number, seed in enumerate(seeds):
        pixels[place + number] = scenes.render(seed).image
    pixels.flush()
    return len(seeds)


def open_pool(scenes: SceneSet, folder: Path, count: int, *, start: int = 0, workers: int = 1) -> Pool:
    """The pool of a folder; what is missing of it is painted.

    Args:
        scenes: what is painted.
        folder: holds pixels.npy and pool.json.
        count: scenes.
        start: seed of the first.
        workers: processes that paint.

    Raises:
        SettingsError: the folder holds a pool of other scenes.
        OutputError: it cannot be written.
    """
    path, told = folder / "pixels.npy", folder / "pool.json"
    wanted = {"scenes": _painted_of(scenes), "count": count, "start": start}
    state: dict[str, Any] = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {**wanted, "painted": 0}
    if differing := [key for key, value in wanted.items() if state[key] != value]:
        raise SettingsError(f"the pool in {folder} was painted with another {', '.join(differing)}: remove it, or choose another --out")
    with explained(folder, "choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            state["painted"] = 0
            np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, scenes.list.side, scenes.list.side, 3)).flush()
        missing = range(state["painted"], count, CHUNK)
        parts = [range(start + place, start + min(place + CHUNK, count)) for place in missing]
        if parts:
            print(f"painting {count - state['painted']} scenes into {path}", flush=True)
            with ProcessPoolExecutor(max(1, workers)) as painters:
                n = len(parts)
                for done in painters.map(_paint, [scenes] * n, [path] * n, missing, parts):
                    state["painted"] += done
                    told.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    return Pool(scenes, np.load(path, mmap_mode="r"), start)
