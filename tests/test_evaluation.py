"""Metrics against values known by hand and against torchmetrics; the benchmark's bookkeeping."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import SettingsError
from maskwright.evaluation.confusion import (
    class_accuracy,
    class_iou,
    count_pixels,
    frequency_weighted_iou,
    mean_accuracy,
    mean_iou,
    mean_over_pictures,
    pixel_accuracy,
)


def test_perfect_empty_and_shifted():
    truth = np.repeat([[0, 0, 1, 1]], 4, 0)
    assert mean_iou(count_pixels(truth, truth, classes=3)) == 1.0
    assert mean_iou(count_pixels(truth, np.full_like(truth, -1), classes=3)) == 0.0
    shifted = np.roll(truth, 1, 1)  # each class: 4 hit of 12 in the union
    assert mean_iou(count_pixels(truth, shifted, classes=3)) == pytest.approx(4 / 12 * 1.0, abs=0.2)
    np.testing.assert_allclose(class_iou(count_pixels(truth, shifted, classes=2)), [1 / 3, 1 / 3])


def test_ignored_pixels_count_nowhere():
    truth, predicted = np.array([0, 1, 255, 255]), np.array([0, 1, 0, 1])
    counts = count_pixels(truth, predicted, classes=2)
    assert counts.sum() == 2
    assert pixel_accuracy(counts) == 1.0


def test_a_prediction_outside_of_the_classes_is_wrong_for_the_truth_only():
    counts = count_pixels(np.array([0, 0, 1]), np.array([0, -1, 1]), classes=2)
    np.testing.assert_allclose(class_iou(counts), [0.5, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_agrees_with_torchmetrics(seed, classes):
    from torchmetrics import JaccardIndex

    rng = np.random.default_rng(seed)
    truth, predicted = (np.concatenate([np.arange(classes), rng.integers(0, classes, 60)]) for _ in range(2))
    truth[-5:] = 255
    ours = sum(count_pixels(half, other, classes=classes) for half, other in zip(
        np.array_split(truth, 2), np.array_split(predicted, 2), strict=True
    ))  # fmt: skip
    oracle = JaccardIndex(task="multiclass", num_classes=classes, average="macro", ignore_index=255)
    assert mean_iou(ours) == pytest.approx(float(oracle(torch.tensor(predicted), torch.tensor(truth))), abs=1e-6)


HALF_RIGHT = count_pixels(np.array([0, 0, 0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 2, -1, 1, 1]), classes=4)


def test_weighted_iou_and_accuracies_known_by_hand():
    # Class 0: 3 of 6 hit, nothing invented. Class 1: 2 of 2, one invented. Class 2 is only predicted, 3 is nowhere.
    np.testing.assert_allclose(class_iou(HALF_RIGHT), [3 / 6, 2 / 3, 0, np.nan])
    np.testing.assert_allclose(class_accuracy(HALF_RIGHT), [3 / 6, 1, np.nan, np.nan])
    assert mean_accuracy(HALF_RIGHT) == pytest.approx((3 / 6 + 1) / 2)
    assert frequency_weighted_iou(HALF_RIGHT) == pytest.approx(6 / 8 * 3 / 6 + 2 / 8 * 2 / 3)
    assert pixel_accuracy(HALF_RIGHT) == 5 / 8


def test_a_class_that_is_only_predicted_is_skipped_or_counts_as_0():
    assert mean_iou(HALF_RIGHT) == pytest.approx((3 / 6 + 2 / 3) / 2)
    assert mean_iou(HALF_RIGHT, only_predicted="zero") == pytest.approx((3 / 6 + 2 / 3 + 0) / 3)
    with pytest.raises(SettingsError, match="skip, zero"):
        mean_iou(HALF_RIGHT, only_predicted="nan")  # type: ignore[arg-type]


def test_pixels_in_no_class_are_a_class_of_their_own_only_where_asked_for_and_there():
    assert mean_iou(HALF_RIGHT, spare_class=True) == pytest.approx((3 / 6 + 2 / 3 + 0) / 3)
    perfect = count_pixels(np.array([0, 1]), np.array([0, 1]), classes=2)
    assert mean_iou(perfect, spare_class=True) == 1


def test_without_scored_pixels_every_mean_is_nan():
    nothing = count_pixels(np.array([255]), np.array([0]), classes=2)
    values = [mean_iou(nothing), mean_iou(nothing, only_predicted="zero", spare_class=True), frequency_weighted_iou(nothing)]
    assert np.isnan([*values, mean_accuracy(nothing), pixel_accuracy(nothing), mean_over_pictures([])]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_every_mean_over_classes_agrees_with_torchmetrics(seed, classes):
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(1, classes, 40), rng.integers(0, classes, 40)  # class 0 is only predicted, if at all
    counts = count_pixels(truth, predicted, classes=classes)
    pair, options = (torch.tensor(predicted), torch.tensor(truth)), {"num_classes": classes}
    macro, weighted = (float(multiclass_jaccard_index(*pair, **options, average=kind)) for kind in ("macro", "weighted"))
    assert mean_iou(counts, only_predicted="zero") == pytest.approx(macro, abs=1e-6)
    assert frequency_weighted_iou(counts) == pytest.approx(weighted, abs=1e-6)
    by_class = multiclass_accuracy(*pair, **options, average="none")
    assert mean_accuracy(counts) == pytest.approx(float(by_class[np.unique(truth)].mean()), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_mean_iou_of_pictures_agrees_with_torchmetrics(seed, classes):
    from torchmetrics.functional.segmentation import mean_iou as oracle

    truth, predicted = np.random.default_rng(seed).integers(0, classes, (2, 3, 4, 5))
    pictures = [count_pixels(*pair, classes=classes) for pair in zip(truth, predicted, strict=True)]
    ours = mean_over_pictures(mean_iou(counts, only_predicted="zero") for counts in pictures)
    own = oracle(torch.tensor(predicted), torch.tensor(truth), num_classes=classes, input_format="index")
    assert ours == pytest.approx(float(own.mean()), abs=1e-6)


def test_pictures_weigh_the_same_in_any_order_and_those_without_pixels_not_at_all():
    rows = [0.1, 0.2, 0.3, 0.7, 1e-9]
    assert mean_over_pictures([*rows, float("nan")]) == mean_over_pictures(rows[::-1]) == pytest.approx(sum(rows) / 5)
