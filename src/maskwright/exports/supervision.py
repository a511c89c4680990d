"""The format of Roboflow's supervision."""

from typing import TYPE_CHECKING

import numpy as np

from maskwright.errors import MissingExtraError
from maskwright.segmentation import Segmentation

if TYPE_CHECKING:
    import supervision


def to_supervision(seg: Segmentation) -> "supervision.Detections":
    """One detection for each label that was found.

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
