"""Affinities between the pixels of a grid, from their features."""

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.errors import SettingsError
from maskwright.solvers.arrays import empty_matrix, seeded_normal, solving_device

Scale = Literal["clamp", "min-max"]

# Rows of the affinity that are made at a time: 64 rows of 4096 are 1 MB, so the passes that raise them to a power stay in the cache.
ROWS_ON_CPU = 64
ROWS_ON_GPU = 1024


def cosine_affinity(
    features: Tensor, *, power: float = 10.0, spatial: float = 0.0, grid: tuple[int, int] | None = None,
    scale: Scale = "clamp", diagonal: bool = False,
) -> Tensor:  # fmt: skip
    """Powers of cosine similarities: `max(0, f_p . f_q)^power` of unit features, times an optional spatial factor.

    Args:
        features: (N, C), one row per pixel; rows of zeros have no affinity to anything.
        power: exponent, above 0; whole numbers are the fast ones. 10 is DiffCut's (arXiv 2406.02842).
        spatial: width of the factor `exp(-|x_p - x_q|^2 / 2 sigma^2)` in diagonals of the grid; 0 leaves it out.
        grid: (h, w) with h * w = N, row-major; needed for the spatial factor only.
        scale: "clamp" sets negative cosines to 0; "min-max" stretches all cosines to 0...1 as DiffCut's code does.
        diagonal: keep the affinity of a pixel to itself (as DiffCut's code does); 0 otherwise.

    Returns:
        (N, N) float32 in 0...1, symmetric.

    Raises:
        SettingsError: for features that are not (N, C) or not finite, a power or a spatial width that cannot be, an unknown scale, or
            a grid that does not hold the pixels.
    """
    if features.ndim != 2 or not len(features):
        raise SettingsError(f"features are (pixels, channels), not {tuple(features.shape)}")
    if not power > 0:
        raise SettingsError(f"power must be above 0, not {power}")
    if scale not in get_args(Scale):
        raise SettingsError(f"scale must be one of {', '.join(get_args(Scale))}, not {scale!r}")
    if not spatial >= 0:
        raise SettingsError(f"spatial must be 0 (off) or a share of the grid's diagonal, not {spatial}")
    if spatial and (grid is None or grid[0] * grid[1] != len(features)):
        raise SettingsError(f"a spatial factor needs grid=(h, w) with h * w = {len(features)} pixels, not {grid}")
    if not features.isfinite().all():
        raise SettingsError("features must be finite: read them from the model in float32 or bfloat16")
    unit = functional.normalize(features.to(torch.float32), dim=1)
    least, most = _extremes(unit) if scale == "min-max" else (0.0, 1.0)
    affinity = empty_matrix(len(unit), len(unit), unit.device)
    for first, last in _blocks(unit):
        block = torch.mm(unit[first:last], unit[first:].T)  # (rows, N - first)
        if most - least > 1e-6:  # equal features are left as they are: a stretch would show their rounding errors
            block.sub_(least).div_(most - least)
        _raise_in_place(block.clamp_(0, 1), power)
        if spatial and grid is not None:
            _multiply_by_nearness(block, first, spatial, grid)
        affinity[first:last, first:] = block
        affinity[last:, first:last] = block[:, last - first :].T
    if not diagonal:
        affinity.fill_diagonal_(0)
    return affinity


def principal_features(features: Tensor, channels: int, *, seed: int = 0) -> Tensor:
    """Unit features in their leading directions: fewer channels with nearly the same cosines, so a cheaper affinity.

    What the leading directions leave out is mostly noise: cosines within a region rise.

    Randomised range finder with one power iteration (Halko et al., arXiv 0909.4061, algorithm 4.4), on features that are not
    centred: cosines are angles at the origin.

    Args:
        features: (N, C).
        channels: how many directions to keep; at least C or N of them leaves the features as they are.
        seed: of the random directions.

    Returns:
        (N, channels) float32, on the features' device.
    """
    if features.ndim != 2:
        raise SettingsError(f"features are (pixels, channels), not {tuple(features.shape)}")
    if channels < 1:
        raise SettingsError(f"channels must be 1 or more, not {channels}")
    home = features.device
    features = features.to(solving_device(home), torch.float32)
    if channels >= min(features.shape):
        return functional.normalize(features, dim=1).to(home)
    lengths = features.norm(dim=1, keepdim=True).clamp_min(1e-12)  # divided out of the products: no second array of features
    sample = min(channels + 8, min(features.shape))
    start = seeded_normal((features.shape[1], sample), seed, features.device)
    directions = torch.linalg.qr(features.T @ (features @ start / lengths.square()))[0]  # (C, sample)
    projected = features @ directions / lengths
    vectors = torch.linalg.eigh(projected.T @ projected)[1]  # eigenvalues ascend
    reduced: Tensor = projected @ vectors[:, -channels:]
    return reduced.to(home)


def _blocks(unit: Tensor) -> Iterator[tuple[int, int]]:
    """First and last row of each block; a block is computed from its diagonal to the right, and mirrored."""
    rows = ROWS_ON_CPU if unit.device.type == "cpu" else ROWS_ON_GPU
    for first in range(0, len(unit), rows):
        yield first, min(first + rows, len(unit))


def _extremes(unit: Tensor) -> tuple[float, float]:
    """Smallest and largest cosine of all pairs."""
    found = torch.stack([torch.stack(torch.mm(unit[first:last], unit[first:].T).aminmax()) for first, last in _blocks(unit)])
    return float(found[:, 0].min()), float(found[:, 1].max())


def _raise_in_place(block: Tensor, power: float) -> None:
    """Raises a block to a power; whole ones by repeated squaring, from the exponent's highest bit down."""
    if power != int(power):
        block.pow_(power)
        return
    bits = bin(int(power))[3:]
    base = block.clone() if "1" in bits else block
    for bit in bits:
        block.square_()
        if bit == "1":
            block.mul_(base)


def _multiply_by_nearness(block: Tensor, first: int, spatial: float, grid: tuple[int, int]) -> None:
    """Multiplies a block that starts at the diagonal, in row `first`, by the spatial factor of its pixels."""
    variance = (spatial * math.hypot(*grid)) ** 2
    columns = torch.arange(first, grid[0] * grid[1], device=block.device)
    rows = columns[: len(block)]
    for own, others in ((rows // grid[1], columns // grid[1]), (rows % grid[1], columns % grid[1])):
        block.mul_(torch.exp((own[:, None] - others).square() / (-2 * variance)))
