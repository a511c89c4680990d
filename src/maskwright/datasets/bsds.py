"""BSDS500: photographs that several people have cut into regions."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from maskwright.datasets.contract import EvaluationItem, EvaluationSet, Kind, LabelMap
from maskwright.datasets.layout import Layout
from maskwright.datasets.masks import check_size, quote
from maskwright.errors import DatasetError, brief
from maskwright.images import Picture

BSDS500 = Layout(
    "BSDS500",
    "images/test/*.jpg and groundTruth/test/*.mat (or val, train)",
    "BSR_bsds500.tgz from www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
)


@dataclass(frozen=True)
class BsdsItem(EvaluationItem):
    """A picture with a MATLAB file of all its annotators.

    Attributes:
        truth: holds a cell array groundTruth of structures with the field Segmentation.
    """

    kind: ClassVar[Kind] = "regions"
    truth: Path

    def regions(self, picture: Picture) -> tuple[LabelMap, ...]:
        """See EvaluationItem.regions."""
        from scipy.io import loadmat

        try:
            cells = loadmat(self.truth)["groundTruth"].ravel()
            maps = tuple(np.asarray(cell["Segmentation"][0, 0]).astype(np.int64) for cell in cells)
        except Exception as error:  # scipy raises what it likes on a damaged file
            raise DatasetError(f"{quote(self.truth)} cannot be read as ground truth ({brief(error)}): copy it again") from error
        for one in maps:
            check_size(one, picture, self.truth)
        return maps


def read_bsds500(root: Path, *, split: str = "test") -> EvaluationSet:
    """BSDS500: one region map for each annotator of a picture, four to nine.

    Args:
        root: the folder data of BSDS500, or one above it (BSR as the archive unpacks).
        split: "test" (200), "val" (100) or "train" (200).

    Raises:
        DatasetError: a folder that is not as expected.
    """
    base = BSDS500.base(root, ("", "data", "BSDS500/data", "BSR/BSDS500/data"), holds=f"images/{split}")
    names = BSDS500.found(base / "images" / split, ".jpg")
    pictures = BSDS500.files(base / "images" / split, names, ".jpg")
    truths = BSDS500.files(base / "groundTruth" / split, names, ".mat")
    items = tuple(BsdsItem(*files) for files in zip(names, pictures, truths, strict=True))
    return EvaluationSet("bsds500", split, "regions", items)
