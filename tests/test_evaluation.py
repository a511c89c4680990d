"""Metrics against values known by hand and against torchmetrics; the benchmark's bookkeeping."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.evaluation.confusion import class_iou, count_pixels, mean_iou, pixel_accuracy


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
