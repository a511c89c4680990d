"""The bundled scenes: glyphs on procedural grounds, with a caption and an exact label map.

The recipe trains the bundled model on them (picture and caption only); the bundled benchmark measures on them
(the label map is exact by construction). A scene is a pure function of its seed and split.
"""

import functools
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from maskwright.datasets.captions import write_caption
from maskwright.datasets.grounds import GROUNDS
from maskwright.errors import SettingsError

ASSETS = Path(__file__).parent.parent / "assets" / "scenes"
ATLAS = ASSETS / "atlas.png"
CELL = 96  # pixels a side of one glyph in the atlas
COLUMNS = 8
SPLITS = {"train": 0, "tuning": 1, "benchmark": 2, "composed": 3}  # part of every scene's seed: splits never meet
SMALLEST_VISIBLE = 0.35  # an object that shows less of itself than this is painted elsewhere


@dataclass(frozen=True)
class Word:
    """One word of the scenes: an object (with its glyph) or a ground (glyph is empty)."""

    name: str
    glyph: str
    synonyms: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """All words; a label map holds the position in `all`, objects first."""

    objects: tuple[Word, ...]
    grounds: tuple[Word, ...]

    @property
    def all(self) -> tuple[Word, ...]:
        """Objects, then grounds."""
        return self.objects + self.grounds


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered scene.

    Attributes:
        image: (side, side, 3) uint8 RGB.
        labels: (side, side) uint8, index into `load_words().all` of what is visible at each pixel.
        words: names of what is in the scene, objects in painting order, then the ground.
        caption: the sentence that the recipe trains with.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    words: tuple[str, ...]
    caption: str


@functools.cache
def load_words() -> Words:
    """The word list of words.toml."""
    table = tomllib.loads((ASSETS / "words.toml").read_text(encoding="utf-8"))

    def read(part: str) -> tuple[Word, ...]:
        return tuple(Word(name, row.get("glyph", ""), tuple(row.get("synonyms", ()))) for name, row in table[part].items())

    return Words(objects=read("objects"), grounds=read("grounds"))


@functools.cache
def _glyphs() -> tuple[Image.Image, ...]:
    atlas = Image.open(ATLAS).convert("RGBA")
    cells = ((n % COLUMNS * CELL, n // COLUMNS * CELL) for n in range(len(load_words().objects)))
    return tuple(atlas.crop((x, y, x + CELL, y + CELL)) for x, y in cells)


def _object(number: int, side: int, rng: np.random.Generator) -> Image.Image:
    """One glyph, sized to 25-70 % of the picture's side, turned, flipped and recoloured at random."""
    glyph = _glyphs()[number]
    pixels = round(side * rng.uniform(0.25, 0.70))
    glyph = glyph.resize((pixels, pixels), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    glyph = glyph.rotate(rng.uniform(-25, 25), Image.Resampling.BICUBIC, expand=True)
    alpha = glyph.getchannel("A")
    rgb = ImageEnhance.Brightness(glyph.convert("RGB")).enhance(rng.uniform(0.85, 1.1))
    rgb = ImageEnhance.Color(rgb).enhance(rng.uniform(0.85, 1.15))
    rgb.putalpha(alpha)
    return rgb


def _place(glyph: Image.Image, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Upper left corner (x, y) such that the centre is inside the middle 76 % of the picture."""
    centre = rng.uniform(0.12, 0.88, 2) * side
    return round(centre[0] - glyph.width / 2), round(centre[1] - glyph.height / 2)


def _paste(layer: Image.Image, at: tuple[int, int], side: int) -> npt.NDArray[np.float32]:
    """The layer on an empty (side, side) canvas: (side, side, 4) float32 in 0..1."""
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(layer, at)
    return np.asarray(canvas, dtype=np.float32) / np.float32(255)


def _shadow(alpha: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """A soft shadow below and to the right: the shape, shrunk and enlarged again, shifted by 3 % of the side."""
    small = Image.fromarray(alpha).resize((side // 4, side // 4), Image.Resampling.BOX)
    soft = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
    shift = max(1, round(side * 0.03))
    moved = np.zeros_like(soft)
    moved[shift:, shift:] = soft[:-shift, :-shift]
    shadow: npt.NDArray[np.float32] = moved.clip(0, 1) * np.float32(0.35)
    return shadow


def _paint(
    objects: Sequence[int], ground: int, side: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Paints a ground and objects, later ones over earlier ones; returns picture in 0..1 and label map."""
    words = load_words()
    image = GROUNDS[words.grounds[ground].name](side, rng)
    labels = np.full((side, side), len(words.objects) + ground, dtype=np.uint8)
    for number in objects:
        glyph = _object(number, side, rng)
        layer = _paste(glyph, _place(glyph, side, rng), side)
        alpha = layer[..., 3]
        image = image * (1 - _shadow(alpha, side))[..., None]
        image = image + alpha[..., None] * (layer[..., :3] - image)
        labels[alpha > 0.5] = number
    return image, labels


def _all_visible(labels: npt.NDArray[np.uint8], numbers: Sequence[int], side: int) -> bool:
    """Whether every object still shows a fair part: at least 0.35 of the smallest object's usual area."""
    least = SMALLEST_VISIBLE * (0.25 * side) ** 2 * 0.5
    return all(np.count_nonzero(labels == number) >= least for number in numbers)


def render(seed: int, *, split: str = "train", side: int = 64, most: int = 3) -> Scene:
    """Renders the scene with this seed.

    Args:
        seed: any non-negative integer; the same seed gives the same scene.
        split: "train", "tuning" or "benchmark"; the same seed gives other scenes in other splits.
        side: pixels a side.
        most: at most so many objects, at least one.
    """
    words = load_words()
    rng = np.random.default_rng([SPLITS[split], seed])
    count = int(rng.integers(1, most + 1))
    objects = [int(n) for n in rng.choice(len(words.objects), count, replace=False)]
    return _finish(objects, int(rng.integers(len(words.grounds))), side, rng)


def compose(objects: Sequence[str], ground: str, *, seed: int = 0, side: int = 64) -> Scene:
    """Renders a scene of chosen words; place, size, light and ground follow the seed.

    Args:
        objects: names of objects, in painting order.
        ground: name of a ground.
        seed: any non-negative integer.
        side: pixels a side.

    Raises:
        SettingsError: for a word that the scenes do not have.
    """
    words = load_words()
    names, places = [word.name for word in words.objects], [word.name for word in words.grounds]
    if strange := [name for name in objects if name not in names] + [name for name in [ground] if name not in places]:
        raise SettingsError(f"the scenes have no {', '.join(strange)}: objects {', '.join(names)}; grounds {', '.join(places)}")
    rng = np.random.default_rng([SPLITS["composed"], seed])
    return _finish([names.index(name) for name in objects], places.index(ground), side, rng)


def _finish(objects: Sequence[int], ground: int, side: int, rng: np.random.Generator) -> Scene:
    """Paints until every object shows enough of itself, and writes the caption."""
    while True:
        image, labels = _paint(objects, ground, side, rng)
        if _all_visible(labels, objects, side):
            break
    words = load_words()
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    things, place = [words.objects[number] for number in objects], words.grounds[ground]
    caption = write_caption([(word.name, *word.synonyms) for word in things], (place.name, *place.synonyms), rng)
    return Scene(pixels, labels, (*(word.name for word in things), place.name), caption)


def benchmark(limit: int = 200, *, split: str = "benchmark", side: int = 64) -> Iterator[Scene]:
    """The first `limit` scenes of a split, in the fixed order; 200 of "benchmark" are the bundled benchmark."""
    return (render(seed, split=split, side=side) for seed in range(limit))
