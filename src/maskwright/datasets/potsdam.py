"""ISPRS Potsdam: aerial pictures of 6000 x 6000 pixels, cut into the 200 x 200 crops of the unsupervised protocols."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.datasets.class_list import FOLDER, ClassList, load_classes
from maskwright.datasets.contract import EvaluationItem, EvaluationSet, Kind, LabelMap
from maskwright.datasets.layout import Layout
from maskwright.datasets.masks import check_size, quote, to_positions
from maskwright.decoding import Pixels
from maskwright.errors import DatasetError, ImageError, brief
from maskwright.images import Picture

CROP = 400  # pixels of a tile, shrunk by half to 200: IIC, potsdam_prepare.py
SHRINK = 2
UNNAMED = 255
STRANGE = 0.01  # a few tiles have stray colours; a picture that is no label picture has many
CONTEST = frozenset("2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split())  # had no labels while it ran
PICTURE = "_RGB.tif"
LABELS = {"5_Labels_all": "_label.tif", "5_Labels_for_participants": "_label.tif", "5_Labels_all_noBoundary": "_label_noBoundary.tif"}
TILES = Layout(
    "ISPRS Potsdam",
    f"2_Ortho_RGB/top_potsdam_*{PICTURE} and 5_Labels_all/top_potsdam_*_label.tif (or 5_Labels_all_noBoundary)",
    "2_Ortho_RGB.zip and 5_Labels_all.zip on request from www.isprs.org/education/benchmarks/UrbanSemLab",
)
CROPS = Layout(
    "ISPRS Potsdam, cut by IIC",
    "imgs/*.mat, gt/*.mat and labelled_test.txt",
    "potsdam.zip of STEGO (github.com/mhamilton723/STEGO), or make it with IIC's potsdam_prepare.py",
)


@dataclass(frozen=True)
class TileItem(EvaluationItem):
    """One crop of a tile, at half the tile's resolution.

    Attributes:
        truth: the tile's label picture, RGB.
        corner: (x, y) of the crop in the tile.
        numbers: position in the set's classes by class number.
    """

    kind: ClassVar[Kind] = "classes"
    truth: Path
    corner: tuple[int, int]
    numbers: Mapping[int, int] = field(repr=False, hash=False)

    def open(self) -> Picture:
        """The crop, (200, 200, 3): each pixel is the mean of 2 x 2 of the tile."""
        crop = Image.fromarray(self._cut(_tile(self.picture))).reduce(SHRINK)
        return Picture(np.asarray(crop), self.name, str(self.picture))

    def labels(self, picture: Picture) -> LabelMap:
        """See EvaluationItem.labels; each pixel is the upper left of 2 x 2 of the tile."""
        values = self._cut(_tile_labels(self.truth))[::SHRINK, ::SHRINK]
        check_size(values, picture, self.truth)
        return to_positions(values, self.numbers, truth=self.truth, unknown="no colour stands for: download it again")

    def _cut(self, tile: Pixels) -> Pixels:
        x, y = self.corner
        return tile[y : y + CROP, x : x + CROP]


@dataclass(frozen=True)
class MatItem(EvaluationItem):
    """One crop that IIC has cut: `img` (200, 200, 4) in one MATLAB file and `gt` (200, 200) in another.

    Attributes:
        truth: the file with `gt`.
        numbers: position in the set's classes by class number.
    """

    kind: ClassVar[Kind] = "classes"
    truth: Path
    numbers: Mapping[int, int] = field(repr=False, hash=False)

    def open(self) -> Picture:
        """The crop's red, green and blue; its infrared is left out."""
        return Picture(np.ascontiguousarray(_load(self.picture, "img")[..., :3]), self.name, str(self.picture))

    def labels(self, picture: Picture) -> LabelMap:
        """See EvaluationItem.labels."""
        values = _load(self.truth, "gt")
        check_size(values, picture, self.truth)
        return to_positions(values, self.numbers, truth=self.truth, unknown="Potsdam does not have: download it again")


def read_potsdam(root: Path, *, split: str = "val", classes: int = 6) -> EvaluationSet:
    """Potsdam in crops of 200 x 200 pixels, each 400 x 400 of a tile.

    Args:
        root: holds the folders of the contest; for the split "labelled_test" the crops that IIC made.
        split: "val" (the 14 tiles of the contest's test, 3,150 crops), "train" (24, 5,400), "all", or "labelled_test": the 855
            crops that IIC drew at random from the 24, which IIC, STEGO and MaskDiffusion report on.
        classes: 6, or 3: each of two of the six.

    Raises:
        DatasetError: a folder that is not as expected.
    """
    listed = load_classes(f"potsdam{classes}")
    name = f"potsdam{classes}"
    items = _crops(root, split, listed) if split == "labelled_test" else _tiles(root, split, listed)
    return EvaluationSet(name, split, "classes", items, listed.labels, listed.wordings)


def _tiles(root: Path, split: str, listed: ClassList) -> tuple[EvaluationItem, ...]:
    """The crops of the tiles of a split, row by row."""
    base = TILES.base(root, ("", "potsdam", "Potsdam"), holds="2_Ortho_RGB")
    folder, truths = base / "2_Ortho_RGB", TILES.place(base, *LABELS)
    found = TILES.found(folder, PICTURE)
    tiles = [tile for tile in found if split == "all" or (tile.removeprefix("top_potsdam_") in CONTEST) == (split == "val")]
    if not tiles:
        raise TILES.error(f"{quote(folder)} has none of the tiles of the split {split}")
    pictures = TILES.files(folder, tiles, PICTURE)
    return tuple(
        TileItem(f"{tile}-{y // CROP:02d}-{x // CROP:02d}", picture, truth, (x, y), listed.numbers)
        for tile, picture, truth in zip(tiles, pictures, TILES.files(truths, tiles, LABELS[truths.name]), strict=True)
        for x, y in _corners(picture)
    )


def _crops(root: Path, split: str, listed: ClassList) -> tuple[EvaluationItem, ...]:
    """The crops of one of IIC's lists."""
    base = CROPS.base(root, ("", "potsdam"), holds="imgs")
    names = CROPS.listed(base / f"{split}.txt")
    pictures, truths = CROPS.files(base / "imgs", names, ".mat"), CROPS.files(base / "gt", names, ".mat")
    return tuple(MatItem(*files, listed.numbers) for files in zip(names, pictures, truths, strict=True))


def _corners(path: Path) -> list[tuple[int, int]]:
    """The corners (x, y) of the crops that fit into a tile; only the head of the file is read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Exception as error:
        raise DatasetError(f"{quote(path)} cannot be read as a tile ({brief(error)}): download it again") from error
    return [(x, y) for y in range(0, height - CROP + 1, CROP) for x in range(0, width - CROP + 1, CROP)]


@functools.lru_cache(maxsize=1)
def _tile(path: Path) -> Pixels:
    """A tile's pixels; the last one is kept, for its crops come one after the other."""
    return Picture.open(path).pixels


@functools.lru_cache(maxsize=1)
def _tile_labels(path: Path) -> Pixels:
    """A tile's class numbers (H, W) uint8, UNNAMED for black seams and stray colours; the last one is kept."""
    colours = tomllib.loads((FOLDER / "potsdam6.toml").read_text(encoding="utf-8"))["colours"]
    try:
        pixels = Picture.open(path).pixels
    except ImageError as error:
        raise DatasetError(str(error)) from error
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    packed = red << 16 | green << 8 | blue
    numbers = np.full(packed.shape, UNNAMED, dtype=np.uint8)
    for number, (r, g, b) in colours.items():
        numbers[packed == (r << 16 | g << 8 | b)] = int(number)
    strange = np.count_nonzero((numbers == UNNAMED) & (packed != 0)) / numbers.size
    if strange > STRANGE:
        raise DatasetError(f"{quote(path)} has other colours than the six of the classes in {strange:.0%} of it: is it a label picture?")
    return numbers


def _load(path: Path, key: str) -> npt.NDArray[np.uint8]:
    """One array of a MATLAB file."""
    from scipy.io import loadmat

    try:
        array: npt.NDArray[np.uint8] = loadmat(path)[key]
    except Exception as error:  # scipy raises what it likes on a damaged file
        raise DatasetError(f"{quote(path)} cannot be read ({brief(error)}): copy it again") from error
    return array
