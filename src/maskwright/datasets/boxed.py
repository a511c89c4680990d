"""Sets of boxes for single-object localisation: VOC 2007 and 2012, and COCO20k, with the conventions of LOST and TokenCut."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np

from maskwright.datasets.contract import BoxArray, EvaluationItem, EvaluationSet, Kind
from maskwright.datasets.layout import Layout
from maskwright.datasets.masks import quote
from maskwright.errors import DatasetError, brief
from maskwright.images import Picture

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LIST = "coco_20k_filenames.txt"
COCO20K = Layout(
    "COCO20k",
    f"train2014/*.jpg, annotations/instances_train2014.json and {LIST}",
    f"train2014.zip and annotations_trainval2014.zip from cocodataset.org and {LIST} from github.com/valeoai/LOST, datasets/",
)


@dataclass(frozen=True)
class VocBoxItem(EvaluationItem):
    """A picture with an annotation file of PASCAL VOC.

    Attributes:
        truth: the XML file.
    """

    kind: ClassVar[Kind] = "boxes"
    truth: Path

    def boxes(self, picture: Picture) -> BoxArray:
        """See EvaluationItem.boxes; difficult and truncated objects are among them."""
        try:
            # Only an object's own box: the persons of VOC 2012 have parts with boxes of their own.
            found = [one.find("bndbox") for one in ElementTree.parse(self.truth).getroot().iterfind("object")]
            corners = [[float(box.findtext(name, "")) for name in CORNERS] for box in found if box is not None]
        except (OSError, ElementTree.ParseError, ValueError) as error:
            raise DatasetError(f"{quote(self.truth)} cannot be read as an annotation ({brief(error)}): copy it again") from error
        # Pixels count from 1 and both corners belong to the box: from 0, with an exclusive maximum, only the minimum moves.
        return np.array([(x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1) for x0, y0, x1, y1 in corners], dtype=np.float64).reshape(-1, 4)


@dataclass(frozen=True)
class ListedBoxItem(EvaluationItem):
    """A picture whose boxes came with the list of pictures.

    Attributes:
        listed: (x, y, width, height) of each.
    """

    kind: ClassVar[Kind] = "boxes"
    listed: tuple[tuple[float, float, float, float], ...] = field(repr=False)

    def boxes(self, picture: Picture) -> BoxArray:
        """See EvaluationItem.boxes."""
        return np.array(self.listed, dtype=np.float64).reshape(-1, 4)


def read_voc_boxes(root: Path, *, year: int, split: str = "trainval") -> EvaluationSet:
    """The boxes of PASCAL VOC, difficult objects included; 1 is subtracted from xmin and ymin.

    Args:
        root: the folder VOC2007 or VOC2012, or one above it.
        year: 2007 (trainval 5,011) or 2012 (11,540).
        split: "trainval", "train" or "val".

    Raises:
        DatasetError: a folder that is not as expected.
    """
    archive = {2007: "VOCtrainval_06-Nov-2007.tar", 2012: "VOCtrainval_11-May-2012.tar"}[year]
    layout = Layout(
        f"PASCAL VOC {year}",
        f"JPEGImages/*.jpg, Annotations/*.xml and ImageSets/Main/{split}.txt",
        f"{archive} from host.robots.ox.ac.uk/pascal/VOC/voc{year}",
    )
    base = layout.base(root, ("", f"VOC{year}", f"VOCdevkit/VOC{year}"), holds="JPEGImages")
    names = layout.listed(base / "ImageSets" / "Main" / f"{split}.txt")
    pictures = layout.files(base / "JPEGImages", names, ".jpg")
    truths = layout.files(base / "Annotations", names, ".xml")
    items = tuple(VocBoxItem(*files) for files in zip(names, pictures, truths, strict=True))
    return EvaluationSet(f"voc{year}-boxes", split, "boxes", items)


def read_coco20k(root: Path, *, split: str = "train") -> EvaluationSet:
    """COCO20k: 19,817 pictures of COCO train2014 in the order of their list; boxes of crowds are left out.

    Corners are rounded to whole pixels, as the published evaluations do. The annotations are one large file: reading it takes
    a while and some 2 GB of memory (less with LOST's instances_train2014_sel20k.json, which is preferred where it lies beside it).

    Args:
        root: holds pictures, annotations and the list of pictures.
        split: "train", there is no other.

    Raises:
        DatasetError: a folder that is not as expected.
    """
    folder = COCO20K.place(root, "train2014", "images/train2014")
    names = COCO20K.listed(COCO20K.place(root, LIST, f"annotations/{LIST}"))
    places = "annotations/instances_train2014_sel20k.json", "instances_train2014_sel20k.json", "annotations/instances_train2014.json"
    boxes = _read_instances(COCO20K.place(root, *places))
    pictures = COCO20K.files(folder, names, ".jpg")
    if strange := [name for name in names if name not in boxes]:
        raise COCO20K.error(f"the annotations do not have {len(strange)} of {len(names)} pictures, first {strange[0]!r}")
    items = tuple(ListedBoxItem(name, picture, boxes[name]) for name, picture in zip(names, pictures, strict=True))
    return EvaluationSet("coco20k", split, "boxes", items)


def _read_instances(path: Path) -> dict[str, tuple[tuple[float, float, float, float], ...]]:
    """The boxes of each picture of a COCO annotation file, by the picture's name without extension."""
    try:
        table: Any = json.loads(path.read_bytes())
        names = {picture["id"]: Path(picture["file_name"]).stem for picture in table["images"]}
        boxes: dict[int, list[tuple[float, float, float, float]]] = defaultdict(list)
        for one in table["annotations"]:
            if not one["iscrowd"]:
                boxes[one["image_id"]].append(_round(*one["bbox"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{quote(path)} cannot be read as COCO annotations ({brief(error)}): copy it again") from error
    return {name: tuple(boxes[number]) for number, name in names.items()}


def _round(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """The box whose corners are whole pixels."""
    left, top = round(x), round(y)
    return left, top, round(x + width) - left, round(y + height) - top
