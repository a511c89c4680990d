"""COCO: run-length masks and annotations."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskwright.exports.results import Result, as_segmentation
from maskwright.segmentation import Segmentation


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """(H, W) bool to a compressed COCO run-length mask: {"size": [H, W], "counts": ASCII str}."""
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def to_coco(result: Result, *, image_id: int = 1, first_annotation_id: int = 1) -> dict[str, list[dict[str, Any]]]:
    """A COCO data set of one picture: one annotation for each label that was found.

    Args:
        result: a Segmentation, or a Discovery, whose label is the one that its words make.
        image_id: id of the picture.
        first_annotation_id: annotations are numbered from here, so that several pictures can be put together.

    Returns:
        {"images", "annotations", "categories"}, plain JSON values. Category ids are label numbers, boxes [x, y, width, height];
        "score" is the mean winning score.
    """
    seg = as_segmentation(result)
    height, width = seg.picture.size
    image = {"id": image_id, "file_name": _file_name(seg), "height": height, "width": width}
    found = [(region, region.box) for region in seg.regions if region.box]
    annotations = [
        {
            "id": first_annotation_id + place,
            "image_id": image_id,
            "category_id": region.number,
            "segmentation": encode_mask(seg.label_map == region.number),
            "area": region.area,
            "bbox": list(box),
            "iscrowd": 0,
            "score": region.score,
        }
        for place, (region, box) in enumerate(found)
    ]
    categories = [{"id": region.number, "name": region.name, "supercategory": ""} for region in seg.regions]
    return {"images": [image], "annotations": annotations, "categories": categories}


def _file_name(seg: Segmentation) -> str:
    """"dog.jpg" where the picture came from such a file, otherwise the picture's name."""
    source = Path(seg.picture.source)
    return source.name if source.stem == seg.picture.name else seg.picture.name
