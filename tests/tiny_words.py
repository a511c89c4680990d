"""Small word lists of one's own, with artwork."""

from pathlib import Path

from PIL import Image, ImageDraw

from maskwright.datasets.scenes import SceneSet

LIST = """
side = 32
most = 2
[objects]
"red ball" = { picture = "ball.png" }
box = { picture = "box.png", synonyms = ["crate"] }
[grounds]
grass = {}
table = { draw = "tiles" }
"""
COLOURS = ((220, 40, 30, 255), (40, 60, 200, 255))


def draw_discs(folder: Path, *names: str) -> None:
    """Two pictures NAME.png at most: a red and a blue disc, with nothing around it."""
    for name, colour in zip(names, COLOURS, strict=False):
        picture = Image.new("RGBA", (40, 40))
        ImageDraw.Draw(picture).ellipse((2, 2, 38, 38), fill=colour)
        picture.save(folder / f"{name}.png")


def open_toys(folder: Path) -> SceneSet:
    """A set of two objects and two grounds at 32 pixels, whose list is toys.toml in the folder."""
    from maskwright_recipes.steps import open_set

    draw_discs(folder, "ball", "box")
    (folder / "toys.toml").write_text(LIST)
    return open_set(folder / "toys.toml", folder)
