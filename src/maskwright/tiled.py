"""Large pictures: the whole decides what is where, tiles sharpen it."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maskwright.images import Picture, resize
from maskwright.images import upsample as resize_map
from maskwright.tiling import blend, plan_tiles

WORTHWHILE = 1.5  # a picture's side over the side at which it is read, from which tiles show more than the whole does
MOST_TILES_A_SIDE = 4

Score = Callable[[Sequence[Picture]], Tensor]


def tiles_are_worthwhile(size: tuple[int, int], working: tuple[int, int]) -> bool:
    """Whether a picture (H, W) holds clearly more detail than its working size."""
    return max(size[0] / working[0], size[1] / working[1]) >= WORTHWHILE


def sharpen_by_tiles(picture: Picture, whole: Tensor, working: tuple[int, int], score: Score, *, overlap: float = 0.25) -> Tensor:
    """Reads a picture again in overlapping tiles and gives finer maps of the same scores.

    A tile knows nothing of the rest, so its scores have another level: in a tile of plain sky something still is the most
    dog-like. Each tile's map is therefore brought to the range that the whole picture's map has in that window, label by
    label; the tile only says where inside the window the score lies.

    Args:
        picture: the picture.
        whole: (labels, h, w) scores of the picture read as a whole.
        working: (h, w) pixels at which a tile is read.
        score: pictures of one size to (pictures, labels, h, w).
        overlap: part of a tile's side.

    Returns:
        (labels, h', w') with as many times more cells as there are tiles a side, without the overlap.
    """
    zoom = min(max(picture.size[0] / working[0], picture.size[1] / working[1]), MOST_TILES_A_SIDE * (1 - overlap))
    reduced = Picture(resize(picture, (round(working[0] * zoom), round(working[1] * zoom))), picture.name, picture.source)
    tiles = plan_tiles(reduced.size, working, overlap=overlap)
    finer = tuple(math.ceil(cells * zoom) for cells in whole.shape[-2:])
    base = resize_map(whole, (finer[0], finer[1]))

    def calibrated(number: int) -> Tensor:
        tile = tiles[number]
        crop = Picture(tile.crop(reduced.pixels).copy(), picture.name, picture.source)
        fine = score([crop])[0]
        rows = _cells(tile.top, tile.height, finer[0] / reduced.size[0])
        columns = _cells(tile.left, tile.width, finer[1] / reduced.size[1])
        return _match_range(fine, base[:, rows, columns])

    return blend(tiles, (calibrated(number) for number in range(len(tiles))), reduced.size, canvas=(finer[0], finer[1]))


def _cells(start: int, length: int, scale: float) -> slice:
    """The cells of a finer map that a stretch of pixels covers along one axis, at least one."""
    first = int(start * scale)
    return slice(first, max(int((start + length) * scale), first + 1))


def _match_range(maps: Tensor, reference: Tensor) -> Tensor:
    """Stretches each map (labels, h, w) linearly to the range of its reference (labels, h', w'); constants take its mean."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    floor, ceiling = reference.amin((-2, -1), keepdim=True), reference.amax((-2, -1), keepdim=True)
    spread = high - low
    unit = torch.where(spread > 1e-8, (maps - low) / spread.clamp(min=1e-8), 0.5)
    return floor + unit * (ceiling - floor)
