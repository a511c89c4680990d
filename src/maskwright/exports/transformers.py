"""The format of the image-segmentation pipeline of Hugging Face transformers."""

from typing import Any

import numpy as np
from PIL import Image

from maskwright.exports.results import Result, as_segmentation


def to_transformers(result: Result) -> list[dict[str, Any]]:
    """One entry for each label that was found, in the labels' order.

    Args:
        result: a Segmentation, or a Discovery, whose label is the one that its words make.

    Returns:
        [{"label": name, "score": mean winning score, "mask": Pillow image "L" with 0 and 255}, ...].
    """
    seg = as_segmentation(result)
    return [
        {
            "label": region.name,
            "score": region.score,
            "mask": Image.fromarray((seg.label_map == region.number).astype(np.uint8) * 255),
        }
        for region in seg.regions
        if region.area
    ]
