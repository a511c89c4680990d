"""The full scene set: many words, families, proper nouns, tints; exact, reproducible, in splits that never meet."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from maskwright.datasets.captions import TEMPLATE_WORDS, with_article
from maskwright.datasets.grounds import GROUNDS
from maskwright.datasets.registry import open_dataset
from maskwright.datasets.rich_captions import MORE_WORDS, caption_words, describe
from maskwright.datasets.scene_set import SceneItem
from maskwright.datasets.scenes import SceneSet, open_scenes
from maskwright.datasets.word_list import Word
from maskwright.errors import SettingsError
from maskwright.evaluation.scenes import compare_drawings, run_benchmark, with_absent
from maskwright.segmenter import Segmenter
from maskwright.text.filtering import CategoryFilter
from maskwright.vocabulary import Vocabulary

FULL = open_scenes("scenes-full")
OBJECTS = FULL.words.objects
NAMES = [word.name for word in FULL.words.all]


def test_it_has_the_words_that_are_hard_to_tell_apart():
    assert len(OBJECTS) >= 96 and len(FULL.words.grounds) >= 12
    families = [{NAMES[n] for n in kin} for kin in FULL.words.families]
    for kin in ({"dog", "poodle", "wolf", "fox"}, {"cat", "lion", "tiger", "leopard"}, {"car", "taxi", "police car", "racing car"},
                {"red apple", "green apple", "yellow apple"}, {"red balloon", "blue balloon", "green balloon"}):  # fmt: skip
        assert any(kin <= family for family in families)
    assert {"Tokyo Tower", "Statue of Liberty", "Mount Fuji", "Moai", "Santa Claus"} <= {NAMES[n] for n in FULL.words.proper}
    assert (FULL.list.side, FULL.list.most) == (128, 6)


def test_no_two_objects_look_alike_at_twenty_pixels():
    """Mean difference of premultiplied pixels, of 255, over all pairs."""
    small = np.stack([np.asarray(art[0].resize((20, 20)).convert("RGBa")).ravel() for art in FULL.artwork])
    assert pdist(small, "cityblock").min() / small.shape[1] > 4
    assert all(np.asarray(art[0])[..., 3].mean() > 20 for art in FULL.artwork)


def test_a_tint_changes_the_colour_and_nothing_else():
    art = dict(zip(NAMES, FULL.artwork, strict=False))
    for tinted, plain, channel in (("blue balloon", "red balloon", 2), ("green balloon", "red balloon", 1), ("red cap", "blue cap", 0)):
        one, other = (np.asarray(art[name][0], dtype=int) for name in (tinted, plain))
        shown = one[..., 3] > 200
        assert np.array_equal(one[..., 3], other[..., 3])
        assert np.median(one[shown][:, channel]) == np.median(one[shown][:, :3], axis=0).max()
        assert np.median(other[shown][:, channel]) < np.median(other[shown][:, :3], axis=0).max()


def test_labels_are_exact_and_every_object_shows():
    for seed in range(12):
        scene = FULL.render(seed)
        shown = FULL.contents(seed)
        assert {NAMES[n] for n in np.unique(scene.labels)} == set(scene.words)
        assert set(scene.words) == {NAMES[n] for n in shown.objects} | {FULL.words.grounds[shown.ground].name}
        assert scene.image.shape == (128, 128, 3) and 1 <= len(shown.objects) <= 6


def test_the_same_seed_gives_the_same_scene_and_splits_never_meet():
    assert np.array_equal(FULL.render(7).image, FULL.render(7).image)
    splits = ("train", "tuning", "benchmark", "benchmark-fine")
    seen = {FULL.render(seed, split=split).image.tobytes() for split in splits for seed in range(6)}
    assert len(seen) == 24
    assert len({str(FULL.contents(seed, split=split)) for split in splits for seed in range(60)}) > 200


def test_fine_scenes_put_one_family_or_proper_nouns_side_by_side():
    families, proper = [set(kin) for kin in FULL.words.families], set(FULL.words.proper)
    drawn = [set(FULL.contents(seed, split="benchmark-fine").objects) for seed in range(300)]
    assert all(len(kinds) >= 2 for kinds in drawn)
    assert all(kinds <= proper or any(kinds <= kin for kin in families) for kinds in drawn)
    assert sum(kinds <= proper for kinds in drawn) > 30
    assert len({min(kinds) for kinds in drawn}) > 25


def test_scenes_repeat_a_kind_now_and_then():
    drawn = [FULL.contents(seed, split="tuning").objects for seed in range(400)]
    repeated = np.mean([len(set(objects)) < len(objects) for objects in drawn])
    assert 0.08 < repeated < 0.22
    assert max(len(objects) for objects in drawn) == 6 and min(len(objects) for objects in drawn) == 1


@pytest.mark.parametrize("name", GROUNDS)
def test_grounds_differ_from_each_other_and_from_draw_to_draw(name):
    one, other = (GROUNDS[name](64, np.random.default_rng(seed)) for seed in (0, 1))
    assert one.shape == (64, 64, 3) and one.dtype == np.float32
    assert -0.05 < one.min() and one.max() < 1.25 and not np.array_equal(one, other)


def test_captions_count_leave_out_and_vary():
    dog, tower, liberty, grass = (Word("dog", ("puppy",), plural="dogs"), Word("Tokyo Tower", proper=True),
                                  Word("Statue of Liberty", proper=True, article="the"), Word("grass", ("lawn",)))  # fmt: skip
    texts = [describe([(dog, 2), (tower, 1), (liberty, 1)], grass, np.random.default_rng(seed)) for seed in range(400)]
    assert len(set(texts)) > 200
    assert any("two dogs" in text for text in texts) and any("a puppy" in text or "puppies" in text for text in texts)
    assert not any("a Tokyo" in text or "a Statue" in text for text in texts) and any("the Statue" in text for text in texts)
    named = np.array([[part in text for part in ("dog", "pupp", "Tokyo", "Statue", "grass", "lawn")] for text in texts]).sum(1)
    assert set(named) == {1, 2, 3, 4} and 0.3 < np.mean(named == 4) < 0.7


def test_every_word_of_every_caption_is_known_and_a_scene_has_several_captions():
    known = set(caption_words(FULL.list))
    for seed in range(150):
        captions = FULL.captions(seed, split="tuning")
        assert not {word for text in captions for word in text.lower().replace(",", "").split()} - known
    several = [len(set(FULL.captions(seed))) for seed in range(40)]
    assert np.mean(several) > 3


def test_articles_follow_the_sound():
    assert [with_article(noun) for noun in ("owl", "orange", "umbrella")] == ["an owl", "an orange", "an umbrella"]


def test_close_ups_show_fewer_objects_of_the_same_size():
    near = FULL.close_up(64)
    assert near.render(3).image.shape == (64, 64, 3) and near.words is FULL.words and near.list.most == 2
    assert near.list.style.scale == pytest.approx((0.44, 1.0)) and FULL.list.side == 128

    def sizes(scenes):
        drawn = [scenes.render(seed, split="tuning") for seed in range(60)]
        return [np.count_nonzero(scene.labels == kind) for scene in drawn for kind in np.unique(scene.labels)[:-1]]

    assert 0.6 < np.median(sizes(near)) / np.median(sizes(FULL)) < 1.6


def test_a_method_is_measured_with_the_family_competing():
    result = run_benchmark(Segmenter(background="none"), limit=1, split="benchmark-fine", labels="family", scenes="scenes-full")
    assert set(result.words) == set(FULL.render(0, split="benchmark-fine").words)
    assert 0 < result.miou < 1


@pytest.mark.parametrize("labels", ["caption", "all"])
def test_drawings_of_one_reading_score_as_runs_of_their_own(labels):
    drawings = [{"background": "none"}, {"background": "none", "refine": "pamr"}, {"background": 0.5}]
    segmenters = [Segmenter(**drawing) for drawing in drawings]
    seen = []
    together = compare_drawings(segmenters, limit=3, split="tuning", labels=labels, on_scene=seen.append)
    alone = [run_benchmark(segmenter, limit=3, split="tuning", labels=labels) for segmenter in segmenters]
    assert [result.words for result in together] == [result.words for result in alone]
    assert together[0].miou != together[1].miou and all(result.seconds > 0 for result in together)
    assert [score.scene for score in seen] == [0, 1, 2]


@pytest.mark.parametrize("others", [[], [{}, {"seed": 1}], [{}, {"method": "maskdiffusion"}], [{}, {"prompting": "shared"}]])
def test_only_drawings_are_compared(others):
    with pytest.raises(SettingsError, match="differ in refiner and threshold only"):
        compare_drawings([Segmenter(background="none", **settings) for settings in others], limit=1)


def test_absent_words_are_two_to_four_and_their_own_for_each_scene():
    words = ["owl", "grass"]
    drawn = [with_absent(number, words, NAMES) for number in range(40)]
    assert drawn[7] == with_absent(7, words, NAMES)
    for names in drawn:
        assert set(words) <= set(names) and names == sorted(names, key=NAMES.index)
    assert {len(names) - 2 for names in drawn} == {2, 3, 4} and len({tuple(names) for names in drawn}) > 35
    assert set(with_absent(0, words, [*words, "cat"])) == {"owl", "grass", "cat"}  # a list that has no more


def test_words_that_are_absent_compete_too():
    segmenter = Segmenter(background="none")
    alone, among = (run_benchmark(segmenter, limit=8, split="tuning", labels=labels) for labels in ("caption", "absent"))
    assert among.labels == "absent" and among.words.keys() >= alone.words.keys() and among.miou < alone.miou


@pytest.mark.parametrize("split", ["benchmark", "benchmark-fine", "tuning"])
def test_it_opens_as_a_data_set(split):
    dataset = open_dataset("scenes-full", split=split)
    item = dataset.items[3]
    assert isinstance(item, SceneItem) and len(dataset) == 200 and len(dataset.classes) == len(NAMES)
    picture = item.open()
    assert picture.pixels.shape == (128, 128, 3)
    present = set(np.unique(item.labels(picture)))
    competing = {kin for place in present for kin in dataset.rivals[place]}
    assert present <= competing
    if split == "benchmark-fine":
        assert len(competing) > 2


def test_portraits_are_training_scenes_of_one_large_object_in_the_middle():
    shown = [FULL.contents(seed) for seed in range(300)]
    portraits = [seed for seed, one in enumerate(shown) if one.portrait]
    assert abs(len(portraits) / len(shown) - FULL.list.style.portrait) < 0.06
    assert all(len(shown[seed].objects) == 1 for seed in portraits)
    assert not any(FULL.contents(seed, split=split).portrait for split in ("tuning", "benchmark", "benchmark-fine") for seed in range(300))
    for scenes in (FULL, FULL.close_up(64)):
        side = scenes.list.side
        masks = [scenes.render(seed).labels < len(FULL.words.objects) for seed in portraits[:40]]
        boxes = np.array([[(places.min(), places.max() + 1) for places in np.nonzero(mask)] for mask in masks]) / side
        assert np.median(np.abs(boxes.mean(-1) - 0.5)) < 0.06 and np.abs(boxes.mean(-1) - 0.5).max() < 0.25, "in the middle"
        spans = (boxes[..., 1] - boxes[..., 0]).max(1)
        assert np.median(spans) > 0.5 and spans.min() > 0.3, "large"


def test_portraits_of_one_object_are_alike_and_sharp():
    alone = FULL.portraits(64)
    style, flat = FULL.list.style.for_portraits(), dataclasses.replace(alone.list.style, light=0.0)
    assert not (style.flip or style.blur or style.noise) and FULL.list.style.blur > 0 < FULL.list.style.noise
    alone.list = dataclasses.replace(alone.list, style=flat)
    place = next(number for number, word in enumerate(FULL.words.objects) if word.name == "taxi")
    masks = [alone.render(seed).labels == place for seed in range(3000) if alone.contents(seed).objects == (place,)]
    assert len(masks) > 10
    common = np.mean([np.mean(mask == masks[0]) for mask in masks[1:]])
    mirrored = np.mean([np.mean(mask[:, ::-1] == masks[0]) for mask in masks[1:]])
    assert common > 0.9 and common > mirrored, "whoever is mirrored looks the other way"


def test_thin_things_have_portraits_too():
    thin = [number for number, art in enumerate(FULL.artwork) if np.mean(np.asarray(art[0])[..., 3] > 127) < 0.25]
    assert thin, "less than what is asked of an object in a crowd of this size"
    alone = FULL.portraits(64)
    for place in thin:
        seed = next(seed for seed in itertools.count() if alone.contents(seed).objects == (place,))
        assert (alone.render(seed).labels == place).any()


def test_a_set_of_portraits_shows_one_object_and_names_nothing_else():
    alone = FULL.portraits(64)
    shown = [alone.contents(seed) for seed in range(60)]
    assert all(one.portrait and len(one.objects) == 1 for one in shown)
    assert alone.render(3).image.shape == (64, 64, 3) and FULL.list.style.portrait < 1
    parts = {place: {part for name in word.names for part in name.lower().split()} for place, word in enumerate(FULL.words.all)}
    for seed, one in enumerate(shown):
        own = set().union(*(parts[place] for place in FULL.places(one)))
        strange = set().union(*parts.values()) - own - set(TEMPLATE_WORDS) - set(MORE_WORDS)
        assert not strange & set(alone.render(seed).caption.lower().replace(",", "").split())


def test_without_portraits_nothing_changes_for_the_other_scenes():
    without = SceneSet("scenes-full")
    without.list = dataclasses.replace(FULL.list, style=dataclasses.replace(FULL.list.style, portrait=0.0))
    assert not any(without.contents(seed).portrait for seed in range(100))
    assert np.array_equal(FULL.render(4, split="benchmark").image, without.render(4, split="benchmark").image)


@pytest.fixture(scope="module")
def full_backbone():
    from maskwright.backbones.loading import load_backbone

    return load_backbone("sticker-full", device="cpu", offline=True)


@pytest.fixture(scope="module")
def full_filter(full_backbone):
    return CategoryFilter.for_model(full_backbone.info, offline=True)


def told_apart(chosen):
    """Precision and recall of the words that a filter keeps, of all."""
    right = kept = shown = 0
    for scene in FULL.scenes(25, split="tuning"):
        found = chosen.keep(scene.image, Vocabulary.parse(NAMES)).kept
        words = {name for name, keep in zip(NAMES, found, strict=True) if keep}
        right, kept, shown = right + len(words & set(scene.words)), kept + len(words), shown + len(scene.words)
    return right / kept, right / shown


class TestFilter:
    """The category filter with the CLIP that comes with sticker-full."""

    def test_it_finds_most_words_of_scenes_among_all_and_by_crops_more_of_them(self, full_backbone, full_filter):
        by_crops = CategoryFilter.for_model(full_backbone.info, "clip+crops", offline=True)
        (precision, recall), (_, more) = (told_apart(chosen) for chosen in (full_filter, by_crops))
        assert precision > 0.6 and recall > 0.6 and more > recall

    def test_all_words_compete_far_better_with_it(self, full_backbone, full_filter):
        plain, filtered = (
            run_benchmark(
                Segmenter(full_backbone, background="none", category_filter=chosen),
                limit=8, split="tuning", labels="all", scenes="scenes-full",
            ).miou
            for chosen in (None, full_filter)
        )  # fmt: skip
        assert filtered > plain + 0.15

    def test_the_record_tells_of_the_bundled_clip_without_a_path(self, full_filter, full_backbone):
        assert full_filter.settings["clip"] == "bundled:sticker-full/clip"
        assert len(full_filter.settings["clip_revision"]) == 12 and full_filter.settings["clip_revision"] != full_backbone.info.revision
        assert 0.2 < full_filter.settings["ratio"] < 0.8
