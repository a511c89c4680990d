"""Hungarian matching: permuted truth is perfect, the assignment is the best of all, spare segments as each mode says."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import SettingsError
from maskwright.evaluation.confusion import class_iou, count_pixels, mean_iou, pixel_accuracy
from maskwright.evaluation.matching import assign_segments, contingency, count_overlaps, matched_counts, matched_mean_iou


def per_picture(pairs, *, classes, spare="wrong"):
    return sum(matched_counts(count_overlaps(truth, predicted, classes=classes), spare=spare) for truth, predicted in pairs)


def over_set(pairs, *, classes, segments, spare="wrong"):
    overlaps = sum(count_overlaps(truth, predicted, classes=classes, segments=segments) for truth, predicted in pairs)
    return matched_counts(overlaps, spare=spare)


def random_maps(seed, *, classes, segments, shape=(6, 8)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape)
    return truth, np.where(rng.random(shape) < 0.5, truth % segments, rng.integers(0, segments, shape))


@pytest.mark.parametrize("spare", ["wrong", "published"])
def test_permuted_truth_is_perfect_under_both_protocols(spare):
    pairs = []
    for seed in range(3):
        truth = np.concatenate([np.arange(5), np.random.default_rng(seed).integers(0, 5, 40)])
        pairs.append((truth, np.array([3, 0, 4, 1, 2])[truth]))
    for counts in (per_picture(pairs, classes=5, spare=spare), over_set(pairs, classes=5, segments=5, spare=spare)):
        assert (mean_iou(counts), pixel_accuracy(counts)) == (1, 1)


def test_numbers_that_change_from_picture_to_picture_are_perfect_per_picture_only():
    truth = np.array([0, 0, 1, 1])
    pairs = [(truth, truth), (truth, 1 - truth)]
    assert pixel_accuracy(per_picture(pairs, classes=2)) == 1
    assert pixel_accuracy(over_set(pairs, classes=2, segments=2)) == 0.5


def test_nothing_predicted_gives_0():
    truth = np.array([0, 1, 1])
    counts = per_picture([(truth, np.full(3, -1))], classes=2)
    assert (mean_iou(counts), pixel_accuracy(counts)) == (0, 0)


def test_a_shifted_prediction_gives_the_value_known_by_hand():
    truth = np.repeat([[0, 0, 0, 1, 1, 1]], 2, 0)
    counts = per_picture([(truth, 1 - np.roll(truth, 1, 1))], classes=2)
    np.testing.assert_allclose(class_iou(counts), [0.5, 0.5])
    assert pixel_accuracy(counts) == pytest.approx(2 / 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5))
def test_no_other_assignment_matches_more_pixels(seed, classes, segments):
    truth, predicted = random_maps(seed, classes=classes, segments=segments)
    overlaps = count_overlaps(truth, predicted, classes=classes, segments=segments)
    candidates = itertools.permutations([*range(classes), *[classes] * segments], segments)
    best = max(sum(overlaps[c, s] for s, c in enumerate(chosen) if c < classes) for chosen in candidates)
    for spare in ("wrong", "published"):
        counts = matched_counts(overlaps, spare=spare)
        assert counts.diagonal().sum() == best
        assert counts.sum() == truth.size
        np.testing.assert_array_equal(counts.sum(1), np.bincount(truth.ravel(), minlength=classes))


def test_matched_counts_are_those_of_the_renamed_map():
    truth, predicted = random_maps(4, classes=4, segments=6)
    overlaps = count_overlaps(truth, predicted, classes=4)
    renamed = assign_segments(overlaps)[predicted]
    np.testing.assert_array_equal(matched_counts(overlaps), count_pixels(truth, renamed, classes=4))


def test_a_spare_segment_is_wrong_for_its_truth_only_when_clean():
    truth = np.array([0, 0, 0, 1, 1])
    predicted = np.array([0, 0, 2, 1, 1])  # class 0 is in two segments; class 2 is not in the picture
    np.testing.assert_array_equal(per_picture([(truth, predicted)], classes=3), [[2, 0, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0]])


def test_a_spare_segment_goes_to_an_absent_class_as_published():
    truth, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 2, 1, 1])
    counts = per_picture([(truth, predicted)], classes=3, spare="published")
    np.testing.assert_array_equal(counts, [[2, 0, 1, 0], [0, 2, 0, 0], [0, 0, 0, 0]])
    there = (np.array([2, 2]), np.array([0, 0]))  # elsewhere in the set, where it is found, the class pays for it
    np.testing.assert_allclose(class_iou(counts + per_picture([there], classes=3, spare="published")), [2 / 3, 1, 2 / 3])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 8))
def test_published_counts_are_those_of_diffsegs_evaluation(seed, classes, segments):
    from scipy.optimize import linear_sum_assignment

    truth, predicted = random_maps(seed, classes=classes, segments=segments)
    truth[truth == 1] = 255  # a class that is not in the picture, and pixels that are not scored
    overlap = np.zeros((classes, max(classes, predicted.max() + 1)), dtype=np.int64)
    for c, s in itertools.product(range(classes), range(segments)):
        if s < overlap.shape[1]:
            overlap[c, s] = ((truth == c) & (predicted == s)).sum()
    _, own = linear_sum_assignment(overlap, maximize=True)
    true_positive = overlap[np.arange(classes), own]
    counts = per_picture([(truth, predicted)], classes=classes, spare="published")
    np.testing.assert_array_equal(counts.diagonal(), true_positive)
    np.testing.assert_array_equal(counts[:, :classes].sum(0), overlap[:, own].sum(0))  # with the false positives
    np.testing.assert_array_equal(counts.sum(1), overlap.sum(1))  # with the false negatives


@pytest.mark.parametrize("spare", ["wrong", "published"])
def test_more_segments_than_classes_leave_some_without_a_class(spare):
    overlaps = count_overlaps(np.zeros(6, dtype=int), np.array([0, 0, 0, 1, 1, 2]), classes=1)
    assert assign_segments(overlaps, spare=spare).tolist() == [0, 1, 1]
    assert matched_counts(overlaps, spare=spare).tolist() == [[3, 3]]


def test_ignored_pixels_count_nowhere():
    truth, predicted = np.array([0, 0, 1, 255, 255, -1]), np.array([1, 1, 0, 0, 0, 0])
    counts = per_picture([(truth, predicted)], classes=2)
    assert counts.sum() == 3
    assert pixel_accuracy(counts) == 1
    regions = contingency(np.array([7, 7, 9, 255]), np.array([1, 1, 0, 2]), ignore=255)
    assert regions.tolist() == [[0, 2], [1, 0]]


def test_halves_of_a_set_add_up_to_the_whole_bit_by_bit():
    pairs = [random_maps(seed, classes=4, segments=5) for seed in range(6)]
    whole = per_picture(pairs, classes=4)
    np.testing.assert_array_equal(per_picture(pairs[::2], classes=4) + per_picture(pairs[1::2], classes=4), whole)
    overlaps = [count_overlaps(*pair, classes=4, segments=5) for pair in pairs]
    np.testing.assert_array_equal(matched_counts(sum(overlaps[:2]) + sum(overlaps[2:])), matched_counts(sum(overlaps)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_matched_mean_iou_is_the_best_over_all_one_to_one_assignments(seed, regions, segments):
    truth, predicted = random_maps(seed, classes=regions, segments=segments)
    values, own = np.unique(truth), list(np.unique(predicted))

    def iou(region, segment):
        return (
            0
            if segment is None
            else ((truth == region) & (predicted == segment)).sum() / ((truth == region) | (predicted == segment)).sum()
        )

    choices = itertools.permutations([*own, *[None] * len(values)], len(values))
    best = max(np.mean([iou(region, segment) for region, segment in zip(values, choice, strict=True)]) for choice in choices)
    assert matched_mean_iou(contingency(truth * 1000, -predicted)) == pytest.approx(best)


def test_single_pixels_and_full_maps_give_numbers_and_only_no_pixel_at_all_gives_nan():
    one = np.zeros((1, 1), dtype=int)
    assert matched_mean_iou(contingency(one, one)) == 1
    assert mean_iou(per_picture([(one, one)], classes=3, spare="published")) == 1
    nothing = contingency(one, one, ignore=0)
    assert nothing.shape == (0, 0) and math.isnan(matched_mean_iou(nothing))
    assert per_picture([(one - 1, one)], classes=2).sum() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: count_overlaps(np.zeros((2, 3), dtype=int), np.zeros((3, 2), dtype=int), classes=2), "differ in shape"),
        (lambda: count_overlaps(np.zeros(3, dtype=int), np.full(3, 5), classes=2, segments=5), "raise `segments`"),
        (lambda: assign_segments(np.zeros((2, 3), dtype=int), spare="largest"), "wrong, published"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_matched_is_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        wrong()
