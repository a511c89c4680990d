"""Paints scenes: objects with soft shadows on a ground, then light, blur and noise over all."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

from maskwright.datasets.grounds import GROUNDS
from maskwright.datasets.scene_style import SceneStyle
from maskwright.datasets.textures import Array, turned
from maskwright.datasets.word_list import Word
from maskwright.errors import SettingsError

Layer = tuple[Image.Image, bool]  # artwork of an object, and whether it may be mirrored
ATTEMPTS = 500  # a scene of the bundled lists takes one or two


def paint_scene(
    layers: Sequence[Layer], ground: Word, *, side: int, style: SceneStyle, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Paints until every object shows enough of itself.

    Args:
        layers: the objects in painting order, later ones over earlier ones.
        ground: what lies behind them.
        side: pixels a side.
        style: ranges that place, size and light are drawn from.
        rng: draws them.

    Returns:
        The picture, (side, side, 3) uint8, and which object is visible at each pixel, (side, side) uint8: 0 is the ground, 1 the
        first layer.

    Raises:
        SettingsError: the objects hide each other whatever one tries.
    """
    least = style.visible * (style.scale[0] * side) ** 2 * 0.5
    for _ in range(ATTEMPTS):
        image, owners = _paint(layers, ground, side, style, rng)
        if all(np.count_nonzero(owners == number) >= least for number in range(1, len(layers) + 1)):
            return _finish(image, side, style, rng), owners
    raise SettingsError(
        f"{len(layers)} objects of this size find no room beside each other: lower scale or visible in [style], or most, in the word list"
    )


def _paint(
    layers: Sequence[Layer], ground: Word, side: int, style: SceneStyle, rng: np.random.Generator
) -> tuple[Array, npt.NDArray[np.uint8]]:
    """One attempt: the picture in 0..1, and the owner of each pixel."""
    image = GROUNDS[ground.draw](side, rng, **ground.settings)
    owners = np.zeros((side, side), dtype=np.uint8)
    crowding = min(1.0, math.sqrt(style.crowd / max(1, len(layers)))) if style.crowd else 1.0
    for number, (artwork, mirrored) in enumerate(layers, start=1):
        shape = _shape(artwork, side, style, crowding, rng, mirrored=mirrored)
        x, y = _place(shape, side, style, rng)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + shape.width, side), min(y + shape.height, side)
        pixels = np.asarray(shape, dtype=np.float32)[top - y : bottom - y, left - x : right - x] / np.float32(255)
        here = (slice(top, bottom), slice(left, right))
        alpha = np.zeros((side, side), dtype=np.float32)
        alpha[here] = pixels[..., 3]
        if style.shadow:
            image = image * (1 - _shadow(alpha, side, style.shadow))[..., None]
        image[here] = image[here] + pixels[..., 3:] * (pixels[..., :3] - image[here])
        owners[alpha > 0.5] = number
    return image, owners


def _shape(
    artwork: Image.Image, side: int, style: SceneStyle, crowding: float, rng: np.random.Generator, *, mirrored: bool
) -> Image.Image:
    """An object's artwork, sized, turned, flipped and recoloured at random."""
    low, high = style.scale
    pixels = round(side * rng.uniform(low, max(low, high * crowding)))
    shape = artwork.resize((pixels, pixels), Image.Resampling.LANCZOS)
    if rng.random() < style.flip and mirrored:
        shape = shape.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shape = shape.rotate(rng.uniform(-style.turn, style.turn), Image.Resampling.BICUBIC, expand=True)
    alpha = shape.getchannel("A")
    rgb = ImageEnhance.Brightness(shape.convert("RGB")).enhance(rng.uniform(*style.brightness))
    rgb = ImageEnhance.Color(rgb).enhance(rng.uniform(*style.colour))
    rgb.putalpha(alpha)
    return rgb


def _place(shape: Image.Image, side: int, style: SceneStyle, rng: np.random.Generator) -> tuple[int, int]:
    """Upper left corner (x, y) such that the centre is where the style wants it."""
    centre = rng.uniform(*style.place, 2) * side
    return round(centre[0] - shape.width / 2), round(centre[1] - shape.height / 2)


def _shadow(alpha: Array, side: int, darkness: float) -> Array:
    """A soft shadow below and to the right: the shape, shrunk and enlarged again, shifted by 3 % of the side."""
    small = Image.fromarray(alpha).resize((side // 4, side // 4), Image.Resampling.BOX)
    soft = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
    shift = max(1, round(side * 0.03))
    moved = np.zeros_like(soft)
    moved[shift:, shift:] = soft[:-shift, :-shift]
    shadow: Array = moved.clip(0, 1) * np.float32(darkness)
    return shadow


def _finish(image: Array, side: int, style: SceneStyle, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Light from one side, blur and noise, as far as the style has them; then bytes."""
    if style.light:
        across, _ = turned(side, rng.uniform(0, 2 * math.pi))
        across = across - across.mean()
        image = image * (1 + np.float32(rng.uniform(0, style.light)) * across / np.abs(across).max())[..., None]
    if style.blur:
        radius = rng.uniform(0, style.blur) * side
        blurred = Image.fromarray(_bytes(image)).filter(ImageFilter.GaussianBlur(radius))
        image = np.asarray(blurred, dtype=np.float32) / np.float32(255)
    if style.noise:
        image = image + np.float32(rng.uniform(0, style.noise)) * rng.standard_normal(image.shape, dtype=np.float32)
    return _bytes(image)


def _bytes(image: Array) -> npt.NDArray[np.uint8]:
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
