"""Region metrics: values known by hand, the definitions spelled out over pairs of pixels, several annotators, any order."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import SettingsError
from maskwright.evaluation.covering import covering, rand_index, region_agreement, region_scores, variation_of_information
from maskwright.evaluation.matching import contingency

HALVES = np.array([[1, 1, 2, 2]])
QUARTERS = np.array([[1, 2, 3, 4]])
WHOLE = np.zeros((1, 4), dtype=int)


def random_map(seed, *, regions, shape=(4, 5)):
    return np.random.default_rng(seed).integers(0, regions, shape)


def measure(truth, predicted, **options):
    table = contingency(truth, predicted, **options)
    return covering(table), rand_index(table), variation_of_information(table)


def test_the_same_partition_under_other_numbers_is_perfect():
    truth = random_map(1, regions=4)
    assert measure(truth, np.array([40, -7, 0, 65_535])[truth]) == (1, 1, 0)


def test_one_segment_for_two_halves_gives_the_values_known_by_hand():
    # Each half is half of the segment; 2 of 6 pairs belong together; one bit says which half.
    assert measure(HALVES, WHOLE) == pytest.approx((1 / 2, 1 / 3, 1))
    assert measure(WHOLE, HALVES) == pytest.approx((1 / 2, 1 / 3, 1))


def test_covering_weighs_regions_by_their_pixels_and_is_not_symmetric():
    truth, predicted = np.array([1, 1, 1, 2]), np.array([1, 1, 2, 2])
    assert measure(truth, predicted)[0] == pytest.approx(3 / 4 * 2 / 3 + 1 / 4 * 1 / 2)
    assert measure(predicted, truth)[0] == pytest.approx(2 / 4 * 2 / 3 + 2 / 4 * 1 / 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_all_three_agree_with_their_definitions(seed, regions, segments):
    truth, predicted = random_map(seed, regions=regions), random_map(seed + 1, regions=segments)
    one, other = truth.ravel().tolist(), predicted.ravel().tolist()
    cover, rand, variation = measure(truth, predicted)

    def best(region):
        mask = truth == region
        return max((mask & (predicted == s)).sum() / (mask | (predicted == s)).sum() for s in set(other))

    def bits(labels):
        return -sum(n / len(one) * math.log2(n / len(one)) for n in Counter(labels).values())

    assert cover == pytest.approx(np.mean([best(region) for region in one]), abs=1e-9)
    pairs = list(itertools.combinations(range(len(one)), 2))
    assert rand == pytest.approx(np.mean([(one[i] == one[j]) == (other[i] == other[j]) for i, j in pairs]), abs=1e-9)
    mutual = bits(one) + bits(other) - bits(zip(one, other, strict=True))
    assert variation == pytest.approx(bits(one) + bits(other) - 2 * mutual, abs=1e-9)


def test_the_mean_is_over_annotators_and_the_best_is_the_one_that_suits_most():
    agreement = region_agreement([HALVES, QUARTERS], HALVES)
    assert agreement.covering.tolist() == [1, 0.5]
    assert agreement.rand == pytest.approx([1, 4 / 6])
    assert agreement.variation == pytest.approx([0, 1])
    assert agreement.iou.tolist() == [1, 0.25]  # two quarters have a segment each, at an IoU of 1 / 2
    scores = region_scores([agreement])
    assert (scores.covering, scores.covering_best, scores.covering_pooled) == pytest.approx((0.75, 1, 0.75))
    assert (scores.rand, scores.variation, scores.variation_best) == pytest.approx((5 / 6, 0.5, 0))
    assert (scores.iou, scores.iou_best) == pytest.approx((0.625, 1))


def test_pooled_covering_counts_a_picture_by_its_annotators_and_pixels():
    scores = region_scores([region_agreement([HALVES], HALVES), region_agreement([HALVES, HALVES, HALVES], WHOLE)])
    assert scores.covering == pytest.approx((1 + 0.5) / 2)
    assert scores.covering_pooled == pytest.approx((1 + 3 * 0.5) / 4)


def test_ignored_pixels_count_nowhere():
    truth, predicted = np.array([[1, 1, 2, 255]]), np.array([[5, 5, 6, 5]])
    assert measure(truth, predicted, ignore=255) == (1, 1, 0)
    assert region_agreement([truth], predicted, ignore=255).pixels.tolist() == [3]


def test_a_single_pixel_is_perfect_and_no_pixel_at_all_gives_nan():
    one = np.zeros((1, 1), dtype=int)
    assert measure(one, one) == (1, 1, 0)
    assert all(map(math.isnan, measure(one, one, ignore=0)))


def test_a_set_without_pictures_has_no_score():
    scores = region_scores([])
    assert scores.pictures == 0
    assert math.isnan(scores.covering) and math.isnan(scores.covering_pooled) and math.isnan(scores.variation_best)


def test_the_order_of_the_pictures_does_not_change_a_bit():
    pictures = [
        region_agreement([random_map(s, regions=4), random_map(s + 50, regions=3)], random_map(s + 100, regions=5)) for s in range(9)
    ]
    assert region_scores(pictures[::2] + pictures[1::2]) == region_scores(pictures[5:] + pictures[:5]) == region_scores(pictures)


def test_large_maps_do_not_overflow():
    side, other = 40_000**2, 10_000**2  # pixels; 1.7 gigapixels together
    table, total = np.array([[side, 3], [0, other]]), side + other + 3  # 3 pixels in the wrong segment disagree with all others
    assert rand_index(table) == pytest.approx(1 - 2 * 3 * (side + other) / (total * (total - 1)), rel=1e-15)


def test_no_annotation_and_other_sizes_are_refused():
    with pytest.raises(SettingsError, match="at least one"):
        region_agreement([], WHOLE)
    with pytest.raises(SettingsError, match="differ in shape"):
        region_agreement([WHOLE.T], WHOLE)
