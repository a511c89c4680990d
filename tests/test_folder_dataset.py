"""Folders of pictures with masks: the three kinds, the order, and one clear line for each way in which a folder can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.datasets.contract import IGNORE, LOADERS, EvaluationSet
from maskwright.datasets.folder import read_folder
from maskwright.errors import DatasetError, MaskwrightError, SettingsError, VocabularyError
from maskwright.evaluation.confusion import count_pixels, pixel_accuracy

SIZE = (6, 4)  # (H, W)


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def add_picture(root: Path, name: str, *, size: tuple[int, int] = SIZE) -> Path:
    return save(root / "images" / name, np.full((*size, 3), 120, dtype=np.uint8))


def stripes(*values: int, dtype: type = np.uint8) -> np.ndarray:
    """A mask of the usual size, one value a column."""
    return np.repeat(np.array([values], dtype=dtype), SIZE[0], 0)


@pytest.fixture
def foreground(tmp_path: Path) -> Path:
    for name in ("b", "a", "c-1"):
        add_picture(tmp_path, f"{name}.jpg")
        save(tmp_path / "masks" / f"{name}.png", stripes(0, 127, 128, 255))
    return tmp_path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    add_picture(tmp_path, "a.png")
    save(tmp_path / "masks" / "a.png", stripes(0, 7, 200, 255))
    (tmp_path / "classes.json").write_text(json.dumps({"200": "sky", "0": "unlabeled", "7": "train"}))
    return tmp_path


def refusal(root: Path, **options) -> str:
    """The message of the error that reading the folder gives: one printable line that offers a way on."""
    with pytest.raises(MaskwrightError) as caught:
        read_folder(root, **options)
    message = str(caught.value)
    assert message.isprintable() and ": " in message
    return message


def load(folder: EvaluationSet, index: int = 0) -> np.ndarray:
    item = folder.items[index]
    return getattr(item, LOADERS[folder.kind])(item.open())


def names(folder: EvaluationSet) -> list[str]:
    return [label.name for label in folder.classes]


def test_foreground_is_what_is_over_127(foreground: Path) -> None:
    folder = read_folder(foreground)
    assert (folder.name, folder.split, folder.kind, folder.classes) == (foreground.name, "all", "foreground", ())
    mask = load(folder)
    assert mask.dtype == np.bool_ and mask.shape == SIZE
    assert mask[0].tolist() == [False, False, True, True]


def test_items_are_in_the_order_of_their_names(foreground: Path) -> None:
    folder = read_folder(str(foreground))
    assert [item.name for item in folder.items] == ["a", "b", "c-1"]
    assert [item.picture.name for item in folder.items] == ["a.jpg", "b.jpg", "c-1.jpg"]
    assert read_folder(str(foreground)) == folder


def test_class_numbers_become_positions_in_the_names_and_unlabelled_ones_are_ignored(classes: Path) -> None:
    folder = read_folder(classes)
    assert (folder.kind, names(folder), folder.background) == ("classes", ["train", "sky"], None)
    labels = load(folder)
    assert labels.shape == SIZE and labels[0].tolist() == [IGNORE, 0, 1, IGNORE]
    assert pixel_accuracy(count_pixels(labels, np.where(labels < 0, 0, labels), classes=2)) == 1


def test_several_numbers_may_share_a_name_and_255_may_have_one(classes: Path) -> None:
    (classes / "classes.json").write_text(json.dumps({"0": "ground", "7": "thing", "200": "ground", "255": "border"}))
    folder = read_folder(classes)
    assert names(folder) == ["ground", "thing", "border"]
    assert load(folder)[0].tolist() == [0, 1, 0, 2]


def test_a_class_named_background_is_marked_as_background(classes: Path) -> None:
    (classes / "classes.json").write_text(json.dumps({"0": "Background", "7": "thing", "200": "sky"}))
    folder = read_folder(classes)
    assert folder.background == 0 and [label.name for label in folder.vocabulary.foreground] == ["thing", "sky"]
    assert load(folder)[0].tolist() == [0, 1, 2, IGNORE]


def test_a_number_without_a_name_is_refused(classes: Path) -> None:
    (classes / "classes.json").write_text(json.dumps({"0": "ground", "200": "sky"}))
    with pytest.raises(DatasetError, match=r"a\.png' has the class 7, which classes\.json does not name"):
        load(read_folder(classes))


def test_a_palette_picture_gives_its_numbers_not_its_colours(classes: Path) -> None:
    image = Image.fromarray(stripes(0, 7, 200, 255))
    image.putpalette(bytes(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8)))
    image.save(classes / "masks" / "a.png")
    assert load(read_folder(classes))[0].tolist() == [IGNORE, 0, 1, IGNORE]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
def test_one_bit_and_grey_rgb_masks_are_foreground_masks_too(foreground: Path, dtype: type) -> None:
    values = stripes(0, 0, 1, 1).astype(dtype)
    save(foreground / "masks" / "a.png", values if dtype is np.bool_ else np.stack([values * 255] * 3, -1))
    assert load(read_folder(foreground))[0].tolist() == [False, False, True, True]


def test_empty_and_full_masks_are_read(foreground: Path) -> None:
    save(foreground / "masks" / "a.png", stripes(0, 0, 0, 0))
    save(foreground / "masks" / "b.png", stripes(255, 255, 255, 255))
    folder = read_folder(foreground)
    assert not load(folder, 0).any() and load(folder, 1).all()


def test_every_annotator_has_a_16_bit_region_map_by_rising_number(tmp_path: Path) -> None:
    for name in ("x-1", "x"):
        add_picture(tmp_path, f"{name}.jpg")
    for k in (0, 2, 10):
        save(tmp_path / "segments" / f"x-{k}.png", stripes(1, 2, 300 + k, 65_535, dtype=np.uint16))
    save(tmp_path / "segments" / "x-1-0.png", stripes(5, 5, 5, 5, dtype=np.uint16))
    folder = read_folder(tmp_path)
    assert folder.kind == "regions"
    assert [(item.name, len(item.truth)) for item in folder.items] == [("x-1", 1), ("x", 3)]
    maps = folder.items[1].regions(folder.items[1].open())
    assert [one[0].tolist() for one in maps] == [[1, 2, 300 + k, 65_535] for k in (0, 2, 10)]


def test_a_mask_of_another_size_than_its_picture_is_refused(foreground: Path) -> None:
    save(foreground / "masks" / "a.png", np.zeros(SIZE[::-1], dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"a\.png' is 6 x 4 pixels, its picture 4 x 6"):
        load(read_folder(foreground))


def test_the_size_is_that_of_the_upright_picture(foreground: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(foreground / "images" / "a.jpg", exif=exif)  # lies on its side
    assert load(read_folder(foreground)).shape == SIZE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (stripes(0, 0, 1, 1), "values up to 1 where foreground is 255"),
        (stripes(0, 0, 0, 65_535, dtype=np.uint16), "values up to 65535"),
        (np.stack([stripes(0, 0, 0, 255)] * 2 + [stripes(0, 0, 0, 0)], -1), r"colours or fractions \(RGB\)"),
    ],
)
def test_a_mask_with_other_values_is_refused(foreground: Path, values: np.ndarray, message: str) -> None:
    save(foreground / "masks" / "a.png", values)
    with pytest.raises(DatasetError, match=message):
        load(read_folder(foreground))


def test_a_damaged_mask_is_refused(foreground: Path) -> None:
    path = foreground / "masks" / "a.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"a\.png' cannot be read as a mask"):
        load(read_folder(foreground))


def test_what_belongs_to_another_kind_is_refused(foreground: Path) -> None:
    item = read_folder(foreground).items[0]
    with pytest.raises(SettingsError, match=r"load it with foreground\(\)"):
        item.labels(item.open())


def test_a_folder_that_lacks_a_part_says_what_is_expected_where(tmp_path: Path) -> None:
    assert "images/NAME.jpg with masks/NAME.png" in refusal(tmp_path / "missing")
    (tmp_path / "images").mkdir()
    assert "holds no pictures" in refusal(tmp_path)
    add_picture(tmp_path, "a.jpg")
    message = refusal(tmp_path)
    assert str(tmp_path / "masks") in message and "images/NAME.jpg with masks/NAME.png" in message
    (tmp_path / "masks").mkdir()
    assert "holds no masks" in refusal(tmp_path)


def test_pictures_without_masks_and_masks_without_pictures_are_refused(foreground: Path) -> None:
    add_picture(foreground, "d.jpg")
    message = refusal(foreground)
    assert "1 of 4 pictures have no mask" in message and message.endswith("add masks/d.png")
    (foreground / "images" / "d.jpg").unlink()
    save(foreground / "masks" / "e.png", stripes(0, 0, 0, 0))
    assert "1 masks have no picture" in refusal(foreground)


def test_two_pictures_with_one_name_are_refused(foreground: Path) -> None:
    add_picture(foreground, "a.png")
    assert "differ only in their extension" in refusal(foreground)


def test_hidden_and_other_files_are_left_alone(foreground: Path) -> None:
    for place in ("images", "masks"):
        (foreground / place / ".hidden.png").write_bytes(b"")
        (foreground / place / "README.md").write_text("notes")
    assert len(read_folder(foreground).items) == 3


def test_masks_and_segments_together_need_a_kind(foreground: Path) -> None:
    for name in ("a", "b", "c-1"):
        save(foreground / "segments" / f"{name}-0.png", stripes(1, 1, 2, 2))
    assert "call read_folder with a `kind`" in refusal(foreground)
    assert read_folder(foreground, kind="regions").kind == "regions"
    assert read_folder(foreground, kind="foreground").kind == "foreground"
    with pytest.raises(SettingsError, match="kind must be one of foreground, classes, regions"):
        read_folder(foreground, kind="masks")  # type: ignore[arg-type]


def test_a_region_map_without_an_annotators_number_is_refused(tmp_path: Path) -> None:
    add_picture(tmp_path, "a.jpg")
    save(tmp_path / "segments" / "a.png", stripes(1, 1, 2, 2))
    assert "name it NAME-0.png" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('["dog"]', "does not give each class number a name"),
        ("{}", "does not give each class number a name"),
        ('{"dog": "1"}', "does not give each class number a name"),
        ('{"1": ""}', "does not give each class number a name"),
        ('{"0": "void"}', "names nothing that is scored"),
    ],
)
def test_a_classes_file_that_cannot_be_used_is_refused(classes: Path, text: str, message: str) -> None:
    (classes / "classes.json").write_text(text)
    with pytest.raises(VocabularyError, match=message):
        read_folder(classes)


def test_classes_without_their_names_are_refused(foreground: Path) -> None:
    with pytest.raises(VocabularyError, match=r"classes\.json' cannot be read"):
        read_folder(foreground, kind="classes")
