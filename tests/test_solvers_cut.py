"""The solvers of the graph cut; the numbers of properties are DiffusionSeg's."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from maskwright.errors import SettingsError
from maskwright.solvers.components import component_share, largest_component, tight_box
from maskwright.solvers.dense_crf import dense_crf
from maskwright.solvers.geodesic import geodesic_distance
from maskwright.solvers.mincut import cut_energy, minimum_cut
from maskwright.solvers.otsu import otsu_threshold

Array = npt.NDArray[np.float64]


def between_variance(values: Array, threshold: float) -> float:
    """Variance between the values above a threshold and the others, by its definition."""
    above = values > threshold
    share = above.mean()
    return 0.0 if share in (0, 1) else float(share * (1 - share) * (values[above].mean() - values[~above].mean()) ** 2)


class TestOtsu:
    @pytest.mark.parametrize("seed", range(5))
    def test_no_threshold_separates_better(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        values = np.concatenate([rng.normal(0, 1, 300), rng.normal(4, 2, 100)])
        best = max(between_variance(values, threshold) for threshold in values)
        assert between_variance(values, otsu_threshold(values, bins=4096)) > 0.9999 * best
        assert between_variance(values, otsu_threshold(values)) > 0.999 * best

    def test_it_lies_in_the_middle_of_the_gap(self) -> None:
        values = np.array([0.0, 0.1, 0.1, 0.9, 1.0, 1.0]).reshape(2, 3)
        assert otsu_threshold(values) == pytest.approx(0.5, abs=0.01)

    def test_it_moves_and_grows_with_the_values(self) -> None:
        values = np.random.default_rng(0).gamma(1.0, size=500)
        assert otsu_threshold(7 * values - 3) == pytest.approx(7 * otsu_threshold(values) - 3)

    @pytest.mark.parametrize("values", [np.full(9, 0.3), np.full((2, 2), -5e9), np.zeros(1), np.array([1.0, np.nextafter(1, 2)])])
    def test_nothing_is_above_the_threshold_of_a_constant(self, values: Array) -> None:
        assert otsu_threshold(values) == values.min() and not (values[:1] > otsu_threshold(values)).any()

    def test_refusals(self) -> None:
        for values, bins in (([], 256), ([1.0, np.nan], 256), ([1.0, 2.0], 1)):
            with pytest.raises(SettingsError):
                otsu_threshold(values, bins=bins)


def pictures() -> list[Array]:
    rng = np.random.default_rng(0)
    shapes = [(5, 7), (7, 5, 3), (6, 6, 2), (1, 9), (9, 1, 3), (1, 1)]
    return [rng.random(shape) for shape in shapes] + [rng.integers(0, 3, (8, 6)).astype(float)]


def by_dijkstra(image: Array) -> Array:
    """The definition: shortest paths on the grid of eight neighbours."""
    image = image.reshape(*image.shape[:2], -1)
    height, width = image.shape[:2]
    places = list(itertools.product(range(height), range(width)))
    graph = {"row": [], "column": [], "cost": []}
    for p, (y, x) in enumerate(places):
        for q, (v, u) in enumerate(places):
            if p != q and max(abs(y - v), abs(x - u)) == 1:
                graph["row"].append(p), graph["column"].append(q)
                graph["cost"].append(float(np.linalg.norm(image[y, x] - image[v, u])))
    cells = height * width
    return dijkstra(sparse.csr_array((graph["cost"], (graph["row"], graph["column"])), shape=(cells, cells)))


class TestProperty4:
    @pytest.mark.parametrize("image", pictures(), ids=lambda image: "x".join(map(str, image.shape)))
    def test_geodesic_distances_are_shortest_paths(self, image: Array) -> None:
        np.testing.assert_allclose(geodesic_distance(image), by_dijkstra(image), atol=1e-12)

    @pytest.mark.parametrize("image", pictures(), ids=lambda image: "x".join(map(str, image.shape)))
    def test_they_are_symmetric_zero_on_the_diagonal_and_obey_the_triangle_inequality(self, image: Array) -> None:
        distance = geodesic_distance(image)
        assert np.array_equal(distance, distance.T) and not distance.diagonal().any() and (distance >= 0).all()
        assert (distance[:, None] <= distance[:, :, None] + distance[None] + 1e-12).all()

    def test_they_are_zero_on_a_constant_picture(self) -> None:
        assert not geodesic_distance(np.full((4, 6, 3), 0.7)).any()

    def test_adding_a_constant_changes_nothing(self) -> None:
        image = np.random.default_rng(1).random((5, 6, 3))
        np.testing.assert_allclose(geodesic_distance(image + 0.25), geodesic_distance(image), atol=1e-12)

    def test_two_flat_regions_are_zero_inside_and_a_step_apart(self) -> None:
        image = np.zeros((5, 8))
        image[1:4, 3:7] = 2.5
        inside = image.ravel() > 0
        assert np.array_equal(geodesic_distance(image), np.where(inside[:, None] != inside, 2.5, 0.0))

    def test_refusals(self) -> None:
        for image in (np.zeros(4), np.zeros((0, 3)), np.full((2, 2), np.nan)):
            with pytest.raises(SettingsError, match="finite image"):
                geodesic_distance(image)


def symmetric(weights: Array) -> sparse.csr_array:
    """Links from the upper triangle of a matrix."""
    upper = np.triu(weights, 1)
    return sparse.csr_array(upper + upper.T)


def energies(foreground: Array, background: Array, weights: Array) -> tuple[npt.NDArray[np.bool_], Array]:
    """All masks (2^N, N) and their energies (2^N,), by the definition."""
    masks = np.array(list(itertools.product([False, True], repeat=len(foreground))))
    pairs = list(itertools.combinations(range(len(foreground)), 2))
    costs = np.where(masks, foreground, background).sum(1)
    for p, q in pairs:
        costs = costs + np.where(masks[:, p] != masks[:, q], weights[p, q], 0.0)
    return masks, costs


@st.composite
def problems(draw: st.DrawFn, whole: bool = False) -> tuple[Array, Array, Array]:
    """Costs of both labels and link weights of up to 12 nodes, of any size and often equal or 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    nodes = draw(st.integers(1, 10 if whole else 12))
    size, strength, density = (draw(st.sampled_from(values)) for values in ([1e-6, 1.0, 1e9], [0.05, 1.0, 20.0], [0.2, 0.6, 1.0]))
    linked = rng.random((nodes, nodes)) < density
    if whole:
        return rng.integers(0, 5, nodes) * 1.0, rng.integers(0, 5, nodes) * 1.0, rng.integers(0, 4, (nodes, nodes)) * 1.0 * linked
    return size * rng.random(nodes), size * rng.random(nodes), size * strength * rng.random((nodes, nodes)) * linked / nodes


class TestProperty1:
    @settings(max_examples=60, deadline=None)
    @given(problems())
    def test_the_cut_is_the_brute_force_optimum(self, problem: tuple[Array, Array, Array]) -> None:
        foreground, background, weights = problem
        _, costs = energies(foreground, background, weights)
        mask = minimum_cut(foreground, background, symmetric(weights))
        energy = cut_energy(mask, foreground, background, symmetric(weights))
        assert energy <= costs.min() + 1e-7 * np.abs(foreground - background).sum() + 1e-12 * costs.max()
        assert energy == pytest.approx(costs[int("".join(map(str, mask.astype(int))), 2)], rel=1e-12)

    @settings(max_examples=60, deadline=None)
    @given(problems(whole=True))
    def test_of_equal_optima_it_is_the_one_that_all_others_contain(self, problem: tuple[Array, Array, Array]) -> None:
        foreground, background, weights = problem
        masks, costs = energies(foreground, background, weights)
        optima = masks[costs == costs.min()]
        assert np.array_equal(minimum_cut(foreground, background, symmetric(weights)), optima.all(0))

    @settings(max_examples=40, deadline=None)
    @given(problems(whole=True), st.integers(0, 2**32), st.sampled_from([1e300, np.inf]))
    def test_huge_and_infinite_costs_leave_the_rest_exact(self, problem: tuple[Array, Array, Array], seed: int, huge: float) -> None:
        foreground, background, weights = problem
        kind = np.random.default_rng(seed).integers(0, 4, len(foreground))
        costs = []
        for size in (huge, 1e3):
            costs.append((foreground + np.where(kind == 0, size, 0), background + np.where(kind == 1, size, 0)))
        masks, energy = energies(*costs[1], weights)
        assert np.array_equal(minimum_cut(*costs[0], symmetric(weights)), masks[energy == energy.min()].all(0))

    @settings(max_examples=40, deadline=None)
    @given(problems(whole=True), st.integers(0, 2**32), st.sampled_from([1e15, 1e300, np.inf]))
    def test_huge_and_infinite_links_leave_the_rest_exact(self, problem: tuple[Array, Array, Array], seed: int, huge: float) -> None:
        foreground, background, weights = problem
        bound = np.random.default_rng(seed).random(weights.shape) < 0.1
        masks, energy = energies(foreground, background, np.where(bound, 1e3, weights))
        found = minimum_cut(foreground, background, symmetric(np.where(bound, huge, weights)))
        assert np.array_equal(found, masks[energy == energy.min()].all(0))

    def test_an_infinite_link_yields_to_infinite_costs(self) -> None:
        links = symmetric(np.array([[0, np.inf, 0], [0, 0, 2], [0, 0, 0]]))
        assert minimum_cut([0, np.inf, 0], [np.inf, 0, 1.0], links).tolist() == [True, False, False]

    def test_where_no_two_nodes_disagree_huge_links_drown_nothing(self) -> None:
        links = symmetric(np.array([[0, 1e15, 0], [0, 0, 0], [0, 0, 0]]))
        assert minimum_cut(np.zeros(3), [2.0, 0, 0], links).tolist() == [True, True, False]
        assert minimum_cut([2.0, 0, 0], np.zeros(3), links).tolist() == [False, False, False]

    def test_thousands_of_nodes_do_not_overflow(self) -> None:
        """Two hundred rows of a grid, all sure, one row of each label in turn, with links that matter a little."""
        height, width = 200, 50
        number = np.arange(height * width).reshape(height, width)
        one, two = number[:-1].ravel(), number[1:].ravel()
        links = sparse.csr_array((np.full(2 * len(one), 0.4), (np.r_[one, two], np.r_[two, one])), shape=(number.size, number.size))
        striped = (np.arange(number.size) // width) % 2 == 1
        assert np.array_equal(minimum_cut(np.where(striped, 0.0, 1.0), np.where(striped, 1.0, 0.0), links), striped)

    def test_refusals(self) -> None:
        free = np.zeros(2)
        links = symmetric(np.ones((2, 2)))
        for first, second, pairwise, message in (
            (free, np.zeros(3), links, "two costs"),
            (np.array([np.nan, 0]), free, links, "node 0"),
            (np.array([0, np.inf]), np.array([0, np.inf]), links, "node 1"),
            (free, free, symmetric(np.ones((3, 3))), r"matrix \(2, 2\)"),
            (free, free, sparse.csr_array(np.array([[0, 1.0], [0, 0]])), "symmetric"),
            (free, free, sparse.csr_array(np.array([[0, 1.0], [2.0, 0]])), "symmetric"),
            (free, free, symmetric(-np.ones((2, 2))), "negative"),
            (free, free, symmetric(np.full((2, 2), np.nan)), "symmetric|NaN"),
        ):
            with pytest.raises(SettingsError, match=message):
                minimum_cut(first, second, pairwise)

    def test_the_diagonal_is_ignored(self) -> None:
        links = sparse.csr_array(np.array([[9.0, 1], [1, 9]]))
        assert minimum_cut([0.0, 0.5], [3.0, 0.0], links).tolist() == [True, True]
        assert cut_energy([True, False], [0.0, 0.5], [3.0, 0.0], links) == 1.0


def costs_of(u: Array) -> tuple[Array, Array]:
    return -np.log(u), -np.log1p(-u)


class TestProperty2:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32), st.integers(2, 40))
    def test_raising_u_at_one_pixel_never_turns_another_to_background(self, seed: int, nodes: int) -> None:
        rng = np.random.default_rng(seed)
        u = np.clip(rng.random(nodes).round(int(rng.integers(1, 4))), 0.001, 0.999)
        links = symmetric(rng.random((nodes, nodes)).round(2) * (rng.random((nodes, nodes)) < 0.3))
        raised = u.copy()
        pixel = rng.integers(nodes)
        raised[pixel] = rng.uniform(u[pixel], 1)
        before, after = minimum_cut(*costs_of(u), links), minimum_cut(*costs_of(raised), links)
        assert not (before & ~after).any()


class TestProperty3:
    def test_without_links_the_mask_is_exactly_u_above_a_half(self) -> None:
        u = np.concatenate([np.random.default_rng(0).random(50), [0.5, np.nextafter(0.5, 1), np.nextafter(0.5, 0), 0.001, 0.999]])
        nothing = sparse.csr_array((len(u), len(u)))
        assert np.array_equal(minimum_cut(*costs_of(u), nothing), u > 0.5)
        zeros = sparse.csr_array((np.zeros(2), ([0, 1], [1, 0])), shape=nothing.shape)
        assert np.array_equal(minimum_cut(*costs_of(u), zeros), u > 0.5)

    @pytest.mark.parametrize("balance", [1e3, 1e9, 1e15])
    @pytest.mark.parametrize("lean", [0.45, 0.55])
    def test_huge_links_give_one_label_everywhere(self, balance: float, lean: float) -> None:
        u = np.clip(np.random.default_rng(0).normal(lean, 0.2, 60), 0.01, 0.99)
        chain = sparse.diags_array([np.ones(59), np.ones(59)], offsets=[-1, 1], shape=(60, 60))
        foreground, background = costs_of(u)
        mask = minimum_cut(foreground, background, balance * chain.tocsr())
        assert (mask == (foreground.sum() < background.sum())).all()


class TestProperty5:
    @settings(max_examples=40, deadline=None)
    @given(problems())
    def test_swapping_the_costs_swaps_the_labels(self, problem: tuple[Array, Array, Array]) -> None:
        foreground, background, weights = problem
        links = symmetric(weights)
        one, other = minimum_cut(foreground, background, links), minimum_cut(background, foreground, links)
        assert cut_energy(~other, foreground, background, links) == pytest.approx(cut_energy(one, foreground, background, links), rel=1e-6)
        assert not (one & other).any()  # a node that may be either is background both times


class TestDenseCrf:
    image = np.random.default_rng(0).random((6, 7, 3)) * 255

    def test_without_weights_it_returns_its_input(self) -> None:
        probability = np.random.default_rng(1).random((6, 7))
        probability[0, :2] = 0, 1
        np.testing.assert_allclose(dense_crf(probability, self.image, appearance=0, smoothness=0), probability, atol=2e-9)

    def test_it_is_mean_field_by_its_definition(self) -> None:
        """Krähenbühl and Koltun's update for two labels, pixel by pixel: both labels' messages and a softmax."""
        probability = np.random.default_rng(2).uniform(0.1, 0.9, (3, 4))
        image = self.image[:3, :4]
        places = list(itertools.product(range(3), range(4)))
        kernels = []
        for colour, width in ((40.0, 2.0), (np.inf, 1.5)):
            raw = np.array([
                [np.exp(-((y - v) ** 2 + (x - u) ** 2) / 2 / width**2 - ((image[y, x] - image[v, u]) ** 2).sum() / 2 / colour**2)
                 for v, u in places] for y, x in places
            ]) - np.eye(12)  # fmt: skip
            kernels.append(raw / np.sqrt(np.outer(raw.sum(0), raw.sum(0))))
        links = 2.0 * kernels[0] + 0.7 * kernels[1]
        unary = np.stack([-np.log(1 - probability.ravel()), -np.log(probability.ravel())])
        belief = np.stack([1 - probability.ravel(), probability.ravel()])
        for _ in range(4):
            scores = np.exp(-unary - belief[::-1] @ links)
            belief = scores / scores.sum(0)
        found = dense_crf(probability, image, appearance=2.0, colour=40.0, distance=2.0, smoothness=0.7, width=1.5, iterations=4)
        np.testing.assert_allclose(found.ravel(), belief[1], atol=1e-9)

    def test_a_wrong_pixel_in_a_flat_region_is_put_right(self) -> None:
        image = np.zeros((8, 10, 3))
        image[:, 5:] = 200
        probability = np.where(image[..., 0] > 0, 0.8, 0.2)
        probability[3, 2], probability[4, 7] = 0.7, 0.3
        assert np.array_equal(dense_crf(probability, image) > 0.5, image[..., 0] > 0)

    def test_refusals(self) -> None:
        good = np.full((6, 7), 0.5)
        for probability, image, options in (
            (good, self.image, {"appearance": -1}), (good, self.image, {"colour": 0}), (good, self.image[:5], {}),
            (good + 1, self.image, {}), (good * np.nan, self.image, {}),
        ):  # fmt: skip
            with pytest.raises(SettingsError):
                dense_crf(probability, image, **options)


class TestComponents:
    mask = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 0, 1], [0, 1, 0, 0, 1]], dtype=bool)

    def test_the_largest_piece(self) -> None:
        by_sides = np.zeros_like(self.mask)
        by_sides[:, 4] = True
        assert np.array_equal(largest_component(self.mask), by_sides)
        assert np.array_equal(largest_component(self.mask, connectivity=8), self.mask & ~by_sides)
        assert component_share(self.mask) == 3 / 7 and component_share(self.mask, connectivity=8) == 4 / 7

    def test_of_equal_pieces_the_first(self) -> None:
        assert largest_component(np.array([[1, 0, 1]], dtype=bool)).tolist() == [[True, False, False]]

    def test_boxes_end_before_their_maximum(self) -> None:
        assert tight_box(self.mask) == (0, 0, 5, 3)
        assert tight_box(largest_component(self.mask)) == (4, 0, 1, 3)
        x, y, width, height = tight_box(largest_component(self.mask, connectivity=8)) or (0, 0, 0, 0)
        assert (x, y, width, height) == (0, 0, 3, 3) and self.mask[y : y + height, x : x + width].sum() == 4

    def test_an_empty_mask_has_no_piece_and_no_box(self) -> None:
        empty = np.zeros((3, 4), dtype=bool)
        assert not largest_component(empty).any() and largest_component(empty).shape == (3, 4)
        assert component_share(empty) == 0.0 and tight_box(empty) is None
        assert tight_box(np.zeros((0, 4), dtype=bool)) is None

    def test_refusals(self) -> None:
        with pytest.raises(SettingsError, match="connectivity"):
            largest_component(self.mask, connectivity=6)
        with pytest.raises(SettingsError, match=r"\(H, W\)"):
            tight_box(self.mask[0])
