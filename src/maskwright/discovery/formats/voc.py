"""VOCdevkit/VOC2012/: the data set for programs that read PASCAL VOC.

The folder has this name because torchvision looks nowhere else: VOCSegmentation(DIR, image_set="train").
"""

import io
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.discovery.formats.regions import label_regions
from maskwright.discovery.writing import write_whole

if TYPE_CHECKING:
    from maskwright.discovery.pairs import Pair
    from maskwright.discovery.store import PairStore

FOLDER = "VOCdevkit/VOC2012"
QUALITY = 95  # JPEG, with full colour resolution
SETS = ("train", "trainval")  # there is no validation set: what the same model drew cannot measure what is trained on it


def write_voc(store: "PairStore") -> None:
    """JPEG pictures, the masks unchanged, one box for each label of each picture, lists of pictures, and labels.txt.

    labels.txt has the name of mask value n in line n, counted from 0.
    """
    folder = store.folder / FOLDER
    for pair in store.kept:
        with Image.open(store.image_path(pair)) as picture:
            content = io.BytesIO()
            picture.save(content, "JPEG", quality=QUALITY, subsampling=0)
        write_whole(folder / "JPEGImages" / f"{pair.stem}.jpg", content.getvalue())
        write_whole(folder / "SegmentationClass" / f"{pair.stem}.png", store.mask_path(pair).read_bytes())
        write_whole(folder / "Annotations" / f"{pair.stem}.xml", _describe(pair, store.read_mask(pair), store.names))
    stems = "".join(f"{pair.stem}\n" for pair in store.kept).encode()
    for purpose in ("Segmentation", "Main"):  # the second for programs that want boxes
        for part in SETS:
            write_whole(folder / "ImageSets" / purpose / f"{part}.txt", stems)
    write_whole(folder / "labels.txt", "".join(f"{name}\n" for name in ("_background_", *store.names)).encode())


def _describe(pair: "Pair", mask: npt.NDArray[np.uint8], names: tuple[str, ...]) -> bytes:
    """The XML of one picture; VOC counts pixels from 1, and a box holds its last row and column."""
    root = ElementTree.Element("annotation")
    _add(root, folder="VOC2012", filename=f"{pair.stem}.jpg")
    _add(ElementTree.SubElement(root, "source"), database="maskwright synthesize")
    _add(ElementTree.SubElement(root, "size"), width=mask.shape[1], height=mask.shape[0], depth=3)
    _add(root, segmented=1)
    for region in label_regions(mask):
        x, y, width, height = region.box
        entry = ElementTree.SubElement(root, "object")
        _add(entry, name=names[region.number - 1], pose="Unspecified", truncated=0, difficult=0)
        _add(ElementTree.SubElement(entry, "bndbox"), xmin=x + 1, ymin=y + 1, xmax=x + width, ymax=y + height)
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8")
    return content + b"\n"


def _add(parent: ElementTree.Element, **texts: str | int) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)
