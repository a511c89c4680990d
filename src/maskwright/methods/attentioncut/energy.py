"""The parts of AttentionCut's energy: how likely each pixel is foreground, and how much two pixels belong together. See README.md."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import sparse

from maskwright.solvers.geodesic import geodesic_distance
from maskwright.solvers.otsu import otsu_threshold

Array = npt.NDArray[np.float64]
# sRGB's linear light to X, Y, Z, each as a part of the white point D65's (IEC 61966-2-1).
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
XYZ /= XYZ.sum(1, keepdims=True)
LAB = np.array([[0.0, 116, 0], [500, -500, 0], [0, 200, -200]])


def likelihood(cross: Array, refined: Array, *, weight: float, shift: bool, clamp: float) -> Array:
    """Likelihood u = (A_c + weight r) / (1 + weight), each label's Otsu threshold moved to 0.5, clamped: step 4.

    Args:
        cross: (labels, h, w) A_c in 0..1.
        refined: (labels, h, w) r in 0..1.
        weight: λ_φ.
        shift: False leaves u where it is.
        clamp: u stays so far from 0 and 1; last, so that its logarithms are finite.

    Returns:
        (labels, h, w) float64; the unary costs are -log(u) and -log(1 - u).
    """
    u = (cross + weight * refined) / (1 + weight)
    if shift:
        u = np.stack([one + (0.5 - otsu_threshold(one)) for one in u])
    return np.clip(u, clamp, 1 - clamp)


def grid_picture(pixels: npt.NDArray[np.uint8], grid: tuple[int, int]) -> Array:
    """(H, W, 3) uint8 RGB averaged to a grid: (h, w, 3) float64 in 0..255."""
    channels = torch.tensor(pixels).permute(2, 0, 1).float()  # H W 3 -> 3 H W
    return F.adaptive_avg_pool2d(channels, grid).permute(1, 2, 0).double().numpy()  # 3 h w -> h w 3


def lab(rgb: Array) -> Array:
    """From sRGB (.., 3) in 0..255 to CIE L*a*b* (.., 3) under D65: L* in 0..100, grey at a* = b* = 0."""
    encoded = rgb / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    relative = linear @ XYZ.T
    root = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.asarray(root @ LAB.T - np.array([16.0, 0, 0]))


def together(attention: npt.NDArray[np.float32], percentile: float) -> npt.NDArray[np.float32]:
    """Self-attention (N, N) as a similarity: symmetric, zero diagonal, divided by a percentile of the rest, clipped at 1."""
    both = (attention + attention.T) / 2
    np.fill_diagonal(both, 0)
    rest = both.size - len(both)  # numbers off the diagonal; those on it are the smallest, so ranks count from the top
    place = both.size - 1 - int((1 - percentile / 100) * rest)
    strong = float(np.partition(both, place, axis=None)[place]) or float(both.max())
    return np.minimum(both / np.float32(strong or 1), np.float32(1))


def picture_distance(picture: Array, scale: float) -> Array:
    """D: geodesic distance on a picture (h, w, 3), in units of `scale` x the mean difference of two pixels side by side."""
    steps = [np.sqrt(np.square(np.diff(picture, axis=axis)).sum(-1)).ravel() for axis in (0, 1)]
    sides = np.concatenate(steps)
    mean = sides.mean() if sides.size else 0.0
    return geodesic_distance(picture / (scale * mean) if mean > 0 else picture)


def neighbourhood(similar: npt.NDArray[np.float32], grid: tuple[int, int], neighbours: int | Literal["full"]) -> tuple[Any, Any]:
    """The pairs that are linked, as two arrays of pixel numbers p < q.

    Args:
        similar: (N, N) symmetric with a zero diagonal.
        grid: (h, w) with h * w = N.
        neighbours: each pixel's so many most similar ones, beside the eight around it. As many as tie with the last are taken, so
            that the graph does not depend on the order of pixels; similarity 0 is none. "full" links all pairs.
    """
    count = len(similar)
    linked = np.zeros((count, count), dtype=bool)
    if neighbours == "full":
        linked[:] = True
    elif neighbours:
        last = max(count - neighbours, 0)
        least = np.partition(similar, last, axis=1)[:, last, None]
        linked = (similar >= least) & (similar > 0)
    number = np.arange(count).reshape(grid)
    for one, other in (
        (number[:, :-1], number[:, 1:]), (number[:-1], number[1:]),
        (number[:-1, :-1], number[1:, 1:]), (number[:-1, 1:], number[1:, :-1]),
    ):  # fmt: skip
        linked[one, other] = True
    first, second = np.nonzero(np.triu(linked | linked.T, 1))
    return first, second


def links(
    attention: npt.NDArray[np.float32], picture: Array, *, neighbours: int | Literal["full"], geodesic_weight: float | Literal["equal"],
    balance: float | Literal["auto"], percentile: float, geodesic_scale: float,
) -> Any:  # fmt: skip
    """λ ψ(p, q) of the linked pairs: steps 5 to 7.

    Args:
        attention: (N, N) self-attention of the grid.
        picture: (h, w, 3) L*a*b* with h * w = N.
        neighbours: as in `neighbourhood`.
        geodesic_weight: λ_ψ; "equal" lets both parts contribute the same on average over the linked pairs.
        balance: λ; "auto" makes the median over p of λ Σ_q ψ(p, q) equal 1.
        percentile: as in `together`.
        geodesic_scale: as in `picture_distance`.

    Returns:
        scipy sparse (N, N) float64, symmetric, non-negative, zero diagonal.
    """
    similar = together(attention, percentile)
    one, two = neighbourhood(similar, (picture.shape[0], picture.shape[1]), neighbours)
    alike = similar[one, two].astype(np.float64)
    near = np.exp(-picture_distance(picture, geodesic_scale)[one, two])
    if geodesic_weight == "equal":
        geodesic_weight = float(alike.sum() / near.sum()) if alike.any() and near.any() else 1.0
    weight = alike + geodesic_weight * near
    count = len(similar)
    if balance == "auto":
        median = np.median(np.bincount(one, weight, count) + np.bincount(two, weight, count))
        balance = float(1 / median) if median > 0 else 1.0
    ends = np.concatenate([one, two]), np.concatenate([two, one])
    return sparse.csr_array((balance * np.concatenate([weight, weight]), ends), shape=(count, count))
