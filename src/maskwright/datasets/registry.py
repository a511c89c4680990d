"""The data sets by name: `open_dataset("voc2012:/data/VOCdevkit", split="val")`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from maskwright.datasets.ade20k import read_ade20k
from maskwright.datasets.boxed import read_coco20k, read_voc_boxes
from maskwright.datasets.bsds import read_bsds500
from maskwright.datasets.cityscapes import read_cityscapes
from maskwright.datasets.coco import read_coco_object, read_coco_stuff
from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.folder import read_folder
from maskwright.datasets.loveda import read_loveda
from maskwright.datasets.pascal import read_context, read_voc2012
from maskwright.datasets.potsdam import read_potsdam
from maskwright.datasets.saliency import read_saliency
from maskwright.datasets.scene_foreground import read_scene_foreground, read_scene_objects
from maskwright.datasets.scene_set import read_scenes
from maskwright.errors import SettingsError


@dataclass(frozen=True)
class Entry:
    """A data set that can be opened.

    Attributes:
        splits: the first is the usual one.
        read: takes the root (None where nothing lies on disk) and the split.
        rooted: whether it lies on disk.
    """

    splits: tuple[str, ...]
    read: Callable[[Path, str], EvaluationSet]
    rooted: bool = True


def _entry(splits: str, read: Callable[..., EvaluationSet]) -> Entry:
    return Entry(tuple(splits.split()), lambda root, split: read(root, split=split))


def _drawn(splits: tuple[str, ...], read: Callable[..., EvaluationSet], scenes: str = "scenes") -> Entry:
    return Entry(splits, lambda _, split: read(split=split, scenes=scenes), rooted=False)


SPLITS, FULL_SPLITS = ("benchmark", "tuning"), ("benchmark", "benchmark-fine", "tuning")
DATASETS: dict[str, Entry] = {
    "scenes": Entry(("benchmark", "tuning"), lambda _, split: read_scenes(split=split), rooted=False),
    "folder": Entry(("all",), lambda root, _: read_folder(root)),
    "voc2012": _entry("val train trainaug", read_voc2012),
    "voc20": _entry("val train trainaug", partial(read_voc2012, background=False)),
    "context60": _entry("val train", read_context),
    "context59": _entry("val train", partial(read_context, background=False)),
    "coco-object": _entry("val train", read_coco_object),
    "coco-object80": _entry("val train", partial(read_coco_object, background=False)),
    "coco-stuff171": _entry("val train", read_coco_stuff),
    "coco-stuff27": _entry("val train", partial(read_coco_stuff, coarse=True)),
    "ade20k": _entry("val train", read_ade20k),
    "cityscapes19": _entry("val train", read_cityscapes),
    "cityscapes27": _entry("val train", partial(read_cityscapes, classes=27)),
    "potsdam6": _entry("val train all labelled_test", read_potsdam),
    "potsdam3": _entry("val train all labelled_test", partial(read_potsdam, classes=3)),
    "loveda": _entry("val train", read_loveda),
    "ecssd": _entry("test", partial(read_saliency, title="ECSSD")),
    "duts-te": _entry("test", partial(read_saliency, title="DUTS-TE")),
    "dut-omron": _entry("test", partial(read_saliency, title="DUT-OMRON")),
    "voc2007-boxes": _entry("trainval train val", partial(read_voc_boxes, year=2007)),
    "voc2012-boxes": _entry("trainval train val", partial(read_voc_boxes, year=2012)),
    "coco20k": _entry("train", read_coco20k),
    "bsds500": _entry("test val train", read_bsds500),
    "scenes-full": Entry(
        ("benchmark", "benchmark-fine", "tuning"), lambda _, split: read_scenes(split=split, scenes="scenes-full"), rooted=False
    ),
    "scenes-foreground": _drawn(SPLITS, read_scene_foreground),
    "scenes-objects": _drawn(SPLITS, read_scene_objects),
    "scenes-full-foreground": _drawn(FULL_SPLITS, read_scene_foreground, scenes="scenes-full"),
    "scenes-full-objects": _drawn(FULL_SPLITS, read_scene_objects, scenes="scenes-full"),
}


def open_dataset(address: str, *, split: str | None = None) -> EvaluationSet:
    """Opens a data set: lists its pictures and checks that the files are there; no picture is decoded.

    Args:
        address: "NAME:FOLDER", for instance "voc2012:/data/VOCdevkit/VOC2012" or "folder:photos"; "scenes" and the like stand alone.
        split: which part; if None, the usual one.

    Raises:
        SettingsError: an unknown name or split, or a folder that is missing or too many; it lists what there is.
        DatasetError: a folder that is not laid out as expected; it says how, and how to get the set.
    """
    name, colon, folder = address.partition(":")
    entry = DATASETS.get(name)
    if entry is None:
        raise SettingsError(f"there is no data set {name!r}: choose one of {', '.join(DATASETS)}")
    if entry.rooted and not folder:
        raise SettingsError(f"{name} lies on disk: write {name}:FOLDER")
    if colon and not entry.rooted:
        raise SettingsError(f"{name} does not lie on disk: write {name} alone")
    chosen = entry.splits[0] if split is None else split
    if chosen not in entry.splits:
        raise SettingsError(f"{name} has no split {chosen!r}: choose one of {', '.join(entry.splits)}")
    return entry.read(Path(folder).expanduser(), chosen)
