"""Sets for finding the one thing that stands out: ECSSD, DUTS-TE, DUT-OMRON."""

from dataclasses import dataclass
from pathlib import Path

from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.layout import Layout
from maskwright.datasets.masks import ForegroundItem


@dataclass(frozen=True)
class SaliencySet:
    """Where a set keeps its pictures and masks.

    Attributes:
        pictures: folder of *.jpg.
        masks: folder of *.png.
        places: folders below the named one that may hold both.
        source: the official download.
    """

    pictures: str
    masks: str
    places: tuple[str, ...]
    source: str


SETS = {
    "ECSSD": SaliencySet(
        "images",
        "ground_truth_mask",
        ("", "ECSSD"),
        "images.zip and ground_truth_mask.zip from www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
    ),
    "DUTS-TE": SaliencySet("DUTS-TE-Image", "DUTS-TE-Mask", ("", "DUTS-TE", "DUTS/DUTS-TE"), "DUTS-TE.zip from saliencydetection.net/duts"),
    "DUT-OMRON": SaliencySet(
        "DUT-OMRON-image",
        "pixelwiseGT-new-PNG",
        ("", "DUT-OMRON"),
        "DUT-OMRON-image.zip and DUT-OMRON-gt-pixelwise.zip from saliencydetection.net/dut-omron",
    ),
}


def read_saliency(root: Path, *, title: str, split: str = "test") -> EvaluationSet:
    """One of the three sets; foreground is what is over 127 in its masks.

    Args:
        root: holds the folder of pictures and the folder of masks.
        title: "ECSSD" (1,000), "DUTS-TE" (5,019) or "DUT-OMRON" (5,168).
        split: "test", there is no other.

    Raises:
        DatasetError: a folder that is not as expected.
    """
    where = SETS[title]
    layout = Layout(title, f"{where.pictures}/*.jpg and {where.masks}/*.png", where.source)
    base = layout.base(root, where.places, holds=where.pictures)
    names = layout.found(base / where.pictures, ".jpg")
    pictures = layout.files(base / where.pictures, names, ".jpg")
    masks = layout.files(base / where.masks, names, ".png")
    items = tuple(ForegroundItem(*files) for files in zip(names, pictures, masks, strict=True))
    return EvaluationSet(title.lower(), split, "foreground", items)
