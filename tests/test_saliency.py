"""Saliency metrics: values known by hand, the definitions spelled out, and sets that add up to the last bit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import SettingsError
from maskwright.evaluation.saliency import (
    SaliencyCounts,
    SaliencyScores,
    count_saliency,
    f_curves,
    join_counts,
    saliency_scores,
)


def random_pair(seed: int, *, bits: int | None = 8, shape: tuple[int, int] = (9, 7)) -> tuple[np.ndarray, np.ndarray]:
    """A probability that spans 0..1 (in 8 bits, or any float) and half informs about a mask that is neither empty nor full."""
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < 0.4
    truth.flat[:2] = True, False
    probability = 0.5 * rng.random(shape) + 0.5 * (truth if rng.random() < 0.8 else ~truth)
    probability.flat[2:4] = 0, 1
    return (np.round(probability * 255) / 255 if bits == 8 else probability), truth


def score(probability: np.ndarray, truth: np.ndarray) -> SaliencyScores:
    return saliency_scores(count_saliency(probability.astype(float), truth))


def f_measure(predicted: np.ndarray, truth: np.ndarray, beta_squared: float) -> float:
    """The definition, by precision and recall."""
    hit = (predicted & truth).sum()
    if not hit:
        return 0.0
    precision, recall = hit / predicted.sum(), hit / truth.sum()
    return (1 + beta_squared) * precision * recall / (beta_squared * precision + recall)


def test_a_perfect_prediction_gives_1_everywhere_and_no_error():
    truth = np.arange(12).reshape(3, 4) < 5
    result = score(truth, truth)
    assert (result.iou, result.accuracy, result.mae, result.max_f_tokencut, result.max_f_selfmask) == (1, 1, 0, 1, 1)
    assert result.mean_f == pytest.approx((255 + f_measure(np.ones_like(truth), truth, 0.3)) / 256)


def test_an_empty_prediction_gives_0_and_the_error_is_the_foreground():
    truth = np.arange(12).reshape(3, 4) < 3
    result = score(np.zeros((3, 4)), truth)
    assert (result.iou, result.max_f_tokencut, result.max_f_selfmask) == (0, 0, 0)
    assert (result.accuracy, result.mae) == (0.75, 0.25)


def test_a_shifted_prediction_gives_the_values_known_by_hand():
    truth = np.repeat([[1, 1, 1, 0, 0, 0]], 2, 0).astype(bool)
    result = score(np.roll(truth, 1, 1), truth)  # a third of the object is missed, as much is invented: P = R = 2 / 3
    assert result.iou == pytest.approx(1 / 2)
    assert result.accuracy == pytest.approx(2 / 3)
    assert (result.max_f_tokencut, result.max_f_selfmask) == pytest.approx((2 / 3, 2 / 3))


def test_precision_9_and_recall_6_tenths_give_the_published_f():
    truth, predicted = np.zeros((2, 10, 10), dtype=bool)
    truth.flat[:90] = True
    predicted.flat[:54] = predicted.flat[94:] = True  # 60 predicted, 54 of them true, 90 to be found
    result = score(predicted, truth)
    assert result.max_f_tokencut == pytest.approx(0.8069, abs=5e-5)
    assert result.max_f_selfmask == pytest.approx(0.8643, abs=5e-5)


def test_tokencut_takes_the_maximum_of_the_mean_and_selfmask_the_mean_of_the_maxima():
    truth = np.array([[True, False]])
    low, high = np.array([[0.3, 0.1]]), np.array([[0.9, 0.7]])  # each has its own perfect threshold, and no common one
    result = saliency_scores(join_counts([count_saliency(low, truth), count_saliency(high, truth)]))
    assert result.max_f_selfmask == 1
    # Below 0.1 both pictures call everything foreground; in 0.1..0.3 one of them does: P = 1 / 2, R = 1.
    assert result.max_f_tokencut == pytest.approx((1 + 1.3 * 0.5 / (0.3 * 0.5 + 1)) / 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_thresholds_1_to_255_are_those_of_tokencut_and_selfmask(seed):
    probability, truth = random_pair(seed, bits=None)
    by_definition = [f_measure(probability * 255 - 1e-4 > k, truth, 0.3) for k in range(255)]  # the slack of a rounded level
    np.testing.assert_allclose(f_curves(count_saliency(probability, truth), beta_squared=0.3)[0, 1:], by_definition, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_curve_mean_f_and_error_on_8_bits_are_those_of_pysodmetrics(seed):
    pairs = [random_pair(seed), random_pair(seed + 1)]
    curves = [[f_measure(np.round(p * 255) >= t, truth, 0.3) for t in range(256)] for p, truth in pairs]
    counts = join_counts(count_saliency(p, truth) for p, truth in pairs)
    result = saliency_scores(counts)
    np.testing.assert_allclose(f_curves(counts, beta_squared=0.3), curves, atol=1e-12)
    assert result.mean_f == pytest.approx(np.mean(curves))
    assert result.mae == pytest.approx(np.mean([np.abs(p - truth).mean() for p, truth in pairs]))


def test_8_bit_values_keep_their_level_in_single_precision():
    values = (np.arange(256, dtype=np.float32) / np.float32(255))[None]
    counts = count_saliency(values, np.ones((1, 256), dtype=bool))
    assert counts.predicted[0].tolist() == list(range(256, 0, -1))


def test_exactly_one_half_is_background():
    assert score(np.array([[0.5]]), np.array([[True]])).iou == 0
    assert score(np.array([[np.nextafter(0.5, 1)]]), np.array([[True]])).iou == 1


def test_halves_of_a_set_join_to_the_whole_bit_by_bit_in_any_order():
    parts = [count_saliency(*random_pair(seed, bits=None)) for seed in range(11)]
    whole = saliency_scores(join_counts(parts))
    assert saliency_scores(join_counts([join_counts(parts[:5]), join_counts(parts[5:])])) == whole
    assert saliency_scores(join_counts([join_counts(parts[1::2]), join_counts(parts[::2])])) == whole


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize(("probability", "truth", "iou"), [(0, False, 1), (0, True, 0), (1, False, 0), (1, True, 1)])
def test_single_pixel_empty_and_full_masks_give_numbers(shape, probability, truth, iou):
    result = score(np.full(shape, probability), np.full(shape, truth))
    values = [result.iou, result.accuracy, result.mae, result.max_f_tokencut, result.max_f_selfmask, result.mean_f]
    assert all(0 <= value <= 1 for value in values)
    assert result.iou == result.accuracy == 1 - result.mae == iou
    assert result.max_f_tokencut == result.max_f_selfmask == iou


def test_a_set_without_pictures_has_no_score():
    result = saliency_scores(join_counts([]))
    assert result.pictures == 0
    assert all(map(math.isnan, (result.iou, result.accuracy, result.mae, result.max_f_tokencut, result.max_f_selfmask, result.mean_f)))


def test_each_picture_weighs_the_same_whatever_its_size():
    large, small = np.zeros((40, 40), dtype=bool), np.ones((2, 2), dtype=bool)
    large[0] = True
    counts = join_counts([count_saliency(np.zeros((40, 40)), large), count_saliency(np.ones((2, 2)), small)])
    assert isinstance(counts, SaliencyCounts)
    assert saliency_scores(counts).iou == 0.5


@pytest.mark.parametrize(
    ("probability", "truth", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2), dtype=bool), "same size"),
        (np.zeros((2, 2)), np.full((2, 2), 255, dtype=np.uint8), "bool mask"),
        (np.zeros((0, 2)), np.zeros((0, 2), dtype=bool), "same size"),
        (np.full((2, 2), 255.0), np.zeros((2, 2), dtype=bool), "scale or clip"),
        (np.full((2, 2), np.nan), np.zeros((2, 2), dtype=bool), "NaN"),
    ],
)
def test_what_cannot_be_counted_is_refused(probability, truth, message):
    with pytest.raises(SettingsError, match=message):
        count_saliency(probability, truth)
