"""PASCAL VOC 2012 segmentation and PASCAL Context, as the development kits and mmsegmentation lay them out."""

from pathlib import Path

from maskwright.datasets.class_list import class_set, load_classes
from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.layout import Layout

AUGMENTED_LISTS = ("trainaug.txt", "train_aug.txt")
VOC2012 = Layout(
    "PASCAL VOC 2012",
    "JPEGImages/*.jpg, SegmentationClass/*.png and ImageSets/Segmentation/val.txt or train.txt "
    "(trainaug: SegmentationClassAug/*.png and trainaug.txt)",
    "VOCtrainval_11-May-2012.tar from host.robots.ox.ac.uk/pascal/VOC/voc2012 (SegmentationClassAug: the SBD masks as PNG)",
)
CONTEXT = Layout(
    "PASCAL Context",
    "JPEGImages/*.jpg, SegmentationClassContext/*.png and ImageSets/SegmentationContext/val.txt or train.txt",
    "VOCtrainval_03-May-2010.tar and trainval_merged.json, converted by mmsegmentation's tools/dataset_converters/pascal_context.py",
)


def read_voc2012(root: Path, *, split: str = "val", background: bool = True) -> EvaluationSet:
    """PASCAL VOC 2012: 21 classes, or 20 without background; the border (255) is not scored.

    Args:
        root: the folder VOC2012, or one above it.
        split: "val" (1,449), "train" (1,464) or "trainaug" (10,582, with the masks of SegmentationClassAug).
        background: score it; if False, its pixels are left out, which is the 20-class protocol.

    Raises:
        DatasetError: a folder that is not as expected.
    """
    base = VOC2012.base(root, ("", "VOC2012", "VOCdevkit/VOC2012"), holds="JPEGImages")
    lists = base / "ImageSets" / "Segmentation"
    if split == "trainaug":
        masks, listing = base / "SegmentationClassAug", VOC2012.place(lists, *AUGMENTED_LISTS)
    else:
        # For these pictures SegmentationClassAug has the same masks, without the palette.
        masks, listing = VOC2012.place(base, "SegmentationClass", "SegmentationClassAug"), lists / f"{split}.txt"
    name, classes = "voc2012" if background else "voc20", load_classes("voc2012", background=background)
    names = VOC2012.listed(listing)
    pictures = VOC2012.files(base / "JPEGImages", names, ".jpg")
    return class_set(name, split, VOC2012, classes, names=names, pictures=pictures, masks=VOC2012.files(masks, names, ".png"))


def read_context(root: Path, *, split: str = "val", background: bool = True) -> EvaluationSet:
    """PASCAL Context: 60 classes with background, or 59 without.

    The layout is that of mmsegmentation's converter. The official 59_context_labels.tar.gz numbers the classes in another order.

    Args:
        root: the folder VOC2010, or one above it.
        split: "val" (5,104) or "train" (4,996).
        background: score what belongs to none of the 59 classes as a class; if False, its pixels are left out.

    Raises:
        DatasetError: a folder that is not as expected.
    """
    base = CONTEXT.base(root, ("", "VOC2010", "VOCdevkit/VOC2010"), holds="JPEGImages")
    name, classes = "context60" if background else "context59", load_classes("context", background=background)
    names = CONTEXT.listed(base / "ImageSets" / "SegmentationContext" / f"{split}.txt")
    pictures = CONTEXT.files(base / "JPEGImages", names, ".jpg")
    masks = CONTEXT.files(base / "SegmentationClassContext", names, ".png")
    return class_set(name, split, CONTEXT, classes, names=names, pictures=pictures, masks=masks)
