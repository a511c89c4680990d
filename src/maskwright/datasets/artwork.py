"""The artwork of a word list: cells of its atlas, recoloured where a word asks for it."""

import functools
import json
from pathlib import Path

import numpy as np
from PIL import Image

from maskwright.datasets.word_list import CELL, COLUMNS, WordList, read_word_list
from maskwright.errors import SettingsError

KEY = "artwork"  # text chunk of an atlas: JSON list of what its cells show
HUE_WIDTH = 0.13  # hues within this distance of the main colour are recoloured
COLOURED = 0.25  # saturation from which a pixel has a hue


@functools.cache
def load_artwork(path: Path) -> tuple[tuple[Image.Image, ...], ...]:
    """The artwork of each object of a word list, (CELL, CELL) RGBA, tinted.

    Raises:
        SettingsError: an atlas that is missing or was drawn for other artwork.
    """
    words = read_word_list(path)
    cells = dict(zip(words.artwork, _cells(words), strict=True))
    return tuple(
        tuple(cells[art] if word.tint is None else tint(cells[art], word.tint) for art in word.artwork) for word in words.words.objects
    )


def _cells(words: WordList) -> list[Image.Image]:
    """The cells of the atlas, one for each piece of artwork."""
    remedy = f"draw it with: maskwright-recipe atlas --words {words.path}"
    try:
        with Image.open(words.atlas) as opened:
            drawn, atlas = opened.info.get(KEY), opened.convert("RGBA")
    except OSError as error:
        raise SettingsError(f"the atlas {words.atlas} cannot be read: {remedy}") from error
    rows = -(-len(words.artwork) // COLUMNS)
    if atlas.size != (COLUMNS * CELL, rows * CELL) or (drawn is not None and json.loads(drawn) != list(words.artwork)):
        raise SettingsError(f"the atlas {words.atlas} was drawn for other words: {remedy}")
    places = ((n % COLUMNS * CELL, n // COLUMNS * CELL) for n in range(len(words.artwork)))
    return [atlas.crop((x, y, x + CELL, y + CELL)) for x, y in places]


def tint(cell: Image.Image, colour: tuple[float, float, float]) -> Image.Image:
    """Gives the main colour of a cell another hue, saturation and value; outlines, leaves and lights of other hues stay.

    Args:
        cell: RGBA.
        colour: hue, saturation, value, each in 0..1, of the main colour afterwards.
    """
    hsv = np.asarray(cell.convert("RGB").convert("HSV"), dtype=np.float32) / 255
    hue, saturation, value = np.moveaxis(hsv, -1, 0)
    shown = (np.asarray(cell.getchannel("A")) > 127) & (saturation > COLOURED)
    if not shown.any():
        return cell
    main = (np.histogram(hue[shown], bins=24, range=(0, 1))[0].argmax() + 0.5) / 24
    near = shown & (np.abs((hue - main + 0.5) % 1 - 0.5) < HUE_WIDTH)
    main = (main + float(np.median((hue[near] - main + 0.5) % 1 - 0.5))) % 1
    chosen = (saturation > 0.08) & (np.abs((hue - main + 0.5) % 1 - 0.5) < HUE_WIDTH)
    scale = [wanted / max(float(np.median(channel[near])), 0.05) for wanted, channel in zip(colour[1:], (saturation, value), strict=True)]
    changed = np.stack([np.full_like(hue, colour[0]), saturation * scale[0], value * scale[1]], axis=-1).clip(0, 1)
    painted = Image.fromarray(np.round(np.where(chosen[..., None], changed, hsv) * 255).astype(np.uint8), "HSV").convert("RGB")
    painted.putalpha(cell.getchannel("A"))
    return painted
