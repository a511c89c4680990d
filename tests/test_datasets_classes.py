"""Readers of sets of classes, each on a tiny set in the true format: numbers, what is not scored, background, splits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from maskwright.datasets.contract import IGNORE
from maskwright.datasets.registry import open_dataset
from maskwright.errors import DatasetError
from tests.dataset_files import add_list, add_mask, add_picture, first_row, names, refusal, stripes

WHITE, BLUE, CYAN, GREEN, YELLOW, RED = (255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for stem in ("2007_000033", "2007_000042", "2008_000001"):
        add_picture(base / "JPEGImages" / f"{stem}.jpg")
    for stem in ("2007_000042", "2007_000033"):
        add_mask(base / "SegmentationClass" / f"{stem}.png", stripes(0, 1, 20, 255), palette=True)
        add_mask(base / "SegmentationClassAug" / f"{stem}.png", stripes(0, 1, 20, 255))
    add_mask(base / "SegmentationClassAug" / "2008_000001.png", stripes(0, 15))
    add_list(base / "ImageSets" / "Segmentation" / "val.txt", "2007_000042", "2007_000033")
    add_list(
        base / "ImageSets" / "Segmentation" / "train_aug.txt",
        "/JPEGImages/2008_000001.jpg /SegmentationClassAug/2008_000001.png",
        "/JPEGImages/2007_000033.jpg /SegmentationClassAug/2007_000033.png",
    )
    return base


def test_voc_has_background_first_and_does_not_score_the_border(voc: Path) -> None:
    val = open_dataset(f"voc2012:{voc}")
    assert (val.name, val.split, val.background, len(val.classes)) == ("voc2012", "val", 0, 21)
    assert [val.classes[n].name for n in (1, 11, 20)] == ["aeroplane", "dining table", "tv monitor"]
    assert names(val) == ["2007_000042", "2007_000033"]  # the order of the list
    assert first_row(val)[:4] == [0, 1, 20, IGNORE]
    assert "diffsegmenter" in val.wordings


def test_voc_without_background_leaves_its_pixels_out(voc: Path) -> None:
    val = open_dataset(f"voc20:{voc}")
    assert (val.name, val.background, len(val.classes)) == ("voc20", None, 20)
    assert first_row(val)[:4] == [IGNORE, 0, 19, IGNORE]


def test_voc_may_be_named_by_the_folders_above(voc: Path) -> None:
    sets = [open_dataset(f"voc2012:{root}") for root in (voc, voc.parent, voc.parent.parent)]
    assert sets[0] == sets[1] == sets[2]


def test_voc_trainaug_reads_its_own_masks_and_either_form_of_list(voc: Path) -> None:
    train = open_dataset(f"voc2012:{voc}", split="trainaug")
    assert names(train) == ["2008_000001", "2007_000033"] and first_row(train)[:2] == [0, 15]
    add_list(voc / "ImageSets" / "Segmentation" / "trainaug.txt", "2007_000033")
    assert names(open_dataset(f"voc2012:{voc}", split="trainaug")) == ["2007_000033"]


def test_voc_val_takes_the_augmented_masks_where_it_has_no_others(voc: Path) -> None:
    expected = first_row(open_dataset(f"voc2012:{voc}"))
    for path in (voc / "SegmentationClass").iterdir():
        path.unlink()
    (voc / "SegmentationClass").rmdir()
    assert first_row(open_dataset(f"voc2012:{voc}")) == expected


def test_a_missing_list_and_missing_masks_say_which(voc: Path) -> None:
    assert "train.txt' cannot be read (No such file or directory): PASCAL VOC 2012 is expected as" in refusal(
        f"voc2012:{voc}", split="train"
    )
    (voc / "SegmentationClass" / "2007_000033.png").unlink()
    message = refusal(f"voc2012:{voc}")
    assert "SegmentationClass' lacks 1 of 2 files, first '2007_000033.png'" in message and "VOCtrainval_11-May-2012.tar" in message


def test_a_number_that_the_set_does_not_have_is_refused(voc: Path) -> None:
    add_mask(voc / "SegmentationClass" / "2007_000042.png", stripes(0, 21))
    with pytest.raises(DatasetError, match=r"2007_000042\.png' has the class 21, which PASCAL VOC 2012 does not have"):
        first_row(open_dataset(f"voc2012:{voc}"))


def test_context_numbers_its_classes_by_the_alphabet(tmp_path: Path) -> None:
    base = tmp_path / "VOC2010"
    add_picture(base / "JPEGImages" / "2008_000002.jpg")
    add_mask(base / "SegmentationClassContext" / "2008_000002.png", stripes(0, 1, 2, 59, 255))
    add_list(base / "ImageSets" / "SegmentationContext" / "val.txt", "2008_000002")
    full, bare = open_dataset(f"context60:{tmp_path}"), open_dataset(f"context59:{tmp_path}")
    assert [full.classes[n].name for n in (0, 1, 2, 59)] == ["background", "aeroplane", "bag", "wood"] and full.background == 0
    assert first_row(full)[:5] == [0, 1, 2, 59, IGNORE]
    assert first_row(bare)[:5] == [IGNORE, 0, 1, 58, IGNORE] and bare.background is None


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    for stem in ("000000000139", "000000000285"):
        add_picture(tmp_path / "images" / "val2017" / f"{stem}.jpg")
        # person, stop sign (a gap before it), toothbrush, banner, wood, unlabelled
        add_mask(tmp_path / "annotations" / "val2017" / f"{stem}.png", stripes(0, 12, 89, 91, 181, 255))
        add_mask(tmp_path / "annotations" / "val2017" / f"{stem}_labelTrainIds.png", stripes(1))
    add_list(tmp_path / "curated" / "val2017" / "Coco164kFull_Stuff_Coarse_7.txt", "000000000285")
    return tmp_path


def test_coco_object_counts_stuff_and_unlabelled_pixels_as_background(coco: Path) -> None:
    full, bare = open_dataset(f"coco-object:{coco}"), open_dataset(f"coco-object80:{coco}")
    assert (len(full.classes), full.background, len(bare.classes), bare.background) == (81, 0, 80, None)
    assert names(full) == ["000000000139", "000000000285"]
    assert first_row(full) == [1, 12, 80, 0, 0, 0]
    assert first_row(bare) == [0, 11, 79, IGNORE, IGNORE, IGNORE]
    assert [full.classes[n].name for n in (1, 12, 80)] == ["person", "stop sign", "toothbrush"]


def test_coco_stuff_closes_the_gaps_of_the_numbers(coco: Path) -> None:
    stuff = open_dataset(f"coco-stuff171:{coco}")
    assert (stuff.background, len(stuff)) == (None, 2)
    assert first_row(stuff) == [0, 11, 79, 80, 170, IGNORE]
    assert [stuff.classes[n].name for n in (11, 80, 170)] == ["stop sign", "banner", "wood"]


def test_coco_stuff_27_is_the_curated_pictures_in_coarse_classes(coco: Path) -> None:
    coarse = open_dataset(f"coco-stuff27:{coco}")
    assert names(coarse) == ["000000000285"]
    assert [coarse.classes[n].name if n >= 0 else "" for n in first_row(coarse)] == [
        "person", "outdoor", "indoor", "textile", "solid", "",
    ]  # fmt: skip
    (coco / "curated" / "val2017" / "Coco164kFull_Stuff_Coarse_7.txt").unlink()
    assert "COCOStuff164kCurated.tar.gz" in refusal(f"coco-stuff27:{coco}")


def test_coco_may_lie_as_its_archives_unpack(coco: Path) -> None:
    expected = first_row(open_dataset(f"coco-stuff171:{coco}"))
    (coco / "images" / "val2017").rename(coco / "val2017")
    (coco / "annotations").rename(coco / "stuffthingmaps")
    assert first_row(open_dataset(f"coco-stuff171:{coco}")) == expected


def test_ade20k_does_not_score_zero_and_moves_the_rest_down(tmp_path: Path) -> None:
    base = tmp_path / "ADEChallengeData2016"
    for split, folder in (("val", "validation"), ("train", "training")):
        add_picture(base / "images" / folder / f"ADE_{split}_00000001.jpg")
        add_mask(base / "annotations" / folder / f"ADE_{split}_00000001.png", stripes(0, 1, 8, 150))
    val = open_dataset(f"ade20k:{tmp_path}")
    assert first_row(val)[:4] == [IGNORE, 0, 7, 149]
    assert [val.classes[n].name for n in (0, 7, 149)] == ["wall", "bed", "flag"]
    assert names(open_dataset(f"ade20k:{base}", split="train")) == ["ADE_train_00000001"]


def test_cityscapes_maps_label_ids_to_19_or_27_classes(tmp_path: Path) -> None:
    for city, frame in (("munster", "000000_000019"), ("frankfurt", "000000_000294")):
        add_picture(tmp_path / "leftImg8bit" / "val" / city / f"{city}_{frame}_leftImg8bit.png")
        # out of roi, road, parking, traffic light, caravan, bicycle
        add_mask(tmp_path / "gtFine" / "val" / city / f"{city}_{frame}_gtFine_labelIds.png", stripes(3, 7, 9, 19, 29, 33))
    benchmark, void_free = open_dataset(f"cityscapes19:{tmp_path}"), open_dataset(f"cityscapes27:{tmp_path}")
    assert names(benchmark) == ["frankfurt_000000_000294", "munster_000000_000019"]
    assert first_row(benchmark) == [IGNORE, 0, IGNORE, 6, IGNORE, 18]
    assert first_row(void_free) == [IGNORE, 0, 2, 12, 22, 26]
    assert [void_free.classes[n].name for n in (2, 12, 22, 26)] == ["parking", "traffic light", "caravan", "bicycle"]
    (tmp_path / "gtFine" / "val" / "munster" / "munster_000000_000019_gtFine_labelIds.png").unlink()
    assert "gtFine_trainvaltest.zip" in refusal(f"cityscapes19:{tmp_path}")


def test_loveda_does_not_score_pixels_without_data(tmp_path: Path) -> None:
    for area, stem in (("Urban", "3514"), ("Rural", "2522")):
        add_picture(tmp_path / "Val" / area / "images_png" / f"{stem}.png")
        add_mask(tmp_path / "Val" / area / "masks_png" / f"{stem}.png", stripes(0, 1, 2, 7))
    val = open_dataset(f"loveda:{tmp_path}")
    assert names(val) == ["rural-2522", "urban-3514"] and val.background == 0
    assert first_row(val)[:4] == [IGNORE, 0, 1, 6]


def add_tile(root: Path, number: str, labels: np.ndarray, *, folder: str = "5_Labels_all", ending: str = "_label.tif") -> np.ndarray:
    """A tile with random pixels; returns them."""
    pixels = np.random.default_rng(0).integers(0, 256, labels.shape, dtype=np.uint8)
    for path, values in ((root / "2_Ortho_RGB" / f"top_potsdam_{number}_RGB.tif", pixels),
                         (root / folder / f"top_potsdam_{number}{ending}", labels)):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return pixels


def test_potsdam_cuts_tiles_into_crops_of_400_shrunk_to_200(tmp_path: Path) -> None:
    labels = np.full((400, 1000, 3), 255, dtype=np.uint8)
    labels[:, 400:402], labels[:, 402:404], labels[:, 404:406] = BLUE, CYAN, GREEN
    labels[:, 406:408], labels[:, 408:] = YELLOW, RED
    pixels = add_tile(tmp_path, "2_13", labels)
    add_tile(tmp_path, "2_10", labels)
    val = open_dataset(f"potsdam6:{tmp_path}")
    assert names(val) == ["top_potsdam_2_13-00-00", "top_potsdam_2_13-00-01"]  # what does not fill a crop is left out
    assert names(open_dataset(f"potsdam6:{tmp_path}", split="train"))[0] == "top_potsdam_2_10-00-00"
    assert len(open_dataset(f"potsdam6:{tmp_path}", split="all")) == 4
    picture = val.items[1].open()
    assert picture.size == (200, 200) and picture.name == "top_potsdam_2_13-00-01"
    means = pixels[:, 400:800].reshape(200, 2, 200, 2, 3).mean((1, 3))
    assert np.abs(picture.pixels - means).max() <= 0.5
    assert first_row(val, 0) == [0] * 200 and first_row(val, 1)[:6] == [1, 2, 3, 4, 5, 5]
    assert first_row(open_dataset(f"potsdam3:{tmp_path}"), 1)[:6] == [1, 2, 2, 0, 1, 1]


def test_potsdam_does_not_score_seams_and_refuses_pictures_as_labels(tmp_path: Path) -> None:
    labels = np.full((400, 400, 3), 255, dtype=np.uint8)
    labels[:, 10:12] = 0
    labels[:2, 20] = (252, 255, 0)
    pixels = add_tile(tmp_path, "7_13", labels, folder="5_Labels_all_noBoundary", ending="_label_noBoundary.tif")
    row = first_row(open_dataset(f"potsdam6:{tmp_path}"))
    assert (row[4], row[5], row[6], row[10], row[11]) == (0, IGNORE, 0, IGNORE, 0)
    add_tile(tmp_path / "wrong", "7_13", pixels)
    with pytest.raises(DatasetError, match="other colours than the six of the classes in 100% of it"):
        first_row(open_dataset(f"potsdam6:{tmp_path / 'wrong'}"))


def test_potsdam_reads_the_crops_that_iic_made(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
    for folder, key, values in (("imgs", "img", image), ("gt", "gt", stripes(0, 1, 2, 3, 4, 5).astype(np.int32))):
        (tmp_path / folder).mkdir()
        savemat(tmp_path / folder / "7.mat", {key: values})
    add_list(tmp_path / "labelled_test.txt", "7")
    six, three = (open_dataset(f"{name}:{tmp_path}", split="labelled_test") for name in ("potsdam6", "potsdam3"))
    assert np.array_equal(six.items[0].open().pixels, image[..., :3]) and six.items[0].open().name == "7"
    assert first_row(six) == [0, 1, 2, 3, 4, 5] and first_row(three) == [0, 1, 2, 2, 0, 1]
    (tmp_path / "gt" / "7.mat").write_bytes(b"not MATLAB")
    with pytest.raises(DatasetError, match=r"7\.mat' cannot be read"):
        first_row(six)
