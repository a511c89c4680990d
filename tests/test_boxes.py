"""Boxes: intersection over union against pycocotools and against pixels, hits at exactly 0.5, boxes of label maps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import SettingsError
from maskwright.evaluation.boxes import box_iou, corloc, is_hit, label_boxes

box = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 8), st.integers(1, 8))


def filled(x: int, y: int, width: int, height: int) -> np.ndarray:
    mask = np.zeros((16, 16), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


@settings(max_examples=50, deadline=None)
@given(box, st.lists(box, min_size=1, max_size=4))
def test_iou_agrees_with_pycocotools_and_with_pixels(one, others):
    from pycocotools import mask

    ious = box_iou(one, others)
    oracle = mask.iou(np.array([one], dtype=np.float64), np.array(others, dtype=np.float64), [0] * len(others))
    np.testing.assert_allclose(ious, oracle[0], atol=1e-12)
    pixels = [(filled(*one) & filled(*other)).sum() / (filled(*one) | filled(*other)).sum() for other in others]
    np.testing.assert_allclose(ious, pixels, atol=1e-12)


def test_the_maximum_is_exclusive():
    assert box_iou((0, 0, 4, 4), [(4, 0, 4, 4), (0, 4, 4, 4), (3, 3, 4, 4)]).tolist() == [0, 0, 1 / 31]


def test_an_iou_of_exactly_one_half_is_a_hit_and_less_is_not():
    assert is_hit((0, 0, 10, 10), [(0, 0, 10, 5)])
    assert is_hit((0, 0, 3, 3), [(0, 0, 3, 6)])
    assert not is_hit((0, 0, 1000, 1000), [(0, 0, 1000, 499)])


def test_any_true_box_makes_a_hit():
    assert is_hit((0, 0, 4, 4), [(50, 50, 4, 4), (0, 0, 4, 4)])
    assert not is_hit((0, 0, 4, 4), [(50, 50, 4, 4), (20, 0, 4, 4)])


def test_no_prediction_and_no_truth_are_misses_that_stay_in_the_denominator():
    hits = [is_hit(None, [(0, 0, 4, 4)]), is_hit((0, 0, 4, 4), []), is_hit((0, 0, 4, 4), [(0, 0, 4, 4)]), False]
    assert hits == [False, False, True, False]
    assert corloc(hits) == 0.25
    assert math.isnan(corloc([]))


def test_empty_boxes_give_0_not_nan():
    assert box_iou((2, 2, 0, 0), [(2, 2, 0, 0), (0, 0, 4, 4)]).tolist() == [0, 0]


@pytest.mark.parametrize(("one", "others"), [((0, 0, 4), [(0, 0, 4, 4)]), ((0, 0, 4, 4), [(5, 5, -1, 2)]), ((0, 0, 4, 4), [1, 2])])
def test_what_is_no_box_is_refused(one, others):
    with pytest.raises(SettingsError, match="width, height"):
        box_iou(one, others)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_boxes_of_a_label_map_are_tight(seed):
    rng = np.random.default_rng(seed)
    label_map = rng.choice([0, 3, 255, 70_000], (6, 5), p=[0.7, 0.1, 0.1, 0.1])
    boxes = label_boxes(label_map, leave_out=(0, 255))
    assert list(boxes) == [value for value in (3, 70_000) if (label_map == value).any()]
    for value, (x, y, width, height) in boxes.items():
        rows, columns = np.nonzero(label_map == value)
        assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_a_mask_has_one_box_an_empty_one_none_and_a_full_one_the_picture():
    mask = np.zeros((5, 8), dtype=bool)
    assert label_boxes(mask) == {}
    mask[2, 3] = True
    assert label_boxes(mask) == {1: (3, 2, 1, 1)}
    assert label_boxes(~mask[:2]) == {1: (0, 0, 8, 2)}


def test_a_map_of_fractions_has_no_boxes():
    with pytest.raises(SettingsError, match="integers"):
        label_boxes(np.zeros((2, 2)))  # type: ignore[arg-type]
