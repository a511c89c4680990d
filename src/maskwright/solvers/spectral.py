"""Spectral clustering: leading eigenvectors of the normalised affinity, the eigengap, clusters of the embedded pixels."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from maskwright.errors import SettingsError
from maskwright.solvers.arrays import check_count, checked_affinity, seeded_normal
from maskwright.solvers.kmeans import kmeans

Array = npt.NDArray[Any]
Product = Callable[[Tensor], Tensor]

# Up to this many pixels a dense decomposition is faster than an iteration (7 ms against 9 ms at 384 on one core).
DENSE = 384

# Residual up to which eigenvectors are good enough to be clustered; their eigenvalues are then right to about 1e-5.
EMBEDDING_TOLERANCE = 3e-3


class SpectralClusters(NamedTuple):
    """labels (N,) int64; assignments (N, k) float32, rows sum to 1; values: the eigenvalues that were looked at, largest first."""

    labels: Tensor
    assignments: Tensor
    values: Tensor


def leading_eigenvectors(
    affinity: Tensor | Callable[[Array], Array], k: int, *, size: int | None = None, degrees: Tensor | None = None, seed: int = 0,
    tolerance: float = 1e-4, rounds: int = 200,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Largest eigenvalues and their eigenvectors of `D^-1/2 W D^-1/2`, W symmetric and not negative, D its row sums.

    A block Lanczos iteration with restarts: W is only ever multiplied by a few vectors. It starts from `D^1/2 1`, the eigenvector
    that is known, and from a block of seeded random vectors, so that an eigenvalue of some multiplicity (a graph of several
    components) is found as often as it occurs.

    Args:
        affinity: W (N, N), or a function that multiplies W by columns, (N, m) -> (N, m) float32.
        k: how many, 1...N.
        size: N, needed for a function unless its degrees are given.
        degrees: (N,) row sums of W; computed when not given. Pixels of degree 0 take part in no eigenvector of a value above 0.
        seed: of the random vectors.
        tolerance: the iteration ends when all residuals `|M v - value v|` are below it; errors of the values are about its square.
        rounds: most products; what has been found by then is returned.

    Returns:
        values (k,), largest first, and vectors (N, k) of unit length whose largest entry is positive; float32, on W's device.

    Raises:
        SettingsError: for k outside 1...N, or a function of unknown size.
    """
    if isinstance(affinity, Tensor):
        matrix = checked_affinity(affinity)
        count, device, home = len(matrix), matrix.device, affinity.device

        def multiply(rows: Tensor) -> Tensor:
            return rows @ matrix  # W is symmetric; vectors as rows are the faster way round

    else:
        if size is None and degrees is None:
            raise SettingsError("an affinity that is a function needs size, the number of pixels, or degrees")
        count, device = len(degrees) if degrees is not None else int(size or 0), torch.device("cpu")
        function, home = affinity, device

        def multiply(rows: Tensor) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(function(rows.numpy().T).T, np.float32))

    check_count("k", k, count)
    degrees = multiply(torch.ones(1, count, device=device))[0] if degrees is None else degrees.to(device, torch.float32)
    scale = torch.where(degrees > 0, degrees.clamp_min(torch.finfo(torch.float32).tiny).rsqrt(), 0.0)
    if isinstance(affinity, Tensor) and count <= DENSE:
        values, vectors = torch.linalg.eigh(scale[:, None] * matrix * scale)
        return values.flip(0)[:k].to(home), _signed(vectors.flip(1)[:, :k]).to(home)
    known = functional.normalize(degrees.clamp_min(0).sqrt(), dim=0)[None]

    def product(rows: Tensor) -> Tensor:
        return multiply(rows * scale) * scale

    values, rows = _block_lanczos(product, known, k, seed=seed, tolerance=tolerance, rounds=rounds)
    return values.to(home), _signed(rows.T.contiguous()).to(home)


def eigengap(values: Tensor, *, least: int = 2, most: int | None = None) -> int:
    """Number of clusters at the largest gap between successive eigenvalues (von Luxburg 2007, section 8.3).

    Args:
        values: (m,) eigenvalues, largest first.
        least: fewest clusters.
        most: most clusters, at most m - 1 (the default): the gap after the last one must be known.

    Raises:
        SettingsError: for bounds that the values cannot answer.
    """
    most = len(values) - 1 if most is None else most
    if not 1 <= least <= most < len(values):
        raise SettingsError(f"the eigengap needs 1 <= least <= most < {len(values)} eigenvalues, not least={least} and most={most}")
    gaps = values[least - 1 : most] - values[least : most + 1]
    return least + int(gaps.argmax())


def spectral_clusters(
    affinity: Tensor, k: int | Literal["eigengap"], *, least: int = 2, most: int = 20, seed: int = 0, restarts: int = 10
) -> SpectralClusters:
    """Normalised spectral clustering (Ng, Jordan & Weiss 2001): unit rows of the k leading eigenvectors, then k-means++.

    A soft assignment is the membership of fuzzy c-means (Bezdek 1981, m = 2), `u_c ~ 1 / |y - centre_c|^2` over the distances in the
    embedded space: largest for the pixel's own cluster, even between two clusters that are equally far.

    Args:
        affinity: (N, N), symmetric and not negative.
        k: number of clusters, or "eigengap" for the largest gap.
        least: fewest clusters of the eigengap.
        most: most clusters of the eigengap; small grids bound it by N - 1.
        seed: of the eigenvectors' start and of k-means.
        restarts: of k-means.

    Raises:
        SettingsError: for k outside 1...N, another word than "eigengap", or fewer than 3 pixels for it.
    """
    count = len(affinity)
    if isinstance(k, str):
        if k != "eigengap":
            raise SettingsError(f'k must be a whole number or "eigengap", not {k!r}')
        if count <= least:
            raise SettingsError(f"the eigengap needs more than {least} pixels, not {count}: give k as a number")
        most = min(most, count - 1)
        values, vectors = leading_eigenvectors(affinity, most + 1, seed=seed, tolerance=EMBEDDING_TOLERANCE)
        k = eigengap(values, least=least, most=most)
    else:
        values, vectors = leading_eigenvectors(affinity, k, seed=seed, tolerance=EMBEDDING_TOLERANCE)
    embedded = functional.normalize(vectors[:, :k], dim=1)
    found = kmeans(embedded, k, seed=seed, restarts=restarts)
    assignments = memberships(embedded, found.centres)
    return SpectralClusters(assignments.argmax(1), assignments, values)


def memberships(points: Tensor, centres: Tensor) -> Tensor:
    """Fuzzy c-means memberships (N, k) of points (N, C) in clusters with given centres (k, C); rows sum to 1."""
    nearness = torch.stack([1 / (points - centre).square().sum(1).clamp_min(1e-12) for centre in centres], 1)
    return nearness / nearness.sum(1, keepdim=True)


def _signed(vectors: Tensor) -> Tensor:
    """Columns with the sign that makes their entry of largest magnitude positive: the same on every machine."""
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)


def _block_lanczos(product: Product, known: Tensor, k: int, *, seed: int, tolerance: float, rounds: int) -> tuple[Tensor, Tensor]:
    """Leading eigenpairs of a symmetric operator on rows (m, N), by Rayleigh-Ritz over a basis that grows by the open residuals.

    Args:
        product: the operator.
        known: (m, N) orthonormal rows to begin with, besides random ones.
        k: how many pairs.
        seed: of the random rows.
        tolerance: on the length of residuals.
        rounds: most products.

    Returns:
        values (k,), largest first, and rows (k, N).
    """
    count = known.shape[1]
    guard = min(k + 8, count) - len(known)
    basis = torch.cat([known, _orthonormal(seeded_normal((guard, count), seed, known.device), known)])
    image = product(basis)
    limit = min(max(6 * k, 96), count)
    for _ in range(rounds):
        values, mixing = torch.linalg.eigh((basis @ image.T).double())
        values, mixing = values.flip(0).float(), mixing.flip(1).T.float()  # (pairs,), (pairs, basis)
        rows, residuals = mixing[:k] @ basis, mixing[:k] @ image
        residuals -= values[:k, None] * rows
        still_open = residuals.norm(dim=1) > tolerance
        if not still_open.any() or len(basis) == count:
            break
        grown = _orthonormal(residuals[still_open], basis)[: count - len(basis)]
        if len(basis) + len(grown) > limit:
            keep = min(2 * k + 8, len(basis), limit - len(grown))
            basis, image = mixing[:keep] @ basis, mixing[:keep] @ image
        basis, image = torch.cat([basis, grown]), torch.cat([image, product(grown)])
    return values[:k], functional.normalize(rows, dim=1)


def _orthonormal(rows: Tensor, basis: Tensor) -> Tensor:
    """Orthonormal rows (m, N), orthogonal to a basis (n, N); done twice, because once leaves the rounding errors of float32."""
    for _ in range(2):
        rows = rows - (rows @ basis.T) @ basis
        rows = torch.linalg.qr(rows.T)[0].T
    return rows.contiguous()
