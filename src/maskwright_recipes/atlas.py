"""Draws the artwork of a word list into one picture, its atlas. Only this step needs the font and the picture files."""

import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from maskwright.datasets.artwork import KEY
from maskwright.datasets.word_list import CELL, COLUMNS, find_word_list, read_word_list
from maskwright.errors import SettingsError
from maskwright.exports.files import explained, replacing
from maskwright_recipes import NOTO

STRIKE = 109  # the one size at which Noto Color Emoji holds bitmaps


def draw_glyph(font: ImageFont.FreeTypeFont, glyph: str) -> Image.Image:
    """One glyph, cropped to what is visible, RGBA.

    Raises:
        SettingsError: the font has no such glyph, or draws a sequence of several.
    """
    canvas = Image.new("RGBA", (4 * STRIKE, 2 * STRIKE))
    ImageDraw.Draw(canvas).text((20, 20), glyph, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None or box[2] - box[0] > 1.6 * STRIKE:
        drawn = "nothing" if box is None else "several pictures"
        raise SettingsError(f"the font draws {drawn} for {glyph!r}: take Noto Color Emoji 2.042 or newer, and a Pillow with raqm")
    return canvas.crop(box)


def open_picture(path: Path) -> Image.Image:
    """A picture file with transparency, cropped to what is visible, RGBA.

    Raises:
        SettingsError: a file that cannot be read, or that shows nothing.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except OSError as error:
        raise SettingsError(f"the picture {path} cannot be read: give a PNG file with transparency") from error
    box = picture.getchannel("A").getbbox()
    if box is None:
        raise SettingsError(f"the picture {path} is transparent everywhere: give a PNG file that shows the object")
    return picture.crop(box)


def fit_cell(drawn: Image.Image) -> Image.Image:
    """Fits a drawing into a (CELL, CELL) RGBA square, centred."""
    scale = (CELL - 2) / max(drawn.size)
    drawn = drawn.resize((max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale))), Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(drawn, ((CELL - drawn.width) // 2, (CELL - drawn.height) // 2))
    return cell


def draw_atlas(words: str | Path = "scenes", *, font: Path = NOTO) -> Path:
    """Writes the atlas of a word list: one cell for each glyph or picture, row by row.

    Args:
        words: a bundled list or a TOML file; picture files are looked for beside it.
        font: a font with colour bitmaps; only opened where the list has glyphs.

    Returns:
        The atlas, where the list wants it.

    Raises:
        SettingsError: artwork that cannot be drawn.
        OutputError: the atlas cannot be written.
    """
    plan = read_word_list(find_word_list(words))
    opened: ImageFont.FreeTypeFont | None = None
    atlas = Image.new("RGBA", (COLUMNS * CELL, -(-len(plan.artwork) // COLUMNS) * CELL))
    for number, art in enumerate(plan.artwork):
        if Path(art).suffix:
            drawn = open_picture(plan.path.parent / art)
        else:
            opened = opened or _open_font(font)
            drawn = draw_glyph(opened, art)
        atlas.paste(fit_cell(drawn), (number % COLUMNS * CELL, number // COLUMNS * CELL))
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt(KEY, json.dumps(plan.artwork))
    with explained(plan.atlas.parent, "move the word list"), replacing(plan.atlas) as file:
        atlas.save(file, "PNG", optimize=True, pnginfo=notes)
    return plan.atlas


def _open_font(font: Path) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(str(font), STRIKE)
    except OSError as error:
        raise SettingsError(f"no font at {font}: install fonts-noto-color-emoji, or name NotoColorEmoji.ttf with --font") from error
