"""annotations.json: the whole data set for programs that read COCO."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.discovery.formats.regions import label_regions
from maskwright.discovery.writing import write_whole
from maskwright.exports.coco import encode_mask

if TYPE_CHECKING:
    from maskwright.discovery.store import PairStore


def write_coco(store: "PairStore") -> None:
    """One annotation for each label of each kept picture, with a run-length mask.

    Pictures are named relative to images/, their id is the pair's number + 1; categories have the masks' numbers. Pixels that
    a mask leaves out as uncertain (255) belong to no annotation: COCO has no word for them, and `iscrowd` says something else.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for pair in store.kept:
        mask = store.read_mask(pair)
        images.append({"id": pair.number + 1, "file_name": f"{pair.stem}.png", "height": mask.shape[0], "width": mask.shape[1]})
        for region in label_regions(mask):
            row = {"id": len(annotations) + 1, "image_id": pair.number + 1, "category_id": region.number, "iscrowd": 0}
            area = int(np.count_nonzero(region.pixels))
            annotations.append({**row, "segmentation": encode_mask(region.pixels), "area": area, "bbox": list(region.box)})
    content = {
        "info": {"description": "Drawn by a text-to-image model and masked by its own attention (maskwright synthesize)"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(store.names, start=1)],
    }
    write_whole(store.folder / "annotations.json", json.dumps(content, ensure_ascii=False, allow_nan=False).encode())
