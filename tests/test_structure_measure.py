"""S-, E-measure and weighted F: pysodmetrics' values, the definitions spelled out, and the cases known by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import SettingsError
from maskwright.evaluation.saliency import count_saliency, e_curves, join_counts, saliency_scores
from maskwright.evaluation.structure import join_structure, measure_structure, s_measure, structure_scores, weighted_f

ROWS, COLUMNS = np.mgrid[:40, :56]
WAVE = 0.5 + 0.3 * np.sin(0.35 * COLUMNS) + 0.2 * np.cos(0.23 * ROWS + 0.05 * COLUMNS)
DISC = (ROWS - 17) ** 2 + (COLUMNS - 25) ** 2 < 130
BARS = COLUMNS % 9 < 4
PICTURES = {
    "smooth": (0.55 * DISC + 0.45 * WAVE, DISC),
    "shifted": (np.roll(DISC, (3, -6), (0, 1)) * (0.6 + 0.4 * WAVE), DISC),
    "inverted": (1 - 0.8 * DISC - 0.2 * WAVE, DISC),
    "edge": (WAVE, COLUMNS + 2 * ROWS < 30),
    "bars": (np.where(BARS, 0.9, 0.2) * WAVE, BARS & (ROWS > 11)),
}
# Computed once with pysodmetrics 1.6.2 (Smeasure, WeightedFmeasure, Emeasure; normalize=False) on these pictures, rounded to
# 8 bits. It divides E by one pixel less than there are.
PYSODMETRICS = {  # S, weighted F, maximal, mean and adaptive E
    "smooth": (0.803077, 0.470424, 1.000447, 0.645842, 0.984691),
    "shifted": (0.639426, 0.592196, 0.883507, 0.798502, 0.878510),
    "inverted": (0.000000, 0.024934, 0.690847, 0.076372, 0.290765),
    "edge": (0.356824, 0.142370, 0.849602, 0.386252, 0.504072),
    "bars": (0.654458, 0.519610, 0.841241, 0.521516, 0.684555),
}


def eight_bits(name):
    probability, truth = PICTURES[name]
    return np.round(probability.clip(0, 1) * 255) / 255, truth


def random_pair(seed, *, shape=(7, 9)):
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < rng.uniform(0.1, 0.9)
    truth.flat[:2] = True, False
    return np.round((0.5 * rng.random(shape) + 0.5 * truth) * 255) / 255, truth


@pytest.mark.parametrize("name", PICTURES)
def test_all_three_measures_are_those_of_pysodmetrics(name):
    probability, truth = eight_bits(name)
    e = saliency_scores(count_saliency(probability, truth))
    more = truth.size / (truth.size - 1)
    ours = (s_measure(probability, truth), weighted_f(probability, truth), e.max_e * more, e.mean_e * more, e.adaptive_e * more)
    assert ours == pytest.approx(PYSODMETRICS[name], abs=1e-6)


def e_by_pixels(predicted, truth):
    """The definition, with whole matrices; both masks have both values."""
    one, other = predicted - predicted.mean(), truth - truth.mean()
    return ((1 + 2 * one * other / (one**2 + other**2)) ** 2 / 4).mean()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_e_is_its_definition_at_every_threshold(seed):
    probability, truth = random_pair(seed)
    levels = np.round(probability * 255)
    counts = count_saliency(probability, truth)
    for threshold in range(int(levels.min()) + 1, int(levels.max()) + 1, 7):
        expected = e_by_pixels(levels >= threshold, truth)
        assert e_curves(counts)[0, threshold] == pytest.approx(expected)
    adaptive = probability >= min(2 * probability.mean(), 1)
    if adaptive.any():
        assert saliency_scores(counts).adaptive_e == pytest.approx(e_by_pixels(adaptive, truth))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_s_is_its_definition(seed):
    probability, truth = random_pair(seed)

    def objects(values):
        return 2 * values.mean() / (values.mean() ** 2 + 1 + (values.std(ddof=1) if len(values) > 1 else 0))

    def ssim(one, other):
        (a, both), (_, b) = np.cov(one.ravel(), other.ravel()) if one.size > 1 else np.zeros((2, 2))
        below = (one.mean() ** 2 + other.mean() ** 2) * (a + b)
        return 4 * one.mean() * other.mean() * both / below if below else 1

    centre = [int(np.round(where.mean())) + 1 for where in np.nonzero(truth)]
    regions = 0
    for top, bottom in ((0, centre[0]), (centre[0], 7)):
        for left, right in ((0, centre[1]), (centre[1], 9)):
            one, other = probability[top:bottom, left:right], truth[top:bottom, left:right].astype(float)
            regions += one.size / truth.size * ssim(one, other) if one.size else 0
    sides = truth.mean() * objects(probability[truth]) + (1 - truth.mean()) * objects(1 - probability[~truth])
    assert s_measure(probability, truth) == pytest.approx(max(0.5 * sides + 0.5 * regions, 0))
    assert s_measure(probability, truth, alpha=1) == pytest.approx(sides)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_weighted_f_is_its_definition(seed, inside):
    probability, truth = random_pair(seed)
    probability[truth] = inside  # so that it does not matter which of several nearest pixels counts
    error = np.abs(probability - truth)
    spread = np.where(truth, error, 1 - inside)
    kernel = np.exp(-(np.arange(-3, 4)[:, None] ** 2 + np.arange(-3, 4) ** 2) / 50)
    padded = np.pad(spread, 3)
    inner, outer = [], []
    for y, x in np.ndindex(truth.shape):
        if truth[y, x]:
            inner.append(min(error[y, x], (padded[y : y + 7, x : x + 7] * kernel).sum() / kernel.sum()))
        else:
            distance = min(math.dist((y, x), pixel) for pixel in np.argwhere(truth))
            outer.append(error[y, x] * (2 - math.exp(math.log(0.5) / 5 * distance)))
    recall, precision = 1 - np.mean(inner), (len(inner) - sum(inner)) / (len(inner) - sum(inner) + sum(outer))
    assert weighted_f(probability, truth) == pytest.approx(2 * recall * precision / (recall + precision))


def test_a_perfect_prediction_gives_1():
    result, e = measure_structure(DISC.astype(float), DISC), saliency_scores(count_saliency(DISC.astype(float), DISC))
    assert (result.s_measure[0], result.weighted_f[0], e.max_e, e.adaptive_e) == pytest.approx((1, 1, 1, 1))
    assert e.mean_e == pytest.approx((255 + 1 / 4) / 256)  # at threshold 0 all is foreground


def test_an_empty_prediction_of_an_object_gives_0_or_a_quarter():
    nothing = np.zeros(DISC.shape)
    e = saliency_scores(count_saliency(nothing, DISC))
    assert (e.max_e, e.mean_e, e.adaptive_e) == (0.25, 0.25, 0.25)
    assert weighted_f(nothing, DISC) == pytest.approx(0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3)])
@pytest.mark.parametrize(("value", "truth", "right"), [(0, False, 1), (0, True, 0), (1, False, 0), (1, True, 1)])
def test_empty_and_full_truths_give_what_is_right(shape, value, truth, right):
    probability, mask = np.full(shape, float(value)), np.full(shape, truth)
    assert s_measure(probability, mask) == saliency_scores(count_saliency(probability, mask)).adaptive_e == right
    assert 0 <= weighted_f(probability, mask) <= 1
    if not truth or right:
        assert weighted_f(probability, mask) == pytest.approx(right)


@pytest.mark.parametrize(("y", "x"), [(0, 0), (4, 6), (4, 0), (2, 6)])
def test_an_object_of_one_pixel_in_a_corner_gives_numbers(y, x):
    truth = np.zeros((5, 7), dtype=bool)
    truth[y, x] = True
    assert s_measure(truth.astype(float), truth) == pytest.approx(1)
    assert 0 < s_measure(np.full((5, 7), 0.4), truth) < 1


@pytest.mark.parametrize("value", np.linspace(0, 1, 11))
def test_constant_regions_are_alike_whatever_their_mean_is_rounded_to(value):
    truth = np.zeros((9, 9), dtype=bool)
    truth[4, 4] = True  # in the upper left region of 25 pixels; truth and prediction are constant in the other three
    sides = (2 * value / (value**2 + 1) + 80 * 2 * (1 - value) / ((1 - value) ** 2 + 1)) / 81
    assert s_measure(np.full((9, 9), value), truth) == pytest.approx((sides + 56 / 81) / 2)


def test_halves_of_a_set_join_to_the_whole_bit_by_bit_in_any_order():
    pairs = [random_pair(seed) for seed in range(7)]
    rows, counts = [measure_structure(*pair) for pair in pairs], [count_saliency(*pair) for pair in pairs]
    whole = structure_scores(join_structure(rows))
    assert structure_scores(join_structure([join_structure(rows[1::2]), join_structure(rows[::2])])) == whole
    assert whole.pictures == 7
    assert whole.s_measure == pytest.approx(np.mean([s_measure(*pair) for pair in pairs]))
    assert saliency_scores(join_counts(counts[::-1])) == saliency_scores(join_counts(counts))


def test_a_set_without_pictures_has_no_score():
    result, e = structure_scores(join_structure([])), saliency_scores(join_counts([]))
    assert result.pictures == 0
    assert np.isnan([result.s_measure, result.weighted_f, e.max_e, e.mean_e, e.adaptive_e]).all()


@pytest.mark.parametrize("measure", [s_measure, weighted_f, measure_structure])
def test_what_cannot_be_measured_is_refused(measure):
    with pytest.raises(SettingsError, match="same size"):
        measure(np.zeros((2, 3)), np.zeros((3, 2), dtype=bool))
    with pytest.raises(SettingsError, match="scale or clip"):
        measure(np.full((2, 2), 255.0), np.ones((2, 2), dtype=bool))
