"""From lines to numbers: values known by hand, libraries as oracles, and intervals that behave."""

import json
import random

import numpy as np
import pytest

from maskwright.evaluation import confusion, statistics
from maskwright.evaluation.bootstrap import draw_weights, interval, mean_metric
from maskwright.evaluation.confusion import count_pixels
from maskwright.evaluation.protocol import Protocol
from maskwright.evaluation.saliency import saliency_scores
from maskwright.evaluation.summary import summarise
from tests.evaluations import evaluation, labelled, line, random_maps, segmented

STRIPES = np.repeat([[0, 0, 1, 1, 2, 2]], 4, 0)


def metrics(*rows: dict, **options) -> dict[str, float | None]:
    """Values of the metrics of pictures with these statistics."""
    lines = [line(number, "m", row) for number, row in enumerate(rows)]
    found = summarise(evaluation("m", **options), lines, draws=20)["methods"]["m"]
    return {name: metric["value"] for name, metric in found["metrics"].items()}


def test_perfect_empty_and_permuted_predictions_give_what_is_known_by_hand() -> None:
    perfect = metrics(labelled(STRIPES, STRIPES))
    assert {
        perfect[name] for name in ("miou", "picture_miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "boundary_iou")
    } == {1}
    assert set(metrics(labelled(STRIPES, np.full_like(STRIPES, -1))).values()) == {0}
    assert set(metrics(labelled(STRIPES, (STRIPES + 1) % 3)).values()) == {0}
    half = metrics(labelled(STRIPES, np.where(STRIPES == 1, 0, STRIPES)))  # 8 of 16, 0 of 8 and 8 of 8 pixels
    assert half["miou"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert half["pixel_accuracy"] == pytest.approx(2 / 3)
    assert half["frequency_weighted_iou"] == pytest.approx(0.5)


def test_segments_in_another_order_are_perfect_per_picture_and_wrong_over_the_set() -> None:
    rows = [segmented(STRIPES, STRIPES), segmented(STRIPES, 2 - STRIPES)]
    assert metrics(*rows)["miou"] == 1
    over_set = metrics(*rows, protocol=Protocol(matching="dataset"))
    assert over_set["miou"] < 0.7  # class 1 is always segment 1, the others change places
    assert metrics(*rows[:1], protocol=Protocol(matching="dataset"))["miou"] == 1


def test_spare_segments_are_wrong_or_as_published() -> None:
    truth = np.repeat([[0, 0, 0, 1]], 2, 0)
    row = segmented(truth, np.repeat([[0, 0, 1, 2]], 2, 0))
    assert metrics(row)["miou"] == pytest.approx((2 / 3 + 1) / 2)
    published = Protocol(spare="published", only_predicted="zero")
    assert metrics(row, protocol=published)["miou"] == pytest.approx((2 / 3 + 1 + 0) / 3)  # the lacking class takes the spare segment


def test_the_set_and_its_pictures_are_averaged_differently_and_the_protocol_says_which_comes_first() -> None:
    rows = [labelled(np.zeros((10, 10)), np.zeros((10, 10))), labelled(np.zeros((1, 2)), [[0, 1]])]
    over_set = metrics(*rows)
    assert next(iter(over_set)) == "miou" and over_set["miou"] == pytest.approx(101 / 102)
    over_pictures = metrics(*rows, protocol=Protocol(average="pictures"))
    assert next(iter(over_pictures)) == "picture_miou" and over_pictures["picture_miou"] == pytest.approx(0.75)


@pytest.mark.parametrize("only_predicted", ["skip", "zero"])
def test_every_metric_of_counts_is_the_function_of_the_same_name(only_predicted: str) -> None:
    maps = [random_maps(seed) for seed in range(6)]
    counts = sum(count_pixels(*pair, classes=4) for pair in maps)
    found = metrics(*(labelled(*pair, classes=4) for pair in maps), names="abcd", protocol=Protocol(only_predicted=only_predicted))
    assert found["miou"] == pytest.approx(confusion.mean_iou(counts, only_predicted=only_predicted), abs=1e-12)
    for name in ("pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert found[name] == pytest.approx(getattr(confusion, name)(counts), abs=1e-12)


def test_agrees_with_torchmetrics() -> None:
    import torch
    from torchmetrics import JaccardIndex

    maps = [(truth, np.maximum(predicted, 0)) for truth, predicted in map(random_maps, range(5))]
    oracle = JaccardIndex(task="multiclass", num_classes=3, average="macro", ignore_index=-1)
    for truth, predicted in maps:
        oracle.update(torch.tensor(predicted), torch.tensor(truth))
    assert metrics(*(labelled(*pair) for pair in maps))["miou"] == pytest.approx(float(oracle.compute()), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_matched_accuracy_agrees_with_scikit_learn_and_scipy(seed: int) -> None:
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    rng = np.random.default_rng(seed)
    truth, segments = rng.integers(0, 3, (9, 9)), rng.integers(0, 5, (9, 9))
    table = contingency_matrix(truth.ravel(), segments.ravel())
    expected = table[linear_sum_assignment(table, maximize=True)].sum() / truth.size
    assert metrics(segmented(truth, segments))["pixel_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_thresholds_counted_together_are_those_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = random_maps(1)
    confidence = rng.choice(np.array([0.1, 0.3, 0.5, 0.7], dtype=np.float32), truth.shape)  # some exactly at a threshold
    tried = [0.5, 0.1, 0.3, 0.9]
    together = statistics.count_thresholds(truth, predicted, confidence, classes=3, background=0, thresholds=tried)
    assert list(together) == ["0.5", "0.1", "0.3", "0.9"]
    for threshold in tried:
        alone = np.where(confidence > np.float32(threshold), predicted, 0)
        np.testing.assert_array_equal(together[str(threshold)], count_pixels(truth, alone, classes=3))


def test_the_best_threshold_stands_beside_the_fixed_one_and_is_marked() -> None:
    truth = np.array([[0, 0, 1, 1]])
    row = labelled(truth, [[1, 1, 1, 1]], thresholds=(0.5, 0.2, 0.7), confidence=[[0.6, 0.6, 0.9, 0.9]])
    found = summarise(evaluation("m", background=0, protocol=Protocol(background="best")), [line(0, "m", row)], draws=5)["methods"]["m"]
    assert list(found["metrics"])[:2] == ["miou", "miou_best_threshold"]
    assert found["metrics"]["miou"]["value"] == pytest.approx(0.25)  # all is class 1: 2 of 4 pixels, and nothing of class 0
    assert found["metrics"]["miou_best_threshold"]["value"] == 1
    assert "0.7, chosen on the ground truth" in found["metrics"]["miou_best_threshold"]["note"]
    assert found["best_threshold"] == 0.7 and list(found["thresholds"]) == ["0.2", "0.5", "0.7"]


def test_a_failed_picture_is_wrong_for_its_own_classes_only_and_listed() -> None:
    wrong = statistics.wrong_labels(STRIPES[:, :2].astype(np.int64), classes=3, thresholds=())
    lines = [line(0, "m", labelled(STRIPES, STRIPES)), line(1, "m", wrong, failed="no memory")]
    found = summarise(evaluation("m"), lines, draws=5)["methods"]["m"]
    assert [one["iou"] for one in found["classes"]] == [0.5, 1, 1]
    assert found["failed"] == [{"picture": "p1", "reason": "no memory"}]
    assert found["metrics"]["picture_miou"]["value"] == 0.5
    unread = summarise(evaluation("m"), [lines[0], line(1, "m", {}, failed="gone")], draws=5)["methods"]["m"]
    assert unread["metrics"]["miou"]["value"] == 1 and unread["metrics"]["picture_miou"]["value"] == 0.5


@pytest.mark.parametrize("mean", ["set", "pictures"])
def test_the_order_of_lines_and_what_they_took_change_no_bit(mean: str) -> None:
    lines = [
        line(number, key, labelled(*random_maps(number + seed)), seconds=number + 1) for number in range(7) for seed, key in enumerate("ab")
    ]
    shuffled = [one | {"seconds": one["seconds"] | {"all": 3.0}, "peak_mb": None} for one in lines]
    random.Random(0).shuffle(shuffled)
    wanted = evaluation("a", "b", protocol=Protocol(average=mean))
    one, other = summarise(wanted, lines, draws=50), summarise(wanted, shuffled, draws=50)
    for summary in (one, other):
        for method in summary["methods"].values():
            del method["seconds"], method["peak_mb"]
    assert json.dumps(one) == json.dumps(other)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_holds_the_value_and_shrinks_with_the_number_of_pictures(seed: int) -> None:
    widths = []
    for count in (10, 40, 160):
        rng = np.random.default_rng(seed)
        lines = [line(n, "m", labelled(*random_maps(1000 * seed + n, right=rng.random()))) for n in range(count)]
        metric = summarise(evaluation("m"), lines, draws=300)["methods"]["m"]["metrics"]["miou"]
        assert metric["low"] <= metric["value"] <= metric["high"]
        widths.append(metric["high"] - metric["low"])
    assert widths[0] > widths[1] > widths[2] > 0
    assert widths[0] / widths[2] == pytest.approx(4, rel=0.6)  # as the root of the number of pictures


def test_the_bootstrap_of_a_mean_is_that_of_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).random(60)
    low, high = interval(mean_metric(values).draws(draw_weights(60, draws=4000)))
    oracle = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=0.006)


def test_weighted_sums_are_the_sums_of_the_pictures_drawn() -> None:
    weights = draw_weights(5, draws=30)
    assert weights.shape == (30, 5) and (weights.sum(1) == 5).all()
    values = np.array([0.1, 0.5, np.nan, 0.2, 0.9])
    drawn = [np.nanmean(np.repeat(values, row.astype(int))) for row in weights]
    np.testing.assert_allclose(mean_metric(values).draws(weights), drawn)


def test_two_methods_are_compared_on_the_same_draws() -> None:
    pairs = [random_maps(seed, right=0.2 + 0.6 * (seed % 2)) for seed in range(30)]
    lines = []
    for number, (truth, predicted) in enumerate(pairs):
        better = predicted.copy()
        better[:2] = truth[:2]
        lines += [
            line(number, "better", labelled(truth, better)),
            line(number, "m", labelled(truth, predicted)),
            line(number, "same", labelled(truth, predicted)),
        ]
    summary = summarise(evaluation("better", "m", "same"), lines, draws=200)
    pair = {(one["one"], one["other"]): one for one in summary["pairs"] if one["metric"] == "miou"}
    assert 0 < pair["better", "m"]["low"] <= pair["better", "m"]["difference"] <= pair["better", "m"]["high"]
    assert [pair["m", "same"][name] for name in ("difference", "low", "high")] == [0, 0, 0]
    value = summary["methods"]["m"]["metrics"]["miou"]
    assert pair["better", "m"]["high"] - pair["better", "m"]["low"] < value["high"] - value["low"]  # what pairing is for


def test_methods_of_different_pictures_are_not_compared() -> None:
    lines = [line(0, "a", labelled(STRIPES, STRIPES)), line(1, "a", labelled(STRIPES, STRIPES)), line(0, "b", labelled(STRIPES, STRIPES))]
    assert summarise(evaluation("a", "b"), lines, draws=5)["pairs"] == []


def test_saliency_metrics_are_those_of_saliency_scores() -> None:
    rng = np.random.default_rng(0)
    maps = [(rng.random((8, 9)), rng.random((8, 9)) > 0.6) for _ in range(4)]
    rows = [json.loads(json.dumps(statistics.saliency_statistics(*pair))) for pair in maps]
    found = metrics(*rows, kind="foreground")
    scores = saliency_scores(statistics.read_saliency([row["saliency"] for row in rows]))
    for name in ("iou", "accuracy", "mae", "max_f_tokencut", "max_f_selfmask", "mean_f", "max_e", "mean_e", "adaptive_e"):
        assert found[name] == pytest.approx(getattr(scores, name), abs=1e-12), name
    wrong = metrics(statistics.wrong_saliency(maps[0][1]), kind="foreground")
    assert (wrong["iou"], wrong["accuracy"], wrong["mae"]) == (0, 0, 1)


def test_region_metrics_are_those_of_region_scores() -> None:
    from maskwright.evaluation.covering import region_agreement, region_scores

    rng = np.random.default_rng(0)
    pictures = [([rng.integers(0, 3, (6, 7)) for _ in range(3)], rng.integers(0, 4, (6, 7))) for _ in range(4)]
    found = metrics(*(json.loads(json.dumps(statistics.agreement_statistics(*one))) for one in pictures), kind="regions")
    scores = region_scores(region_agreement(*one) for one in pictures)
    for name in ("covering", "covering_best", "covering_pooled", "rand", "variation", "variation_best"):
        assert found[name] == pytest.approx(getattr(scores, name), abs=1e-12), name
    assert (found["region_iou"], found["region_iou_best"]) == pytest.approx((scores.iou, scores.iou_best), abs=1e-12)
    worst = metrics(statistics.wrong_agreement(pictures[0][0]), kind="regions")
    assert worst["covering"] == worst["rand"] == 0 and worst["variation"] == pytest.approx(np.log2(42))


def test_boxes_hit_or_miss() -> None:
    hit, near, none = (statistics.box_statistics(box, [(0, 0, 10, 10)]) for box in ((0, 0, 10, 10), (0, 0, 10, 5), None))
    assert metrics(hit, near, none, kind="boxes") == {"corloc": pytest.approx(2 / 3), "box_iou": pytest.approx(0.5)}


def test_calibration_and_boundary_are_their_modules_own() -> None:
    from maskwright.evaluation.boundary import count_boundary, mean_boundary_iou
    from maskwright.evaluation.calibration import calibration_error, count_confidence

    rng = np.random.default_rng(3)
    truth, predicted = random_maps(2)
    sure = rng.random(truth.shape).astype(np.float32)
    row = statistics.label_statistics(truth, predicted, sure, classes=3, background=None, thresholds=(), probable=True)
    found = metrics(row)
    nobody = np.where(predicted < 0, 3, predicted)
    assert found["calibration_error"] == pytest.approx(calibration_error(count_confidence(truth, nobody, sure, classes=3)), abs=1e-12)
    assert found["boundary_iou"] == pytest.approx(mean_boundary_iou(count_boundary(truth, nobody, classes=3)), abs=1e-12)


def test_a_map_at_another_size_takes_the_nearest_pixel() -> None:
    values = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(statistics.to_nearest(values, (3, 4)), values)
    np.testing.assert_array_equal(statistics.to_nearest(values, (6, 8))[::2, 1::2], values)
    np.testing.assert_array_equal(statistics.to_nearest(values, (1, 2)), [[5, 7]])


def test_without_lines_there_are_no_numbers() -> None:
    found = summarise(evaluation("m"), [])["methods"]["m"]
    assert found["metrics"] == {} and found["headline"] is None and found["evaluated"] == 0
