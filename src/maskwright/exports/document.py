"""The result as one JSON document."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from maskwright.exports.coco import encode_mask
from maskwright.segmentation import Segmentation


def to_document(seg: Segmentation) -> dict[str, Any]:
    """Everything but the score maps, as plain JSON values in a fixed order.

    Returns:
        {"picture": name, source, height, width;
        "labels": for each label number, name, synonyms, area in pixels, share 0..1, mean score (null if it was not found),
        box [x, y, width, height] in pixels or null, segmentation as a COCO run-length mask;
        "background": area, share, and the names that the vocabulary marks as background;
        "record": how the result was made}.
    """
    height, width = seg.picture.size
    nothing = encode_mask(np.zeros(seg.picture.size, dtype=bool))
    labels = [
        {
            "number": region.number,
            "name": region.name,
            "synonyms": list(label.synonyms),
            "area": region.area,
            "share": region.share,
            "score": region.score,
            "box": None if region.box is None else list(region.box),
            "segmentation": encode_mask(seg.label_map == region.number) if region.area else nothing,
        }
        for region, label in zip(seg.regions, seg.vocabulary.foreground, strict=True)
    ]
    rest = seg.label_map.size - sum(region.area for region in seg.regions)
    names = [label.name for label in seg.vocabulary if label.background]
    return {
        "picture": {"name": seg.picture.name, "source": seg.picture.source, "height": height, "width": width},
        "labels": labels,
        "background": {"area": rest, "share": rest / seg.label_map.size, "names": names},
        "record": seg.record.as_dict(),
    }


def to_json(seg: Segmentation) -> bytes:
    """`to_document` as `encode` writes it."""
    return encode(to_document(seg))


def encode(document: Mapping[str, Any]) -> bytes:
    """A document as strict JSON (no NaN) in UTF-8, ending in a line break."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    return text.encode("utf-8", "backslashreplace")  # a file name that is no UTF-8 holds lone surrogates: \udcff is JSON for them
