import io
import json
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskwright.errors import MissingExtraError, OutputError
from maskwright.exports import draw_overlay, to_coco, to_document, to_json, to_png, to_supervision, to_transformers, write_outputs
from maskwright.exports.files import replacing
from maskwright.exports.legend import Entry, draw_legend
from maskwright.exports.lettering import place_names, readable, shorten
from maskwright.exports.overlay import LARGEST, NARROWEST, canvas_size
from maskwright.exports.palette import colour, palette
from maskwright.images import Picture
from maskwright.record import Record
from maskwright.segmentation import Segmentation
from maskwright.vocabulary import Vocabulary

# pycocotools 2.0.11 decodes with an array protocol older than NumPy 2
DECODING = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def result(labels, words="dog|puppy, cat, red apple", *, word="wall", source="/photos/Tür.jpg"):
    labels = np.asarray(labels, dtype=np.uint16)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    confidence = rng.random(labels.shape, dtype=np.float32)
    record = Record(method="test", model="none", settings={"limit": float("inf")}, background=word)
    vocabulary = Vocabulary.parse(words, background=word)
    return Segmentation(Picture(pixels, "Tür", source), vocabulary, labels, confidence, record, lambda index: confidence * index)


@pytest.fixture
def seg():
    labels = np.zeros((40, 60), dtype=np.uint16)
    labels[5:20, 10:30] = 1
    labels[15:40, 40:60] = 3
    labels[0, 0] = 3
    return result(labels)


@pytest.fixture
def empty():
    return result(np.zeros((7, 5)))


@DECODING
def test_coco_masks_decode_to_the_masks(seg):
    document = to_coco(seg, image_id=7, first_annotation_id=20)
    assert document["images"] == [{"id": 7, "file_name": "Tür.jpg", "height": 40, "width": 60}]
    assert [row["name"] for row in document["categories"]] == ["dog", "cat", "red apple"]
    assert [(row["id"], row["category_id"]) for row in document["annotations"]] == [(20, 1), (21, 3)]
    for row in json.loads(json.dumps(document["annotations"])):
        mask = seg.label_map == row["category_id"]
        np.testing.assert_array_equal(coco_mask.decode(row["segmentation"]).astype(bool), mask)
        assert row["area"] == mask.sum()
        assert row["bbox"] == list(coco_mask.toBbox(row["segmentation"]))
        assert row["score"] == pytest.approx(seg.confidence[mask].mean())


@DECODING
def test_pycocotools_loads_the_document(seg, tmp_path):
    from pycocotools.coco import COCO

    path = tmp_path / "coco.json"
    path.write_text(json.dumps(to_coco(seg)))
    coco = COCO(str(path))
    for row in coco.loadAnns(coco.getAnnIds(imgIds=[1])):
        np.testing.assert_array_equal(coco.annToMask(row), seg.label_map == row["category_id"])


@pytest.mark.filterwarnings("ignore:OpenCV .* is not installed:UserWarning")
def test_supervision_gets_masks_and_boxes_that_agree(seg, empty):
    supervision = pytest.importorskip("supervision")
    detections = to_supervision(seg)
    np.testing.assert_array_equal(detections.mask, [seg.mask("dog"), seg.mask("red apple")])
    np.testing.assert_array_equal(detections.xyxy, supervision.mask_to_xyxy(detections.mask, coordinate_convention="exclusive"))
    assert detections.class_id.tolist() == [1, 3]
    assert detections.data["class_name"].tolist() == ["dog", "red apple"]
    assert detections.confidence[0] == pytest.approx(seg.confidence[seg.mask("dog")].mean())
    assert len(to_supervision(empty)) == 0


def test_without_supervision_the_error_names_the_command(seg, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r'pip install "maskwright\[supervision\]"'):
        to_supervision(seg)


def test_transformers_format(seg, empty):
    dog, apple = to_transformers(seg)
    assert (dog["label"], apple["label"]) == ("dog", "red apple")
    assert dog["mask"].mode == "L"
    np.testing.assert_array_equal(np.asarray(dog["mask"]), seg.mask("dog") * np.uint8(255))
    assert dog["score"] == pytest.approx(seg.confidence[seg.mask("dog")].mean())
    assert to_transformers(empty) == []


@DECODING
def test_the_document_says_everything_in_strict_json(seg):
    document = json.loads(to_json(seg).decode("utf-8"), parse_constant=pytest.fail)
    assert document == to_document(seg)
    assert list(document) == ["picture", "labels", "background", "record"]
    assert document["picture"] == {"name": "Tür", "source": "/photos/Tür.jpg", "height": 40, "width": 60}
    dog, cat, _apple = document["labels"]
    keys = ["number", "name", "synonyms", "area", "share", "score", "box", "segmentation"]
    assert list(dog) == keys
    assert (dog["number"], dog["name"], dog["synonyms"], dog["area"], dog["box"]) == (1, "dog", ["puppy"], 300, [10, 5, 20, 15])
    assert dog["share"] == 300 / 2400
    assert (cat["area"], cat["score"], cat["box"]) == (0, None, None)
    for label in document["labels"]:
        np.testing.assert_array_equal(coco_mask.decode(label["segmentation"]).astype(bool), seg.label_map == label["number"])
    assert document["background"] == {"area": 1599, "share": 1599 / 2400, "names": ["wall"]}
    assert document["record"] == seg.record.as_dict()
    assert "Tür".encode() in to_json(seg)


def test_a_file_name_that_is_no_utf_8_still_makes_valid_json():
    document = json.loads(to_json(result([[1]], source="/photos/\udcff.jpg")).decode("utf-8"))
    assert document["picture"]["source"] == "/photos/\udcff.jpg"


def test_labels_png_holds_the_numbers_in_the_colours_of_the_overlay(seg):
    stream = io.BytesIO()
    to_png(seg).save(stream, "PNG")
    image = Image.open(stream)
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), seg.label_map)
    rgb = np.asarray(image.convert("RGB"))
    assert rgb[0, 1].tolist() == [0, 0, 0]
    assert tuple(rgb[10, 15].tolist()) == colour(1)


def test_more_than_255_labels_make_a_16_bit_png():
    seg = result([[0, 1], [256, 300]], [f"label {n}" for n in range(1, 301)])
    stream = io.BytesIO()
    to_png(seg).save(stream, "PNG")
    np.testing.assert_array_equal(np.asarray(Image.open(stream)), seg.label_map)
    assert draw_overlay(seg).mode == "RGB"


def test_the_colours_of_one_picture_are_distinct():
    colours = [colour(number) for number in range(256)]
    assert len(set(colours)) == 256
    assert bytes(sum(colours, ())) == palette()
    assert colour(256) == colour(1)


def test_save_writes_three_files(seg, tmp_path):
    paths = seg.save(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["Tür.labels.png", "Tür.overlay.png", "Tür.json"]
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    assert json.loads(paths[2].read_text(encoding="utf-8")) == to_document(seg)
    np.testing.assert_array_equal(np.asarray(Image.open(paths[0])), seg.label_map)
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), np.asarray(seg.overlay()))


def test_writing_again_replaces(seg, empty, tmp_path):
    write_outputs(empty, tmp_path, "a")
    paths = write_outputs(seg, str(tmp_path), "a")
    assert json.loads(paths[2].read_bytes()) == to_document(seg)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("stem", ["", ".", "..", "a/b", "a\\b", "a\0"])
def test_a_stem_cannot_leave_the_folder(seg, tmp_path, stem):
    with pytest.raises(OutputError, match="stem without folders"):
        write_outputs(seg, tmp_path, stem)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stem", ["a", "x" * 300])
def test_what_cannot_be_written_leaves_nothing_behind(seg, tmp_path, stem):
    blocked = tmp_path / "a.labels.png"
    blocked.mkdir()  # a folder where a file has to be
    with pytest.raises(OutputError, match="choose another output folder"):
        write_outputs(seg, tmp_path, stem)
    assert list(tmp_path.iterdir()) == [blocked]


def test_a_file_in_place_of_the_folder_is_reported(seg, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write into"):
        write_outputs(seg, tmp_path / "file", "a")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_file_keeps_what_was_there(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((64, 48), (640, 480)),
        ((480, 640), (480, 640)),
        ((1500, 2000), (1200, 1600)),
        ((1, 5000), (24, 1600)),
        ((1, 1), (640, 640)),
    ],
)
def test_overlays_have_a_size_that_can_be_read(size, canvas):
    assert canvas_size(size) == canvas
    labels = np.zeros(size)
    labels[:, size[1] // 2 :] = 1
    overlay = draw_overlay(result(labels))
    assert overlay.mode == "RGB"
    assert overlay.width == max(canvas[1], NARROWEST)
    assert canvas[0] + 20 < overlay.height < canvas[0] + 200
    assert max(canvas) <= LARGEST


def test_the_overlay_colours_regions_and_only_dims_the_background(seg):
    overlay = np.asarray(draw_overlay(seg)).astype(int)[: canvas_size((40, 60))[0]]
    scale = 640 / 60
    inside = lambda top, left, bottom, right: overlay[  # noqa: E731
        round(top * scale) : round(bottom * scale), round(left * scale) : round(right * scale)
    ].mean((0, 1))
    background, dog = inside(22, 2, 38, 38), inside(6, 11, 9, 29)
    assert np.ptp(background) < 12  # the picture is grey on average, and stays grey
    assert background.mean() < 100
    assert dog[0] - dog[2] > 60  # orange


def test_names_stay_inside_and_apart():
    rows, columns = np.mgrid[0:400, 0:600]
    rng = np.random.default_rng(1)
    centres = rng.random((40, 2)) * [400, 600]
    nearest = ((rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2).argmin(-1)
    labels = (nearest + 1).astype(np.uint16)
    plates = list(place_names(labels, {n: f"name {n}" * (1 + n % 3) for n in range(1, 41)}, 15))
    assert len(plates) > 25
    covered = np.zeros(labels.shape, dtype=int)
    for plate in plates:
        left, top, right, bottom = plate.box
        assert 0 <= left < right <= 600
        assert 0 <= top < bottom <= 400
        assert labels[(top + bottom) // 2, (left + right) // 2] == plate.number
        covered[top:bottom, left:right] += 1
    assert covered.max() == 1


def test_regions_without_room_get_no_name():
    labels = np.zeros((400, 600), dtype=np.uint16)
    labels[200:208, 300:308] = 1
    labels[:100, :300] = 2
    assert [plate.number for plate in place_names(labels, {1: "dog", 2: "cat", 3: "absent"}, 15)] == [2]


def test_names_that_the_font_lacks_are_replaced():
    assert readable("red apple", 1) == "red apple"
    assert readable("Käse", 2) == "Kase"
    assert readable("猫", 3) == "label 3"
    assert shorten("a long name", 15, 60).endswith("...")
    assert shorten("dog", 15, 60) == "dog"


def test_a_long_legend_is_cut_and_counted():
    entries = [Entry(f"label {n} " + "x" * (n % 7) * 30, 0.01 * (n % 2), colour(n) if n % 2 else None) for n in range(1, 200)]
    legend = draw_legend(entries, 420, 15)
    assert legend.width == 420
    assert legend.height < 65 * 26
    pixels = np.asarray(legend).min(-1)
    assert (pixels[:, -5:] == 255).all()  # nothing runs over the edge
    assert draw_legend(entries[:1], 420, 15).height < 50


def test_many_labels_that_were_not_found_are_counted():
    labels = np.zeros((400, 600), dtype=np.uint16)
    labels[:100] = 1
    few, many, most = (draw_overlay(result(labels, ", ".join(f"word {n}" for n in range(count)))).height for count in (2, 60, 140))
    assert many == most < few + 60
