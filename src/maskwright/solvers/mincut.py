"""Exact minimum of a two-label energy whose links only ask for agreement: one minimum cut."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from maskwright.errors import SettingsError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
CAPACITY = 2**30 - 1  # a link carries up to this both ways, and their sum must fit into the 32 bits of scipy's flow


def minimum_cut(foreground_cost: npt.ArrayLike, background_cost: npt.ArrayLike, pairwise: Any) -> Mask:
    """The mask x that minimises the sum of node costs plus the sum over p < q of pairwise(p, q) [x_p != x_q].

    scipy's flow counts in 32-bit integers, so costs are scaled by a power of two and rounded. What cannot matter is clamped first and
    takes no digits from the rest: a node cost beyond all its links, a link or a cost beyond the whole flow. The energy is then within
    (nodes + links) / 2^30 x the flow of the optimum, and exact when all costs are multiples of a common unit of that size.

    Args:
        foreground_cost: (N,) cost of being foreground; may be infinite.
        background_cost: (N,) cost of being background; may be infinite, but not both for one node.
        pairwise: scipy sparse (N, N), symmetric and non-negative; the diagonal is ignored; may hold infinity, which yields to an
            infinite cost.

    Returns:
        (N,) bool, True for foreground. Of several optima it is the one with the smallest foreground, which every other one contains: a
        node that may be either is background.

    Raises:
        SettingsError: for other shapes, NaN, a node that may be neither, or links that are negative or not symmetric.
    """
    gain = _gains(foreground_cost, background_cost)
    one, two, weight = _links(pairwise, len(gain))
    gain, weight = _finite(gain, weight)
    strength = np.bincount(one, weight, len(gain)) + np.bincount(two, weight, len(gain))
    free = strength == 0  # nodes without links choose by themselves
    mask: Mask = free & (gain > 0)
    if free.all():
        return mask
    gain = np.clip(gain, -2 * strength, 2 * strength)  # beyond its links a node is decided
    flow = min(gain[gain > 0].sum(), -gain[gain < 0].sum())  # the cost of one label everywhere: no cut is worth more
    if flow > 0:
        gain, weight = np.clip(gain, -2 * flow, 2 * flow), np.minimum(weight, 2 * flow)
    else:
        gain, weight = np.sign(gain), np.ones_like(weight)  # no two nodes disagree: only who is linked matters
    largest = max(weight.max(), np.abs(gain).max(), flow)  # the flow's value must fit as well
    scale = 2.0 ** np.floor(np.log2(CAPACITY / largest))
    mask |= _source_side(np.rint(gain * scale), one, two, np.rint(weight * scale))
    return mask


def cut_energy(mask: npt.ArrayLike, foreground_cost: npt.ArrayLike, background_cost: npt.ArrayLike, pairwise: Any) -> float:
    """The energy of a mask (N,) bool, which `minimum_cut` minimises; arguments as there."""
    chosen = np.asarray(mask, dtype=bool)
    costs = np.where(chosen, np.asarray(foreground_cost, dtype=np.float64), np.asarray(background_cost, dtype=np.float64))
    one, two, weight = _links(pairwise, len(chosen))
    return float(costs.sum() + weight[chosen[one] != chosen[two]].sum())


def _gains(foreground_cost: npt.ArrayLike, background_cost: npt.ArrayLike) -> Floats:
    """(N,) what each node saves by being foreground."""
    chosen, other = (np.asarray(cost, dtype=np.float64) for cost in (foreground_cost, background_cost))
    if chosen.ndim != 1 or chosen.shape != other.shape:
        raise SettingsError(f"a cut needs two costs (N,) of each node, not {chosen.shape} and {other.shape}")
    with np.errstate(invalid="ignore"):
        gain = other - chosen
    if np.isnan(gain).any():
        raise SettingsError(f"node {int(np.isnan(gain).argmax())} has the costs NaN or infinity for both labels")
    return gain


def _links(pairwise: Any, nodes: int) -> tuple[Integers, Integers, Floats]:
    """Both ends, the smaller number first, and the positive weight of every link."""
    matrix = sparse.csr_array(pairwise, dtype=np.float64)
    if matrix.shape != (nodes, nodes):
        raise SettingsError(f"links of {nodes} nodes are a matrix ({nodes}, {nodes}), not {matrix.shape}")
    upper, lower = (sparse.csr_array(part) for part in (sparse.triu(matrix, 1), sparse.tril(matrix, -1).T))
    for part in (upper, lower):
        part.eliminate_zeros()
        part.sort_indices()
    same = np.array_equal(upper.indptr, lower.indptr) and np.array_equal(upper.indices, lower.indices)
    if not same or not np.allclose(upper.data, lower.data, rtol=1e-6, atol=0):
        raise SettingsError("links must be symmetric: link p to q as strongly as q to p")
    if not (upper.data > 0).all():
        raise SettingsError("links must not be negative or NaN: a cut can ask for agreement only")
    ends = upper.tocoo()
    return ends.row.astype(np.int64), ends.col.astype(np.int64), upper.data


def _finite(gain: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Infinite links become dearer than everything finite, infinite gains dearer than all links."""
    total = np.abs(gain[np.isfinite(gain)]).sum() + weight[np.isfinite(weight)].sum()
    weight = np.where(np.isinf(weight), 2 * total + 1, weight)
    return np.where(np.isinf(gain), np.sign(gain) * (4 * weight.sum() + 1), gain), weight


def _source_side(gain: Floats, one: Integers, two: Integers, weight: Floats) -> Mask:
    """(N,) the smallest source side of a minimum cut with these whole-numbered capacities."""
    nodes = len(gain)
    source, sink = nodes, nodes + 1
    more, less = np.flatnonzero(gain > 0), np.flatnonzero(gain < 0)
    start = np.concatenate([np.full(len(more), source), less, one, two])
    end = np.concatenate([more, np.full(len(less), sink), two, one])
    capacity = np.concatenate([gain[more], -gain[less], weight, weight]).astype(np.int32)
    graph = sparse.csr_array((capacity, (start, end)), shape=(nodes + 2, nodes + 2))
    residual = sparse.csr_array(graph - csgraph.maximum_flow(graph, source, sink).flow)
    residual.eliminate_zeros()  # a stored zero would count as a way
    reached = csgraph.breadth_first_order(residual, source, return_predecessors=False)
    mask = np.zeros(nodes + 2, dtype=bool)
    mask[reached] = True
    return mask[:nodes]
