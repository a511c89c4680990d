"""How pictures come to a student: at the size at which it was trained, in their own shape where it can read any."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskwright.decoding import Pixels
from maskwright.images import Size

LONGEST = 4  # longer side over shorter side; a picture that is longer is read as if it were only so long


def reading_size(size: Size, *, side: int, any_shape: bool) -> Size:
    """The (h, w) at which a picture of size (H, W) is read: its shorter side becomes `side`, as in the image processors of transformers.

    Args:
        size: of the picture.
        side: at which the student was trained.
        any_shape: whether the student reads other shapes than squares; if not, the picture is squashed.
    """
    if not any_shape:
        return side, side
    long = min(int(side * max(size) / min(size)), LONGEST * side)
    return (side, long) if size[0] <= size[1] else (long, side)


def to_pixels(pictures: Sequence[Pixels], size: Size) -> Tensor:
    """Pictures (H, W, 3) uint8 of any sizes as (n, h, w, 3) uint8. Bicubic and antialiased, as `training.augment` resizes."""
    return torch.from_numpy(np.stack([_resized(picture, size) for picture in pictures]))


def _resized(picture: Pixels, size: Size) -> Pixels:
    if picture.shape[:2] == tuple(size):
        return picture
    return np.array(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BICUBIC))
