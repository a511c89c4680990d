"""Tiles cover the whole picture and nothing else; what they agree on survives the blending."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.errors import SettingsError
from maskwright.images import upsample
from maskwright.tiling import Tile, blend, plan_tiles

side = st.integers(1, 300)


@given(height=side, width=side, tall=side, wide=side, overlap=st.sampled_from([0, 0.1, 0.25, 0.5, 0.9]))
def test_tiles_cover_everything_with_the_asked_overlap(height: int, width: int, tall: int, wide: int, overlap: float) -> None:
    for length, tile in ((height, tall), (width, wide)):
        tile = max(tile, length // 20 + 1)  # keeps the number of tiles small
        tiles = plan_tiles((length, 7), (tile, 9), overlap)
        starts = [one.top for one in tiles]
        assert {(one.left, one.height, one.width) for one in tiles} == {(0, min(tile, length), 7)}
        assert starts[0] == 0 and starts[-1] + min(tile, length) == length
        steps = np.diff(starts)
        assert (steps >= 1).all() and (steps <= max(1, tile * (1 - overlap) + 1e-6)).all()


def test_tiles_of_usual_pictures() -> None:
    assert plan_tiles((512, 512), (512, 512)) == (Tile(0, 0, 512, 512),)
    assert plan_tiles((300, 1000), (512, 512)) == (Tile(0, 0, 300, 512), Tile(0, 244, 300, 512), Tile(0, 488, 300, 512))
    assert len(plan_tiles((3000, 4000), (512, 512))) == 8 * 11
    assert [tile.top for tile in plan_tiles((1000, 10), (100, 10), 0.9)][:3] == [0, 10, 20]
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(Tile(1, 2, 3, 2).crop(picture), picture[1:4, 2:4])


def test_unusable_tilings() -> None:
    for overlap in (-0.1, 0.95, float("nan")):
        with pytest.raises(SettingsError, match="overlap"):
            plan_tiles((10, 10), (5, 5), overlap)
    with pytest.raises(SettingsError, match="at least 1 x 1"):
        plan_tiles((10, 10), (0, 5))


@pytest.mark.parametrize("canvas", [None, (25, 30), (7, 11), (1, 1)])
@pytest.mark.parametrize("grid", [(1, 1), (6, 4), (40, 40)])
def test_a_constant_blends_to_itself(grid: tuple[int, int], canvas: tuple[int, int] | None) -> None:
    tiles = plan_tiles((100, 90), (40, 40))
    constant = torch.tensor([0.3, -2.0, 0.0])[:, None, None].expand(3, *grid)
    blended = blend(tiles, [constant] * len(tiles), (100, 90), canvas=canvas)
    assert blended.shape == (3, *(canvas or (100, 90)))
    torch.testing.assert_close(blended, constant[:, :1, :1].expand_as(blended))


@pytest.mark.parametrize("canvas", [(100, 90), (50, 45), (33, 31), (200, 180)])
def test_tiles_of_a_ramp_give_the_ramp(canvas: tuple[int, int]) -> None:
    """Each map shows its own part of one ramp; a shift by half a cell, of tile or canvas, would show."""
    tiles = plan_tiles((100, 90), (40, 40))
    y = (torch.arange(100) + 0.5) / 100
    x = (torch.arange(90) + 0.5) / 90
    ramp = y[:, None] + x
    maps = [ramp[None, tile.top : tile.top + 40, tile.left : tile.left + 40] for tile in tiles]
    blended = blend(tiles, maps, (100, 90), canvas=canvas)[0]
    expected = ((torch.arange(canvas[0]) + 0.5) / canvas[0])[:, None] + (torch.arange(canvas[1]) + 0.5) / canvas[1]
    inner = (slice(2, -2), slice(2, -2))  # a tile's own border is held, not continued
    torch.testing.assert_close(blended[inner], expected[inner], atol=3e-4, rtol=0)


def test_one_tile_is_plain_upsampling() -> None:
    maps = torch.rand(2, 5, 6)
    blended = blend(plan_tiles((40, 60), (64, 64)), [maps], (40, 60))
    torch.testing.assert_close(blended, upsample(maps, (40, 60)))


def test_blending_is_smooth_and_takes_a_generator() -> None:
    tiles = plan_tiles((10, 100), (10, 60), 0.25)
    blended = blend(tiles, (torch.full((1, 2, 2), float(number)) for number, _ in enumerate(tiles)), (10, 100))
    steps = blended[0, 0].diff()
    assert blended[0, 0, 0] == 0 and blended[0, 0, -1] == len(tiles) - 1
    assert (steps >= 0).all() and steps.max() < 0.1


def test_blend_refuses_what_does_not_fit() -> None:
    tiles = plan_tiles((10, 10), (6, 6))
    with pytest.raises(ValueError, match="shorter"):
        blend(tiles, [torch.zeros(1, 2, 2)], (10, 10))
    with pytest.raises(ValueError, match="do not cover"):
        blend(tiles[:1], [torch.zeros(1, 2, 2)], (10, 10))
