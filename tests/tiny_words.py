"""Small word lists of one's own, with artwork."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
TINY: dict[str, Any] = {  # of `Size`: the smallest networks
    "name": "tiny", "unet": (32, 32), "text_width": 16, "text_layers": 1, "text_length": 16, "autoencoder": 8, "rate": 1e-3, "average": 0.9,
    "batch": 2,
}  # fmt: skip
COLOURS = ((220, 40, 30, 255), (40, 60, 200, 255))


def draw_discs(folder: Path, *names: str) -> None:
    """Two pictures NAME.png at most: a red and a blue disc, with nothing around it."""
    for name, colour in zip(names, COLOURS, strict=False):
        picture = Image.new("RGBA", (40, 40))
        ImageDraw.Draw(picture).ellipse((2, 2, 38, 38), fill=colour)
        picture.save(folder / f"{name}.png")


def open_toys(folder: Path, *, side: int = 32) -> SceneSet:
    """A set of two objects and two grounds, whose list is toys.toml in the folder."""
    from maskwright_recipes.steps import open_set

    draw_discs(folder, "ball", "box")
    (folder / "toys.toml").write_text(LIST.replace("side = 32", f"side = {side}"))
    return open_set(folder / "toys.toml", folder)


def save_autoencoder(folder: Path) -> Any:
    """The smallest `Size`, whose autoencoder lies in the folder, with random weights."""
    import torch

    from maskwright_recipes.networks import Size, build_autoencoder

    size = Size(**TINY)
    torch.manual_seed(1)
    build_autoencoder(size).save_pretrained(folder / "vae")
    return size


def feed(trainer: Any) -> tuple[Iterator[Any], Iterator[range]]:
    """Batches of two for a `Trainer` from where it stands, and the seeds of their scenes."""
    from maskwright_recipes.streams import painted_batches

    first = trainer.first * 2
    return painted_batches(trainer.scenes, first, 2), (range(seed, seed + 2) for seed in itertools.count(first, 2))
