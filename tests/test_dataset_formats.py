"""A synthesised data set as other programs read it: COCO, PASCAL VOC and YOLO, with names that no format expects."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from scipy import ndimage

from maskwright.discovery.finish import finish
from maskwright.discovery.formats import read_formats, write_formats
from maskwright.discovery.formats.outlines import outline, polygons, simplify
from maskwright.discovery.pairs import Drawn, Pair
from maskwright.discovery.store import PairStore
from maskwright.errors import SettingsError
from maskwright.vocabulary import Vocabulary

NAMES = ("dog", "Tür & <Tor>", 'red "apple"', "🐶's", "a: b #c", "yes", "null", "*- `x` \\n", "12", "never seen")
WORDS = Vocabulary.parse(list(NAMES))
SETTINGS = {"model": "sticker", "revision": None, "method": "attentioncut"}
HEIGHT, WIDTH = 60, 80
DECODING = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def blob(rng: np.random.Generator, share: float = 0.2) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), 7)
    return field > np.quantile(field, 1 - share)


def draw(number: int) -> Drawn:
    """Blobs of several labels, each with a band of ignored pixels around it."""
    rng = np.random.default_rng(number)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels = sorted({1 + (3 * number + place) % (len(NAMES) - 1) for place in range(3)})
    for label in labels:
        region = blob(rng)
        mask[ndimage.binary_dilation(region) & ~region] = 255
        mask[region] = label
    found = tuple(NAMES[label - 1] for label in labels)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Drawn(Pair(number, 0, " and ".join(found), found, number), image, mask)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PairStore]:
    with PairStore.open(tmp_path_factory.mktemp("set"), SETTINGS, WORDS, resume=False) as store:
        store.add([draw(0), draw(1)])
        store.add([Drawn(Pair(2, 0, "x", NAMES[:1], 2, {}, False, ("too small",)), draw(2).image, draw(2).mask), draw(4)])
        assert write_formats(store, ["yolo", "voc"]) == ("coco", "voc", "yolo")
        yield store


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[PairStore]:
    with PairStore.open(tmp_path / "empty", SETTINGS, WORDS, resume=False) as store:
        finish(store, formats=("coco", "voc", "yolo"))
        yield store


@DECODING
def test_pycocotools_reads_the_masks_back(store: PairStore) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(store.folder / "annotations.json"))
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == list(NAMES)
    assert [row["file_name"] for row in coco.loadImgs(coco.getImgIds())] == ["000000.png", "000001.png", "000004.png"]
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    for pair in store.kept:
        mask = store.read_mask(pair)
        with Image.open(store.folder / "images" / coco.loadImgs(pair.number + 1)[0]["file_name"]) as image:
            assert image.size == (coco.imgs[pair.number + 1]["width"], coco.imgs[pair.number + 1]["height"])
        rows = coco.loadAnns(coco.getAnnIds(imgIds=[pair.number + 1]))
        assert {row["category_id"] for row in rows} == set(np.unique(mask)) - {0, 255}
        for row in rows:
            region = mask == row["category_id"]
            np.testing.assert_array_equal(coco.annToMask(row), region)
            x, y, width, height = row["bbox"]
            assert row["area"] == region.sum() == region[y : y + height, x : x + width].sum()
            assert region[[y, y + height - 1]].any(axis=1).all() and region[:, [x, x + width - 1]].any(axis=0).all()


def test_voc_is_where_and_what_its_readers_expect(store: PairStore) -> None:
    root = store.folder / "VOCdevkit" / "VOC2012"  # torchvision's base_dir of 2012
    stems = (root / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    assert stems == [pair.stem for pair in store.kept]
    assert (root / "ImageSets" / "Main" / "trainval.txt").read_text().split() == stems
    names = (root / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert names[1:] == list(NAMES)
    for pair in store.kept:
        picture_path, mask_path = root / "JPEGImages" / f"{pair.stem}.jpg", root / "SegmentationClass" / f"{pair.stem}.png"
        with Image.open(picture_path) as image, Image.open(mask_path) as mask:
            assert image.format == "JPEG" and image.mode == "RGB" and mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask), store.read_mask(pair))
            assert np.abs(np.asarray(image, dtype=int) - store.read_image(pair)).mean() < 6
        document = ElementTree.parse(root / "Annotations" / f"{pair.stem}.xml").getroot()
        assert [document.findtext(f"size/{key}") for key in ("width", "height", "depth")] == [str(WIDTH), str(HEIGHT), "3"]
        for entry in document.iter("object"):
            region = store.read_mask(pair) == names.index(entry.findtext("name"))
            left, top, right, bottom = (int(entry.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
            assert region[top - 1 : bottom, left - 1 : right].sum() == region.sum() > 0
            assert region[[top - 1, bottom - 1]].any(axis=1).all() and region[:, [left - 1, right - 1]].any(axis=0).all()
        assert len(document.findall("object")) == len(set(np.unique(store.read_mask(pair))) - {0, 255})


def rasterise(shapes: list[np.ndarray], size: tuple[int, int], fine: int = 16) -> np.ndarray:
    """(H, W) bool: the pixels whose centres lie in one of the polygons of (x, y) pixels."""
    canvas = Image.new("1", (size[1] * fine, size[0] * fine))
    for points in shapes:
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in (points * fine).tolist()], fill=1)
    return np.asarray(canvas)[fine // 2 :: fine, fine // 2 :: fine]


def test_yolo_polygons_make_the_masks_again(store: PairStore) -> None:
    content = yaml.safe_load((store.folder / "data.yaml").read_text(encoding="utf-8"))
    assert list(content["names"].values()) == list(NAMES) and list(content["names"]) == list(range(len(NAMES)))
    assert "path" not in content, "programs would look for it from where they are started"
    for part in ("train", "val"):
        assert (store.folder / content[part]).is_dir()
    for pair in store.kept:
        parts = str(store.image_path(pair)).rsplit(f"{os.sep}images{os.sep}", 1)  # how ultralytics finds a picture's labels
        lines = Path(f"{os.sep}labels{os.sep}".join(parts)).with_suffix(".txt").read_text().splitlines()
        shapes: dict[int, list[np.ndarray]] = {}
        for line in lines:
            number, *values = line.split()
            assert len(values) >= 6 and all(0 <= float(value) <= 1 for value in values)
            shapes.setdefault(int(number) + 1, []).append(np.array(values, dtype=float).reshape(-1, 2) * (WIDTH, HEIGHT))
        mask = store.read_mask(pair)
        assert set(shapes) == set(np.unique(mask)) - {0, 255}
        for number, points in shapes.items():
            region, drawn = ndimage.binary_fill_holes(mask == number), rasterise(points, (HEIGHT, WIDTH))
            assert (region & drawn).sum() / (region | drawn).sum() > 0.97


@pytest.mark.parametrize("seed", range(20))
def test_an_outline_that_is_not_simplified_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 13)) < 0.55  # pieces that touch at corners, holes, lines of one pixel
    pieces, count = ndimage.label(mask)
    around = np.ones((3, 3), dtype=bool)  # what is open at a corner is no hole
    expected = np.any([ndimage.binary_fill_holes(pieces == number + 1, around) for number in range(count)], axis=0)
    shapes = polygons(mask, tolerance=0, speck=0)
    assert len(shapes) == count
    np.testing.assert_array_equal(rasterise(shapes, mask.shape), expected)


def test_an_outline_runs_clockwise_around_whole_pixels() -> None:
    assert outline(np.ones((2, 3), dtype=bool)).tolist() == [[0, 0], [3, 0], [3, 2], [0, 2]]
    corner = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=bool)  # the hole's corner is also the outline's
    assert outline(corner).tolist() == [[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [2, 2], [2, 1], [3, 1], [3, 3], [0, 3]]


def test_specks_are_left_out_and_pieces_come_by_size() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[:5, :5] = mask[10:30, 10:30] = mask[35, 35] = True
    first, second = polygons(mask)
    assert first.mean(0).tolist() == [20, 20] and second.max() == 5
    assert len(polygons(mask, speck=0)) == 3


def test_simplifying_moves_no_outline_by_more_than_the_tolerance() -> None:
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = 50 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    simple = simplify(circle, 0.5)
    assert 10 < len(simple) < 60
    middles = (simple + np.roll(simple, -1, axis=0)) / 2
    assert 49.4 < np.linalg.norm(middles, axis=1).min()


@DECODING
def test_a_data_set_without_pairs_has_valid_files(empty: PairStore) -> None:
    from pycocotools.coco import COCO

    assert COCO(str(empty.folder / "annotations.json")).getAnnIds() == []
    root = empty.folder / "VOCdevkit" / "VOC2012"
    assert (root / "ImageSets" / "Segmentation" / "train.txt").read_text() == ""
    assert len((root / "labels.txt").read_text(encoding="utf-8").splitlines()) == 1 + len(NAMES)
    assert len(yaml.safe_load((empty.folder / "data.yaml").read_text(encoding="utf-8"))["names"]) == len(NAMES)
    with Image.open(empty.folder / "preview.png") as preview:
        assert preview.width > 300
    assert "Attempts: 0. Kept: 0. Rejected: 0." in (empty.folder / "README.md").read_text(encoding="utf-8")


def test_forms_that_are_there_do_not_go_out_of_date(tmp_path: Path) -> None:
    with PairStore.open(tmp_path, SETTINGS, WORDS, resume=False) as store:
        store.add([draw(0)])
        assert write_formats(store, ["yolo"]) == ("coco", "yolo")
        store.add([draw(1)])
        assert write_formats(store) == ("coco", "yolo")
        assert (tmp_path / "labels" / "000001.txt").is_file() and not (tmp_path / "VOCdevkit").exists()
        assert len(json.loads((tmp_path / "annotations.json").read_text())["images"]) == 2


def test_formats_are_read_from_text_and_unknown_ones_named() -> None:
    assert read_formats(" YOLO,coco,") == ("coco", "yolo")
    assert read_formats([]) == ()
    with pytest.raises(SettingsError, match="unknown format 'kitti': choose from coco, voc, yolo"):
        read_formats("coco,kitti")
