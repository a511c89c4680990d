"""How a mask is made from the same maps: the cut itself, and four others to compare it with. See README.md."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from maskwright.solvers.dense_crf import dense_crf
from maskwright.solvers.kmeans import kmeans
from maskwright.solvers.mincut import minimum_cut
from maskwright.solvers.ncut import bipartition

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Solver = Literal["cut", "threshold", "kmeans", "ncut", "crf"]
LINKED = ("cut", "ncut")  # solvers that look at the links


def cut_mask(u: Array, pairwise: Any) -> Mask:
    """The exact optimum of AttentionCut's energy: u (h, w) inside 0..1, links (N, N) sparse, to (h, w)."""
    return minimum_cut(-np.log(u).ravel(), -np.log1p(-u).ravel(), pairwise).reshape(u.shape)


def kmeans_mask(cross: Array, refined: Array, *, seed: int) -> Mask:
    """Two clusters of the pixels' (A_c, r), both (h, w)."""
    points = np.stack([cross.ravel(), refined.ravel()], 1)
    clustering = kmeans(torch.from_numpy(points).float(), 2, seed=seed)
    return brighter_side(clustering.labels.numpy().reshape(cross.shape) == 1, cross)


def halves(pairwise: Any, *, seed: int) -> Mask:
    """Normalised cut of the links (N, N) in two: (N,), the same for all labels; which half is foreground is not said."""
    mask, _ = bipartition(torch.from_numpy(pairwise.toarray()).float(), seed=seed)
    return np.asarray(mask.numpy(), dtype=bool)


def crf_mask(u: Array, picture: Array) -> Mask:
    """Dense CRF over u (h, w) on the picture (h, w, 3) in 0..255."""
    return dense_crf(u, picture) > 0.5


def brighter_side(mask: Mask, cross: Array) -> Mask:
    """The mask or its complement, where A_c has the higher mean; nothing when one side is empty or both are alike."""
    if mask.all() or not mask.any():
        return np.zeros_like(mask)
    inside, outside = cross[mask].mean(), cross[~mask].mean()
    if inside == outside:
        return np.zeros_like(mask)
    return mask if inside > outside else ~mask
