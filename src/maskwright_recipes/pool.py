"""A pool: training scenes that are painted once, kept on disk, and gone through again and again.

On two CPU cores painting a scene of 128 pixels takes an eighth of the time that training on it takes, and more where the network is
small; in a pool it is paid once. Captions are written anew each time round.
"""

import functools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from maskwright.datasets.scenes import SceneSet
from maskwright.errors import SettingsError
from maskwright.exports.files import explained, replacing
from maskwright_recipes.streams import Batch

CHUNK = 500  # scenes that a process paints at a time
LOOKS = 32  # painted scenes that are compared with the renderer's when a pool is opened
PIXELS, STATE = "pixels.npy", "pool.json"


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
        count = len(self.pixels)
        return np.array([self.start + _order(self.start, sample // count, count)[sample % count] for sample in range(first, first + size)])

    def batches(self, first: int, size: int) -> Iterator[Batch]:
        """Endless batches from the sample `first` on.

        Yields:
            pixels (size, 3, side, side) float32 in -1..1, and captions: other ones each time round.
        """
        while True:
            seeds = self.seeds(first, size)
            pixels = torch.from_numpy(self.pixels[seeds - self.start]).permute(0, 3, 1, 2)
            turns = [sample // len(self.pixels) for sample in range(first, first + size)]
            captions = [self.scenes.caption(int(seed), turn) for seed, turn in zip(seeds, turns, strict=True)]
            yield pixels.float() / 127.5 - 1, captions
            first += size


@functools.lru_cache(maxsize=2)
def _order(start: int, turn: int, count: int) -> npt.NDArray[np.int64]:
    """The order in which a pool is gone through this time."""
    return np.random.default_rng([start, turn]).permutation(count)


def open_pool(scenes: SceneSet, folder: Path, count: int, *, start: int = 0, workers: int = 1) -> Pool:
    """The pool of a folder; what is missing of it is painted.

    Args:
        scenes: what is painted.
        folder: holds pixels.npy and pool.json.
        count: scenes.
        start: seed of the first.
        workers: processes that paint.

    Raises:
        SettingsError: the folder holds a pool of other scenes, or a damaged one.
        OutputError: it cannot be written.
    """
    pool = _begun(scenes, folder, count, start)
    painted = _state(folder)["painted"]
    places = range(painted, count, CHUNK)
    parts = [range(start + place, start + min(place + CHUNK, count)) for place in places]
    if parts:
        print(f"painting {count - painted} scenes into {folder / PIXELS}", flush=True)
        with explained(folder, "choose another --out"), ProcessPoolExecutor(max(1, workers)) as painters:
            for done in painters.map(_paint, repeat(scenes), repeat(folder / PIXELS), places, parts):
                painted += done
                _tell(folder, count, start, painted)
    return pool


def _begun(scenes: SceneSet, folder: Path, count: int, start: int) -> Pool:
    """The pool as far as it is painted; an empty one where there is none."""
    other = f"the pool in {folder} was painted for something else: remove that folder, or choose another --out"
    if not (folder / STATE).exists():
        with explained(folder, "choose another --out"):
            folder.mkdir(parents=True, exist_ok=True)
            shape = (count, scenes.list.side, scenes.list.side, 3)
            np.lib.format.open_memmap(folder / PIXELS, mode="w+", dtype=np.uint8, shape=shape).flush()
            if hasattr(os, "posix_fallocate"):  # a full disk is told here, not by a signal that kills a painter
                with (folder / PIXELS).open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, (folder / PIXELS).stat().st_size)
            _tell(folder, count, start, 0)
    state = _state(folder)
    try:
        pixels: npt.NDArray[np.uint8] = np.load(folder / PIXELS, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise SettingsError(other) from error
    side = scenes.list.side
    if (state["count"], state["start"]) != (count, start) or pixels.shape != (count, side, side, 3):
        raise SettingsError(other)
    looked_at = np.linspace(0, state["painted"] - 1, min(LOOKS, state["painted"])).astype(int)
    if any((pixels[place] != scenes.render(start + int(place)).image).any() for place in looked_at):
        raise SettingsError(other)
    return Pool(scenes, pixels, start)


def _paint(scenes: SceneSet, path: Path, place: int, seeds: range) -> int:
    """Paints some scenes into the file, from a place on; returns how many."""
    pixels = np.load(path, mmap_mode="r+")
    for number, seed in enumerate(seeds):
        pixels[place + number] = scenes.render(seed).image
    pixels.flush()
    return len(seeds)


def _state(folder: Path) -> dict[str, int]:
    """How many scenes there shall be, the seed of the first, how many are painted."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return {key: int(state[key]) for key in ("count", "start", "painted")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SettingsError(f"{folder / STATE} cannot be read: remove {folder}, and the pool is painted anew") from error


def _tell(folder: Path, count: int, start: int, painted: int) -> None:
    with replacing(folder / STATE) as file:
        file.write((json.dumps({"count": count, "start": start, "painted": painted}) + "\n").encode())
