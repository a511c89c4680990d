"""The forms in which other programs read a data set; each is derived from the stored pairs and written anew, file by file."""

from collections.abc import Collection, Iterable

from maskwright.discovery.formats.coco import write_coco
from maskwright.discovery.formats.voc import FOLDER, write_voc
from maskwright.discovery.formats.yolo import write_yolo
from maskwright.discovery.store import PairStore
from maskwright.discovery.writing import explained
from maskwright.errors import SettingsError

FORMATS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}
MARKS = {"coco": "annotations.json", "voc": FOLDER, "yolo": "data.yaml"}  # what shows that a form is there


def read_formats(formats: str | Iterable[str]) -> tuple[str, ...]:
    """Names of forms, from "coco, voc" or a list.

    Raises:
        SettingsError: an unknown name.
    """
    names = [name.strip().lower() for name in (formats.split(",") if isinstance(formats, str) else formats)]
    if strange := [name for name in names if name and name not in FORMATS]:
        raise SettingsError(f"unknown format {strange[0]!r}: choose from {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in names)


def write_formats(store: PairStore, formats: Collection[str] = ("coco",)) -> tuple[str, ...]:
    """Writes the forms that are asked for, and again those that an earlier run left in the folder, which would be out of date.

    COCO's is always among them: the data set's own files alone do not name the labels for other programs.

    Args:
        store: the data set.
        formats: "coco", "voc", "yolo".

    Returns:
        The names of what was written, in the order above.

    Raises:
        SettingsError: an unknown name.
        OutputError: the files cannot be written.
    """
    there = {name for name, mark in MARKS.items() if (store.folder / mark).exists()}
    names = read_formats({"coco", *there, *read_formats(formats)})
    with explained(store.folder):
        for name in names:
            FORMATS[name](store)
    return names
