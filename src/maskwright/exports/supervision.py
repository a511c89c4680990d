"""The format of Roboflow's supervision."""

from typing import TYPE_CHECKING

import numpy as np

from maskwright.errors import MissingExtraError
from maskwright.exports.results import Result, as_segmentation

if TYPE_CHECKING:
    import supervision


def to_supervision(result: Result) -> "supervision.Detections":
    """One detection for each label that was found.

    Args:
        result: a Segmentation, or a Discovery, whose label is the one that its words make.

    Returns:
        supervision.Detections: `mask` (n, H, W) bool, `xyxy` (n, 4) float32 pixels with the maximum excluded, `class_id` the
        label numbers, `confidence` the mean winning scores, `data["class_name"]` the names.

    Raises:
        MissingExtraError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise MissingExtraError("supervision", purpose="to_supervision", extra="supervision") from error
    seg = as_segmentation(result)
    found = [region for region in seg.regions if region.box]
    boxes = np.array([region.box for region in found], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # width and height to the excluded maximum
    numbers = np.array([region.number for region in found], dtype=int)
    return supervision.Detections(
        xyxy=boxes,
        mask=seg.label_map == numbers[:, None, None],
        confidence=np.array([region.score for region in found], dtype=np.float32),
        class_id=numbers,
        data={"class_name": np.array([region.name for region in found], dtype=str)},
    )
