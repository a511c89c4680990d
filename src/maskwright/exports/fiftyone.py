"""A folder that FiftyOne loads, also as COCO or as pairs of pictures and masks; FiftyOne itself is not needed."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.errors import OutputError, SettingsError
from maskwright.exports.coco import to_coco
from maskwright.exports.files import explained, replacing
from maskwright.exports.results import Result, as_segmentation
from maskwright.segmentation import Segmentation

DATA, LABELS, DOCUMENT = "data", "labels", "labels.json"  # the names that FiftyOne looks for
FORMS: dict[str, dict[str, Any]] = {"png": {}, "jpeg": {"quality": 95, "subsampling": 0}}


def to_fiftyone(results: Iterable[Result], folder: str | Path, *, pictures: Literal["png", "jpeg"] = "png") -> dict[int, str]:
    """Writes results as a data set that FiftyOne reads in two ways.

    FOLDER/data holds the pictures; FOLDER/labels.json is COCO with run-length masks, boxes and scores (`COCODetectionDataset`);
    FOLDER/labels holds a mask for each picture (`ImageSegmentationDirectory`). Labels of the same name share a number over all results.
    labels.json appears last: where it stands, everything else is complete.

    Args:
        results: Segmentations, Discoveries or both, taken one by one, so that they need not be in memory together.
        folder: made if it is not there; refused if it holds such a data set already.
        pictures: how the pictures are written, upright and at their own size: "png" is exact, "jpeg" smaller.

    Returns:
        The name of each value in the masks, {1: "dog", ...}: FiftyOne's `default_mask_targets`. 0 is background.

    Raises:
        SettingsError: an unknown form of pictures.
        OutputError: the folder holds a data set, or the files cannot be written.
    """
    if pictures not in FORMS:
        raise SettingsError(f"unknown pictures {pictures!r}: use {', '.join(FORMS)}")
    folder = Path(folder)
    if taken := [name for name in (DATA, LABELS, DOCUMENT) if (folder / name).exists()]:
        raise OutputError(f"{str(folder)!r} already holds {taken[0]}: choose another folder")
    numbers: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with explained(folder, "choose another folder"):
        for name in (DATA, LABELS):
            (folder / name).mkdir(parents=True)
        stems = _Stems()
        for seg in map(as_segmentation, results):
            stem = stems.take(seg.picture.name)
            file = f"{stem}.{'jpg' if pictures == 'jpeg' else pictures}"
            _write_picture(folder / DATA / file, Image.fromarray(seg.picture.pixels), pictures)
            renumbered = np.array([0, *(numbers.setdefault(name, len(numbers) + 1) for name in seg.names)], dtype=np.uint16)
            _write_picture(folder / LABELS / f"{stem}.png", _grey(renumbered[seg.label_map]), "png")
            image_id = len(images) + 1
            images.append({"id": image_id, "file_name": file, "height": seg.picture.size[0], "width": seg.picture.size[1]})
            annotations += _annotations(seg, renumbered, image_id, len(annotations) + 1)
        names = {number: name for name, number in numbers.items()}
        document = {
            "info": {"description": "Segmented by maskwright"},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": [{"id": number, "name": name, "supercategory": ""} for number, name in names.items()],
        }
        with replacing(folder / DOCUMENT) as stream:
            stream.write(json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace"))
    return names


def _annotations(seg: Segmentation, numbers: npt.NDArray[np.uint16], image_id: int, first: int) -> Iterator[dict[str, Any]]:
    for row in to_coco(seg, image_id=image_id, first_annotation_id=first)["annotations"]:
        yield {**row, "category_id": int(numbers[row["category_id"]])}


def _grey(mask: npt.NDArray[np.uint16]) -> Image.Image:
    """A mask whose values are the numbers; not one of indexed colours, which OpenCV, and so FiftyOne, would read as colours."""
    return Image.fromarray(mask.astype(np.uint8) if mask.max() < 256 else mask)


def _write_picture(path: Path, image: Image.Image, form: str) -> None:
    with replacing(path) as file:
        image.save(file, form.upper(), **FORMS[form])


class _Stems:
    """Names of files: FiftyOne matches masks to pictures by them, and some file systems do not tell A from a."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """The name, with a number behind it where it is taken."""
        plain = name.replace("/", "-").replace("\\", "-").replace("\0", "-").strip(".") or "picture"
        stem, count = plain, 2
        while stem.casefold() in self._taken:
            stem, count = f"{plain}-{count}", count + 1
        self._taken.add(stem.casefold())
        return stem
