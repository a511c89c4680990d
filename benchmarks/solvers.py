"""What the solvers of src/maskwright/solvers cost, against the dense or published way of doing the same.

Command: `python benchmarks/solvers.py` (one core, 2 GB of memory, about two minutes, nearly all of them the dense ways on the 64 x 64
grid; `--grid 32` takes seconds). AttentionCut is measured on 32 x 32 only, the grid that it works on. The features are synthetic:
rectangular regions with one vector each, a part that all share, as the features of a U-Net have it, and noise. Prints, for each row,
seconds, the seconds of the reference measured in the same run, their ratio, and how many pixels each of the two gets right after
matching. References that take longer than a few seconds run once.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra as shortest_paths
from torch import Tensor
from torch.nn import functional

from maskwright.evaluation.confusion import count_pixels
from maskwright.methods.attentioncut.energy import grid_picture
from maskwright.methods.attentioncut.method import AttentionCut
from maskwright.readings.attention import LayerMaps, SelfAttention
from maskwright.solvers.affinity import cosine_affinity, principal_features
from maskwright.solvers.geodesic import geodesic_distance
from maskwright.solvers.kmeans import kmeans
from maskwright.solvers.kway import kway_cut
from maskwright.solvers.merging import merge_by_kl, symmetric_kl
from maskwright.solvers.ncut import recursive_cut
from maskwright.solvers.spectral import leading_eigenvectors, spectral_clusters

CHANNELS = 320  # of the features; as wide as the finest decoder block of Stable Diffusion 1.5
REDUCED = 64  # directions that are kept of them
REGIONS = 12
TARGET = 0.1  # seconds, features to regions on 64 x 64, two cores
CUT_SIDE = 32
ATTENTION_CUT = "AttentionCut, one word"
FROM_FEATURES = "K-way cut, from features"  # the affinity included; the reference's is not
THRESHOLD = 0.01  # nats, of the merging
SLOW = 3.0  # seconds; what takes longer is measured once

Job = Callable[[], Tensor]


class Row(NamedTuple):
    """One line of the table: a solver, and the way of doing the same that it is compared with; both return labels, or other tensors."""

    name: str
    solve: Job
    reference_name: str
    reference: Job


class Case(NamedTuple):
    """A made picture: features (N, CHANNELS), its regions (N,), the affinity (N, N), attention maps (N, N) and anchors."""

    side: int
    features: Tensor
    regions: Tensor
    affinity: Tensor
    maps: Tensor
    anchors: Tensor


def make_case(side: int, *, seed: int = 0) -> Case:
    """Blocky features on a side x side grid."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(REGIONS, 2, generator=generator) * side
    rows, columns = torch.arange(side * side) // side, torch.arange(side * side) % side
    offsets = (torch.stack((rows, columns), 1)[:, None] - centres).abs()
    regions = offsets.amax(2).argmin(1)  # the nearest centre by the larger offset: regions with straight edges
    vectors = torch.randn(REGIONS, CHANNELS, generator=generator) + 0.7 * torch.randn(CHANNELS, generator=generator)
    features = vectors[regions] + 2.0 * torch.randn(side * side, CHANNELS, generator=generator)
    affinity = cosine_affinity(principal_features(features, REDUCED))
    maps = torch.softmax(6 * cosine_affinity(principal_features(features, REDUCED), power=2, diagonal=True), 1)
    places = torch.arange(16) * side // 16 + side // 32
    return Case(side, features, regions, affinity, maps, (places[:, None] * side + places).flatten())


def dense_eigenvectors(affinity: Tensor) -> Tensor:
    """All eigenvectors of the normalised affinity; the leading ones are returned."""
    scale = affinity.sum(1).rsqrt()
    return torch.linalg.eigh(scale[:, None] * affinity * scale)[1].flip(1)[:, :REGIONS]


def dense_recursion(affinity: Tensor, *, threshold: float = 0.5) -> Tensor:
    """Recursive normalised cut with all generalised eigenvectors of each segment, its 100 split points one product each."""
    weights = affinity.numpy()
    labels = np.zeros(len(weights), np.int64)
    waiting = [np.arange(len(weights))]
    while waiting:
        pixels = waiting.pop()
        if len(pixels) < 2:
            continue
        part = weights[np.ix_(pixels, pixels)]
        degrees = part.sum(1)
        vector = scipy.linalg.eigh(np.diag(degrees) - part, np.diag(degrees))[1][:, 1]
        best, mask = np.inf, vector > 0
        for value in np.linspace(0.99 * vector.min(), 0.99 * vector.max(), 100):
            side = vector > value
            cut = float(side @ part @ ~side)
            ratio = cut / degrees[side].sum() + cut / degrees[~side].sum()
            if ratio < best:
                best, mask = ratio, side
        if best < threshold:
            labels[pixels[mask]] = labels.max() + 1
            waiting += [pixels[mask], pixels[~mask]]
    return torch.from_numpy(labels)


def direct_divergences(anchors: Tensor, maps: Tensor) -> Tensor:
    """Symmetric divergences as the formula reads, one anchor at a time: every pair of values is visited."""
    logarithms = maps.log()
    return torch.stack([((anchor - maps) * (anchor.log() - logarithms)).sum(1) / 2 for anchor in anchors])


def table(case: Case) -> Iterator[Row]:
    """All rows of one grid. A new solver adds its line here."""
    affinity, maps, anchors = case.affinity, case.maps, case.maps[case.anchors]

    def dense() -> Tensor:
        return dense_eigenvectors(affinity)

    def dense_clusters() -> Tensor:
        return kmeans(functional.normalize(dense_eigenvectors(affinity), dim=1), REGIONS).labels

    def recursion() -> Tensor:
        return dense_recursion(affinity)

    def divergences() -> Tensor:
        return direct_divergences(anchors, maps)

    def from_features() -> Tensor:
        return kway_cut(cosine_affinity(principal_features(case.features, REDUCED)), REGIONS).labels

    def merged() -> Tensor:
        return merge_by_kl(maps, case.anchors, threshold=THRESHOLD, regions=REGIONS).argmax(0)

    yield Row(f"{REGIONS} leading eigenvectors", lambda: leading_eigenvectors(affinity, REGIONS)[1], "torch.linalg.eigh", dense)
    yield Row("spectral clusters, by eigengap", lambda: spectral_clusters(affinity, "eigengap").labels, "eigh + k-means", dense_clusters)
    yield Row("recursive normalised cut", lambda: recursive_cut(affinity), "recursion of eigh", recursion)
    yield Row("K-way normalised cut", lambda: kway_cut(affinity, REGIONS).labels, "recursion of eigh", recursion)
    yield Row(FROM_FEATURES, from_features, "recursion of eigh", recursion)
    yield Row("divergences of 256 maps to all", lambda: symmetric_kl(anchors, maps), "elementwise loop", divergences)
    yield Row("merging of maps", merged, "elementwise loop", divergences)
    if case.side == CUT_SIDE:
        yield from cut_rows(case)


def cut_rows(case: Case) -> Iterator[Row]:
    """AttentionCut of one region whose word attends to half of it, against the same energy on the graph of all pairs."""
    grid = case.side, case.side
    seen = (case.regions == case.regions[0]).reshape(1, 1, *grid).float()
    seen[..., : case.side // 2, :] *= 0.3
    words = [LayerMaps(1, 1, seen)]
    attention = SelfAttention(grid=grid, mean=(case.maps / case.maps.sum(1, keepdim=True))[None])
    levels = torch.rand(REGIONS, 3, generator=torch.Generator().manual_seed(1))[case.regions].reshape(*grid, 3)
    pixels = (255 * levels).byte().repeat_interleave(16, 0).repeat_interleave(16, 1).numpy()  # 512 px
    picture = grid_picture(pixels, grid) / 255

    def cut(**settings: Any) -> Job:
        method = AttentionCut(attention_factors=(1,), grid_factor=1, **settings)
        return lambda: method.foreground(words, attention, pixels).mask.float()

    yield Row("geodesic distances", lambda: torch.from_numpy(geodesic_distance(picture)), "scipy's Dijkstra", lambda: dijkstra(picture))
    yield Row(ATTENTION_CUT, cut(), "AttentionCut, all pairs", cut(neighbours="full"))


def dijkstra(picture: npt.NDArray[np.float64]) -> Tensor:
    """All shortest paths on the 8-connected grid, as the definition reads."""
    height, width = picture.shape[:2]
    places = np.arange(height * width).reshape(height, width)
    flat = picture.reshape(-1, 3)
    pairs = [
        (places[: height - down, max(0, -right) : width - max(0, right)], places[down:, max(0, right) : width - max(0, -right)])
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))
    ]
    one, other = (np.concatenate([pair[end].ravel() for pair in pairs]) for end in (0, 1))
    costs = np.linalg.norm(flat[one] - flat[other], axis=1) + 1e-12  # scipy takes a stored zero for no edge
    graph = csr_array((costs, (one, other)), shape=(height * width, height * width))
    return torch.from_numpy(shortest_paths(graph, directed=False))


def measure(job: Job, *, runs: int) -> tuple[float, Tensor]:
    """Median seconds after a warm-up, and the result; a slow job runs once."""
    began = time.perf_counter()
    result = job()
    seconds = [time.perf_counter() - began]
    if seconds[0] > SLOW:
        return seconds[0], result
    for _ in range(runs):
        began = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:]), result


def right(found: Tensor, regions: Tensor) -> float:
    """Share of pixels in the right region, regions matched one to one."""
    counts = count_pixels(regions.numpy(), found.numpy(), classes=max(int(found.max()) + 1, REGIONS))
    return float(counts[linear_sum_assignment(-counts)].sum() / len(regions))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, choices=[32, 64], nargs="*", default=[32, 64])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {CHANNELS} channels reduced to {REDUCED}, {REGIONS} regions, seconds")
    for side in options.grid:
        case = make_case(side)
        references: dict[str, tuple[float, Tensor]] = {}
        print(f"\n{f'{side} x {side}':34s} seconds  right   {'against':20s} seconds  right    ratio")
        for row in table(case):
            seconds, result = measure(row.solve, runs=options.runs)
            if row.reference_name not in references:
                references[row.reference_name] = measure(row.reference, runs=1)
            slow, expected = references[row.reference_name]
            shares = [f"{right(part, case.regions):6.1%}" if part.ndim == 1 else 6 * " " for part in (result, expected)]
            against = f"{row.reference_name:20s} {slow:7.3f} {shares[1]} {seconds / slow:8.4f}"
            print(f"{row.name:34s} {seconds:7.4f} {shares[0]}   {against}", flush=True)
            if (row.name == FROM_FEATURES and side == 64) or row.name == ATTENTION_CUT:
                print(f"{'':34s} target {TARGET} s on two cores: {'met' if seconds <= TARGET else f'missed by {seconds / TARGET - 1:.0%}'}")


if __name__ == "__main__":
    main()
