"""Merging of attention maps that are nearly the same distribution, as DiffSeg (arXiv 2308.12469) does."""

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.solvers.arrays import check_count

# Others that are compared at a time: their logarithms stay in the cache instead of being written to memory.
ROWS_AT_A_TIME = 256


def symmetric_kl(rows: Tensor, others: Tensor) -> Tensor:
    """Mean of both directions of the Kullback-Leibler divergence, `(KL(a | b) + KL(b | a)) / 2`, as DiffSeg's code computes it.

    Two matrix products per block of others; no array of all pairs and pixels. Values below the smallest float32 are read as it.

    Args:
        rows: (A, N), not negative, rows sum to 1.
        others: (B, N), the same.

    Returns:
        (A, B) float32 in nats, not negative.

    Raises:
        SettingsError: for rows and others of different length.
    """
    if rows.ndim != 2 or others.ndim != 2 or rows.shape[1] != others.shape[1]:
        raise SettingsError(f"rows and others must be (A, N) and (B, N), not {tuple(rows.shape)} and {tuple(others.shape)}")
    rows, others = rows.to(torch.float32), others.to(torch.float32)
    logarithms = _logarithm(rows)
    own = (rows * logarithms).sum(1)
    result = torch.empty(len(rows), len(others), device=rows.device)
    for first in range(0, len(others), ROWS_AT_A_TIME):
        part = others[first : first + ROWS_AT_A_TIME]
        part_logarithms = _logarithm(part)
        part_own = (part * part_logarithms).sum(1)
        crossed = rows @ part_logarithms.T + logarithms @ part.T
        result[:, first : first + len(part)] = (own[:, None] + part_own - crossed) / 2
    return result.clamp_min_(0)


def merge_by_kl(
    maps: Tensor, anchors: Tensor, *, threshold: float, rounds: int = 3, again: bool = False, regions: int | None = None
) -> Tensor:
    """Proposals of regions: averages of maps whose symmetric divergence is below a threshold.

    The first round averages, for each anchor, all maps within the threshold of the anchor's own. Each further round goes through
    the proposals in order: one that has not been absorbed yet is averaged with those within the threshold of it.

    Args:
        maps: (N, N), not negative, rows sum to 1: where each pixel attends.
        anchors: (A,) int64, the pixels that proposals start from.
        threshold: divergence in nats below which maps are merged; DiffSeg's is about 1.
        rounds: of merging, the first among them.
        again: parity with DiffSeg's code: a proposal that was absorbed before is averaged again. By default each is absorbed once.
        regions: merge on, always the two proposals with the smallest divergence, until so many are left; where the rounds leave
            fewer, those are returned.

    Returns:
        (K, N) float32, rows sum to 1.

    Raises:
        SettingsError: for no anchors, anchors outside the maps, a threshold of 0 or less, no round, or regions outside 1...N.
    """
    if not len(anchors) or anchors.min() < 0 or anchors.max() >= len(maps):
        raise SettingsError(f"anchors must be pixels from 0 to {len(maps) - 1}, and at least one")
    if not threshold > 0:
        raise SettingsError(f"threshold must be above 0, not {threshold}")
    if rounds < 1:
        raise SettingsError(f"rounds must be 1 or more, not {rounds}")
    if regions is not None:
        check_count("regions", regions, len(maps))
    maps = maps.to(torch.float32)
    near = (symmetric_kl(maps[anchors], maps) < threshold).float()
    near[torch.arange(len(anchors), device=maps.device), anchors] = 1  # rounding must not part an anchor from itself
    proposals = (near @ maps) / near.sum(1, keepdim=True)
    for _ in range(rounds - 1):
        proposals = merge_round(proposals, threshold, again=again)
    return proposals if regions is None else _merge_closest(proposals, regions)


def merge_round(proposals: Tensor, threshold: float, *, again: bool = False) -> Tensor:
    """One later round of `merge_by_kl`: proposals (A, N), in order, averaged with those within the threshold of them; (K, N)."""
    near = (symmetric_kl(proposals, proposals) < threshold).cpu().fill_diagonal_(True)
    absorbed = torch.zeros(len(proposals), dtype=torch.bool)
    merged = []
    for index, row in enumerate(near):
        if absorbed[index]:
            continue
        group = row if again else row & ~absorbed
        absorbed |= group
        merged.append(proposals[group.to(proposals.device)].mean(0))
    return torch.stack(merged)


def _merge_closest(proposals: Tensor, regions: int) -> Tensor:
    """Merges the closest pair, by the plain mean of the rounds, until at most `regions` are left; the earlier one keeps its place."""
    proposals, logarithms = proposals.clone(), _logarithm(proposals)
    own = (proposals * logarithms).sum(1)
    crossed = proposals @ logarithms.T
    distances = ((own[:, None] + own - crossed - crossed.T) / 2).fill_diagonal_(torch.inf)
    alive = torch.ones(len(proposals), dtype=torch.bool, device=proposals.device)
    for _ in range(len(proposals) - regions):
        kept, gone = sorted(divmod(int(distances.argmin()), len(proposals)))
        proposals[kept] = (proposals[kept] + proposals[gone]) / 2
        logarithms[kept] = _logarithm(proposals[kept])
        own[kept] = proposals[kept] @ logarithms[kept]
        alive[gone] = False
        fresh = (own + own[kept] - logarithms @ proposals[kept] - proposals @ logarithms[kept]) / 2
        fresh[kept] = torch.inf
        fresh.masked_fill_(~alive, torch.inf)
        distances[kept], distances[:, kept] = fresh, fresh
        distances[gone], distances[:, gone] = torch.inf, torch.inf
    return proposals[alive]


def _logarithm(rows: Tensor) -> Tensor:
    """Logarithm of probabilities, finite at 0."""
    return rows.clamp_min(torch.finfo(torch.float32).tiny).log_()
