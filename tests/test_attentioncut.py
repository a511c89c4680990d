"""AttentionCut, its properties as numbered on DiffusionSeg's page; those of the solvers alone are in test_solvers_cut."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.errors import ModelError, SettingsError
from maskwright.methods.attentioncut.energy import grid_picture, lab, likelihood, neighbourhood, together
from maskwright.methods.attentioncut.method import EDGE, AttentionCut
from maskwright.methods.foreground import Foreground
from maskwright.readings.attention import LayerMaps, SelfAttention
from maskwright.readings.probe import Probe, Select
from maskwright.solvers.mincut import cut_energy
from maskwright.solvers.otsu import otsu_threshold
from tests.tiny import random
from tests.tolerances import assert_close

GRID = (12, 16)
SOLVERS = ("cut", "threshold", "kmeans", "ncut", "crf")


def regions() -> Tensor:
    """Object 1 on the left of ground 0, ground 2 on the right, (12, 16)."""
    where = torch.zeros(GRID, dtype=torch.int64)
    where[2:10, 2:9] = 1
    where[:, 12:] = 2
    return where


def made(seed: int = 0, *, unseen: float = 130.0) -> tuple[list[LayerMaps], SelfAttention, np.ndarray]:
    """Maps that show the left half of the object only, self-attention in blocks, where the object is nearer to one ground than the
    grounds are to each other, and a noisy picture, where the half that is not shown has its own brightness."""
    generator = torch.Generator().manual_seed(seed)
    where = regions().flatten()
    tie = torch.tensor([[3.0, 2.2, 0.0], [2.2, 3.0, 0.0], [0.0, 0.0, 3.0]])
    attention = torch.softmax(tie[where][:, where] + 0.6 * torch.randn(192, 192, generator=generator), 1)
    cross = 0.3 * torch.rand(1, 1, *GRID, generator=generator)
    cross[..., 2:10, 2:6] += 0.7
    parts = regions()
    parts[2:10, 6:9] = 3
    colour = torch.tensor([90.0, 170.0, 40.0, unseen])[parts].repeat_interleave(6, 0).repeat_interleave(6, 1)[..., None]
    pixels = (colour + 12 * torch.randn(72, 96, 3, generator=generator)).clamp(0, 255).to(torch.uint8).numpy()
    return [LayerMaps(2, 5, cross), LayerMaps(4, 6, F.avg_pool2d(cross, 2))], SelfAttention(grid=GRID, mean=attention[None]), pixels


def several(count: int = 3) -> list[LayerMaps]:
    """Maps of several labels, the first one of them `made`'s."""
    fine, coarse = made()[0]
    noise = random(1, count - 1, *GRID).abs()
    return [LayerMaps(2, 5, torch.cat([fine.maps, noise], 1)), LayerMaps(4, 6, torch.cat([coarse.maps, F.avg_pool2d(noise, 2)], 1))]


def iou(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


class TestProperty2:
    @pytest.mark.parametrize("pixel", [(0, 0), (5, 7), (11, 15)])
    def test_a_stronger_word_at_one_pixel_turns_no_other_to_background(self, pixel: tuple[int, int]) -> None:
        """With seeds and stretching out of the way: no refined map, extremes held."""
        (fine, _), attention, pixels = made()
        method = AttentionCut(attention_factors=(2,), refined_weight=0.0, shift=False)
        stronger = fine.maps.clone()
        stronger[0, 0, *pixel] = 0.98 * fine.maps.max()
        before, after = (method.foreground([LayerMaps(2, 5, maps)], attention, pixels).mask for maps in (fine.maps, stronger))
        assert not bool((before & ~after).any())


class TestProperty3:
    def test_without_balance_the_mask_is_exactly_u_above_a_half(self) -> None:
        maps, attention, pixels = made()
        method = AttentionCut(balance=0.0)
        found = method.foreground(maps, attention, pixels)
        u = method.evidence(maps, attention).likelihood
        assert np.array_equal(found.mask.numpy(), u > 0.5) and bool(found.mask.any())
        threshold = dataclasses.replace(method, solver="threshold").foreground(maps, attention, pixels)
        assert torch.equal(found.mask, threshold.mask)

    def test_a_huge_balance_gives_one_label_everywhere(self) -> None:
        maps, attention, pixels = made()
        for shift, everywhere in ((True, False), (False, False)):
            mask = AttentionCut(balance=1e6, shift=shift).foreground(maps, attention, pixels).mask
            assert bool((mask == everywhere).all())


class TestProperty4:
    @pytest.mark.parametrize("neighbours", [0, 3, 32, "full"])
    def test_links_are_symmetric_and_none_is_from_a_pixel_to_itself(self, neighbours: Any) -> None:
        _, attention, pixels = made()
        psi = AttentionCut(neighbours=neighbours).pairwise(attention, pixels)
        dense = psi.toarray()
        assert np.array_equal(dense, dense.T) and not dense.diagonal().any() and (psi.data >= 0).all()
        assert (dense[0, [1, 16, 17]] > 0).all()  # the neighbours of a corner
        if neighbours == "full":
            assert (dense + np.eye(192) > 0).all()
        elif neighbours == 0:
            assert (dense[0] > 0).sum() == 3 and (dense[17] > 0).sum() == 8
        else:
            assert ((dense > 0).sum(1) >= neighbours).all()

    def test_full_links_every_pair(self) -> None:
        """As many neighbours as there are others is the same, since no attention is exactly 0."""
        _, attention, pixels = made()
        full, most = (AttentionCut(neighbours=neighbours).pairwise(attention, pixels) for neighbours in ("full", 191))
        np.testing.assert_array_equal(full.toarray(), most.toarray())

    def test_both_parts_contribute_alike_and_the_median_pixel_is_linked_by_one(self) -> None:
        _, attention, pixels = made()
        psi = AttentionCut().pairwise(attention, pixels)
        assert np.median(psi.sum(1)) == pytest.approx(1)
        plain, near = (AttentionCut(balance=1.0, geodesic_weight=weight).pairwise(attention, pixels) for weight in (0.0, 1.0))
        equal = AttentionCut(balance=1.0).pairwise(attention, pixels)
        assert (equal - plain).sum() == pytest.approx(plain.sum())
        weight = plain.sum() / (near - plain).sum()
        np.testing.assert_allclose(
            AttentionCut(balance=1.0, geodesic_weight=float(weight)).pairwise(attention, pixels).toarray(), equal.toarray()
        )

    def test_self_attention_as_similarity(self) -> None:
        attention = made()[1].dense()[0].numpy()
        similar = together(attention, 99.0)
        both = (attention + attention.T) / 2
        rest = both[~np.eye(192, dtype=bool)]
        strong = np.quantile(rest, 0.99)
        np.testing.assert_allclose(similar, np.minimum(both / strong, 1) * (1 - np.eye(192)), rtol=1e-2)
        assert similar.max() == 1 and (similar == 1).sum() == pytest.approx(0.01 * rest.size, abs=4)
        assert not together(np.eye(5, dtype=np.float32), 99.0).any()  # every pixel attends to itself alone

    def test_the_strongest_links_and_all_that_tie_with_the_last(self) -> None:
        similar = np.zeros((6, 6), dtype=np.float32)
        for p, q, value in ((0, 5, 0.9), (0, 4, 0.5), (0, 3, 0.5), (0, 2, 0.1), (4, 5, 0.5)):
            similar[p, q] = similar[q, p] = value
        pairs = {(int(p), int(q)) for p, q in zip(*neighbourhood(similar, (1, 6), 2), strict=True)}
        beside = {(p, p + 1) for p in range(5)}
        assert pairs == beside | {(0, 5), (0, 4), (0, 3), (0, 2)}  # (0, 2) is pixel 2's strongest, though not pixel 0's

    def test_an_edge_of_the_picture_weakens_links(self) -> None:
        method, alone = AttentionCut(neighbours=0, balance=1.0, geodesic_weight=1.0), SelfAttention(grid=GRID, mean=torch.eye(192)[None])
        psi = method.pairwise(alone, made()[2])
        assert psi[5 * 16 + 3, 5 * 16 + 4] > 2 * psi[5 * 16 + 11, 5 * 16 + 12]  # inside the object, between the grounds
        flat = method.pairwise(alone, np.full((30, 40, 3), 77, dtype=np.uint8))
        assert (flat.data == 1).all()


class TestProperty5:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("axis", [0, 1])
    def test_flipping_the_inputs_flips_the_mask(self, axis: int, solver: Any) -> None:
        maps, attention, pixels = made()
        flipped = [LayerMaps(one.factor, one.layers, one.maps.flip(2 + axis)) for one in maps]
        order = torch.arange(192).reshape(GRID).flip(axis).flatten()
        turned = SelfAttention(grid=GRID, mean=attention.dense()[:, order][:, :, order])
        method = AttentionCut(solver=solver)
        one, two = method.foreground(maps, attention, pixels), method.foreground(flipped, turned, np.flip(pixels, axis).copy())
        assert torch.equal(two.mask, one.mask.flip(1 + axis))
        assert_close(two.probability, one.probability.flip(1 + axis))


class TestProperty6:
    @pytest.mark.parametrize("seed", range(3))
    def test_half_of_the_object_is_completed_better_than_by_the_comparators(self, seed: int) -> None:
        truth = regions()[None] == 1
        found = {solver: iou(AttentionCut(solver=solver).foreground(*made(seed)).mask, truth) for solver in SOLVERS}
        assert found.pop("cut") >= 0.95
        assert max(found.values()) < 0.75, found

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_an_object_shown_whole_is_found_by_all(self, solver: Any) -> None:
        truth = regions() == 1
        same = (truth.flatten()[:, None] == truth.flatten()).float()
        cross = 0.3 * random(*GRID).sigmoid() + 0.7 * truth
        pixels = (90 + 80 * truth.to(torch.uint8))[..., None].expand(-1, -1, 3).numpy()
        attention = SelfAttention(grid=GRID, mean=torch.softmax(3 * same, 1)[None])
        found = AttentionCut(solver=solver).foreground([LayerMaps(2, 1, cross[None, None])], attention, pixels)
        assert torch.equal(found.mask[0], truth)

    def test_where_colour_alone_tells_the_object_a_crf_finds_it_too(self) -> None:
        """The one comparator that looks at the picture: it spreads over one colour, and stops where the colour changes."""
        found = [AttentionCut(solver="crf").foreground(*made(unseen=unseen)).mask for unseen in (170.0, 130.0)]
        assert iou(found[0], regions()[None] == 1) >= 0.95 > iou(found[1], regions()[None] == 1)

    def test_the_cut_has_the_least_energy_of_all_masks(self) -> None:
        maps, attention, pixels = made()
        u, psi = AttentionCut().evidence(maps, attention).likelihood.ravel(), AttentionCut().pairwise(attention, pixels)
        energy = {}
        for solver in SOLVERS:
            mask = AttentionCut(solver=solver).foreground(maps, attention, pixels).mask
            energy[solver] = cut_energy(mask.flatten().numpy(), -np.log(u), -np.log1p(-u), psi)
        assert min(energy, key=energy.__getitem__) == "cut"


class TestEvidence:
    def test_maps_are_means_over_layers_and_other_grids_are_left_out(self) -> None:
        fine, coarse = LayerMaps(2, 1, random(1, 2, *GRID)), LayerMaps(4, 3, random(1, 2, 6, 8, seed=1))
        other = LayerMaps(1, 9, random(1, 2, 24, 32, seed=2))
        attention = made()[1]
        cross = AttentionCut().evidence([other, fine, coarse], attention).cross
        mean = (fine.maps + 3 * F.interpolate(coarse.maps, GRID, mode="bilinear", align_corners=False))[0] / 4
        low, high = mean.amin((1, 2), keepdim=True), mean.amax((1, 2), keepdim=True)
        assert_close(cross, (mean - low) / (high - low))
        alone = AttentionCut().evidence([other, fine], attention).cross  # the model lacks one of the factors
        assert_close(alone, AttentionCut(attention_factors=(2,)).evidence([fine, coarse], attention).cross)

    @pytest.mark.parametrize("merge", ["rows", "columns"])
    def test_seeds_are_the_high_part_weighted_by_the_map(self, merge: Any) -> None:
        maps, attention, _ = made()
        found = AttentionCut(seed_share=0.1, merge=merge).evidence(maps, attention)
        cross, matrix = found.cross[0].flatten(), attention.dense()[0]
        merged = torch.zeros(192)
        for place in cross.argsort(descending=True)[:19]:
            merged += cross[place] * (matrix[place] if merge == "rows" else matrix[:, place])
        merged -= merged.min()
        assert_close(found.refined[0].flatten(), merged / merged.max())

    def test_sampled_seeds_follow_the_seed(self) -> None:
        maps, attention, pixels = made()
        method = AttentionCut(seeds="sampled", seed_share=0.5, seed_count=4)
        one, two, other = (method.evidence(maps, attention, seed=seed).refined for seed in (1, 1, 2))
        assert torch.equal(one, two) and not torch.equal(one, other)
        assert torch.equal(method.foreground(maps, attention, pixels, seed=1).mask, method.foreground(maps, attention, pixels, seed=1).mask)
        every = AttentionCut(seeds="sampled", seed_share=0.05, seed_count=10**6)  # all of them
        assert_close(every.evidence(maps, attention, seed=3).refined, AttentionCut().evidence(maps, attention).refined)

    def test_u_is_the_mean_with_its_otsu_threshold_at_a_half(self) -> None:
        maps, attention, _ = made()
        cross, refined = random(2, 5, 5).abs().double().numpy(), random(2, 5, 5, seed=1).abs().double().numpy()
        u = likelihood(cross, refined, weight=3.0, shift=True, clamp=1e-3)
        plain = (cross + 3 * refined) / 4
        for label in range(2):
            moved = plain[label] - otsu_threshold(plain[label]) + 0.5
            np.testing.assert_allclose(u[label], np.clip(moved, 1e-3, 1 - 1e-3))
        found = AttentionCut(refined_weight=0.0, shift=False, clamp=0.2).evidence(maps, attention)
        np.testing.assert_allclose(found.likelihood, found.cross.double().clamp(0.2, 0.8))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_flat_map_has_no_foreground(self, solver: Any) -> None:
        _, attention, pixels = made()
        found = AttentionCut(solver=solver).foreground([LayerMaps(2, 5, torch.full((1, 1, *GRID), 0.2))], attention, pixels)
        assert not bool(found.mask.any()) and bool(found.probability.isfinite().all())


class TestForeground:
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_several_labels_are_each_as_alone(self, solver: Any) -> None:
        maps, (_, attention, pixels) = several(), made()
        method = AttentionCut(solver=solver, seeds="sampled")
        together = method.foreground(maps, attention, pixels, seed=5)
        assert together.probability.shape == (3, *GRID) and len(together) == 3
        for label in range(3):
            one = [LayerMaps(layer.factor, layer.layers, layer.maps[:, label : label + 1]) for layer in maps]
            alone = method.foreground(one, attention, pixels, seed=5)
            assert torch.equal(alone.mask[0], together.mask[label])
            assert_close(alone.probability[0], together.probability[label])

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_the_probability_is_u_and_above_a_half_exactly_inside(self, solver: Any) -> None:
        maps, (_, attention, pixels) = several(), made()
        method = AttentionCut(solver=solver)
        found, u = method.foreground(maps, attention, pixels), method.evidence(maps, attention).likelihood
        inside = found.mask.numpy()
        assert torch.equal(found.mask, found.probability > 0.5)
        np.testing.assert_allclose(found.probability[found.mask], np.maximum(u[inside], 0.5 + EDGE), rtol=1e-6)
        np.testing.assert_allclose(found.probability[~found.mask], np.minimum(u[~inside], 0.5), rtol=1e-6)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_the_same_inputs_give_the_same_bits(self, solver: Any) -> None:
        one, two = (AttentionCut(solver=solver).foreground(*made()) for _ in range(2))
        assert torch.equal(one.probability, two.probability) and torch.equal(one.mask, two.mask)

    def test_inputs_are_left_as_they_were(self) -> None:
        maps, attention, pixels = made()
        before = [maps[0].maps.clone(), attention.dense().clone(), pixels.copy()]
        AttentionCut().foreground(maps, attention, pixels)
        assert torch.equal(maps[0].maps, before[0]) and torch.equal(attention.dense(), before[1]) and np.array_equal(pixels, before[2])

    @pytest.mark.parametrize("size", [(5, 3), (13, 200), (1, 1)])
    def test_pictures_of_any_size(self, size: tuple[int, int]) -> None:
        maps, attention, _ = made()
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        assert AttentionCut().foreground(maps, attention, pixels).mask.shape == (1, *GRID)

    def test_what_is_missing_is_named(self) -> None:
        maps, attention, pixels = made()
        with pytest.raises(SettingsError, match="needs self-attention at factor 2"):
            AttentionCut().foreground(maps, None, pixels)
        with pytest.raises(SettingsError, match=r"no cross-attention at factors \(1, 8\): there is some at \[2, 4\]"):
            AttentionCut(attention_factors=(1, 8)).foreground(maps, attention, pixels)
        with pytest.raises(ValueError, match="one picture"):
            AttentionCut().foreground([LayerMaps(2, 5, random(2, 1, *GRID))], attention, pixels)

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("shift", [True, False])
    @pytest.mark.parametrize("spoiled", ["cross", "self"])
    def test_what_half_precision_spoils_is_told_as_such(self, spoiled: str, shift: bool, solver: Any) -> None:
        maps, attention, pixels = made()
        method = AttentionCut(solver=solver, shift=shift)
        if spoiled == "cross":
            maps = [LayerMaps(one.factor, one.layers, one.maps.masked_fill(one.maps == one.maps.max(), torch.inf)) for one in maps]
        else:
            attention = SelfAttention(grid=GRID, mean=attention.dense().masked_fill(torch.eye(192, dtype=torch.bool), torch.nan))
            with pytest.raises(ModelError, match="self-attention holds NaN or infinity"):
                method.pairwise(attention, pixels)
        with pytest.raises(ModelError, match=f"{spoiled}.*holds NaN or infinity.*use dtype float32"):
            method.foreground(maps, attention, pixels)

    def test_a_result_is_validated(self) -> None:
        good, mask = torch.tensor([[[0.2, 0.7]]]), torch.tensor([[[False, True]]])
        assert len(Foreground(good, mask)) == 1
        for probability, wrong in (
            (good[0], mask[0]),
            (good.double(), mask),
            (good, mask[..., :1]),
            (good, mask.int()),
            (good, ~mask),
            (good * 2, mask),
        ):
            with pytest.raises(ValueError, match=r"mask|probability"):
                Foreground(probability, wrong)
        with pytest.raises(ModelError, match="NaN"):
            Foreground(good * torch.nan, mask)


class TestPicture:
    def test_the_picture_is_averaged_over_areas(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
        expected = pixels.reshape(4, 3, 5, 4, 3).mean((1, 3))
        np.testing.assert_allclose(grid_picture(pixels, (4, 5)), expected, rtol=1e-6)
        np.testing.assert_allclose(grid_picture(pixels, (12, 20)), pixels)

    def test_lab_of_known_colours(self) -> None:
        """The tables of sRGB's corners under D65."""
        rgb = np.array([[0, 0, 0], [255, 255, 255], [119, 119, 119], [3, 3, 3], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=float)
        known = [
            [0, 0, 0], [100, 0, 0], [50.034, 0, 0], [0.8225, 0, 0],
            [53.2408, 80.0925, 67.2032], [87.7347, -86.1827, 83.1793], [32.2970, 79.1875, -107.8602],
        ]  # fmt: skip
        np.testing.assert_allclose(lab(rgb), known, atol=0.02)


class TestSettings:
    def test_what_is_read(self) -> None:
        assert AttentionCut().probe() == Probe(timesteps=(100,), cross=Select(factors=(2, 4)), self_attention=Select(factors=(2,)))
        assert AttentionCut().wording().write("dog") == "a photo of a dog"
        small = AttentionCut(attention_factors=(1,), grid_factor=1, timesteps=(300,)).probe()
        assert (small.cross, small.self_attention, small.timesteps) == (Select(factors=(1,)), Select(factors=(1,)), (300,))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"seeds": "some"}, {"solver": "magic"}, {"merge": "both"}, {"neighbours": "all"}, {"neighbours": -1}, {"geodesic_weight": -1.0},
            {"geodesic_weight": "auto"}, {"balance": -0.1}, {"balance": "equal"}, {"balance": float("nan")}, {"refined_weight": -1.0},
            {"attention_factors": ()}, {"attention_factors": (0,)}, {"grid_factor": 0}, {"seed_count": 0}, {"seed_share": 0.0},
            {"seed_share": 1.1}, {"clamp": 0.0}, {"clamp": 0.5}, {"percentile": 0.0}, {"geodesic_scale": 0.0}, {"template": "x"},
            {"timesteps": ()},
        ],
    )  # fmt: skip
    def test_settings_that_cannot_be_used(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            AttentionCut(**wrong)
