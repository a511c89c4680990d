"""K-way normalised cut, discrete from start to end: pixels change clusters as long as the objective rises."""

from typing import NamedTuple

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.solvers.arrays import check_count, checked_affinity, sum_rows
from maskwright.solvers.spectral import spectral_clusters

# Below this rise per cluster an objective counts as unchanged: float32 products know no better.
RISE = 1e-7


class KWay(NamedTuple):
    """labels (N,) int64 in 0...k - 1; objective in 0...k; history: the objective at the start and after every step, never falling."""

    labels: Tensor
    objective: float
    history: tuple[float, ...]


def kway_cut(affinity: Tensor, k: int, *, start: Tensor | None = None, seed: int = 0, iterations: int = 200) -> KWay:
    """Maximises `f(X) = sum_k x_k^T W x_k / d^T x_k` over one-hot X, which is K minus the K-way normalised cut (Yu & Shi 2003).

    Each step computes what every pixel would gain by moving to its best cluster, all others staying, and moves all that gain at
    once. To first order these are the moves that the linearised objective asks for, whose gradient in column k is
    `2 W x_k / d^T x_k - d (x_k^T W x_k) / (d^T x_k)^2`. Where W is positive semidefinite every term of f is convex in x_k (a square
    over a linear function), f lies above its linearisation, and moving along it cannot lower f. Adding s D to W adds the constant
    s K to f, so any W could be made so; but such a shift ties pixels to the cluster they are in. W is therefore left as it is and f
    itself judges the step: where it does not rise, the half with the larger gains is tried, down to the one best pixel, whose gain is
    exact. The history therefore never falls, and at its end no single pixel can move and raise f.

    No cluster is left empty: the last pixel of a cluster stays. Pixels without any affinity keep the label that they start with.

    W is multiplied by all columns once; afterwards only by the pixels that moved.

    Args:
        affinity: W (N, N), symmetric and not negative.
        k: number of clusters, 1...N.
        start: (N,) labels in 0...k - 1 to begin with; by default those of `grouped_start`.
        seed: of that start.
        iterations: most steps.

    Returns:
        The cut, its labels on the affinity's device.

    Raises:
        SettingsError: for k outside 1...N, or a start that is not a label of every pixel.
    """
    home = affinity.device
    affinity = checked_affinity(affinity)
    check_count("k", k, len(affinity))
    if iterations < 0:
        raise SettingsError(f"iterations must be 0 or more, not {iterations}")
    if start is None:
        start = grouped_start(affinity, k, seed=seed)
    elif start.shape != (len(affinity),) or start.min() < 0 or start.max() >= k:
        raise SettingsError(f"start must hold a label from 0 to {k - 1} for each of the {len(affinity)} pixels")
    state = _State(affinity, _occupied(start.to(affinity.device, torch.int64), k), k)
    history = [state.objective]
    for _ in range(iterations):
        if not state.step():
            break
        history.append(state.objective)
    return KWay(state.labels.to(home), state.objective, tuple(history))


def grouped_start(affinity: Tensor, k: int, *, seed: int = 0, groups: int = 256) -> Tensor:
    """The same problem on groups of pixels first, as multilevel methods do (Dhillon et al. 2007); (N,) int64 labels.

    Each pixel joins the landmark that it is most alike: three quarters of the landmarks are drawn, one quarter are the pixels that
    these are least alike, so that small regions have one too. Sums of the affinity over groups are the affinity of a small graph on
    which the objective has the very value it has on the pixels; that graph is clustered spectrally and then by the steps of `kway_cut`.

    Args:
        affinity: (N, N).
        k: number of clusters.
        seed: of the landmarks and of k-means.
        groups: how many; at least 4 k are made. With no more pixels than that, the pixels are clustered themselves.
    """
    groups = max(groups, 4 * k)
    if groups >= len(affinity):
        return spectral_clusters(affinity, k, seed=seed, restarts=3).labels
    landmarks = torch.randperm(len(affinity), generator=torch.Generator().manual_seed(seed))[: groups - groups // 4].to(affinity.device)
    alike = affinity[landmarks]
    nearest = alike.amax(0)
    nearest[landmarks] = torch.inf
    nearest[affinity.sum(1) <= 0] = torch.inf  # nobody's landmark would serve pixels without affinity
    missed = nearest.topk(groups // 4, largest=False).indices
    landmarks = torch.cat([landmarks, missed])
    alike = torch.cat([alike, affinity[missed]])
    alike.scatter_(1, landmarks[:, None], torch.inf)
    group = alike.argmax(0)
    coarse = sum_rows(sum_rows(affinity, group, groups).T.contiguous(), group, groups)
    start = spectral_clusters(coarse, k, seed=seed, restarts=3).labels
    return kway_cut(coarse, k, start=start).labels[group]


class _State:
    """Labels, and everything the gains need, kept up to date as pixels move."""

    def __init__(self, affinity: Tensor, labels: Tensor, k: int) -> None:
        """Starts from labels; the only product with the whole affinity."""
        self.affinity = affinity
        self.k = k
        self.own = affinity.diagonal().double()
        self.degrees = affinity.sum(1).double()
        self._accept(labels, sum_rows(affinity, labels, k).double())

    def _accept(self, labels: Tensor, towards: Tensor) -> None:
        """Takes labels, with the affinity of each pixel towards each cluster (k, N)."""
        self.labels, self.towards = labels, towards
        self.volumes, self.inside, self.objective = self._measure(labels, towards)

    def _measure(self, labels: Tensor, towards: Tensor) -> tuple[Tensor, Tensor, float]:
        """Volume d^T x_k and inner affinity x_k^T W x_k of each cluster, and the objective."""
        zeros = torch.zeros(self.k, dtype=torch.float64, device=labels.device)
        volumes = zeros.index_add(0, labels, self.degrees)
        inside = zeros.index_add(0, labels, towards.gather(0, labels[None])[0])
        return volumes, inside, float(_share(inside, volumes).sum())

    def step(self) -> bool:
        """Moves as many of the gaining pixels at once as raise the objective; False when none does."""
        gains, targets = self._gains()
        pixels = (gains > RISE * self.k).nonzero()[:, 0]
        pixels = pixels[gains[pixels].argsort(descending=True, stable=True)]
        while len(pixels):
            moved = self._spared(pixels)
            labels = self.labels.clone()
            labels[moved] = targets[moved]
            towards = self.towards + self._change(moved, labels)
            if self._measure(labels, towards)[2] > self.objective + RISE * self.k:
                self._accept(labels, towards)
                return True
            pixels = pixels[: len(pixels) // 2]
        return False

    def _gains(self) -> tuple[Tensor, Tensor]:
        """By how much the objective rises if one pixel moves to its best other cluster, and which that is; (N,) both."""
        shares = _share(self.inside, self.volumes)
        volumes, inside, degrees = self.volumes[:, None], self.inside[:, None], self.degrees
        joining = _share(inside + 2 * self.towards + self.own, volumes + degrees) - shares[:, None]
        joining.scatter_(0, self.labels[None], -torch.inf)
        best, targets = joining.max(0)
        left_inside = self.inside[self.labels] - 2 * self.towards.gather(0, self.labels[None])[0] + self.own
        left_volume = self.volumes[self.labels] - degrees
        leaving = _share(left_inside, left_volume) - shares[self.labels]
        alone = self.labels.bincount(minlength=self.k)[self.labels] == 1
        return torch.where(alone, -torch.inf, best + leaving), targets

    def _spared(self, pixels: Tensor) -> Tensor:
        """The pixels that may move together: of a cluster that all its pixels would leave, the one with the least gain stays."""
        leavers = self.labels[pixels]
        emptied = (leavers.bincount(minlength=self.k) == self.labels.bincount(minlength=self.k))[leavers]
        ranks = torch.arange(len(pixels), device=pixels.device)
        last = torch.full((self.k,), -1, device=pixels.device).scatter_reduce(0, leavers, ranks, "amax")
        return pixels[~(emptied & (last[leavers] == ranks))]

    def _change(self, moved: Tensor, labels: Tensor) -> Tensor:
        """Change of `towards` when pixels move from their present labels to new ones; (k, N)."""
        rows = self.affinity[moved]
        return sum_rows(rows, labels[moved], self.k) - sum_rows(rows, self.labels[moved], self.k)


def _share(inside: Tensor, volumes: Tensor) -> Tensor:
    """Inner affinity over volume; 0 for a cluster without any affinity."""
    return torch.where(volumes > 0, inside / volumes.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def _occupied(labels: Tensor, k: int) -> Tensor:
    """Labels in which no cluster is empty: each empty one takes the last pixel of the largest."""
    counts = labels.bincount(minlength=k)
    if counts.min() > 0:
        return labels
    labels = labels.clone()
    for empty in (counts == 0).nonzero()[:, 0].tolist():
        largest = int(counts.argmax())
        labels[(labels == largest).nonzero()[-1, 0]] = empty
        counts[largest] -= 1
        counts[empty] += 1
    return labels
