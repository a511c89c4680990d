"""The label map as a picture whose values are the label numbers."""

import numpy as np
from PIL import Image

from maskwright.exports.palette import COLOURS, palette
from maskwright.segmentation import Segmentation


def to_png(seg: Segmentation) -> Image.Image:
    """Label numbers as pixel values.

    Returns:
        Mode "P" with the overlay's colours and a black background; mode "I;16" (grey) with more than 255 labels.
    """
    if len(seg.names) > COLOURS:
        return Image.fromarray(seg.label_map)
    image = Image.fromarray(seg.label_map.astype(np.uint8))
    image.putpalette(palette())  # turns "L" into "P"
    return image
