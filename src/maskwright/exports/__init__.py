"""What others read: pictures, JSON, COCO, supervision, FiftyOne, and the format of the Hugging Face pipeline."""

from maskwright.exports.coco import to_coco
from maskwright.exports.document import to_document, to_json
from maskwright.exports.fiftyone import to_fiftyone
from maskwright.exports.files import write_outputs
from maskwright.exports.overlay import draw_overlay
from maskwright.exports.png import to_png
from maskwright.exports.supervision import to_supervision
from maskwright.exports.transformers import to_transformers

__all__ = [
    "draw_overlay",
    "to_coco",
    "to_document",
    "to_fiftyone",
    "to_json",
    "to_png",
    "to_supervision",
    "to_transformers",
    "write_outputs",
]
