"""LoveDA: land cover in town and country, seen from above."""

from pathlib import Path

from maskwright.datasets.class_list import class_set, load_classes
from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.layout import Layout

LOVEDA = Layout(
    "LoveDA",
    "Val/Rural and Val/Urban, each with images_png/*.png and masks_png/*.png (or Train)",
    "Val.zip from zenodo.org/record/5706578",
)


def read_loveda(root: Path, *, split: str = "val") -> EvaluationSet:
    """LoveDA with 7 classes, of which one is called background; pixels without data (0 in the masks) are not scored.

    Args:
        root: holds Val and Train as the archives unpack.
        split: "val" (1,669) or "train" (2,522).

    Raises:
        DatasetError: a folder that is not as expected.
    """
    part = split.capitalize()
    base = LOVEDA.base(root, ("", "loveDA", "LoveDA", part), holds=f"{part}/Rural") / part
    names: list[str] = []
    pictures: list[Path] = []
    masks: list[Path] = []
    for area in ("Rural", "Urban"):
        found = LOVEDA.found(base / area / "images_png", ".png")
        names += [f"{area.lower()}-{name}" for name in found]
        pictures += LOVEDA.files(base / area / "images_png", found, ".png")
        masks += LOVEDA.files(base / area / "masks_png", found, ".png")
    return class_set("loveda", split, LOVEDA, load_classes("loveda"), names=names, pictures=pictures, masks=masks)
