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


def diffcut_counts(truth, predicted, *, classes):
    """What DiffCut's evaluation counts as right, of each class: the steps of the published code, the background is the last class."""
    from scipy.optimize import linear_sum_assignment

    def overlap(segments, rows):
        table = [[((truth == c) & (segments == s)).sum() for s in range(max(rows, segments.max() + 1))] for c in range(rows)]
        return np.array(table), linear_sum_assignment(table, maximize=True)[1]

    table, own = overlap(predicted, classes - 1)
    taken = [own[c] for c in range(classes - 1) if table[c, own].max() > 0]
    merged = np.where(np.isin(predicted, taken), predicted, predicted.max() + 1)
    table, own = overlap(merged, classes)
    return table[np.arange(classes), own], table[:, own].sum(0), table.sum(1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 9), st.booleans())
def test_merged_background_counts_are_those_of_diffcuts_evaluation(seed, classes, segments, absent):
    truth, predicted = random_maps(seed, classes=classes, segments=segments)
    if absent:
        truth[truth == 0] = classes - 1
    overlaps = count_overlaps(truth, predicted, classes=classes)
    counts = matched_counts(overlaps, spare="background", background=classes - 1)
    right, found, there = diffcut_counts(truth, predicted, classes=classes)
    np.testing.assert_array_equal(counts.diagonal(), right)
    np.testing.assert_array_equal(counts[:, :classes].sum(0), found)
    np.testing.assert_array_equal(counts.sum(1), there)


def test_segments_that_no_object_takes_become_one_background():
    truth = np.array([0, 0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 3, 3, 4, 1, 1, 2])  # the background is in three segments
    overlaps = count_overlaps(truth, predicted, classes=3)
    assert assign_segments(overlaps, spare="background", background=0).tolist() == [0, 1, 2, 0, 0]
    assert mean_iou(matched_counts(overlaps, spare="background", background=0)) == 1
    assert mean_iou(matched_counts(overlaps)) == pytest.approx((2 / 4 + 1 + 1) / 3)


def test_the_number_of_the_background_does_not_matter():
    truth, predicted = random_maps(11, classes=4, segments=7)
    last = count_overlaps(truth, predicted, classes=4)
    first = count_overlaps((truth + 1) % 4, predicted, classes=4)
    renamed = (assign_segments(last, spare="background", background=3) + 1) % 4
    np.testing.assert_array_equal(assign_segments(first, spare="background", background=0), renamed)


def stego_scores(pairs, *, classes, clusters):
    """Mean IoU and accuracy by the steps of STEGO's published metric, with extra clusters."""
    from scipy.optimize import linear_sum_assignment

    stats = np.zeros((clusters, classes), dtype=np.int64)
    for truth, predicted in pairs:
        scored = (truth >= 0) & (truth < classes) & (predicted >= 0) & (predicted < classes)
        np.add.at(stats, (predicted[scored], truth[scored]), 1)
    own = linear_sum_assignment(stats.T, maximize=True)[1]
    spare = np.setdiff1d(np.arange(clusters), own)
    table = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    table[:classes, :classes], table[classes, :classes] = stats[own], stats[spare].sum(0)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return (table.diagonal()[union > 0] / union[union > 0]).mean(), table.diagonal().sum() / table.sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 4))
def test_extra_clusters_score_as_in_stegos_metric(seed, classes, extra):
    clusters = classes + extra
    pairs = [random_maps(seed + k, classes=classes, segments=clusters) for k in range(3)]
    for truth, predicted in pairs:
        truth[0, :3], predicted[-1, :2] = 255, -1
    pairs = [(np.where(truth == 0, 1, truth), predicted) for truth, predicted in pairs]  # the set lacks a class: some is spare
    counts = over_set(pairs, classes=classes, segments=clusters, spare="stego")
    mean, accuracy = stego_scores(pairs, classes=classes, clusters=clusters)
    assert mean_iou(counts, only_predicted="zero", spare_class=True) == pytest.approx(mean)
    assert pixel_accuracy(counts) == pytest.approx(accuracy)


def test_stego_leaves_out_clusters_numbered_past_the_classes_and_published_counts_them():
    truth, predicted = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 3, 1, 1, -1])
    overlaps = count_overlaps(truth, predicted, classes=2, segments=4)
    np.testing.assert_array_equal(matched_counts(overlaps, spare="stego"), [[2, 0, 0], [0, 2, 0]])
    counts = matched_counts(overlaps, spare="published")
    np.testing.assert_array_equal(counts, [[2, 0, 1], [0, 2, 1]])
    assert mean_iou(counts) == pytest.approx(2 / 3)
    assert mean_iou(counts, spare_class=True) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_as_many_clusters_as_classes_are_matched_alike_by_stego_and_published():
    overlaps = count_overlaps(*random_maps(3, classes=4, segments=4), classes=4)
    np.testing.assert_array_equal(matched_counts(overlaps, spare="stego"), matched_counts(overlaps, spare="published"))


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
        (lambda: assign_segments(np.zeros((2, 3), dtype=int), spare="background"), "set `background`"),
        (lambda: matched_counts(np.zeros((2, 3), dtype=int), spare="background", background=2), "0..1"),
    ],
)
def test_what_cannot_be_matched_is_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        wrong()
