"""Does CLIP take a drawn picture for what it should show: ranks on rendered scenes, and data sets of which only such pictures are kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskwright.backbones.catalog import find_row
from maskwright.backbones.unet import UNetBackbone
from maskwright.datasets.scenes import open_scenes
from maskwright.discovery.filters import explain, reasons
from maskwright.discovery.prompts import LabelPrompts
from maskwright.discovery.recognition import Recogniser
from maskwright.discovery.store import PairStore
from maskwright.discovery.synthesis import SynthesisSettings, Synthesizer
from maskwright.discovery.templates import Templates
from maskwright.errors import ModelError, SettingsError, VocabularyError
from maskwright.text.clip import Clip
from maskwright.vocabulary import Vocabulary

SCENES = open_scenes("scenes-full")


def load_clip() -> Clip:
    folder = find_row("sticker-full").folder
    assert folder is not None
    return Clip.from_pretrained(folder / "clip")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip()


def test_a_picture_of_a_thing_ranks_it_first_and_others_behind(clip: Clip) -> None:
    known = Recogniser(clip, Vocabulary.parse("guitar, dog|puppy, police car, castle"))
    for name in known.known.names:
        picture = SCENES.compose([name], "grass", seed=3).image
        ranks = {other: known.ranks(picture, [other])[0] for other in known.known.names}
        assert sorted(ranks.values()) == [1, 2, 3, 4] and ranks[name] == 1
        margins = {other: known.margins(picture, [other])[0] for other in known.known.names}
        assert [other for other, margin in margins.items() if margin > 0] == [name] and max(margins.values()) < 2
        assert sorted(margins, key=lambda other: -margins[other]) == sorted(ranks, key=lambda other: ranks[other])


def test_labels_of_one_picture_are_no_rivals_of_each_other(clip: Clip) -> None:
    known = Recogniser(clip, Vocabulary.parse("guitar, dog, castle, banana"))
    picture = SCENES.compose(["guitar", "castle"], "sand", seed=1).image
    assert known.ranks(picture, ["guitar", "castle"]) == known.ranks(picture, ["castle", "guitar"]) == [1, 1]
    assert known.ranks(picture, ["dog", "castle"])[0] > 1
    assert min(known.margins(picture, ["guitar", "castle"])) > 0 > known.margins(picture, ["dog", "castle"])[0]
    assert known.margins(picture, ["castle", "guitar", "dog", "banana"])[1] > 0, "nothing is left to be worse than"
    with pytest.raises(VocabularyError):
        known.ranks(picture, ["whale"])


def test_the_models_objects_are_rivals_but_for_kinds_of_a_label(clip: Clip) -> None:
    objects = ["car|automobile", "police car", "racing car", "bus", "carpet", "dog|puppy"]
    assert Recogniser(clip, Vocabulary.parse("car"), objects).known.names == ("car", "bus", "carpet", "dog")
    assert Recogniser(clip, Vocabulary.parse("car, police car"), objects).known.names == ("car", "police car", "bus", "carpet", "dog")
    assert Recogniser(clip, Vocabulary.parse("Puppy, bus"), objects).known.names[2:] == ("car", "police car", "racing car", "carpet")
    alone = Recogniser(clip, Vocabulary.parse("guitar"), ["guitar", "violin", "banana"])
    assert alone.ranks(SCENES.compose(["banana"], "snow", seed=2).image, ["guitar"])[0] > 1


def test_pictures_that_leave_no_rivals_are_refused(clip: Clip) -> None:
    for words, objects, most in (("dog", [], 1), ("dog", ["dog|puppy", "guide dog"], 1), ("dog, cat", [], 2)):
        with pytest.raises(SettingsError, match=f"tells the {most} of a picture from others, and there are none: name more labels"):
            Recogniser(clip, Vocabulary.parse(words), objects, most=most)
    assert len(Recogniser(clip, Vocabulary.parse("dog, cat"), ["owl"], most=2).known) == 3


def test_damaged_weights_are_told() -> None:
    damaged = load_clip()
    damaged.checkpoint.model.text_projection.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="weights are damaged"):
        Recogniser(damaged, Vocabulary.parse("dog, cat")).ranks(np.zeros((64, 64, 3), dtype=np.uint8), ["dog"])


def test_only_the_first_rank_passes() -> None:
    good = {"area": 0.25, "component": 1.0, "corners": 0.0, "contrast": 0.8}
    assert reasons({"dog": {**good, "rank": 1.0}}) == reasons({"dog": good}) == ()
    scores = {"dog": {**good, "rank": 3.0}, "cat": {**good, "area": 0.0, "rank": 2.0}}
    assert reasons(scores) == ("dog: not recognised", "cat: not recognised", "cat: too small")
    assert explain("dog: not recognised", scores) == "dog: not recognised (3. of all words by fit)"


def test_a_data_set_keeps_what_is_recognised_and_tells_why_the_rest_is_not(backbone: UNetBackbone, clip: Clip, tmp_path: Path) -> None:
    words = Vocabulary.parse("dog, cat, red apple")
    prompts = LabelPrompts(words, Templates((), ("a photo of a {}", "a {} in snow")))
    settings = SynthesisSettings(steps=2, guidance=2.0, attempts=4)
    plain = Synthesizer(backbone, prompts, "daam", settings=settings)
    known = Recogniser(clip, words)
    made = Synthesizer(backbone, prompts, "daam", settings=settings, recogniser=known)
    told = made.decisive()
    assert json.loads(json.dumps(told)) == told and (told["filter"], told["clip"]) == ("clip", clip.checkpoint.source)
    assert plain.decisive() == {key: value for key, value in told.items() if key not in known.settings}
    with PairStore.open(tmp_path, told, words, resume=False) as store:
        drawn = list(made.run(range(6), store))
    ranks = [(one.pair.scores[one.pair.labels[0]]["rank"], one.pair) for one in drawn]
    assert {rank > 1 for rank, _ in ranks} == {True, False}
    for (rank, pair), one in zip(ranks, drawn, strict=True):
        assert (f"{pair.labels[0]}: not recognised" in pair.reasons) == (rank > 1)
        assert rank == known.ranks(one.image, pair.labels)[0]
        assert np.array_equal(one.image, plain.make(pair.number, pair.attempt).image)
    with pytest.raises(SettingsError, match="filter"):
        PairStore.open(tmp_path, plain.decisive(), words, resume=True)
