"""How the files of a data set are written: whole or not at all, and with errors that say what to do."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.discovery.pairs import IGNORE
from maskwright.exports import files
from maskwright.exports.files import replacing
from maskwright.exports.palette import palette

IGNORE_COLOUR = (224, 224, 192)  # as in the masks of PASCAL VOC


def write_whole(path: Path, content: bytes) -> None:
    """Puts a file in place, complete; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)


def mask_picture(mask: npt.NDArray[np.uint8]) -> Image.Image:
    """(H, W) uint8 to an indexed picture of these values, in the overlay's colours."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette()[: 3 * IGNORE] + bytes(IGNORE_COLOUR))  # turns "L" into "P"
    return picture


def explained(folder: Path) -> AbstractContextManager[None]:
    """Turns what the system says about a failed write into one line."""
    return files.explained(folder, "choose another folder with --out")
