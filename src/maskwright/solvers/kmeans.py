"""k-means with the k-means++ start; all restarts run side by side."""

from typing import NamedTuple

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.solvers.arrays import check_count, solving_device


class KMeans(NamedTuple):
    """A clustering: labels (N,) int64 in 0...k - 1, centres (k, C) float32, inertia = sum of squared distances to the centres."""

    labels: Tensor
    centres: Tensor
    inertia: float


def kmeans(points: Tensor, k: int, *, seed: int = 0, restarts: int = 10, iterations: int = 100) -> KMeans:
    """Clusters by Lloyd's iterations from k-means++ starts (Arthur & Vassilvitskii 2007); the best restart wins.

    A centre that loses all its points moves to the point that is farthest from its own centre. With fewer distinct points than
    k some clusters stay empty.

    Args:
        points: (N, C).
        k: number of clusters, 1...N.
        seed: of the starts; the same seed gives the same labels.
        restarts: number of starts.
        iterations: most steps of each restart; it stops before when no label changes.

    Returns:
        The clustering, on the points' device.

    Raises:
        SettingsError: for k outside 1...N, or no restart or iteration.
    """
    if points.ndim != 2:
        raise SettingsError(f"points are (pixels, channels), not {tuple(points.shape)}")
    check_count("k", k, len(points))
    if restarts < 1 or iterations < 1:
        raise SettingsError(f"restarts and iterations must be 1 or more, not {restarts} and {iterations}")
    home = points.device
    points = points.to(solving_device(home), torch.float32)
    mean = points.mean(0)
    shifted = points - mean  # squared distances by the product formula lose digits far from the origin
    centres = _spread_starts(shifted, k, restarts, torch.Generator().manual_seed(seed))
    labels, distances = _nearest(shifted, centres)
    running = torch.arange(restarts, device=points.device)
    for _ in range(iterations):
        centres[running] = _means(shifted, labels[running], distances[running], centres[running])
        found, near = _nearest(shifted, centres[running])
        changed = (found != labels[running]).any(1)
        labels[running], distances[running] = found, near
        running = running[changed]
        if not len(running):
            break
    errors = torch.stack([
        (shifted - own[label]).square().sum(dtype=torch.float64) for own, label in zip(centres, labels, strict=True)
    ])  # fmt: skip
    best = int(errors.argmin())
    return KMeans(labels[best].to(home), (centres[best] + mean).to(home), float(errors[best]))


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centre of each point and the squared distance to it, (restarts, N) both."""
    products = torch.matmul(centres, points.T)  # (restarts, k, N)
    scores = centres.square().sum(2)[:, :, None] - 2 * products
    least, labels = scores.min(1)
    return labels, (least + points.square().sum(1)).clamp_min(0)


def _spread_starts(points: Tensor, k: int, restarts: int, generator: torch.Generator) -> Tensor:
    """k-means++: each new centre is drawn with probability proportional to the squared distance to the nearest so far; (restarts, k, C).

    Of a few candidates the one that lowers the sum of distances most is kept, as Arthur and Vassilvitskii advise.
    """
    candidates = 2 + k.bit_length()
    squares = points.square().sum(1)
    chosen = [torch.randint(len(points), (restarts,), generator=generator).to(points.device)]
    nearest = _distances(points, squares, chosen[0][:, None])[:, 0]  # (restarts, N)
    draws = torch.rand(k, restarts, candidates, generator=generator).to(points.device)
    for draw in draws[1:]:
        cumulative = nearest.cumsum(1, dtype=torch.float64)
        places = torch.searchsorted(cumulative, draw.double() * cumulative[:, -1:], right=True).clamp_max(len(points) - 1)
        closer = torch.minimum(_distances(points, squares, places), nearest[:, None])  # (restarts, candidates, N)
        best = closer.sum(2).argmin(1, keepdim=True)
        chosen.append(places.gather(1, best)[:, 0])
        nearest = closer.gather(1, best[:, :, None].expand(-1, -1, len(points)))[:, 0]
    return points[torch.stack(chosen, 1)]


def _distances(points: Tensor, squares: Tensor, places: Tensor) -> Tensor:
    """Squared distances of all points to those at `places` (restarts, m): (restarts, m, N); a point's own is exactly 0."""
    distances = squares + squares[places][:, :, None] - 2 * points[places] @ points.T
    return distances.clamp_min_(0).scatter_(2, places[:, :, None], 0)


def _means(points: Tensor, labels: Tensor, distances: Tensor, centres: Tensor) -> Tensor:
    """Means of the clusters of each restart, (restarts, k, C); an empty cluster takes the farthest points, in turn."""
    restarts, k = centres.shape[:2]
    members = torch.zeros(restarts, k, len(points), device=points.device).scatter_(1, labels[:, None], 1)
    counts = members.sum(2)
    means = (members @ points) / counts.clamp_min(1)[:, :, None]
    for restart in (counts == 0).any(1).nonzero()[:, 0].tolist():
        empty = (counts[restart] == 0).nonzero()[:, 0]
        far, places = distances[restart].topk(len(empty))
        means[restart, empty] = torch.where(far[:, None] > 0, points[places], centres[restart, empty])
    return means
