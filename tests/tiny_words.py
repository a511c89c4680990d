"""Artwork for small word lists of one's own."""

from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ((220, 40, 30, 255), (40, 60, 200, 255))


def draw_discs(folder: Path, *names: str) -> None:
    """Two pictures NAME.png at most: a red and a blue disc, with nothing around it."""
    for name, colour in zip(names, COLOURS, strict=False):
        picture = Image.new("RGBA", (40, 40))
        ImageDraw.Draw(picture).ellipse((2, 2, 38, 38), fill=colour)
        picture.save(folder / f"{name}.png")
