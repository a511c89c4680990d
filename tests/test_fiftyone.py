"""The folder for FiftyOne, read as FiftyOne's importers read it: COCO by pycocotools, masks by their file names and grey values."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from maskwright.discovery.result import Discovery
from maskwright.errors import OutputError, SettingsError
from maskwright.exports import to_coco, to_fiftyone, to_transformers
from maskwright.images import Picture
from maskwright.record import Record
from maskwright.segmentation import Segmentation
from maskwright.vocabulary import Vocabulary

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
RECORD = Record(method="test", model="none")


def segmented(labels: np.ndarray, words: str | list[str], name: str = "photo") -> Segmentation:
    labels = np.asarray(labels, dtype=np.uint16)
    rng = np.random.default_rng(labels.size)
    pixels = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    confidence = rng.random(labels.shape, dtype=np.float32)
    return Segmentation(Picture(pixels, name, ""), Vocabulary.parse(words), labels, confidence, RECORD, lambda _: confidence)


def discovered(size: tuple[int, int] = (12, 20)) -> Discovery:
    probability = np.zeros(size, dtype=np.float32)
    probability[3:9, 4:11] = 0.9
    return Discovery(Picture(np.zeros((*size, 3), dtype=np.uint8), "found", ""), ("cat",), "given", probability, RECORD)


def several() -> Iterator[Segmentation | Discovery]:
    labels = np.zeros((30, 20), dtype=int)
    labels[2:10, 3:9], labels[20:, 5:] = 1, 2
    yield segmented(labels, "dog, cat")
    yield segmented(labels[::-1], "grass, dog, sky")  # dog is number 2 here
    yield discovered()
    yield segmented(np.zeros((5, 7)), "cat", "Photo")


def test_coco_holds_every_mask_under_one_number_for_each_name(tmp_path: Path) -> None:
    names = to_fiftyone(several(), tmp_path / "set")
    assert names == {1: "dog", 2: "cat", 3: "grass", 4: "sky"}
    coco = COCO(str(tmp_path / "set" / "labels.json"))
    assert {row["id"]: row["name"] for row in coco.loadCats(coco.getCatIds())} == names
    assert [image["file_name"] for image in coco.dataset["images"]] == ["photo.png", "photo-2.png", "found.png", "Photo-3.png"]
    ids = [row["id"] for row in coco.dataset["annotations"]]
    assert ids == list(range(1, len(ids) + 1)) and len(ids) == 5
    for image, result in zip(coco.dataset["images"], several(), strict=True):
        seg = result if isinstance(result, Segmentation) else result.segmentation
        found = {names[row["category_id"]]: row for row in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))}
        assert set(found) == {region.name for region in seg.regions if region.area}
        for name, row in found.items():
            np.testing.assert_array_equal(coco.annToMask(row), seg.mask(name))
            assert row["bbox"] == list(seg.regions[seg.number(name) - 1].box or ()) and 0 < row["score"] <= 1


def test_each_picture_has_a_grey_mask_of_its_name(tmp_path: Path) -> None:
    names = to_fiftyone(several(), tmp_path)
    pictures, masks = (sorted(path.stem for path in (tmp_path / part).iterdir()) for part in ("data", "labels"))
    assert pictures == masks and len(masks) == 4
    for stem, result in zip(("photo", "photo-2", "found", "Photo-3"), several(), strict=True):
        seg = result if isinstance(result, Segmentation) else result.segmentation
        with Image.open(tmp_path / "labels" / f"{stem}.png") as mask, Image.open(tmp_path / "data" / f"{stem}.png") as picture:
            assert mask.mode == "L"  # indexed colours would be read as colours
            np.testing.assert_array_equal(np.asarray(picture), seg.picture.pixels)
            for number, name in names.items():
                expected = seg.mask(name) if name in seg.names else np.zeros(seg.picture.size, dtype=bool)
                np.testing.assert_array_equal(np.asarray(mask) == number, expected)


def test_more_than_255_names_make_masks_of_16_bits(tmp_path: Path) -> None:
    to_fiftyone([segmented(np.array([[0, 1], [255, 300]]), [f"thing {n}" for n in range(300)])], tmp_path)
    with Image.open(tmp_path / "labels" / "photo.png") as mask:
        assert np.asarray(mask).tolist() == [[0, 1], [255, 300]]


def test_pictures_can_be_jpeg(tmp_path: Path) -> None:
    to_fiftyone([discovered()], tmp_path, pictures="jpeg")
    with Image.open(tmp_path / "data" / "found.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (20, 12))
    assert json.loads((tmp_path / "labels.json").read_bytes())["images"][0]["file_name"] == "found.jpg"


@pytest.mark.parametrize("name", ["a/b", "../x", "a\\b", "..", "a\0b", "Tür"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    to_fiftyone([segmented(np.ones((3, 3)), "dog", name)], tmp_path / "set")
    assert len(list((tmp_path / "set" / "data").iterdir())) == 1 and [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_data_set_is_never_mixed_with_another(tmp_path: Path) -> None:
    to_fiftyone([discovered()], tmp_path)
    with pytest.raises(OutputError, match="already holds data: choose another"):
        to_fiftyone([discovered()], tmp_path)
    with pytest.raises(SettingsError, match="png, jpeg"):
        to_fiftyone([], tmp_path / "new", pictures="gif")  # type: ignore[arg-type]


def test_an_interrupted_data_set_has_no_document(tmp_path: Path) -> None:
    def broken() -> Iterator[Discovery]:
        yield discovered()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_fiftyone(broken(), tmp_path)
    assert not (tmp_path / "labels.json").exists()


@pytest.mark.filterwarnings("ignore:OpenCV .* is not installed:UserWarning")
def test_a_discovery_exports_as_its_one_label() -> None:
    found = discovered()
    (entry,) = to_transformers(found)
    assert (entry["label"], entry["score"]) == ("cat", pytest.approx(found.score))
    np.testing.assert_array_equal(np.asarray(entry["mask"]) > 0, found.mask)
    assert [row["area"] for row in to_coco(found)["annotations"]] == [found.mask.sum()]
    supervision = pytest.importorskip("supervision")
    from maskwright.exports import to_supervision

    detections = to_supervision(found)
    assert isinstance(detections, supervision.Detections)
    np.testing.assert_array_equal(detections.mask[0], found.mask)
    assert detections.data["class_name"].tolist() == ["cat"]
