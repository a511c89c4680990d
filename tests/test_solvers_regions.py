"""Solvers that find regions without words: each against a direct formula, a brute-force search or another library."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.solvers.affinity import cosine_affinity, principal_features
from maskwright.solvers.kmeans import _means, kmeans
from maskwright.solvers.kway import kway_cut
from maskwright.solvers.merging import merge_by_kl, merge_round, symmetric_kl
from maskwright.solvers.ncut import bipartition, recursive_cut
from maskwright.solvers.spectral import eigengap, leading_eigenvectors, spectral_clusters
from tests.tiny import random
from tests.tolerances import assert_close


def adjusted_rand_index(one: Tensor, other: Tensor) -> float:
    """Hubert & Arabie 1985: 1 for the same clusters under other names, about 0 for unrelated ones."""
    table = np.zeros((int(one.max()) + 1, int(other.max()) + 1))
    np.add.at(table, (one.numpy(), other.numpy()), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    rows, columns, total = pairs(table.sum(1)), pairs(table.sum(0)), pairs(np.array(len(one)))
    expected, most = rows * columns / total, (rows + columns) / 2
    return (pairs(table) - expected) / (most - expected) if most != expected else 1.0


def grid_features(side: int, regions: int, *, channels: int = 24, noise: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (side * side, channels) that are one vector per vertical stripe plus noise, and the stripes (side * side,)."""
    stripes = (torch.arange(side) * regions // side).repeat(side)
    return random(regions, channels, seed=seed)[stripes] + noise * random(side * side, channels, seed=seed + 1), stripes


def block_affinity(sizes: tuple[int, ...], *, across: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Affinity 0.8...1 within blocks of shuffled pixels and `across` between them, and the blocks."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    blocks = blocks[torch.randperm(len(blocks), generator=generator)]
    inside = 0.8 + 0.2 * torch.rand(len(blocks), len(blocks), generator=generator)
    affinity = torch.where(blocks[:, None] == blocks, (inside + inside.T) / 2, across)
    return affinity.fill_diagonal_(0), blocks


def random_affinity(pixels: int, seed: int, *, sparse: bool = False) -> Tensor:
    """Symmetric, 0...1, zero diagonal; half of the pairs at 0 where sparse."""
    values = torch.rand(pixels, pixels, generator=torch.Generator().manual_seed(seed)).double()
    values = (values * values.T).triu(1)
    if sparse:
        values = torch.where(values < values.median(), 0.0, values)
    return (values + values.T).float()


def cut_value(affinity: Tensor, mask: Tensor) -> float:
    """Normalised cut by its definition."""
    cut = affinity[mask][:, ~mask].sum()
    return float(cut / affinity[mask].sum() + cut / affinity[~mask].sum())


def kway_objective(affinity: Tensor, labels: Tensor, k: int) -> float:
    """Sum of inner affinity over volume by its definition, in float64."""
    weights = affinity.double()
    parts = [(weights[labels == c][:, labels == c].sum(), weights[labels == c].sum()) for c in range(k)]
    return sum(float(inside / volume) for inside, volume in parts if volume > 0)


# Affinities.


def test_affinity_is_its_formula() -> None:
    features = random(130, 7, seed=0)
    unit = features / features.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    off_diagonal = 1 - torch.eye(130)
    for power in (1.0, 2.0, 7.0, 10.0, 2.5):
        assert_close(cosine_affinity(features, power=power), cosines.clamp_min(0) ** power * off_diagonal)
    stretched = (cosines - cosines.min()) / (cosines.max() - cosines.min())
    found = cosine_affinity(features, scale="min-max", diagonal=True)
    assert_close(found, stretched**10)
    assert torch.equal(found, found.T)
    assert int((found == 0).sum()) == 2  # the least alike pair: DiffCut's exact zero


def test_spatial_factor_makes_far_pixels_less_alike() -> None:
    features, (height, width) = random(6 * 15, 9, seed=1), (6, 15)
    plain = cosine_affinity(features, power=3)
    near = cosine_affinity(features, power=3, spatial=0.1, grid=(height, width))
    rows, columns = torch.arange(90) // width, torch.arange(90) % width
    squares = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    sigma = 0.1 * (height**2 + width**2) ** 0.5
    assert_close(near, plain * torch.exp(-squares / (2 * sigma**2)))
    assert near[0, 89] < 1e-6 < plain.max()


def test_principal_features_keep_the_cosines_of_low_rank_features() -> None:
    features = random(300, 6, seed=0) @ random(6, 80, seed=1) + 1e-4 * random(300, 80, seed=2)
    reduced = principal_features(features, 6)
    assert reduced.shape == (300, 6)
    torch.testing.assert_close(cosine_affinity(reduced, power=1), cosine_affinity(features, power=1), rtol=0, atol=1e-3)
    assert principal_features(features, 80).shape == (300, 80)


# k-means.


@pytest.mark.parametrize("k", [2, 3])
def test_kmeans_finds_the_best_clusters_of_few_points(k: int) -> None:
    for seed in range(5):
        points = random(9, 2, seed=seed) + 100
        best = torch.inf
        for labels in itertools.product(range(k), repeat=8):
            members = torch.nn.functional.one_hot(torch.tensor([0, *labels]), k).T.float()
            means = members @ points / members.sum(1, keepdim=True).clamp_min(1)
            best = min(best, float((points - members.T @ means).square().sum()))
        assert kmeans(points, k, seed=seed).inertia == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_kmeans_inertia_is_as_low_as_other_libraries(noise: float) -> None:
    points = grid_features(24, 8, channels=5, noise=noise)[0]
    found = kmeans(points, 8)
    assert found.inertia == pytest.approx(float((points - found.centres[found.labels]).square().sum()), rel=1e-4)
    others = [kmeans2(points.double().numpy(), 8, minit="++", iter=100, rng=seed) for seed in range(10)]
    inertias = [float(((points.numpy() - centres[labels]) ** 2).sum()) for centres, labels in others]
    assert found.inertia <= 1.01 * min(inertias)


def test_kmeans_inertia_is_as_low_as_scikit_learns() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    points = grid_features(24, 8, channels=5, noise=1.0)[0]
    assert kmeans(points, 8).inertia <= 1.01 * cluster.KMeans(8, n_init=10, random_state=0).fit(points.numpy()).inertia_


def test_kmeans_with_fewer_distinct_points_than_clusters() -> None:
    points = torch.tensor([[0.0, 1.0], [5.0, 5.0], [9.0, 0.0]]).repeat(4, 1)
    found = kmeans(points, 5)
    assert found.inertia == 0
    assert found.centres.isfinite().all()
    assert adjusted_rand_index(found.labels, torch.arange(3).repeat(4)) == 1
    assert torch.equal(kmeans(torch.ones(6, 2), 6).centres, torch.ones(6, 2))


def test_an_empty_cluster_takes_the_point_that_fits_worst() -> None:
    points = torch.tensor([[0.0], [1.0], [9.0]])
    centres = torch.tensor([[[0.0], [50.0]]])
    means = _means(points, torch.tensor([[0, 0, 0]]), torch.tensor([[0.0, 1.0, 81.0]]), centres)
    assert_close(means, torch.tensor([[[10 / 3], [9.0]]]))


def test_a_point_belongs_to_its_nearest_centre() -> None:
    points = random(500, 3, seed=0)
    found = kmeans(points, 6, restarts=2, iterations=3)
    assert torch.equal(found.labels, torch.cdist(points, found.centres).argmin(1))


# Spectral clustering.


def test_operator_eigenvectors_agree_with_a_dense_decomposition() -> None:
    features = grid_features(32, 4, noise=0.6)[0]
    affinity = cosine_affinity(features, power=4)
    weights = affinity.double()
    scale = weights.sum(1).rsqrt()
    dense_values, dense_vectors = torch.linalg.eigh(scale[:, None] * weights * scale)
    values, vectors = leading_eigenvectors(lambda columns: affinity.numpy() @ columns, 4, size=1024)
    torch.testing.assert_close(values.double(), dense_values.flip(0)[:4], rtol=1e-4, atol=0)
    overlaps = (dense_vectors.flip(1)[:, :4].T @ vectors.double()).abs()  # 1 on the diagonal: equal up to sign
    torch.testing.assert_close(overlaps, torch.eye(4).double(), rtol=0, atol=1e-3)
    assert (vectors.gather(0, vectors.abs().argmax(0, keepdim=True)) > 0).all()
    torch.testing.assert_close(leading_eigenvectors(affinity, 4)[0], values, rtol=1e-4, atol=0)


def test_an_eigenvalue_is_found_as_often_as_it_occurs() -> None:
    """600 pixels in 6 components: the value 1 six times, which a Lanczos iteration from one vector would not see."""
    values, vectors = leading_eigenvectors(block_affinity((100,) * 6)[0], 8)
    torch.testing.assert_close(values[:6], torch.ones(6), rtol=1e-5, atol=0)
    assert values[6] < 0.5
    assert_close(vectors.T @ vectors, torch.eye(8))


@pytest.mark.parametrize("side", [15, 24])
def test_three_separated_blobs_give_three_clusters(side: int) -> None:
    features, blobs = grid_features(side, 3)
    found = spectral_clusters(cosine_affinity(features), "eigengap")
    assert int(found.labels.max()) + 1 == 3 == eigengap(found.values)
    assert adjusted_rand_index(found.labels, blobs) == 1


@pytest.mark.parametrize("sizes", [(30, 20, 10, 5), (200, 150, 100, 50)])
def test_components_of_a_disconnected_graph_are_found(sizes: tuple[int, ...]) -> None:
    affinity, blocks = block_affinity(sizes)
    assert adjusted_rand_index(spectral_clusters(affinity, 4).labels, blocks) == 1


def test_soft_assignments_sum_to_one_and_are_largest_for_the_label() -> None:
    features = grid_features(16, 4, noise=1.0)[0]
    found = spectral_clusters(cosine_affinity(features, power=2), 4)
    assert_close(found.assignments.sum(1), torch.ones(256))
    assert torch.equal(found.assignments.argmax(1), found.labels)


def test_eigengap_is_the_largest_gap_within_bounds() -> None:
    values = torch.tensor([1.0, 0.3, 0.29, 0.1, 0.09])
    assert eigengap(values, least=1) == 1
    assert eigengap(values) == 3
    assert eigengap(values, most=2) == 2
    assert eigengap(values, least=4) == 4


# Normalised cut in two, and its recursion.


@pytest.mark.parametrize("seed", range(12))
def test_two_way_cut_is_the_best_of_all_on_small_graphs(seed: int) -> None:
    sizes = (4 + seed % 3, 3)
    noise = random_affinity(sum(sizes), seed)
    affinity = block_affinity(sizes, seed=seed)[0] + 0.15 * noise
    masks = [torch.tensor((False, *rest)) for rest in itertools.product((False, True), repeat=sum(sizes) - 1) if any(rest)]
    best = min(masks, key=lambda mask: cut_value(affinity, mask))
    found = bipartition(affinity)
    assert adjusted_rand_index(found.mask.long(), best.long()) == 1
    assert found.cut == pytest.approx(cut_value(affinity, best), rel=1e-4)


def test_the_value_of_a_large_cut_is_its_definition() -> None:
    affinity = cosine_affinity(grid_features(24, 2, noise=1.5)[0], power=1)
    found = bipartition(affinity)
    assert found.cut == pytest.approx(cut_value(affinity, found.mask), rel=1e-3)


@pytest.mark.parametrize("across", [0.0, 0.01])
@pytest.mark.parametrize("sizes", [(12, 9, 7, 5), (250, 180, 120, 60)])
def test_recursion_finds_blocks_exactly_and_stops(sizes: tuple[int, ...], across: float) -> None:
    affinity, blocks = block_affinity(sizes, across=across)
    labels = recursive_cut(affinity)
    assert int(labels.max()) + 1 == 4
    assert adjusted_rand_index(labels, blocks) == 1
    assert list(dict.fromkeys(labels.tolist())) == [0, 1, 2, 3]  # numbered in the order in which they first occur


def test_recursion_cuts_the_clearest_segments_first() -> None:
    """Two pairs of blocks: the pairs are parted before the blocks in them."""
    affinity, blocks = block_affinity((8, 8, 8, 8), across=0.02)
    affinity = torch.where((blocks[:, None] // 2 == blocks // 2) & (blocks[:, None] != blocks), 0.3, affinity)
    assert adjusted_rand_index(recursive_cut(affinity, regions=2), blocks // 2) == 1
    assert adjusted_rand_index(recursive_cut(affinity, regions=4), blocks) == 1
    assert int(recursive_cut(affinity, threshold=1e-3).max()) == 0


@pytest.mark.parametrize("regions", [1, 2, 7, 39, 40])
def test_recursion_gives_as_many_regions_as_are_asked_for(regions: int) -> None:
    for affinity in (block_affinity((20, 15, 5))[0], torch.zeros(40, 40), torch.ones(40, 40)):
        labels = recursive_cut(affinity, regions=regions, smallest=4)
        assert sorted(labels.unique().tolist()) == list(range(regions))


def test_small_segments_are_not_cut() -> None:
    affinity, blocks = block_affinity((20, 5, 4))
    affinity[(blocks[:, None] > 0) & (blocks > 0) & (blocks[:, None] != blocks)] = 0.1
    assert adjusted_rand_index(recursive_cut(affinity), blocks) == 1
    assert adjusted_rand_index(recursive_cut(affinity, smallest=10), blocks.clamp_max(1)) == 1
    labels = recursive_cut(affinity, regions=3, smallest=10)  # the large block goes first, whatever its cut costs
    assert len(labels[blocks > 0].unique()) == 1 and len(labels.unique()) == 3


def test_published_recursion_stops_at_exact_zeros() -> None:
    affinity, blocks = block_affinity((12, 9, 7))
    assert int(recursive_cut(affinity, drop_zero=True).max()) + 1 == 2  # after the first cut every pixel touches a zero
    assert adjusted_rand_index(recursive_cut(affinity + 1e-6, drop_zero=True), blocks) == 1


# K-way cut.


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), pixels=st.integers(2, 40), clusters=st.integers(1, 6), sparse=st.booleans(), random_start=st.booleans())
def test_kway_objective_never_falls_and_ends_in_a_local_optimum(
    seed: int, pixels: int, clusters: int, sparse: bool, random_start: bool
) -> None:
    k = min(clusters, pixels)
    affinity = random_affinity(pixels, seed, sparse=sparse)
    start = torch.randint(0, k, (pixels,), generator=torch.Generator().manual_seed(seed)) if random_start else None
    found = kway_cut(affinity, k, start=start, iterations=10**4)
    assert all(after > before for before, after in itertools.pairwise(found.history))
    assert found.objective == found.history[-1] == pytest.approx(kway_objective(affinity, found.labels, k), abs=1e-5)
    counts = found.labels.bincount(minlength=k)
    assert counts.min() >= 1
    for pixel, cluster in itertools.product(range(pixels), range(k)):
        if counts[found.labels[pixel]] > 1:
            moved = found.labels.clone()
            moved[pixel] = cluster
            assert kway_objective(affinity, moved, k) <= found.objective + 1e-5


@pytest.mark.parametrize("across", [0.0, 0.05])
@pytest.mark.parametrize("sizes", [(12, 9, 7, 5), (400, 300, 200, 100)])
def test_kway_cut_finds_blocks_exactly(sizes: tuple[int, ...], across: float) -> None:
    affinity, blocks = block_affinity(sizes, across=across)
    found = kway_cut(affinity, 4)
    assert adjusted_rand_index(found.labels, blocks) == 1
    assert found.objective == pytest.approx(kway_objective(affinity, blocks, 4), rel=1e-5)


def test_kway_cut_improves_a_start_that_many_moves_must_mend() -> None:
    features, stripes = grid_features(32, 5, noise=1.0)
    affinity = cosine_affinity(features, power=4)
    start = torch.where(random(1024, seed=3) > -0.7, stripes, torch.arange(1024) % 5)
    found = kway_cut(affinity, 5, start=start)
    assert found.history[0] == pytest.approx(kway_objective(affinity, start, 5), rel=1e-5)
    assert found.objective == pytest.approx(kway_objective(affinity, found.labels, 5), rel=1e-5)
    assert adjusted_rand_index(start, stripes) < 0.7 < 0.99 < adjusted_rand_index(found.labels, stripes)


def test_a_cluster_that_all_its_pixels_would_leave_keeps_one() -> None:
    affinity, blocks = block_affinity((6, 6))
    strays = torch.stack([(blocks == block).nonzero()[0, 0] for block in (0, 1)])  # nothing in common, and better off at home
    found = kway_cut(affinity, 3, start=blocks.index_fill(0, strays, 2), iterations=1)
    assert len(found.history) == 2
    assert sorted(found.labels.bincount(minlength=3).tolist()) == [1, 5, 6]


def test_kway_start_leaves_no_cluster_empty() -> None:
    affinity = block_affinity((6, 6, 6))[0]
    found = kway_cut(affinity, 3, start=torch.zeros(18, dtype=torch.int64))
    assert found.labels.unique().tolist() == [0, 1, 2]
    assert kway_cut(affinity, 18).labels.bincount().tolist() == [1] * 18


# Merging.


def distributions(rows: int, pixels: int, seed: int) -> Tensor:
    return torch.softmax(3 * random(rows, pixels, seed=seed), 1)


def test_symmetric_kl_is_its_formula() -> None:
    one, other = distributions(5, 300, 0), distributions(290, 300, 1)
    logarithm = (one[:, None] / other).log()
    direct = ((one[:, None] * logarithm).sum(2) - (other * logarithm).sum(2)) / 2
    assert_close(symmetric_kl(one, other), direct)
    assert_close(symmetric_kl(other, one), direct.T)
    assert symmetric_kl(other, other).diagonal().abs().max() < 1e-5
    apart = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert symmetric_kl(apart, apart).isfinite().all()


def attention_of_blocks(sizes: tuple[int, ...], *, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Maps that attend to their own block, and the blocks."""
    affinity, blocks = block_affinity(sizes)
    return torch.softmax(4 * affinity + noise * random(*affinity.shape, seed=0), 1), blocks


@pytest.mark.parametrize("again", [False, True])
def test_merging_finds_the_blocks(again: bool) -> None:
    maps, blocks = attention_of_blocks((60, 40, 20))
    proposals = merge_by_kl(maps, torch.arange(0, 120, 3), threshold=0.5, again=again)
    assert proposals.shape == (3, 120)
    assert_close(proposals.sum(1), torch.ones(3))
    assert adjusted_rand_index(proposals.argmax(0), blocks) == 1


CHAIN = torch.tensor([[0.8, 0.1, 0.1], [0.55, 0.35, 0.1], [0.2, 0.7, 0.1]])  # the first is near the second, the second near the third


def test_the_first_round_averages_all_maps_near_an_anchor() -> None:
    divergence = symmetric_kl(CHAIN, CHAIN)
    assert divergence[0, 1] < divergence[1, 2] < divergence[0, 2]
    threshold = float(divergence[1, 2]) * 1.01
    for again in (False, True):
        found = merge_by_kl(CHAIN, torch.tensor([2, 0]), threshold=threshold, rounds=1, again=again)
        assert_close(found, torch.stack([CHAIN[1:].mean(0), CHAIN[:2].mean(0)]))


def test_later_rounds_average_what_was_absorbed_again_only_on_request() -> None:
    threshold = float(symmetric_kl(CHAIN, CHAIN)[1, 2]) * 1.01
    assert_close(merge_round(CHAIN, threshold), torch.stack([CHAIN[:2].mean(0), CHAIN[2]]))
    assert_close(merge_round(CHAIN, threshold, again=True), torch.stack([CHAIN[:2].mean(0), CHAIN[1:].mean(0)]))


@pytest.mark.parametrize("regions", [1, 2, 5])
def test_merging_goes_on_by_the_closest_pair_until_as_many_regions_are_left(regions: int) -> None:
    maps = distributions(64, 64, seed=0)
    proposals = merge_by_kl(maps, torch.arange(0, 64, 4), threshold=1e-3, regions=regions)
    expected = list(maps[::4])  # none is near another: the rounds leave them as they are
    while len(expected) > regions:
        distances = symmetric_kl(torch.stack(expected), torch.stack(expected)).fill_diagonal_(torch.inf)
        one, other = sorted(divmod(int(distances.argmin()), len(expected)))
        expected[one] = (expected[one] + expected.pop(other)) / 2
    assert_close(proposals, torch.stack(expected))


def test_merging_to_fewer_regions_finds_the_blocks_and_never_parts() -> None:
    maps, blocks = attention_of_blocks((60, 40, 20), noise=0.5)
    anchors = torch.arange(0, 120, 5)
    proposals = merge_by_kl(maps, anchors, threshold=1e-6, regions=3)
    assert adjusted_rand_index(proposals.argmax(0), blocks) == 1
    assert len(merge_by_kl(maps, anchors, threshold=100.0, regions=3)) == 1


# All of them.


def by_kway(affinity: Tensor) -> Tensor:
    return kway_cut(affinity, 3).labels.float()


def by_eigengap(affinity: Tensor) -> Tensor:
    return spectral_clusters(affinity, "eigengap").assignments


def by_merging(affinity: Tensor) -> Tensor:
    return merge_by_kl(torch.softmax(affinity, 1), torch.arange(0, len(affinity), 5), threshold=0.1, regions=3)


SOLVERS: dict[str, Callable[[Tensor], Tensor]] = {
    "spectral": lambda affinity: spectral_clusters(affinity, 3).assignments,
    "eigengap": by_eigengap,
    "recursive": lambda affinity: recursive_cut(affinity).float(),
    "regions": lambda affinity: recursive_cut(affinity, regions=3).float(),
    "kway": by_kway,
    "merging": by_merging,
}
PICTURES = {
    "isolated pixels": lambda side: torch.where(torch.arange(side**2)[:, None] % 7 == 0, 0.0, grid_features(side, 3)[0]),
    "all isolated": lambda side: torch.zeros(side**2, 4),
    "constant": lambda side: torch.ones(side**2, 4),
    "orthogonal": lambda side: torch.eye(side**2),
    "noise": lambda side: random(side**2, 6, seed=0),
}


@pytest.mark.parametrize("side", [8, 24])
@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_any_picture_is_solved_and_twice_the_same(solver: str, picture: str, side: int) -> None:
    features = PICTURES[picture](side)
    for scale in ("clamp", "min-max"):
        affinity = cosine_affinity(features, scale=scale)
        assert affinity.isfinite().all()
        found = SOLVERS[solver](affinity)
        assert side**2 in found.shape
        assert found.isfinite().all()
        assert torch.equal(found, SOLVERS[solver](affinity.clone()))


def test_isolated_pixels_do_not_disturb_the_others() -> None:
    features, stripes = grid_features(24, 3)
    isolated = torch.arange(576) % 50 == 0
    features[isolated] = 0
    affinity = cosine_affinity(features)
    for labels in (spectral_clusters(affinity, 3).labels, kway_cut(affinity, 3).labels, recursive_cut(affinity)):
        assert adjusted_rand_index(labels[~isolated], stripes[~isolated]) == 1


SQUARE = torch.ones(9, 9)
MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "no clusters": (lambda: kmeans(random(9, 2), 0), "k must be .* 1 to the number of pixels, 9, not 0"),
    "too many clusters": (lambda: kmeans(random(9, 2), 10), "not 10"),
    "no restart": (lambda: kmeans(random(9, 2), 2, restarts=0), "restarts"),
    "points": (lambda: kmeans(random(9), 2), "points"),
    "no eigenvector": (lambda: leading_eigenvectors(SQUARE, 0), "k must be"),
    "a function of unknown size": (lambda: leading_eigenvectors(lambda columns: columns, 2), "needs size"),
    "a word": (lambda: spectral_clusters(SQUARE, "auto"), "whole number or \"eigengap\", not 'auto'"),  # type: ignore[arg-type]
    "too small for a gap": (lambda: spectral_clusters(torch.ones(2, 2), "eigengap"), "more than 2 pixels"),
    "gap bounds": (lambda: eigengap(torch.ones(4), most=4), "4 eigenvalues"),
    "spectral": (lambda: spectral_clusters(SQUARE, 10), "not 10"),
    "regions": (lambda: recursive_cut(SQUARE, regions=10), "regions must be"),
    "split points": (lambda: recursive_cut(SQUARE, split_points=0), "split_points"),
    "one pixel": (lambda: bipartition(torch.ones(1, 1)), "at least 2 pixels"),
    "not square": (lambda: recursive_cut(torch.ones(3, 4)), "square"),
    "k-way": (lambda: kway_cut(SQUARE, 10), "not 10"),
    "a fraction": (lambda: kway_cut(SQUARE, 2.5), "whole number"),  # type: ignore[arg-type]
    "start": (lambda: kway_cut(SQUARE, 2, start=torch.full((9,), 2)), "label from 0 to 1"),
    "start length": (lambda: kway_cut(SQUARE, 2, start=torch.zeros(8, dtype=torch.int64)), "9 pixels"),
    "anchors": (lambda: merge_by_kl(SQUARE / 9, torch.tensor([9]), threshold=1.0), "anchors"),
    "no anchors": (lambda: merge_by_kl(SQUARE / 9, torch.tensor([], dtype=torch.int64), threshold=1.0), "at least one"),
    "threshold": (lambda: merge_by_kl(SQUARE / 9, torch.tensor([0]), threshold=0.0), "threshold"),
    "rounds": (lambda: merge_by_kl(SQUARE / 9, torch.tensor([0]), threshold=1.0, rounds=0), "rounds"),
    "merged regions": (lambda: merge_by_kl(SQUARE / 9, torch.tensor([0]), threshold=1.0, regions=0), "regions"),
    "lengths": (lambda: symmetric_kl(torch.ones(2, 3), torch.ones(2, 4)), "others"),
    "power": (lambda: cosine_affinity(SQUARE, power=0), "power"),
    "scale": (lambda: cosine_affinity(SQUARE, scale="minmax"), "clamp, min-max"),  # type: ignore[arg-type]
    "spatial": (lambda: cosine_affinity(SQUARE, spatial=-1), "spatial"),
    "no grid": (lambda: cosine_affinity(SQUARE, spatial=0.1), "grid"),
    "another grid": (lambda: cosine_affinity(SQUARE, spatial=0.1, grid=(2, 3)), "9 pixels"),
    "features": (lambda: cosine_affinity(torch.ones(9)), "pixels, channels"),
    "overflow": (lambda: cosine_affinity(SQUARE / 0), "finite"),
    "channels": (lambda: principal_features(SQUARE, 0), "channels"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_with_the_fix(mistake: str) -> None:
    attempt, message = MISTAKES[mistake]
    with pytest.raises(SettingsError, match=message):
        attempt()
