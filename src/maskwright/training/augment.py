"""Varied examples: flipped, cropped, other colours, blurred. Picture and mask move together; Pillow does the work on pixels."""

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

from maskwright.errors import SettingsError
from maskwright.images import Size
from maskwright.training.examples import Example, numbers_in

Pixels = npt.NDArray[np.uint8]
TRIES = 10  # at a crop that fits into the picture, as torchvision's RandomResizedCrop


@dataclass(frozen=True)
class AugmentSettings:
    """How much examples are varied. The methods' papers leave the values open; these are the field's usual ones.

    Attributes:
        flip: chance of a mirror image, left to right.
        area: smallest and largest share of the picture that a crop keeps; (1, 1) keeps it whole.
        aspect: narrowest and widest shape of a crop, width / height over the picture's own.
        jitter: chance of other colours.
        brightness, contrast, saturation: factors 1 - value .. 1 + value.
        hue: turn by at most this share of the colour circle, 0..0.5.
        blur: chance of a Gaussian blur.
        radius: smallest and largest standard deviation of the blur, as a share of the picture's shorter side.
    """

    flip: float = 0.5
    area: tuple[float, float] = (0.4, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.05
    blur: float = 0.2
    radius: tuple[float, float] = (0.0005, 0.01)

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn from."""
        shares = {name: getattr(self, name) for name in ("flip", "jitter", "blur", "brightness", "contrast", "saturation")}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise SettingsError(f"{name} is {value}: give a number in 0..1")
        if not 0 <= self.hue <= 0.5:
            raise SettingsError(f"hue is {self.hue}: give a share of the colour circle in 0..0.5")
        if not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise SettingsError(f"area and aspect are {self.area} and {self.aspect}: give rising positive numbers, areas up to 1")
        if not 0 <= self.radius[0] <= self.radius[1]:
            raise SettingsError(f"radius is {self.radius}: give two rising shares of the picture's side")


NOTHING = AugmentSettings(flip=0, area=(1, 1), aspect=(1, 1), jitter=0, blur=0)


def augment(example: Example, settings: AugmentSettings, *, size: Size, seed: int) -> Example:
    """One variation of an example.

    Args:
        example: of any size.
        settings: how much it is varied.
        size: (h, w) of the result; the crop is resized to it, the picture antialiased, the mask by nearest pixels.
        seed: decides all of it; the same seed varies the same example in the same way.

    Returns:
        The example with the words of those labels that are still in its mask, or all of its words where none is.
    """
    chance = np.random.default_rng(seed)
    box = _crop(example.size, settings, chance)
    image = _resized(example.image, size, box, Image.Resampling.BICUBIC)
    mask = np.asarray(_resized(example.mask, size, box, Image.Resampling.NEAREST))
    mirrored = chance.random() < settings.flip
    pixels = np.asarray(_blurred(_coloured(image, settings, chance), settings, chance))
    if mirrored:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    left = dict(zip(numbers_in(example.mask), example.words, strict=False))
    words = tuple(left[number] for number in numbers_in(mask) if number in left)
    return Example(np.ascontiguousarray(pixels), np.ascontiguousarray(mask), words or example.words)


def _crop(size: Size, settings: AugmentSettings, chance: np.random.Generator) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels, not rounded; the whole picture where no crop of the drawn shapes fits."""
    height, width = size
    for _ in range(TRIES):
        share, shape = chance.uniform(*settings.area), exp(chance.uniform(log(settings.aspect[0]), log(settings.aspect[1])))
        wide, high = width * sqrt(share * shape), height * sqrt(share / shape)
        left, top = chance.random() * (width - wide), chance.random() * (height - high)
        if wide <= width and high <= height:
            return left, top, left + wide, top + high
    return 0, 0, width, height


def _resized(pixels: Pixels, size: Size, box: tuple[float, float, float, float], way: Image.Resampling) -> Image.Image:
    """The part of a picture in a box, at another size; centres of pixels stay on centres."""
    return Image.fromarray(pixels).resize((size[1], size[0]), way, box=box)


def _coloured(image: Image.Image, settings: AugmentSettings, chance: np.random.Generator) -> Image.Image:
    """Other brightness, contrast, saturation and hue, in this order."""
    wanted = chance.random() < settings.jitter
    factors = 1 + chance.uniform(-1, 1, 3) * (settings.brightness, settings.contrast, settings.saturation)
    turn = chance.uniform(-settings.hue, settings.hue)
    if not wanted:
        return image
    for change, factor in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors.tolist(), strict=True):
        image = change(image).enhance(factor)
    if not round(turn * 256):
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + round(turn * 256)) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _blurred(image: Image.Image, settings: AugmentSettings, chance: np.random.Generator) -> Image.Image:
    wanted, radius = chance.random() < settings.blur, chance.uniform(*settings.radius)
    return image.filter(ImageFilter.GaussianBlur(radius * min(image.size))) if wanted else image
