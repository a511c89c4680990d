"""The picture that one shows: coloured regions with outlines and names, and a legend."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from maskwright.exports.legend import PAPER, Entry, draw_legend
from maskwright.exports.lettering import draw_plate, place_names, readable
from maskwright.exports.palette import colour
from maskwright.segmentation import Segmentation

SMALLEST, LARGEST, THINNEST = 640, 1600, 24  # pixels: the longer side from, to; the shorter side from
NARROWEST = 420  # pixels: a narrower picture stands in the middle, so that the legend has room
FINE = 2  # the layer is painted at twice the size and reduced, which smooths the outlines
SOFT = 0.7  # pixels by which enlarged regions are softened before, against stairs
DIM, TINT, LINE = 90, 128, 235  # opacity 0..255 of the shade on the background, of the colours, of the outlines
CROWDED = 0.4  # no outlines where they would cover more than this part of the picture, as with labels that are mere noise
MOST_ABSENT = 12  # labels that were not found and are listed by name; more are counted
BACKGROUND = (70, 74, 82)  # swatch in the legend


def draw_overlay(seg: Segmentation) -> Image.Image:
    """The picture with translucent colours, outlines, names inside the regions, and a legend below.

    Small pictures are enlarged to 640 pixels along the longer side (which rounds the edges of their regions, and single
    pixels vanish), large ones reduced to 1600; a side under 24 pixels is widened to 24. A name that fits nowhere is in
    the legend only. Letters that the font lacks lose their accents, or the name becomes "label 7".

    Returns:
        RGB picture.
    """
    height, width = canvas_size(seg.picture.size)
    letters = max(15, round(max(height, width) / 50))
    labels = _resize_labels(seg.label_map, (height * FINE, width * FINE))
    picture = Image.fromarray(seg.picture.pixels).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    layer = _paint(labels, line=max(1, round(max(height, width) / 800)))
    picture = Image.alpha_composite(picture.convert("RGBA"), layer.reduce(FINE)).convert("RGB")
    names = {region.number: readable(region.name, region.number) for region in seg.regions if region.area}
    draw = ImageDraw.Draw(picture)
    for plate in place_names(labels[::FINE, ::FINE], names, letters):
        draw_plate(draw, plate, colour(plate.number))
    return _stack(picture, draw_legend(_entries(seg), max(width, NARROWEST), letters))


def canvas_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of the picture to (h, w) of the drawing."""
    longest = max(size)
    scale = min(max(longest, SMALLEST), LARGEST) / longest
    height, width = (max(THINNEST, round(side * scale)) for side in size)
    return height, width


def _resize_labels(labels: npt.NDArray[np.uint16], size: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """(H, W) to (h, w) label numbers; enlarged maps get smooth edges, reduced ones take the nearest pixel."""
    if max(labels.shape) >= SMALLEST or len(numbers := np.unique(labels)) > 64:  # smoothing so many would take seconds
        rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size, labels.shape, strict=True))
        return labels[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
    best = np.zeros(size, dtype=np.uint8)
    winner = np.full(size, numbers[0], dtype=np.uint16)
    for number in numbers:
        mask = Image.fromarray((labels == number).astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(SOFT))
        weight = np.asarray(mask.resize(size[::-1], Image.Resampling.BICUBIC))
        wins = weight > best
        best[wins] = weight[wins]
        winner[wins] = number
    return winner


def _paint(labels: npt.NDArray[np.uint16], *, line: int) -> Image.Image:
    """(h, w) label numbers to an RGBA layer: colours, a shade on the background, white outlines `line` x FINE wide."""
    table = np.array([(*colour(number), TINT) for number in range(int(labels.max()) + 1)], dtype=np.uint8)
    table[0] = (0, 0, 0, DIM)
    layer = Image.fromarray(table[labels])
    edges = np.zeros(labels.shape, dtype=np.uint8)
    edges[:, 1:][labels[:, 1:] != labels[:, :-1]] = 255
    edges[1:][labels[1:] != labels[:-1]] = 255
    thick = Image.fromarray(edges).filter(ImageFilter.MaxFilter(2 * line + 1))
    if np.count_nonzero(np.asarray(thick)) < CROWDED * edges.size:
        layer.paste((255, 255, 255, LINE), mask=thick)
    return layer


def _entries(seg: Segmentation) -> list[Entry]:
    """The labels that were found, largest first, then the background, then the labels that were not found, or how many these are."""
    found = sorted((region for region in seg.regions if region.area), key=lambda region: -region.area)
    entries = [Entry(readable(region.name, region.number), region.share, colour(region.number)) for region in found]
    if rest := 1 - sum(region.area for region in found) / seg.label_map.size:
        entries.append(Entry("background", rest, BACKGROUND))
    absent = [readable(region.name, region.number) for region in seg.regions if not region.area]
    return entries + [Entry(text, 0, None) for text in (absent if len(absent) <= MOST_ABSENT else [f"{len(absent)} other labels"])]


def _stack(picture: Image.Image, legend: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (legend.width, picture.height + legend.height), PAPER)
    sheet.paste(picture, ((legend.width - picture.width) // 2, 0))
    sheet.paste(legend, (0, picture.height))
    return sheet
