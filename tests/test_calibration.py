"""Calibration error: values known by hand, torchmetrics, bins and their edges, and counts that add up."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import SettingsError
from maskwright.evaluation.calibration import calibration_error, count_confidence, reliability


def of(right, confidence, **options):
    """Counts of pixels of one class that are right or not."""
    right = np.asarray(right, dtype=bool)
    truth = np.zeros(right.shape, dtype=int)
    return count_confidence(truth, np.where(right, 0, 1), np.asarray(confidence, dtype=float), classes=2, **options)


def test_sure_and_right_is_0_and_sure_and_wrong_is_1():
    assert calibration_error(of([1, 1, 1], [1.0, 1.0, 1.0])) == 0
    assert calibration_error(of([0, 0, 0], [1.0, 1.0, 1.0])) == 1


def test_eight_of_ten_right_at_eight_tenths_is_calibrated():
    assert calibration_error(of([1] * 8 + [0] * 2, [0.8] * 10)) == pytest.approx(0, abs=1e-7)


def test_two_bins_give_the_value_known_by_hand():
    counts = of([1, 0, 1, 1, 1], [0.2, 0.4, 0.6, 0.9, 0.9], bins=2)
    np.testing.assert_allclose(reliability(counts), [[0.3, 0.5], [0.8, 1.0]], atol=1e-7)
    assert calibration_error(counts) == pytest.approx(2 / 5 * 0.2 + 3 / 5 * 0.2, abs=1e-7)


def test_errors_of_opposite_sign_cancel_within_a_bin_only():
    assert calibration_error(of([1, 0], [0.5, 0.5], bins=10)) == pytest.approx(0)
    assert calibration_error(of([1, 0], [0.45, 0.55], bins=10)) == pytest.approx(0.55)


def test_an_edge_belongs_to_the_bin_below_it():
    counts = of([1] * 6, [0.0, 0.1, 0.2, 0.20001, 0.8, 1.0], bins=5)
    assert counts[:, 0].tolist() == [3, 1, 0, 1, 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 20))
def test_agrees_with_torchmetrics(seed, classes, bins):
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), 200).astype(np.float32)
    truth = np.where(rng.random(200) < 0.5, probabilities.argmax(1), rng.integers(0, classes, 200))
    truth[:9] = 255
    counts = count_confidence(truth, probabilities.argmax(1), probabilities.max(1), classes=classes, bins=bins)
    oracle = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(truth), num_classes=classes, n_bins=bins, ignore_index=255
    )
    assert calibration_error(counts) == pytest.approx(float(oracle), abs=1e-6)


def test_halves_of_a_set_add_up_to_the_whole_bit_by_bit():
    rng = np.random.default_rng(3)
    right, confidence = rng.random((6, 50)) < 0.6, rng.random((6, 50))
    parts = [of(*pair) for pair in zip(right, confidence, strict=True)]
    np.testing.assert_array_equal(sum(parts[::2]) + sum(parts[1::2]), of(right, confidence))
    assert calibration_error(sum(reversed(parts))) == calibration_error(of(right, confidence))


def test_ignored_pixels_count_nowhere_and_no_class_is_wrong():
    truth, predicted, confidence = np.array([0, 255, -1, 1]), np.array([0, 0, 0, -1]), np.array([0.9, 0.9, np.nan, 0.3])
    counts = count_confidence(truth, predicted, confidence, classes=2, bins=2)
    assert counts[:, :2].tolist() == [[1, 0], [1, 1]]


def test_without_pixels_there_is_no_value():
    counts = of(np.zeros((0, 4)), np.zeros((0, 4)))
    assert counts.shape == (15, 3)
    assert math.isnan(calibration_error(counts))
    assert np.isnan(reliability(counts)).all()


@pytest.mark.parametrize(
    ("confidence", "bins", "message"),
    [([0.5], 15, "differ in shape"), ([0.5, 1.5], 15, "probabilities"), ([0.5, np.nan], 15, "NaN"), ([0.5, 0.5], 0, "at least 1")],
)
def test_what_cannot_be_counted_is_refused(confidence, bins, message):
    with pytest.raises(SettingsError, match=message):
        of([1, 0], confidence, bins=bins)
