"""data.yaml and labels/: the data set for programs that read YOLO segmentation; the pictures stay where they are."""

import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwright.discovery.formats.outlines import polygons
from maskwright.discovery.formats.regions import label_regions
from maskwright.discovery.writing import write_whole

if TYPE_CHECKING:
    from maskwright.discovery.store import PairStore


def write_yolo(store: "PairStore") -> None:
    """One line for each piece of each label's mask: class, counted from 0, and the corners x y of its outline, 0..1.

    A polygon cannot say where a piece has holes: they are filled. Pieces under 1 % of their label's pixels are left out.
    """
    for pair in store.kept:
        write_whole(store.folder / "labels" / f"{pair.stem}.txt", _lines(store.read_mask(pair)).encode())
    # Without `path` programs look beside this file, wherever the folder is moved. They insist on a `val`.
    names = "".join(f"  {place}: {json.dumps(name, ensure_ascii=False)}\n" for place, name in enumerate(store.names))
    content = f"# There is no validation set: val repeats the training pictures.\ntrain: images\nval: images\nnames:\n{names}"
    write_whole(store.folder / "data.yaml", content.encode())


def _lines(mask: npt.NDArray[np.uint8]) -> str:
    height, width = mask.shape
    lines = []
    for region in label_regions(mask):
        for points in polygons(region.pixels):
            corners = " ".join(f"{value:.6f}" for value in (points / (width, height)).ravel())
            lines.append(f"{region.number - 1} {corners}\n")
    return "".join(lines)
