"""ADE20K, the 150 classes of the scene parsing challenge."""

from pathlib import Path

from maskwright.datasets.class_list import class_set, load_classes
from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.layout import Layout

FOLDERS = {"val": "validation", "train": "training"}
ADE20K = Layout(
    "ADE20K",
    "images/validation/*.jpg and annotations/validation/*.png (or training)",
    "ADEChallengeData2016.zip from the scene parsing benchmark, sceneparsing.csail.mit.edu (not the full ADE20K)",
)


def read_ade20k(root: Path, *, split: str = "val") -> EvaluationSet:
    """ADE20K with 150 classes; what belongs to none of them (0 in the masks) is not scored.

    Args:
        root: the folder ADEChallengeData2016, or one above it.
        split: "val" (2,000) or "train" (20,210).

    Raises:
        DatasetError: a folder that is not as expected.
    """
    part = FOLDERS.get(split, split)
    base = ADE20K.base(root, ("", "ADEChallengeData2016", "ade/ADEChallengeData2016"), holds=f"images/{part}")
    names = ADE20K.found(base / "images" / part, ".jpg")
    pictures = ADE20K.files(base / "images" / part, names, ".jpg")
    masks = ADE20K.files(base / "annotations" / part, names, ".png")
    return class_set("ade20k", split, ADE20K, load_classes("ade20k"), names=names, pictures=pictures, masks=masks)
