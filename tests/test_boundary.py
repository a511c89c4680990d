"""Boundary IoU: the definition by distances, values known by hand, ignored pixels, and counts that add up."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maskwright.errors import SettingsError
from maskwright.evaluation.boundary import boundary_iou, count_boundary, mean_boundary_iou
from maskwright.evaluation.confusion import count_pixels, mean_iou


def random_maps(seed, *, classes, shape=(21, 16)):
    """Blocks of classes, shifted a little and with holes."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, classes, (3, 2)), np.ones((7, 8), dtype=int))
    predicted = np.where(rng.random(shape) < 0.05, rng.integers(-1, classes, shape), np.roll(truth, rng.integers(-2, 3, 2), (0, 1)))
    return truth, predicted


def band(mask, width):
    """Pixels of a mask at most `width` steps from outside of it; the picture lies in an outside."""
    return mask & (ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1] <= width)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([0.02, 0.08, 0.15, 0.5]))
def test_each_class_is_the_iou_of_bands_by_distance(seed, classes, ratio):
    truth, predicted = random_maps(seed, classes=classes)
    truth[5:8, 3:6] = 255
    width = max(round(ratio * math.sqrt(21**2 + 16**2)), 1)
    valid = truth != 255
    expected = []
    for c in range(classes):
        one, other = band(truth == c, width), band((predicted == c) & valid, width)
        expected.append((one & other).sum() / (one | other).sum() if (one | other).any() else np.nan)
    np.testing.assert_allclose(boundary_iou(count_boundary(truth, predicted, classes=classes, ratio=ratio)), expected)


def test_the_published_band_is_that_of_repeated_erosion():
    mask = random_maps(5, classes=2)[0] == 1
    for width in (1, 2, 3):
        padded = np.pad(mask, 1)
        eroded = ndimage.binary_erosion(padded, np.ones((3, 3)), iterations=width)[1:-1, 1:-1]
        counts = count_boundary(mask.astype(int), mask.astype(int), classes=2, ratio=width / math.hypot(*mask.shape))
        assert counts[1].tolist() == [(mask & ~eroded).sum()] * 3


def test_perfect_empty_and_permuted_predictions():
    truth = random_maps(2, classes=3)[0]
    assert mean_boundary_iou(count_boundary(truth, truth, classes=3)) == 1
    assert mean_boundary_iou(count_boundary(truth, np.full_like(truth, -1), classes=3)) == 0
    assert mean_boundary_iou(count_boundary(truth, (truth + 1) % 3, classes=3)) == 0


def test_a_shift_by_one_pixel_gives_the_value_known_by_hand_and_costs_more_than_in_the_mask():
    truth = np.zeros((20, 30), dtype=int)
    truth[4:14, 5:15] = 1
    predicted = np.roll(truth, 1, 1)
    counts = count_boundary(truth, predicted, classes=2)  # 2 % of the diagonal of 36 is one pixel: rings of 36 pixels
    # The rings share 9 pixels of the upper and of the lower side, no other.
    assert counts[1].tolist() == [18, 36, 36]
    assert boundary_iou(counts)[1] == pytest.approx(18 / 54)
    assert mean_boundary_iou(counts) < mean_iou(count_pixels(truth, predicted, classes=2))


def test_the_width_is_2_percent_of_the_diagonal():
    picture = np.zeros((300, 400), dtype=int)  # a diagonal of 500: a frame of 10 pixels
    assert count_boundary(picture, picture, classes=1).tolist() == [[300 * 400 - 280 * 380] * 3]


def test_thin_and_small_masks_are_all_boundary():
    truth = np.zeros((50, 50), dtype=int)
    truth[7], truth[30, 9] = 1, 2
    assert count_boundary(truth, truth, classes=3)[1:].tolist() == [[50] * 3, [1] * 3]
    one = np.zeros((1, 1), dtype=int)
    assert count_boundary(one, one, classes=1).tolist() == [[1, 1, 1]]


def test_a_perfect_prediction_is_perfect_although_classes_meet_in_ignored_pixels():
    truth = np.zeros((100, 120), dtype=int)
    truth[30:70, 40:80] = 255
    truth[34:66, 44:76] = 1
    filled = truth.copy()
    filled[truth == 255] = 1  # the ignored pixels were given to the object
    for predicted in (truth, filled):
        assert mean_boundary_iou(count_boundary(truth, predicted, classes=2)) == 1


def test_classes_that_are_only_predicted_are_skipped_or_count_as_0():
    truth = np.zeros((6, 6), dtype=int)
    predicted = truth.copy()
    predicted[0, 0] = 1
    counts = count_boundary(truth, predicted, classes=3)
    first = boundary_iou(counts)[0]
    np.testing.assert_allclose(boundary_iou(counts), [first, 0, np.nan])
    assert mean_boundary_iou(counts) == first
    assert mean_boundary_iou(counts, only_predicted="zero") == first / 2


def test_halves_of_a_set_add_up_to_the_whole_and_nothing_gives_nan():
    parts = [count_boundary(*random_maps(seed, classes=4), classes=4) for seed in range(4)]
    np.testing.assert_array_equal(parts[0] + parts[2] + (parts[1] + parts[3]), sum(parts))
    ignored = count_boundary(np.full((3, 3), 255), np.zeros((3, 3), dtype=int), classes=2)
    assert ignored.sum() == 0
    assert math.isnan(mean_boundary_iou(ignored))


@pytest.mark.parametrize(
    ("truth", "predicted", "ratio", "message"),
    [
        (np.zeros((2, 3), dtype=int), np.zeros((3, 2), dtype=int), 0.02, "resize the prediction"),
        (np.zeros(4, dtype=int), np.zeros(4, dtype=int), 0.02, "must both be"),
        (np.zeros((2, 2), dtype=int), np.zeros((2, 2), dtype=int), 0, "over 0"),
    ],
)
def test_what_cannot_be_counted_is_refused(truth, predicted, ratio, message):
    with pytest.raises(SettingsError, match=message):
        count_boundary(truth, predicted, classes=2, ratio=ratio)
