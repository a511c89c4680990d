"""DiffSeg: pixels whose self-attention looks alike belong together. See README.md."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.images import upsample
from maskwright.methods.contract import Regions
from maskwright.methods.region_count import check_regions, wanted_counts
from maskwright.readings.attention import SelfAttention
from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.solvers.merging import merge_by_kl

HALVINGS = 16  # of the threshold, when more regions are wanted than it leaves
ROWS = 256  # added at a time: what they take stays in the cache


@dataclass(frozen=True)
class DiffSeg:
    """Tian et al., arXiv 2308.12469; step numbers as in README.md beside this file.

    Attributes:
        regions: "auto" for what `threshold` leaves, a number, or "oracle" for the number in the ground truth.
        threshold: symmetric divergence in nats below which attention maps are merged; 1.1 for COCO-Stuff, 0.9 for Cityscapes.
        anchors: so many along each side start a proposal.
        rounds: of merging.
        again: parity with the published code, which averages proposals again that were absorbed before.
        by_layers: a grid weighs its side times its layers (the paper); False weighs it by its side alone (the published code).
        factors: self-attention grids by latent side / grid side; None for all.
        timesteps: read at each and averaged.
        noise: add noise for the timestep (the paper); False is parity with the published code, which feeds the clean latent.
        samples: noise samples per timestep.
        squash: read at the model's square (parity with the published code).
    """

    name: ClassVar[str] = "diffseg"
    meaning: ClassVar[str] = "share of a region's attention"

    regions: Regions = "auto"
    threshold: float = 1.1
    anchors: int = 16
    rounds: int = 3
    again: bool = False
    by_layers: bool = True
    factors: tuple[int, ...] | None = None
    timesteps: tuple[int, ...] = (300,)
    noise: bool = True
    samples: int = 1
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or computed."""
        check_regions(self.regions)
        if not self.threshold > 0:
            raise SettingsError(f"threshold must be above 0, not {self.threshold}")
        if self.anchors < 1 or self.rounds < 1:
            raise SettingsError(f"anchors and rounds must be 1 or more, not {self.anchors} and {self.rounds}")
        self.probe()

    def probe(self) -> Probe:
        """Step 1: the mean self-attention of every grid."""
        return Probe(
            timesteps=self.timesteps, samples=self.samples, noise=self.noise, self_attention=Select(factors=self.factors)
        )  # fmt: skip

    def group(self, reading: Reading, *, seed: int = 0, oracle: Sequence[int] | None = None) -> list[Tensor]:
        """Steps 2 to 4, picture by picture: proposals (regions, h, w) float32 on the finest attention grid, each of sum 1.

        No more regions are made than there are anchors. Nothing is drawn at random; `seed` changes nothing.
        """
        counts = wanted_counts(self.regions, oracle, pictures=reading.pictures)
        grids = [reading.self_attention_at(factor) for factor in reading.self_factors if self.factors is None or factor in self.factors]
        if not grids:
            raise SettingsError(f"this reading holds no self-attention at factors {self.factors}: it holds {list(reading.self_factors)}")
        return [self._merge(self.aggregate(grids, picture), grids[0].grid, count) for picture, count in enumerate(counts)]

    def aggregate(self, grids: Sequence[SelfAttention], picture: int = 0) -> Tensor:
        """Step 2: where each pixel of the finest grid attends, over all grids: (tokens, tokens) float32, rows sum to 1.

        Keys are resized bilinearly and rows renormalised; a query takes the row of the coarse pixel that it lies in.

        Args:
            grids: mean self-attention of one or more grids, the finest first.
            picture: which of the batch.
        """
        weights = [math.sqrt(math.prod(one.grid)) * (one.count if self.by_layers else 1) for one in grids]
        finest = grids[0].grid
        tokens = math.prod(finest)
        total = torch.zeros(tokens, tokens, device=grids[0].dense().device)
        for one, weight in zip(grids, weights, strict=True):
            rows = upsample(torch.unflatten(one.dense()[picture], -1, one.grid), finest).flatten(1)  # coarse queries, keys
            scale = weight / sum(weights) / rows.sum(1, keepdim=True)
            places = _coarse_pixels(finest, one.grid).to(rows.device)
            for block, part in zip(torch.split(total, ROWS), torch.split(places, ROWS), strict=True):
                block += rows[part] * scale[part]
        return total

    def _merge(self, maps: Tensor, grid: tuple[int, int], count: int | None) -> Tensor:
        """Step 3: proposals (regions, h, w) from the maps (tokens, tokens) of one picture."""
        anchors = _anchor_pixels(grid, self.anchors).to(maps.device)
        count = None if count is None else min(count, len(anchors))
        threshold = self.threshold
        for _ in range(HALVINGS):
            proposals = merge_by_kl(maps, anchors, threshold=threshold, rounds=self.rounds, again=self.again, regions=count)
            if count is None or len(proposals) == count:
                break
            threshold /= 2  # so many regions are not there at this threshold
        return torch.unflatten(proposals, -1, grid)  # regions h w


def _coarse_pixels(grid: tuple[int, int], coarse: tuple[int, int]) -> Tensor:
    """For each pixel of a grid (h, w), row by row, the number of the pixel of a coarser grid that its centre lies in: (h * w,) int64."""
    rows, columns = (((torch.arange(side) + 0.5) * few / side).long() for side, few in zip(grid, coarse, strict=True))
    return (rows[:, None] * coarse[1] + columns).flatten()


def _anchor_pixels(grid: tuple[int, int], anchors: int) -> Tensor:
    """Pixels at the centres of an even division of the grid into so many parts a side, or all pixels of a shorter side: (n,) int64."""
    rows, columns = (
        ((torch.arange(parts) + 0.5) * side / parts - 0.5).long()  # the published 1, 5, ..., 61 for 16 of 64
        for side, parts in ((side, min(anchors, side)) for side in grid)
    )
    return (rows[:, None] * grid[1] + columns).flatten()
