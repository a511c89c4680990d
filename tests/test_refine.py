"""Refiners draw maps to the picture's edges and change nothing that has none; one contract for all of them."""

import numpy as np
import pytest
import torch

from maskwright.errors import SettingsError
from maskwright.images import upsample
from maskwright.refine import REFINERS, make_refiner
from maskwright.refine.guided import GuidedSettings
from maskwright.refine.pamr import PamrSettings

SHARP = ("guided", "pamr")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def scene(height: int = 96, width: int = 128, *, grain: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A noisy blue flower on noisy orange, (H, W, 3) uint8, and the flower's mask (H, W)."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    across = columns - 0.45 * width + 1j * (rows - 0.5 * height)
    flower = np.abs(across) < height * (0.3 + 0.12 * np.cos(6 * np.angle(across)))
    colours = np.where(flower[..., None], (40, 80, 200), (220, 140, 40)) + rng.integers(-grain, grain + 1, (height, width, 3))
    return colours.clip(0, 255).astype(np.uint8), flower


def blurred(mask: np.ndarray, grid: tuple[int, int]) -> torch.Tensor:
    """A mask as a coarse map would show it, (2, H, W): the thing and the rest."""
    full = torch.from_numpy(mask)[None].float()
    thing = upsample(upsample(full, grid), (mask.shape[0], mask.shape[1]))
    return torch.cat((thing, 1 - thing))


def iou(maps: torch.Tensor, mask: np.ndarray) -> float:
    found = (maps[0] > maps[1]).numpy()
    return float((found & mask).sum() / (found | mask).sum())


@pytest.mark.parametrize("name", REFINERS)
@pytest.mark.parametrize("size", [(24, 31), (1, 1), (1, 5000), (5000, 1), (2, 3)])
def test_constants_stay(name: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    constant = torch.tensor([0.0, 1.0, -3.5])[:, None, None].expand(3, *size)
    refined = make_refiner(name, pixels)(constant)
    assert refined.dtype == torch.float32
    torch.testing.assert_close(refined, constant, **TOLERANCE)


@pytest.mark.parametrize("name", SHARP)
def test_edges_of_a_two_colour_picture_are_recovered(name: str) -> None:
    pixels, mask = scene()
    soft = blurred(mask, (8, 10))
    refined = make_refiner(name, pixels, grid=(8, 10))(soft)
    assert iou(soft, mask) < 0.75
    assert iou(refined, mask) > 0.98


@pytest.mark.parametrize("name", SHARP)
def test_edges_survive_the_reduced_size(name: str) -> None:
    pixels, mask = scene(192, 256)
    settings = GuidedSettings(pixels=48 * 64) if name == "guided" else PamrSettings(pixels=96 * 128)
    soft = blurred(mask, (8, 10))
    refined = make_refiner(name, pixels, grid=(8, 10), settings=settings)(soft)
    assert refined.shape == (2, 192, 256)
    assert iou(refined, mask) > 0.95


@pytest.mark.parametrize("name", SHARP)
def test_flat_picture_only_smooths(name: str) -> None:
    """Without any edge to follow a map keeps its mean and gains no extremes."""
    _, mask = scene()
    refined = make_refiner(name, np.full((96, 128, 3), 90, dtype=np.uint8))(blurred(mask, (8, 10)))
    assert refined.min() > -1e-4 and refined.max() < 1 + 1e-4
    assert abs(float(refined[0].mean()) - mask.mean()) < 0.02


@pytest.mark.parametrize("name", REFINERS)
def test_linear_and_channel_by_channel(name: str) -> None:
    pixels, _ = scene(40, 50)
    refiner = make_refiner(name, pixels)
    maps = torch.randn(11, 40, 50, generator=torch.Generator().manual_seed(0))
    together = refiner(maps)
    torch.testing.assert_close(torch.cat([refiner(one[None]) for one in maps]), together, **TOLERANCE)
    torch.testing.assert_close(refiner(2 * maps[:1] - 3 * maps[1:2]), 2 * together[:1] - 3 * together[1:2], **TOLERANCE)
    assert refiner(maps[:0]).shape == (0, 40, 50)


@pytest.mark.parametrize("name", REFINERS)
def test_partition_of_unity(name: str) -> None:
    pixels, _ = scene(40, 50)
    maps = torch.randn(5, 40, 50, generator=torch.Generator().manual_seed(0)).softmax(0)
    torch.testing.assert_close(make_refiner(name, pixels)(maps).sum(0), torch.ones(40, 50), **TOLERANCE)


@pytest.mark.parametrize("name", REFINERS)
def test_coarse_maps_are_brought_to_the_pictures_size(name: str) -> None:
    pixels, mask = scene()
    coarse = upsample(torch.from_numpy(mask)[None].float(), (8, 10))
    refined = make_refiner(name, pixels)(coarse)
    torch.testing.assert_close(refined, make_refiner(name, pixels)(upsample(coarse, (96, 128))), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", SHARP)
def test_mirrored_picture_gives_mirrored_maps(name: str) -> None:
    """A shift by half a pixel, or a window that leans to one side, would show."""
    pixels, mask = scene(41, 53)
    soft = blurred(mask, (6, 7))
    refined = make_refiner(name, pixels)(soft)
    mirrored = make_refiner(name, pixels[::-1, ::-1])(soft.flip(1, 2))
    torch.testing.assert_close(mirrored.flip(1, 2), refined, **TOLERANCE)


def test_guided_filter_agrees_with_the_papers_equations() -> None:
    """Against windows taken one by one, at a picture small enough to do so."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    target = rng.random((9, 11))
    colours, eps, r = pixels / 255, 0.01, 2
    lines = np.zeros((9, 11, 4))
    windows = [[(slice(max(0, i - r), i + r + 1), slice(max(0, j - r), j + r + 1)) for j in range(11)] for i in range(9)]
    for i in range(9):
        for j in range(11):
            inside, values = colours[windows[i][j]].reshape(-1, 3), target[windows[i][j]].ravel()
            covariance = (inside * values[:, None]).mean(0) - inside.mean(0) * values.mean()
            slope = np.linalg.solve(np.cov(inside.T, bias=True) + eps * np.eye(3), covariance)
            lines[i, j] = *slope, values.mean() - slope @ inside.mean(0)
    expected = np.empty((9, 11))
    for i in range(9):
        for j in range(11):
            mean = lines[windows[i][j]].reshape(-1, 4).mean(0)
            expected[i, j] = mean[:3] @ colours[i, j] + mean[3]
    refiner = make_refiner("guided", pixels, grid=(9, 11), settings=GuidedSettings(radius=2, eps=eps))
    np.testing.assert_allclose(refiner(torch.from_numpy(target).float()[None])[0].numpy(), expected, atol=1e-5)


def test_pamr_agrees_with_a_pixel_done_by_hand() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    scores = rng.random((20, 20)).astype(np.float32)
    settings = PamrSettings(iterations=1, dilations=(1, 2))
    y, x = 7, 9
    near = [(y + d * i, x + d * j) for d in (1, 2) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    values = np.stack([pixels[at] / 255 for at in near])
    others = [number for number, at in enumerate(near) if at != (y, x)]
    unlike = (np.abs(values[others] - pixels[y, x] / 255) / (0.1 * values.std(0, ddof=1))).mean(1)
    weights = np.exp(-unlike) / np.exp(-unlike).sum()
    expected = weights @ np.array([scores[near[number]] for number in others])
    refined = make_refiner("pamr", pixels, settings=settings)(torch.from_numpy(scores)[None])
    assert abs(float(refined[0, y, x]) - expected) < 1e-5


def test_pamr_leaves_out_far_neighbours_on_small_pictures() -> None:
    pixels, _ = scene(40, 40)
    maps = torch.rand(1, 40, 40)
    few = make_refiner("pamr", pixels, settings=PamrSettings(dilations=(1, 2, 4)))(maps)
    assert torch.equal(make_refiner("pamr", pixels)(maps), few)


def test_unusable_refiners() -> None:
    pixels, _ = scene(8, 8)
    with pytest.raises(SettingsError, match="choose one of none, guided, pamr"):
        make_refiner("crf", pixels)
    with pytest.raises(SettingsError, match="GuidedSettings is not for the refiner 'pamr'"):
        make_refiner("pamr", pixels, settings=GuidedSettings())
    with pytest.raises(SettingsError, match="is not for the refiner 'none'"):
        make_refiner("none", pixels, settings=PamrSettings())
