import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.errors import ModelError, VocabularyError
from maskwright.images import Picture, upsample
from maskwright.projection import Projection
from maskwright.record import Record
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.vocabulary import Vocabulary

RECORD = Record(method="test", model="none")


def picture(height, width):
    return Picture(np.zeros((height, width, 3), dtype=np.uint8), "grey", "array")


def score_maps(values, *, stretch="none", kept=None):
    maps = torch.as_tensor(values, dtype=torch.float32)
    return ScoreMaps(maps, stretch, kept or (True,) * len(maps), "test")


def segment(values, words, *, size=(2, 2), stretch="none", kept=None, background=None, word=None, refiner=None):
    maps = score_maps(values, stretch=stretch, kept=kept)
    vocabulary = Vocabulary.parse(words, background=word)
    return Segmentation.from_maps(maps, picture(*size), vocabulary, RECORD, background=background, refiner=refiner)


def constant(*levels):
    return torch.tensor(levels, dtype=torch.float32)[:, None, None].expand(-1, 2, 2)


def test_the_highest_score_wins():
    seg = segment([[[0.9, 0.1], [0.2, 0.3]], [[0.1, 0.8], [0.7, 0.3]]], "dog, cat")
    assert seg.label_map.tolist() == [[1, 2], [2, 1]]  # the tie in the last pixel goes to the earlier label
    assert seg.label_map.dtype == np.uint16
    np.testing.assert_allclose(seg.confidence, [[0.9, 0.8], [0.7, 0.3]])


def test_a_label_must_exceed_the_threshold():
    seg = segment([[[0.5, 0.51], [0.2, 0.9]]], "dog", background=0.5)
    assert seg.label_map.tolist() == [[0, 1], [0, 1]]
    np.testing.assert_allclose(seg.confidence, [[0.5, 0.51], [0.5, 0.9]])


def test_a_background_label_competes_and_wins_number_0():
    seg = segment(constant(0.1, 0.9, 0.5), "dog, wall, cat", word="wall")
    assert not seg.label_map.any()
    assert seg.names == ("dog", "cat")
    assert (seg.number("dog"), seg.number("wall"), seg.number("cat")) == (1, 0, 2)
    assert seg.mask("wall").all()
    np.testing.assert_allclose(seg.confidence, 0.9)


def test_labels_that_are_not_kept_never_win():
    seg = segment(constant(0.9, 0.1), "dog, cat", kept=(False, True))
    assert (seg.label_map == 2).all()
    assert np.isneginf(seg.score("dog")).all()


@pytest.mark.parametrize(("background", "confidence"), [(None, 0.0), (0.4, 0.4)])
def test_with_no_label_kept_everything_is_background(background, confidence):
    seg = segment(constant(0.9, 0.1), "dog, cat", kept=(False, False), background=background)
    assert not seg.label_map.any()
    np.testing.assert_allclose(seg.confidence, confidence)


def test_negative_scores_are_left_as_they_are():
    seg = segment(constant(-0.7, -0.2), "dog, cat")
    assert (seg.label_map == 2).all()
    np.testing.assert_allclose(seg.confidence, -0.2)


def test_the_stretch_is_per_label_over_the_full_size_map():
    seg = segment(torch.rand(2, 3, 4) * torch.tensor([1e-4, 50.0])[:, None, None] + 3, "dog, cat", size=(30, 50), stretch="label")
    for score in seg.scores:
        assert score.min() == 0
        assert score.max() == pytest.approx(1)


@pytest.mark.parametrize("level", [0.0, 1e-30, 0.1, -3.3, 1e20])
@pytest.mark.parametrize("size", [(1, 1), (13, 7), (101, 203)])
def test_a_constant_map_stretches_to_zeros(level, size):
    seg = segment(constant(level), "dog", size=size, stretch="label", background=0.3)
    assert not seg.label_map.any()
    assert not seg.score("dog").any()


def test_refining_comes_between_upsampling_and_stretching():
    seen = []

    def refiner(map_):
        seen.append(map_.clone())
        return map_ * 7 - 2

    small = torch.rand(1, 4, 4)
    seg = segment(small, "dog", size=(16, 12), stretch="label", refiner=refiner)
    assert torch.equal(seen[0], upsample(small, (16, 12)))
    score = seg.score("dog")
    assert score.min() == 0
    assert score.max() == pytest.approx(1)


def test_labels_are_projected_one_at_a_time():
    shapes = []

    def refiner(map_):
        shapes.append(tuple(map_.shape))
        return map_

    segment(torch.rand(5, 2, 2), "a, b, c, d, e", size=(8, 6), kept=(True, True, False, True, True), refiner=refiner)
    assert shapes == [(1, 8, 6)] * 4  # never (5, 8, 6), and nothing for the label that is out


@given(data=st.data())
def test_streaming_agrees_with_argmax_over_all_maps(data):
    count, height, width = (data.draw(st.integers(1, 4)) for _ in range(3))
    levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few levels, so that ties are common
    values = data.draw(st.lists(levels, min_size=count * height * width, max_size=count * height * width))
    threshold = data.draw(st.none() | levels)
    maps = np.array(values, dtype=np.float32).reshape(count, height, width)
    seg = segment(maps, [f"label {n}" for n in range(count)], size=(height, width), background=threshold)
    first = np.full((1, height, width), -np.inf if threshold is None else threshold, dtype=np.float32)
    everything = np.concatenate([first, maps])
    np.testing.assert_array_equal(seg.label_map, everything.argmax(0))
    np.testing.assert_array_equal(seg.confidence, everything.max(0))


def test_scores_are_full_size_and_in_the_order_of_the_vocabulary():
    seg = segment(constant(0.1, 0.2, 0.3), "dog, cat", word="wall", size=(4, 6))
    assert seg.scores.shape == (3, 4, 6)
    assert seg.scores.dtype == np.float32
    np.testing.assert_allclose(seg.scores[:, 0, 0], [0.1, 0.2, 0.3])  # wall, dog, cat
    np.testing.assert_allclose(seg.score("cat"), 0.3)
    with pytest.raises(VocabularyError, match="cow"):
        seg.score("cow")


def test_regions_sum_up_every_label():
    labels = np.zeros((4, 5), dtype=np.uint16)
    labels[1:3, 2:5] = 2
    confidence = np.full((4, 5), 0.25, dtype=np.float32)
    vocabulary = Vocabulary.parse("dog, cat")
    seg = Segmentation(picture(4, 5), vocabulary, labels, confidence, RECORD, Projection(score_maps(constant(0, 0)), (4, 5)))
    dog, cat = seg.regions
    assert (dog.number, dog.name, dog.area, dog.share, dog.score, dog.box) == (1, "dog", 0, 0, None, None)
    assert (cat.number, cat.area, cat.share, cat.score, cat.box) == (2, 6, 0.3, 0.25, (2, 1, 3, 2))
    assert repr(seg) == "Segmentation(5 x 4 px: cat 30.0%)"


def test_a_result_is_validated():
    seg = segment(constant(0.1), "dog")
    for changes, message in [
        ({"label_map": seg.label_map.astype(np.int64)}, "uint16"),
        ({"label_map": seg.label_map[:1]}, "label map is"),
        ({"label_map": seg.label_map + np.uint16(9)}, "number 10"),
        ({"confidence": seg.confidence.astype(np.float64)}, "float32"),
        ({"confidence": seg.confidence * np.float32("nan")}, "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(seg, **changes)


def test_score_maps_are_validated():
    with pytest.raises(ValueError, match="float32"):
        ScoreMaps(torch.zeros(1, 2, 2, dtype=torch.float16), "none", (True,), "test")
    with pytest.raises(ValueError, match="2 entries in kept"):
        score_maps(constant(0), kept=(True, True))
    with pytest.raises(ModelError, match="dtype float32"):
        score_maps(constant(0.5, math.nan))
    score_maps(constant(0.5, math.nan), kept=(True, False))  # what is thrown out is not looked at
    with pytest.raises(ValueError, match="2 score maps for 1 labels"):
        segment(constant(0, 0), "dog")


def test_a_record_becomes_strict_json():
    @dataclasses.dataclass(frozen=True)
    class Settings:
        steps: tuple[int, ...] = (1, 2)

    settings = {
        "limit": math.inf, "inner": Settings(), "path": Path("a"), "dtype": torch.bfloat16, "scale": np.float32(0.5), "of": {2, 1}
    }  # fmt: skip
    record = Record(method="test", model="none", settings=settings, timings={"read": 0.25}, warnings=("slow",))
    plain = json.loads(json.dumps(record.as_dict(), allow_nan=False))
    assert plain["settings"] == {
        "limit": "inf", "inner": {"steps": [1, 2]}, "path": "a", "dtype": "torch.bfloat16", "scale": 0.5, "of": [1, 2]
    }  # fmt: skip
    assert plain["timings"] == {"read": 0.25}
    assert plain["warnings"] == ["slow"]
    assert list(plain)[:3] == ["method", "model", "settings"]
