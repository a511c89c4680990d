"""What holds for every evaluation set: the registry, the class lists, items as plain data, one clear line for a wrong folder."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from maskwright.datasets.class_list import FOLDER, load_classes
from maskwright.datasets.contract import IGNORE, EvaluationItem, EvaluationSet
from maskwright.datasets.registry import DATASETS, open_dataset
from maskwright.datasets.scenes import benchmark, load_words
from maskwright.errors import DatasetError, SettingsError
from maskwright.vocabulary import Vocabulary
from tests.dataset_files import refusal

LISTS = sorted(path.stem for path in FOLDER.glob("*.toml"))
COUNTS = {
    "ade20k": 150, "cityscapes19": 19, "cityscapes27": 27, "coco_object": 81, "coco_stuff171": 171, "coco_stuff27": 27, "context": 60,
    "loveda": 7, "potsdam3": 3, "potsdam6": 6, "voc2012": 21,
}  # fmt: skip


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(SettingsError, match=r"no data set 'voc': choose one of scenes, folder, voc2012, .*bsds500"):
        open_dataset("voc:/data")


@pytest.mark.parametrize("address", ["voc2012", "voc2012:", "folder"])
def test_a_missing_folder_is_asked_for(address: str) -> None:
    with pytest.raises(SettingsError, match=rf"lies on disk: write {address.rstrip(':')}:FOLDER"):
        open_dataset(address)


def test_an_unknown_split_lists_the_splits(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="voc2012 has no split 'test': choose one of val, train, trainaug"):
        open_dataset(f"voc2012:{tmp_path}", split="test")


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.rooted])
def test_a_missing_and_an_empty_folder_give_one_line_with_the_way_on(name: str, tmp_path: Path) -> None:
    for split in DATASETS[name].splits:
        missing, empty = (refusal(f"{name}:{root}", split=split) for root in (tmp_path / "nowhere", tmp_path))
        assert "nowhere" in missing and str(tmp_path) in empty
        for message in (missing, empty):
            assert "expected a" in message  # "is expected as", "expected are": the layout in words
            assert name == "folder" or "; get " in message


def test_scenes_are_a_set_of_classes_without_background() -> None:
    scenes = open_dataset("scenes")
    assert (scenes.name, scenes.split, scenes.kind, len(scenes), scenes.background) == ("scenes", "benchmark", "classes", 200, None)
    assert scenes.vocabulary.names == tuple(word.name for word in load_words().all)
    item, truth = scenes.items[1], list(benchmark(2))[1]
    picture = item.open()
    assert picture.name == item.name and np.array_equal(picture.pixels, truth.image)
    labels = item.labels(picture)
    assert labels.dtype == np.int64 and np.array_equal(labels, truth.labels)
    assert not np.array_equal(open_dataset("scenes", split="tuning").items[1].open().pixels, picture.pixels)
    with pytest.raises(SettingsError, match="does not lie on disk: write scenes alone"):
        open_dataset("scenes:/data")


def test_a_set_is_plain_data_that_can_be_pickled() -> None:
    scenes = open_dataset("scenes")
    again = pickle.loads(pickle.dumps(scenes))
    assert again == scenes and np.array_equal(again.items[0].open().pixels, scenes.items[0].open().pixels)


def test_a_loader_of_another_kind_names_the_right_one() -> None:
    item = open_dataset("scenes").items[0]
    for loader in (item.foreground, item.regions, item.boxes):
        with pytest.raises(SettingsError, match=r"'benchmark-000' belongs to a set of classes, not of .*: load it with labels\(\)"):
            loader(item.open())


def test_names_of_items_are_unique_and_there_is_at_least_one() -> None:
    item = EvaluationItem("a", Path("a.jpg"))
    with pytest.raises(DatasetError, match="two pictures named 'a'"):
        EvaluationSet("set", "val", "boxes", (item, item))
    with pytest.raises(DatasetError, match="no pictures in val"):
        EvaluationSet("set", "val", "boxes", ())


def test_a_set_without_classes_has_no_vocabulary() -> None:
    with pytest.raises(SettingsError, match="names no classes"):
        _ = EvaluationSet("set", "val", "boxes", (EvaluationItem("a", Path("a.jpg")),)).vocabulary


def test_every_class_list_is_counted_here() -> None:
    assert sorted(COUNTS) == LISTS


@pytest.mark.parametrize("name", LISTS)
def test_a_class_list_has_its_classes_numbers_and_source(name: str) -> None:
    listed = load_classes(name)
    assert len(listed.labels) == COUNTS[name] and listed.source
    assert set(listed.numbers.values()) - {IGNORE} == set(range(COUNTS[name]))
    assert all(0 <= number <= 255 for number in listed.numbers)
    Vocabulary(listed.labels)
    for texts in listed.wordings.values():
        assert len(Vocabulary(texts)) == COUNTS[name]


@pytest.mark.parametrize(("name", "count"), [("voc2012", 20), ("context", 59), ("coco_object", 80)])
def test_without_background_its_numbers_are_not_scored_and_the_rest_moves_down(name: str, count: int) -> None:
    full, bare = load_classes(name), load_classes(name, background=False)
    assert bare.labels == full.labels[1:] and len(bare.labels) == count and full.labels[0].background
    assert full.numbers.keys() == bare.numbers.keys()
    for number, position in full.numbers.items():
        assert bare.numbers[number] == (position - 1 if position > 0 else IGNORE)
    assert bare.wordings.keys() == full.wordings.keys()
    assert all(bare.wordings[title] == texts[1:] for title, texts in full.wordings.items())


def test_published_wordings_stand_beside_the_classes() -> None:
    voc = load_classes("voc2012")
    texts = dict(zip((label.name for label in voc.labels), (label.name for label in voc.wordings["diffsegmenter"]), strict=True))
    assert [texts[name] for name in ("background", "bus", "person", "tv monitor")] == ["background", "buses", "people", "monitor"]
    assert [label.background for label in voc.wordings["sclip"]] == [True] + [False] * 20
    assert "wall" in voc.wordings["sclip"][0].texts and voc.wordings["sclip"][15].texts[:2] == ("person", "person in shirt")
    city = load_classes("cityscapes19")
    assert city.wordings["maskdiffusion-code"][6].name == "light" and city.labels[6].name == "traffic light"


def test_coarse_classes_of_coco_stuff_gather_the_fine_ones() -> None:
    fine, coarse = load_classes("coco_stuff171"), load_classes("coco_stuff27")
    assert set(fine.numbers) <= set(coarse.numbers)
    place = {label.name: coarse.labels[coarse.numbers[n]].name for n, p in fine.numbers.items() if p >= 0 for label in [fine.labels[p]]}
    wanted = {
        "person": "person", "dog": "animal", "pizza": "food things", "salad": "food stuff", "bed": "furniture things", "carpet": "floor",
        "counter": "furniture stuff", "curtain": "textile", "fog": "water", "hill": "solid", "leaves": "plant", "net": "structural",
        "sky-other": "sky", "tent": "building", "wall-wood": "wall", "window-blind": "window", "wood": "solid", "sink": "appliance",
    }  # fmt: skip
    assert {name: place[name] for name in wanted} == wanted
