"""Pictures larger than the model: overlapping tiles that cover them, and the tiles' maps blended into one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch.nn import functional

from maskwright.decoding import Pixels
from maskwright.errors import SettingsError
from maskwright.images import Size

LEAST_WEIGHT = 1e-3  # keeps every weight positive, also where a map's row falls on a tile's very edge


@dataclass(frozen=True)
class Tile:
    """A window of a picture, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, pixels: Pixels) -> Pixels:
        """The tile's part (height, width, 3) of a picture (H, W, 3), as a view."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


def plan_tiles(size: Size, tile: Size, overlap: float = 0.25) -> tuple[Tile, ...]:
    """Covers a picture with tiles of one size, evenly spread, none reaching outside.

    Args:
        size: (H, W) of the picture.
        tile: (h, w) of a tile; a side longer than the picture's is cut to the picture's.
        overlap: neighbours share at least this part of a tile's side, 0 to 0.9 (to the pixel below).

    Returns:
        The tiles row by row; one tile where the picture is no larger.

    Raises:
        SettingsError: an overlap outside 0..0.9 or a tile without pixels.
    """
    if not 0 <= overlap <= 0.9:
        raise SettingsError(f"a tile overlap of {overlap} cannot be used: give a part of the tile's side from 0 to 0.9")
    if min(tile) < 1:
        raise SettingsError(f"tiles of {tile[0]} x {tile[1]} pixels cannot be used: give at least 1 x 1")
    height, width = min(tile[0], size[0]), min(tile[1], size[1])
    return tuple(
        Tile(top, left, height, width) for top in _starts(size[0], height, overlap) for left in _starts(size[1], width, overlap)
    )


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where the tiles begin along one axis: the fewest that leave the overlap, the last one flush with the end."""
    if side == length:
        return [0]
    step = max(1, int(side * (1 - overlap) + 1e-9))  # 1 - 0.9 is a hair under 0.1
    gaps = ceil((length - side) / step)
    return [round(number * (length - side) / gaps) for number in range(gaps + 1)]


def blend(tiles: Sequence[Tile], maps: Iterable[torch.Tensor], size: Size, *, canvas: Size | None = None) -> torch.Tensor:
    """One map of the whole picture from a map per tile: their mean, weighted by ramps falling from a tile's centre to its edges.

    Args:
        tiles: tiles that cover the picture.
        maps: for each tile (C, h, w) float, of any resolution; taken one at a time, so that a generator keeps memory small.
        size: (H, W) of the picture that the tiles were planned for.
        canvas: size (h, w) of the result, which shows the same area; None is `size`. Coarse maps of many labels belong on a
            coarse canvas, about as fine as the maps themselves.

    Returns:
        (C, *canvas) float32. Where all maps agree on a constant, that constant.

    Raises:
        ValueError: not as many maps as tiles, or tiles that leave a part uncovered.
    """
    canvas = canvas or size
    total = weight = torch.zeros(())
    for tile, scores in zip(tiles, maps, strict=True):
        rows, y = _inside(tile.top, tile.height, size[0], canvas[0])
        columns, x = _inside(tile.left, tile.width, size[1], canvas[1])
        if total.ndim == 0:
            total, weight = torch.zeros(len(scores), *canvas, device=scores.device), torch.zeros(canvas, device=scores.device)
        ramp = torch.outer(_ramp(y), _ramp(x)).to(scores.device)
        total[:, rows, columns] += ramp * _sample(scores.float(), y, x)
        weight[rows, columns] += ramp
    if not bool((weight > 0).all()):
        raise ValueError(f"the {len(tiles)} tiles do not cover {size[0]} x {size[1]} pixels: use plan_tiles")
    return total / weight


def _inside(start: int, side: int, length: int, cells: int) -> tuple[slice, torch.Tensor]:
    """Along one axis, the canvas cells whose centres lie in a tile, and where in it they lie: -1 at its start, 1 at its end."""
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * (length / cells)
    at = (centres - start) / side * 2 - 1
    chosen = torch.nonzero((at >= -1) & (at <= 1))[:, 0]
    cut = slice(int(chosen[0]), int(chosen[-1]) + 1) if len(chosen) else slice(0, 0)
    return cut, at[cut].float()


def _ramp(at: torch.Tensor) -> torch.Tensor:
    return (1 - at.abs()).clamp_min(LEAST_WEIGHT)


def _sample(scores: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Maps (C, h, w) at rows y and columns x in -1..1: (C, len(y), len(x)), by the same half-pixel rule as `images.upsample`."""
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(scores.device)  # (rows, columns, 2), x before y
    return functional.grid_sample(scores[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]
