"""Cityscapes, from the label ids of the official download; no train ids need to be made."""

from pathlib import Path

from maskwright.datasets.class_list import class_set, load_classes
from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.layout import Layout

PICTURE, TRUTH = "_leftImg8bit.png", "_gtFine_labelIds.png"
CITYSCAPES = Layout(
    "Cityscapes",
    f"leftImg8bit/val/CITY/*{PICTURE} and gtFine/val/CITY/*{TRUTH} (or train)",
    "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from cityscapes-dataset.com (with an account)",
)


def read_cityscapes(root: Path, *, split: str = "val", classes: int = 19) -> EvaluationSet:
    """Cityscapes: the 19 classes of the benchmark, or all 27 that are not void; the rest is not scored.

    Args:
        root: holds leftImg8bit and gtFine.
        split: "val" (500) or "train" (2,975).
        classes: 19 or 27.

    Raises:
        DatasetError: a folder that is not as expected.
    """
    base = CITYSCAPES.base(root, ("", "cityscapes"), holds=f"leftImg8bit/{split}")
    folder, truth = base / "leftImg8bit" / split, base / "gtFine" / split
    names: list[str] = []
    pictures: list[Path] = []
    masks: list[Path] = []
    for city in CITYSCAPES.folders(folder):
        found = CITYSCAPES.found(folder / city, PICTURE)
        names += found
        pictures += CITYSCAPES.files(folder / city, found, PICTURE)
        masks += CITYSCAPES.files(truth / city, found, TRUTH)
    listed = load_classes(f"cityscapes{classes}")
    return class_set(f"cityscapes{classes}", split, CITYSCAPES, listed, names=names, pictures=pictures, masks=masks)
