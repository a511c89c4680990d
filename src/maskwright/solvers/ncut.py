"""Normalised cut in two, and its recursion (Shi & Malik 2000), as DiffCut (arXiv 2406.02842) uses it."""

import heapq
from typing import NamedTuple

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.solvers.arrays import check_count, checked_affinity, submatrix, sum_rows
from maskwright.solvers.spectral import leading_eigenvectors

# Of the mean degree; pixels with less affinity count as having so much, so that a pixel without any divides nothing by zero.
LEAST_DEGREE = 1e-6


class Bipartition(NamedTuple):
    """mask (N,) bool: the side on which the eigenvector is large; cut: the normalised cut value, in 0...2, infinite where none exists."""

    mask: Tensor
    cut: float


def bipartition(affinity: Tensor, *, split_points: int = 100, seed: int = 0, tolerance: float = 1e-3) -> Bipartition:
    """Best two-way normalised cut along the second generalised eigenvector of `(D - W) y = lambda D y`.

    The eigenvector comes from a Lanczos iteration, or a dense decomposition of small graphs. It is cut at values spread evenly from
    0.99 of its minimum to 0.99 of its maximum (DiffCut's); one pass over W that sums its rows between the values gives all cut values
    `cut/assoc(A) + cut/assoc(B)` at once.

    Args:
        affinity: W (N, N), symmetric and not negative, N at least 2.
        split_points: how many values are tried.
        seed: of the start of the iteration.
        tolerance: on the eigenvector's residual.

    Returns:
        The best split, on the affinity's device. A graph without any affinity is halved, with an infinite value.

    Raises:
        SettingsError: for fewer than two pixels or no split point.
    """
    home = affinity.device
    affinity = checked_affinity(affinity)
    if len(affinity) < 2:
        raise SettingsError("one pixel cannot be cut in two: an affinity of at least 2 pixels is needed")
    if split_points < 1:
        raise SettingsError(f"split_points must be 1 or more, not {split_points}")
    degrees = affinity.sum(1)
    mean = float(degrees.mean())
    if not mean > 0:
        return Bipartition(torch.arange(len(affinity), device=home) >= len(affinity) // 2, torch.inf)
    degrees = degrees.clamp_min(LEAST_DEGREE * mean)
    vector = leading_eigenvectors(affinity, 2, degrees=degrees, seed=seed, tolerance=tolerance)[1][:, 1] * degrees.rsqrt()
    vector = vector * vector[vector.abs().argmax()].sign()
    best = _best_split(affinity, degrees, vector, split_points)
    return Bipartition(best.mask.to(home), best.cut)


def recursive_cut(
    affinity: Tensor, *, threshold: float = 0.5, regions: int | None = None, split_points: int = 100, smallest: int = 2,
    drop_zero: bool = False, seed: int = 0,
) -> Tensor:  # fmt: skip
    """Cuts in two, again and again, each segment by its own normalised cut.

    The segment whose best cut value is lowest is always next. The order does not matter to a threshold; it decides which
    segments a given number of regions has.

    Args:
        affinity: W (N, N), symmetric and not negative.
        threshold: a segment is cut while its best cut value is below.
        regions: cut until there are so many, whatever the threshold.
        split_points: values tried along each eigenvector.
        smallest: segments of fewer pixels are not cut (with `regions`: only after all others).
        drop_zero: parity with DiffCut's code: below the first cut, pixels with an affinity of exactly 0 to any other pixel of the
            picture take part in no cut and stay on the side where the eigenvector is small.
        seed: of the eigen-solver's start.

    Returns:
        (N,) int64 labels, numbered in the order in which they first occur, on the affinity's device.

    Raises:
        SettingsError: for regions outside 1...N, or no split point.
    """
    home = affinity.device
    affinity = checked_affinity(affinity)
    count = len(affinity)
    if regions is not None:
        check_count("regions", regions, count)
    if split_points < 1:
        raise SettingsError(f"split_points must be 1 or more, not {split_points}")
    dropped = _touches_zero(affinity) if drop_zero else torch.zeros(count, dtype=torch.bool, device=affinity.device)

    def best_cut(pixels: Tensor) -> Bipartition:
        taking_part = ~dropped[pixels] if len(pixels) < count else torch.ones_like(pixels, dtype=torch.bool)
        if int(taking_part.sum()) < 2:
            return Bipartition(torch.arange(len(pixels), device=pixels.device) >= len(pixels) // 2, torch.inf)
        found = bipartition(submatrix(affinity, pixels[taking_part]), split_points=split_points, seed=seed)
        mask = torch.zeros_like(taking_part).masked_scatter(taking_part, found.mask)
        return Bipartition(mask, found.cut if len(pixels) >= smallest else torch.inf)

    open_segments: list[tuple[float, int, Tensor, Tensor]] = []  # cut value, serial number, pixels, mask
    segments = [torch.arange(count, device=affinity.device)]
    labels = torch.zeros(count, dtype=torch.int64, device=affinity.device)

    def consider(serial: int) -> None:
        pixels = segments[serial]
        if len(pixels) >= (2 if regions is not None else max(smallest, 2)):
            found = best_cut(pixels)
            heapq.heappush(open_segments, (found.cut, serial, pixels, found.mask))

    number = 1
    if regions != 1:
        consider(0)
    while open_segments and (regions is None or number < regions):
        value, _, pixels, mask = heapq.heappop(open_segments)
        if regions is None and not value < threshold:
            break
        labels[pixels[mask]] = number
        number += 1
        if number == regions:
            break
        for part in (pixels[~mask], pixels[mask]):
            segments.append(part)
            consider(len(segments) - 1)
    return _in_order(labels).to(home)


def _best_split(affinity: Tensor, degrees: Tensor, vector: Tensor, split_points: int) -> Bipartition:
    """The split of a vector (N,) at evenly spread values with the lowest normalised cut."""
    least, most = vector.aminmax()
    values = torch.linspace(0.99 * float(least), 0.99 * float(most), split_points, device=vector.device)
    bins = torch.searchsorted(values, vector)  # above how many values a pixel lies: it is on the far side of split s where bin > s
    bands = split_points + 1
    between = sum_rows(sum_rows(affinity, bins, bands).T.contiguous(), bins, bands).double()  # affinity between bands of the vector
    volumes = sum_rows(degrees.double()[:, None], bins, bands)[:, 0]
    inside = between.cumsum(0).cumsum(1).diagonal()[:-1]  # affinity among the pixels below each value
    low = volumes.cumsum(0)[:-1]
    high = volumes.sum() - low
    cut = (between.sum(1).cumsum(0)[:-1] - inside).clamp_min(0)
    counts = bins.bincount(minlength=bands).cumsum(0)[:-1]
    proper = (counts > 0) & (counts < len(vector))
    if not proper.any():
        return Bipartition(torch.arange(len(vector), device=vector.device) >= len(vector) // 2, torch.inf)
    ratios = torch.where(proper, cut / low + cut / high, torch.inf)
    best = int(ratios.argmin())
    return Bipartition(bins > best, float(ratios[best]))


def _touches_zero(affinity: Tensor) -> Tensor:
    """Pixels with an affinity of exactly 0 to another pixel; the diagonal does not count."""
    zeros = (affinity == 0).sum(1)
    return zeros > (affinity.diagonal() == 0)


def _in_order(labels: Tensor) -> Tensor:
    """The same segments, numbered by their first pixel."""
    names, inverse = torch.unique(labels, return_inverse=True)
    first = torch.full((len(names),), len(labels), device=labels.device)
    first = first.scatter_reduce(0, inverse, torch.arange(len(labels), device=labels.device), "amin")
    return first.argsort().argsort()[inverse]
