"""Hand-made readings in which three areas are to be found, and how well two partitions agree."""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.readings.sites import Site
from tests.tiny import random


def adjusted_rand(one: Tensor, other: Tensor) -> float:
    """Adjusted Rand index of two label tensors of one shape: 1 for the same partition, about 0 for unrelated ones."""
    one, other = (labels.flatten().unique(return_inverse=True)[1] for labels in (one, other))
    table = torch.zeros(int(one.max()) + 1, int(other.max()) + 1, dtype=torch.float64)
    table.index_put_((one, other), torch.ones(len(one), dtype=torch.float64), accumulate=True)
    together, rows, columns = (float((counts * (counts - 1) / 2).sum()) for counts in (table, table.sum(1), table.sum(0)))
    by_chance = rows * columns / (len(one) * (len(one) - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == by_chance else (together - by_chance) / (most - by_chance)


def three_blobs() -> Tensor:
    """Which of three areas each pixel of (8, 12) is in; no area is a stripe and all edges are even."""
    where = torch.zeros(8, 12, dtype=torch.int64)
    where[2:8, 2:6], where[0:4, 8:12] = 1, 2
    return where


def made(features: Tensor) -> Reading:
    """A reading of one picture with features (channels, h, w), both as a decoder input and as the output of an attention layer."""
    sites = (Site("f", "feature", "up", 1, "", ""), Site("o", "output", "down", 1, "", ""))
    size = (int(features.shape[1]), int(features.shape[2]))
    probe = Probe(features=Select(), outputs=Select())
    return Reading(probe, size, 1, features={"f": features[None]}, outputs={"o": features[None]}, sites=sites)


def coloured(where: Tensor, *, noise: float = 0.1) -> Reading:
    """Areas with features of their own, of different length, and some noise."""
    areas = F.normalize(random(int(where.max()) + 1, 16, seed=3), dim=1) * torch.tensor([1.0, 30.0, 0.2, 4.0])[: int(where.max()) + 1, None]
    clean = areas[where]  # h w channels
    return made((clean + noise * clean.norm(dim=-1, keepdim=True) * random(*clean.shape) / 4).permute(2, 0, 1))


def attending(where: Tensor, *, strength: float = 0.95) -> Tensor:
    """Self-attention (tokens, tokens) in which every pixel attends to its own area, and a little to everything."""
    same = (where.flatten()[:, None] == where.flatten()).float()
    return strength * same / same.sum(1, keepdim=True) + (1 - strength) / same.shape[1]


def folded(*grids: tuple[Tensor, tuple[int, int], int]) -> Reading:
    """A reading of one picture with self-attention (tokens, tokens) at grids of 1, 1/2, ... of the latent side, of so many layers."""
    means = {2**number: (mean[None], grid, layers) for number, (mean, grid, layers) in enumerate(grids)}
    return Reading(Probe(self_attention=Select()), grids[0][1], 1, folded=means)


def grouped(method: Any, reading: Reading, **changed: Any) -> Tensor:
    """Regions of the only picture of a reading, by a method with other settings."""
    (maps,) = dataclasses.replace(method, **changed).group(reading)
    return maps
