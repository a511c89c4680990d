"""Readers of foreground masks, boxes and regions, each on a tiny set in the true format."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from maskwright.datasets.registry import open_dataset
from maskwright.errors import DatasetError
from maskwright.evaluation.boxes import is_hit
from tests.dataset_files import add_list, add_mask, add_picture, first_row, names, refusal, stripes

SALIENCY = {
    "ecssd": ("images", "ground_truth_mask", "0001"),
    "duts-te": ("DUTS-TE-Image", "DUTS-TE-Mask", "ILSVRC2012_test_00000003"),
    "dut-omron": ("DUT-OMRON-image", "pixelwiseGT-new-PNG", "im005"),
}
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>{box}{parts}</object>"""
BOX = "<bndbox><xmax>{2}</xmax><xmin>{0}</xmin><ymax>{3}</ymax><ymin>{1}</ymin></bndbox>"  # the order of VOC 2012


@pytest.mark.parametrize("name", SALIENCY)
def test_foreground_of_a_saliency_set_is_what_is_over_127(name: str, tmp_path: Path) -> None:
    pictures, masks, stem = SALIENCY[name]
    for suffix in ("b", "a"):
        add_picture(tmp_path / pictures / f"{stem}{suffix}.jpg")
        add_mask(tmp_path / masks / f"{stem}{suffix}.png", stripes(0, 127, 128, 255))
    (tmp_path / pictures / "Thumbs.db").write_bytes(b"")
    dataset = open_dataset(f"{name}:{tmp_path}")
    assert (dataset.name, dataset.split, dataset.kind, dataset.classes) == (name, "test", "foreground", ())
    assert names(dataset) == [f"{stem}a", f"{stem}b"]
    assert first_row(dataset)[:4] == [False, False, True, True]
    (tmp_path / masks / f"{stem}a.png").unlink()
    assert f"lacks 1 of 2 files, first '{stem}a.png'" in refusal(f"{name}:{tmp_path}")


def add_voc_boxes(root: Path, year: int, *objects: str) -> Path:
    base = root / f"VOC{year}"
    add_picture(base / "JPEGImages" / "000005.jpg")
    (base / "Annotations").mkdir()
    (base / "Annotations" / "000005.xml").write_text(f"<annotation><filename>000005.jpg</filename>{''.join(objects)}</annotation>")
    add_list(base / "ImageSets" / "Main" / "trainval.txt", "000005")
    return base


@pytest.mark.parametrize("year", [2007, 2012])
def test_voc_boxes_count_from_0_and_cover_both_corners(year: int, tmp_path: Path) -> None:
    add_voc_boxes(tmp_path, year, OBJECT.format(name="car", difficult=0, box=BOX.format(1, 1, 6, 4), parts=""))
    dataset = open_dataset(f"voc{year}-boxes:{tmp_path}")
    item = dataset.items[0]
    boxes = item.boxes(item.open())
    assert (dataset.kind, dataset.split, boxes.dtype) == ("boxes", "trainval", np.float64)
    assert boxes.tolist() == [[0, 0, 6, 4]]  # the whole picture
    assert is_hit((0, 0, 6, 2), boxes)


def test_voc_boxes_keep_difficult_objects_and_leave_parts_out(tmp_path: Path) -> None:
    parts = f"<part><name>head</name>{BOX.format(2, 2, 3, 3)}</part>"
    add_voc_boxes(
        tmp_path,
        2012,
        OBJECT.format(name="person", difficult=0, box=BOX.format(2, 1, 4, 4), parts=parts),
        OBJECT.format(name="bird", difficult=1, box=BOX.format("45.70000076293945", 3, 50, 4), parts=""),
    )
    item = open_dataset(f"voc2012-boxes:{tmp_path}").items[0]
    assert item.boxes(item.open()) == pytest.approx(np.array([[1, 0, 3, 4], [44.7, 2, 5.3, 2]]), abs=1e-6)


def test_a_picture_without_objects_has_no_boxes_and_counts(tmp_path: Path) -> None:
    add_voc_boxes(tmp_path, 2007)
    item = open_dataset(f"voc2007-boxes:{tmp_path}").items[0]
    assert item.boxes(item.open()).shape == (0, 4)


def test_a_damaged_annotation_is_refused(tmp_path: Path) -> None:
    base = add_voc_boxes(tmp_path, 2007)
    (base / "Annotations" / "000005.xml").write_text("<annotation><object>")
    item = open_dataset(f"voc2007-boxes:{tmp_path}").items[0]
    with pytest.raises(DatasetError, match=r"000005\.xml' cannot be read as an annotation"):
        item.boxes(item.open())


@pytest.fixture
def coco20k(tmp_path: Path) -> Path:
    stems = [f"COCO_train2014_{number:012d}" for number in (9, 25, 30)]
    for stem in stems:
        add_picture(tmp_path / "train2014" / f"{stem}.jpg")
    add_list(tmp_path / "coco_20k_filenames.txt", *(f"train2014/{stems[n]}.jpg" for n in (1, 0)))
    annotations = [
        {"image_id": 9, "iscrowd": 0, "bbox": [1.4, 0.6, 2.2, 3.0]},
        {"image_id": 9, "iscrowd": 1, "bbox": [0, 0, 6, 4]},
        {"image_id": 9, "iscrowd": 0, "bbox": [0, 0, 6, 4]},
        {"image_id": 25, "iscrowd": 1, "bbox": [0, 0, 6, 4]},
    ]
    images = [{"id": number, "file_name": f"{stem}.jpg"} for number, stem in zip((9, 25, 30), stems, strict=True)]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2014.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return tmp_path


def test_coco20k_follows_its_list_drops_crowds_and_rounds_corners(coco20k: Path) -> None:
    dataset = open_dataset(f"coco20k:{coco20k}")
    assert names(dataset) == ["COCO_train2014_000000000025", "COCO_train2014_000000000009"]
    crowd_only, two = (item.boxes(item.open()) for item in dataset.items)
    assert crowd_only.shape == (0, 4)
    assert two.tolist() == [[1, 1, 3, 3], [0, 0, 6, 4]]  # 1.4..3.6 and 0.6..3.6


def test_coco20k_says_what_it_lacks(coco20k: Path) -> None:
    add_list(coco20k / "coco_20k_filenames.txt", "train2014/COCO_train2014_000000000077.jpg")
    assert "lacks 1 of 1 files, first 'COCO_train2014_000000000077.jpg'" in refusal(f"coco20k:{coco20k}")
    add_picture(coco20k / "train2014" / "COCO_train2014_000000000077.jpg")
    assert "the annotations do not have 1 of 1 pictures" in refusal(f"coco20k:{coco20k}")
    (coco20k / "annotations" / "instances_train2014.json").write_text("{}")
    assert "cannot be read as COCO annotations" in refusal(f"coco20k:{coco20k}")
    (coco20k / "coco_20k_filenames.txt").unlink()
    assert "github.com/valeoai/LOST" in refusal(f"coco20k:{coco20k}")


def add_ground_truth(path: Path, *maps: np.ndarray) -> None:
    """A MATLAB file as BSDS500 has them: a cell array of structures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(maps)), dtype=object)
    for place, values in enumerate(maps):
        cells[0, place] = {"Segmentation": values.astype(np.uint16), "Boundaries": np.zeros(values.shape, dtype=np.uint8)}
    savemat(path, {"groundTruth": cells})


def test_bsds_has_a_region_map_for_each_annotator(tmp_path: Path) -> None:
    data = tmp_path / "BSR" / "BSDS500" / "data"
    maps = (stripes(1, 1, 2), stripes(1, 2, 3), stripes(1))
    for split in ("test", "val"):
        add_picture(data / "images" / split / "100007.jpg")
        add_ground_truth(data / "groundTruth" / split / "100007.mat", *maps)
    dataset = open_dataset(f"bsds500:{tmp_path}")
    assert (dataset.split, dataset.kind) == ("test", "regions")
    item = dataset.items[0]
    regions = item.regions(item.open())
    assert [one.dtype for one in regions] == [np.int64] * 3
    assert all(np.array_equal(one, values) for one, values in zip(regions, maps, strict=True))
    assert open_dataset(f"bsds500:{data}", split="val").split == "val"


def test_bsds_refuses_damaged_files_and_other_sizes(tmp_path: Path) -> None:
    add_picture(tmp_path / "images" / "test" / "1.jpg")
    truth = tmp_path / "groundTruth" / "test" / "1.mat"
    add_ground_truth(truth, np.ones((6, 4)))
    item = open_dataset(f"bsds500:{tmp_path}").items[0]
    with pytest.raises(DatasetError, match=r"1\.mat' is 4 x 6 pixels, its picture 6 x 4"):
        item.regions(item.open())
    truth.write_bytes(b"not MATLAB")
    with pytest.raises(DatasetError, match=r"1\.mat' cannot be read as ground truth"):
        item.regions(item.open())
