"""Draws the glyphs of the scenes' objects into one picture, once. Only this step needs the font.

Command: `python -m recipes.atlas /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf` (Debian: fonts-noto-color-emoji).
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from maskwright.datasets.scenes import ATLAS, CELL, COLUMNS, load_words

STRIKE = 109  # the one size at which Noto Color Emoji holds bitmaps


def draw_glyph(font: ImageFont.FreeTypeFont, glyph: str) -> Image.Image:
    """One glyph, cropped to what is visible and fitted into a (CELL, CELL) RGBA square, centred."""
    canvas = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE))
    ImageDraw.Draw(canvas).text((20, 20), glyph, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise SystemExit(f"the font draws nothing for {glyph!r}: use Noto Color Emoji 2.042 or newer")
    drawn = canvas.crop(box)
    scale = (CELL - 2) / max(drawn.size)
    drawn = drawn.resize((round(drawn.width * scale), round(drawn.height * scale)), Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(drawn, ((CELL - drawn.width) // 2, (CELL - drawn.height) // 2))
    return cell


def main(font_path: str, out: Path = ATLAS) -> None:
    """Writes the atlas: one cell per object of words.toml, row by row."""
    font = ImageFont.truetype(font_path, STRIKE)
    objects = load_words().objects
    rows = -(-len(objects) // COLUMNS)
    atlas = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for number, word in enumerate(objects):
        atlas.paste(draw_glyph(font, word.glyph), (number % COLUMNS * CELL, number // COLUMNS * CELL))
    atlas.save(out, optimize=True)
    print(f"{out}: {len(objects)} glyphs, {out.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main(*sys.argv[1:2])
