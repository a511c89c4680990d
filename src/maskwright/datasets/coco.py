"""COCO-Stuff 164k and COCO-Object, from the pictures of COCO 2017 and the masks of stuffthingmaps."""

from pathlib import Path

from maskwright.datasets.class_list import ClassList, class_set, load_classes
from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.layout import Layout

CURATED = "Coco164kFull_Stuff_Coarse_7.txt"
STUFF = Layout(
    "COCO-Stuff 164k",
    "images/val2017/*.jpg and annotations/val2017/*.png (or val2017/ and stuffthingmaps/val2017/)",
    "val2017.zip from cocodataset.org and stuffthingmaps_trainval2017.zip from github.com/nightrome/cocostuff",
)
STUFF27 = Layout(
    "COCO-Stuff 27",
    f"images/val2017/*.jpg, annotations/val2017/*.png and curated/val2017/{CURATED}",
    "COCO-Stuff 164k (github.com/nightrome/cocostuff) and the list, COCOStuff164kCurated.tar.gz, of github.com/xu-ji/IIC",
)


def read_coco_object(root: Path, *, split: str = "val", background: bool = True) -> EvaluationSet:
    """COCO-Object: the 80 things of COCO-Stuff, and as background (81) every stuff class and what is unlabelled.

    The masks are the original ones of stuffthingmaps; converted *_instanceTrainIds.png beside them are left alone.

    Args:
        root: holds images and annotations of COCO-Stuff 164k.
        split: "val" (5,000) or "train".
        background: score it; if False, its pixels are left out.

    Raises:
        DatasetError: a folder that is not as expected.
    """
    classes = load_classes("coco_object", background=background)
    return _read("coco-object" if background else "coco-object80", split, root, STUFF, classes)


def read_coco_stuff(root: Path, *, split: str = "val", coarse: bool = False) -> EvaluationSet:
    """COCO-Stuff: 171 classes of all pictures, or 27 coarse classes of the curated pictures; unlabelled pixels are not scored.

    Args:
        root: holds images and annotations of COCO-Stuff 164k; for the coarse classes also the list of curated pictures.
        split: "val" (5,000, curated 2,175) or "train".
        coarse: the 27 classes of IIC, PiCIE, STEGO and DiffSeg.

    Raises:
        DatasetError: a folder that is not as expected.
    """
    if coarse:
        return _read("coco-stuff27", split, root, STUFF27, load_classes("coco_stuff27"), listing=f"curated/{split}2017/{CURATED}")
    return _read("coco-stuff171", split, root, STUFF, load_classes("coco_stuff171"))


def _read(name: str, split: str, root: Path, layout: Layout, classes: ClassList, *, listing: str | None = None) -> EvaluationSet:
    """Pairs pictures and masks; all pictures where there is no list."""
    folder = layout.place(root, f"images/{split}2017", f"{split}2017")
    truths = layout.place(root, f"annotations/{split}2017", f"stuffthingmaps/{split}2017")
    names = layout.listed(root / listing) if listing else layout.found(folder, ".jpg")
    pictures, masks = layout.files(folder, names, ".jpg"), layout.files(truths, names, ".png")
    return class_set(name, split, layout, classes, names=names, pictures=pictures, masks=masks)
