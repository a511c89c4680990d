"""Names on a picture: which letters the font has, and where in a region a name fits."""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from maskwright.errors import OutputError

Mask = npt.NDArray[np.bool_]
CELLS = 320  # placements are sought on a grid with about so many cells along the longer side
# Tried in order: part of the font size, least part of the plate on its own region, longest text in font sizes. That is
# large first, then smaller, then cut short; what fits nowhere is in the legend only.
TRIES = ((1.0, 0.85, 24), (0.8, 0.75, 24), (0.8, 0.65, 9), (0.65, 0.5, 9))
ROOM = 1.5  # a region must be so many times larger than its plate, or the plate would hide it


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's built-in font; no font file is shipped."""
    built_in = ImageFont.load_default(size)
    if not isinstance(built_in, ImageFont.FreeTypeFont):
        raise OutputError("this Pillow has no FreeType, so overlays cannot be lettered: pip install --force-reinstall pillow")
    return built_in


@cache
def _has_glyph(letter: str) -> bool:
    missing = font(16).getmask("\uffff")
    glyph = font(16).getmask(letter)
    return letter == " " or (glyph.size, bytes(glyph)) != (missing.size, bytes(missing))


def readable(name: str, number: int) -> str:
    """The name as the built-in font can write it: without accents if need be, otherwise "label 7"."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    for text in (name, plain):
        if all(map(_has_glyph, text)):
            return text
    return f"label {number}"


def shorten(text: str, size: int, width: float) -> str:
    """The text, cut with "..." such that it is at most `width` pixels wide."""
    if font(size).getlength(text) <= width:
        return text
    count = bisect_right(range(1, len(text)), width, key=lambda n: font(size).getlength(text[:n] + "..."))
    return text[:count].rstrip() + "..."


@dataclass(frozen=True)
class Plate:
    """A name with its place on the picture: `box` is (left, top, right, bottom) in pixels, the maximum excluded."""

    number: int
    text: str
    size: int
    box: tuple[int, int, int, int]


def place_names(labels: npt.NDArray[np.uint16], names: dict[int, str], size: int) -> Iterator[Plate]:
    """Plates that lie inside the picture, on their own regions, and never on each other; the largest regions choose first.

    Args:
        labels: (h, w) label numbers of the picture that is drawn on.
        names: the text for each number that may be named.
        size: font size in pixels; smaller ones are tried where it does not fit.
    """
    step = max(1, round(max(labels.shape) / CELLS))
    cells = labels[step // 2 :: step, step // 2 :: step]
    taken = np.zeros(cells.shape, dtype=bool)
    areas = np.bincount(cells.ravel())
    for number in sorted((n for n in names if n < len(areas) and areas[n]), key=lambda n: (-areas[n], n)):
        part = _largest_part(cells == number)
        depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
        for factor, cover, longest in TRIES:
            letters = max(8, round(size * factor))
            text = shorten(names[number], letters, min(letters * longest, labels.shape[1] * 0.6))
            height, width = plate_size(text, letters)
            window = (-(-height // step), -(-width // step))
            spot = _best_window(part, depth, taken, window, cover)
            if spot is None or height > labels.shape[0] or width > labels.shape[1]:
                continue
            row, column = spot
            taken[max(0, row - 1) : row + window[0] + 1, max(0, column - 1) : column + window[1] + 1] = True
            left, top = min(column * step, labels.shape[1] - width), min(row * step, labels.shape[0] - height)
            yield Plate(number, text, letters, (left, top, left + width, top + height))
            break


def plate_size(text: str, size: int) -> tuple[int, int]:
    """(height, width) in pixels of a plate with this text."""
    return round(size * 1.5), round(font(size).getlength(text) + size * 0.9)


def draw_plate(draw: ImageDraw.ImageDraw, plate: Plate, fill: tuple[int, int, int]) -> None:
    """A rounded plate in the label's colour with black or white letters, whichever reads better."""
    left, top, right, bottom = plate.box
    red, green, blue = fill
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
    draw.rounded_rectangle((left, top, right - 1, bottom - 1), radius=plate.size * 0.35, fill=fill, outline=(255, 255, 255))
    draw.text(((left + right) / 2, (top + bottom) / 2), plate.text, fill=ink, font=font(plate.size), anchor="mm")


def _largest_part(mask: Mask) -> Mask:
    parts, _ = ndimage.label(mask)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return np.asarray(parts == areas.argmax())


def _best_window(
    part: Mask, depth: npt.NDArray[np.float64], taken: Mask, window: tuple[int, int], least: float
) -> tuple[int, int] | None:
    """Upper left cell of the free window that lies most on the part, deepest in it and most central; None without any."""
    height, width = window
    if height > part.shape[0] or width > part.shape[1] or np.count_nonzero(part) < ROOM * height * width:
        return None
    cover = _window_sums(part, window) / (height * width)
    rows, columns = cover.shape
    centre = (slice(height // 2, height // 2 + rows), slice(width // 2, width // 2 + columns))
    y, x = ndimage.center_of_mass(part)
    row_of, column_of = np.ogrid[0:rows, 0:columns]
    away = np.hypot(row_of + height / 2 - y, column_of + width / 2 - x) / max(part.shape)
    fit = cover + 0.25 * depth[centre] / depth.max() - 0.1 * away
    fit[(_window_sums(taken, window) > 0) | (cover < least) | ~part[centre]] = -1
    row, column = np.unravel_index(fit.argmax(), fit.shape)
    return (int(row), int(column)) if fit[row, column] > -1 else None


def _window_sums(mask: Mask, window: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Sum under a window for every position of it: (h - height + 1, w - width + 1)."""
    height, width = window
    total: npt.NDArray[np.int64] = np.pad(mask.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
