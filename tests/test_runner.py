"""The runner on the bundled model: few scenes, and folders of pictures that each test writes."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.backbones.loading import load_backbone
from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.folder import read_folder as read_pictures
from maskwright.datasets.scene_set import read_scenes
from maskwright.datasets.scenes import load_words, render
from maskwright.errors import OutputError, SettingsError
from maskwright.evaluation.confusion import count_pixels
from maskwright.evaluation.crews import Choice
from maskwright.evaluation.overlays import only_found, show_truth
from maskwright.evaluation.protocol import Protocol, parse_protocol
from maskwright.evaluation.run_folder import HEAD, LINES, comparable, merge_folders, read_folder
from maskwright.evaluation.runner import Part, Runner
from maskwright.evaluation.statistics import from_triples
from maskwright.evaluation.summary import summarise
from maskwright.evaluation.task import Task
from maskwright.exports import locking
from maskwright.segmenter import Segmenter
from maskwright.vocabulary import Vocabulary
from tests.tiny import Passes

model = cache(lambda: load_backbone("sticker", device="cpu"))
SHARED = {"prompting": "shared", "timesteps": (100,)}
BOTH = (Choice("diffsegmenter", "diffsegmenter", SHARED), Choice("maskdiffusion", "maskdiffusion", SHARED | {"noise": True}))
REGIONS = (Choice("kmeans", "kmeans", {"regions": 3}),)


def scenes(choices: tuple[Choice, ...] = BOTH, *, protocol: Protocol | None = None, **options: Any) -> Runner:
    return Runner(read_scenes(), choices, protocol, model=model(), **{"part": Part(limit=3), **options})


def pictures(root: Path, *, count: int = 2, kind: str = "foreground", spoil: int | None = None) -> EvaluationSet:
    """A folder of scenes whose masks say where the object is, or which words; one picture may be cut short."""
    words = load_words()
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        scene = render(number, split="tuning")
        Image.fromarray(scene.image).save(root / "images" / f"{number}.png")
        mask = np.where(scene.labels < 48, 255, 0) if kind == "foreground" else np.where(scene.labels < 48, scene.labels + 1, 0)
        Image.fromarray(mask.astype(np.uint8)).save(root / "masks" / f"{number}.png")
    if kind == "classes":
        names = {"0": "background"} | {str(place + 1): word.name for place, word in enumerate(words.all[:48])}
        (root / "classes.json").write_text(json.dumps(names))
    if spoil is not None:
        path = root / "images" / f"{spoil}.png"
        path.write_bytes(path.read_bytes()[:200])
    return read_pictures(root)


def lines_of(path: Path) -> list[dict]:
    return list(map(comparable, read_folder(path).lines))


def test_methods_with_compatible_probes_share_one_reading(tmp_path: Path) -> None:
    with Passes(model().unet) as passes:
        scenes(part=Part(limit=2)).run(tmp_path)
    assert passes.count == 2
    assert [(line["number"], line["method"]) for line in lines_of(tmp_path)] == [(n, c.key) for n in range(2) for c in BOTH]
    assert all(line["seconds"]["read"] > 0 for line in read_folder(tmp_path).lines)


def test_a_shared_reading_gives_what_each_method_gives_by_itself(tmp_path: Path) -> None:
    together = scenes(part=Part(limit=2))
    for choice in BOTH:
        alone = scenes((choice,), part=Part(limit=2))
        for number in range(2):
            one, other = dict(together.outcomes(number))[choice.key], dict(alone.outcomes(number))[choice.key]
            assert np.mean(one.result.label_map == other.result.label_map) > 0.999


def test_methods_that_cannot_share_make_their_own_passes(tmp_path: Path) -> None:
    joint = Choice("joint", "diffsegmenter", SHARED | {"prompting": "joint"})
    with Passes(model().unet) as passes:
        scenes((BOTH[0], joint), part=Part(limit=1)).run(tmp_path)
    assert passes.count == 2


def test_the_counts_are_those_of_the_segmenter_and_agree_with_the_benchmark(tmp_path: Path) -> None:
    runner = scenes(BOTH[1:])
    runner.run(tmp_path)
    segmenter = Segmenter(model(), "maskdiffusion", settings=BOTH[1].settings, background="none", batch=1)
    for line, item in zip(lines_of(tmp_path), runner.dataset.items, strict=False):
        picture = item.open()
        predicted = segmenter.segment(picture, runner.dataset.vocabulary).label_map.astype(np.int64) - 1
        expected = count_pixels(item.labels(picture), predicted, classes=56)
        np.testing.assert_array_equal(from_triples(line["statistics"]["confusion"]["-"], (56, 57)), expected)


def test_several_thresholds_in_one_pass_are_several_segmenters(tmp_path: Path) -> None:
    dataset = pictures(tmp_path / "set", kind="classes")
    wanted = Protocol(background="best", threshold=0.6, thresholds=(0.3, 0.6))
    Runner(dataset, BOTH[:1], wanted, model=model()).run(tmp_path / "out")
    labels = [label for label in dataset.classes if not label.background]
    for line, item in zip(lines_of(tmp_path / "out"), dataset.items, strict=True):
        assert list(line["statistics"]["confusion"]) == ["0.6", "0.3"]  # the fixed one first
        for key, triples in line["statistics"]["confusion"].items():
            segmenter = Segmenter(model(), "diffsegmenter", settings=SHARED, background=float(key), batch=1)
            predicted = segmenter.segment(item.open(), labels).label_map.astype(np.int64)  # position 0 is the background
            expected = count_pixels(item.labels(item.open()), predicted, classes=49)
            np.testing.assert_array_equal(from_triples(triples, (49, 50)), expected)


def test_the_methods_own_background_is_its_threshold_or_its_word(tmp_path: Path) -> None:
    runner = Runner(pictures(tmp_path / "set", kind="classes"), BOTH, model=model())
    records = {one["key"]: one["record"] for one in runner.evaluation()["methods"]}
    assert records["diffsegmenter"]["background"] == 0.5
    assert records["maskdiffusion"]["background"] == "background"
    folder = runner.run(tmp_path / "out")
    assert [list(line["statistics"]["confusion"]) for line in folder.lines[:2]] == [["0.5"], ["-"]]


def test_background_that_is_not_scored_leaves_only_the_pixels_of_classes(tmp_path: Path) -> None:
    dataset = pictures(tmp_path / "set", kind="classes", count=1)
    folder = Runner(dataset, BOTH[:1], Protocol(background="none"), model=model()).run(tmp_path / "out")
    counts = from_triples(folder.lines[0]["statistics"]["confusion"]["-"], (49, 50))
    truth = dataset.items[0].labels(dataset.items[0].open())
    assert counts.sum() == np.count_nonzero(truth) and counts[0].sum() == counts[:, 0].sum() == 0


def test_present_labels_are_an_oracle_and_printed_as_such(tmp_path: Path) -> None:
    runner = scenes(BOTH[:1], protocol=Protocol(labels="present"), part=Part(limit=1))
    (outcome,) = dict(runner.outcomes(0)).values()
    truth = runner.dataset.items[0].labels(runner.dataset.items[0].open())
    assert set(outcome.result.names) == {runner.dataset.classes[place].name for place in np.unique(truth)}
    folder = runner.run(tmp_path)
    note = summarise(folder.evaluation, folder.lines, draws=5)["methods"]["diffsegmenter"]["metrics"]["miou"]["note"]
    assert "oracle" in note


def test_a_fixed_resolution_counts_as_many_pixels(tmp_path: Path) -> None:
    folder = scenes(BOTH[:1], protocol=Protocol(resolution=(10, 12)), part=Part(limit=1)).run(tmp_path)
    assert sum(count for *_, count in folder.lines[0]["statistics"]["confusion"]["-"]) == 120


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_any_byte_and_resumed_equals_the_uninterrupted_one(tmp_path: Path, seed: int) -> None:
    runner = scenes((BOTH[0], *REGIONS), part=Part(limit=2))
    runner.run(tmp_path)
    expected, whole = lines_of(tmp_path), (tmp_path / LINES).read_bytes()
    (tmp_path / LINES).write_bytes(whole[: np.random.default_rng(seed).integers(len(whole))])
    runner.run(tmp_path, resume=True)
    assert lines_of(tmp_path) == expected


def test_families_compete_where_the_protocol_says_so(tmp_path: Path) -> None:
    dataset, protocol = read_scenes(split="benchmark-fine", scenes="scenes-full"), parse_protocol("maskwright-family")
    runner = Runner(dataset, BOTH[:1], protocol, model=model(), part=Part(limit=1))
    item, picture = dataset.items[0], dataset.items[0].open()
    there = set(np.unique(item.labels(picture)).tolist())
    competing = set(runner.task.present(runner.task.truth(item, picture)))
    assert there < competing < set(range(len(dataset.classes)))
    assert competing == {kin for place in there for kin in dataset.rivals[place]}
    assert not runner.run(tmp_path).lines[0]["failed"]
    with pytest.raises(SettingsError, match=r"does not say which classes are hard to tell apart.*labels=all"):
        Runner(pictures(tmp_path / "own", kind="classes"), BOTH[:1], protocol, model=model())


@pytest.mark.skipif(locking.flock is None, reason="Windows does not notice other runs")
def test_two_runs_into_one_folder_are_kept_apart(tmp_path: Path) -> None:
    runner = scenes(BOTH[:1], part=Part(limit=1))
    with locking.alone_in(tmp_path), pytest.raises(OutputError, match=r"another run writes to .*--out"):
        runner.run(tmp_path)
    assert not list(tmp_path.iterdir())
    runner.run(tmp_path)
    assert len(lines_of(tmp_path)) == 1


def test_shards_put_together_are_the_single_run_bit_by_bit(tmp_path: Path) -> None:
    choices = (*BOTH, *REGIONS)
    scenes(choices).run(tmp_path / "all")
    for shard in (1, 2):
        scenes(choices, part=Part(limit=3, shard=(shard, 2))).run(tmp_path / str(shard))
    merged = merge_folders([tmp_path / "2", tmp_path / "1"], tmp_path / "merged")
    assert (tmp_path / "merged" / HEAD).read_bytes() == (tmp_path / "all" / HEAD).read_bytes()
    assert lines_of(tmp_path / "merged") == lines_of(tmp_path / "all")
    folders = (merged, read_folder(tmp_path / "all"))
    one, other = (summarise(folder.evaluation, list(map(_untimed, folder.lines)), draws=50) for folder in folders)
    assert json.dumps(one) == json.dumps(other)


def _untimed(line: dict) -> dict:
    return line | {"seconds": {"all": 0.0}, "peak_mb": None}


def test_a_failed_picture_is_wrong_and_listed_and_the_run_goes_on(tmp_path: Path) -> None:
    dataset = pictures(tmp_path / "set", count=3, kind="classes", spoil=1)
    folder = Runner(dataset, (BOTH[0], *REGIONS), model=model()).run(tmp_path / "out")
    failed = [line for line in folder.lines if line["failed"]]
    assert [(line["picture"], line["method"]) for line in failed] == [("1", "diffsegmenter"), ("1", "kmeans")]
    assert "cut short or damaged" in failed[0]["failed"] and "\n" not in failed[0]["failed"]
    truth = np.asarray(Image.open(tmp_path / "set" / "masks" / "1.png"))
    counts = from_triples(failed[0]["statistics"]["confusion"]["0.5"], (49, 50))
    np.testing.assert_array_equal(counts[:, 49], np.bincount(truth.ravel(), minlength=49))
    assert counts[:, :49].sum() == 0 and failed[1]["statistics"]["segments"] == 0
    assert len(folder.lines) == 6


def test_a_method_that_fails_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of\nmemory")

    runner = scenes((BOTH[0], *REGIONS), part=Part(limit=1))
    monkeypatch.setattr("maskwright.methods.kmeans.method.KMeans.group", fail)
    lines = runner.run(tmp_path).lines
    assert [line["failed"] for line in lines] == [None, "out of"]


def test_a_setting_that_no_picture_can_use_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="fusion"):
        scenes((Choice("m", "diffsegmenter", {"fusion": ((64, 1.0),)}),), part=Part(limit=1)).run(tmp_path)


@pytest.mark.parametrize(
    ("kind", "method", "words", "counted"),
    [
        ("foreground", "attentioncut", None, {"saliency", "structure", "boxes"}),
        ("foreground", "diffsegmenter", "dog, cat", {"confusion", "boundary", "calibration", "saliency", "structure", "boxes"}),
        ("foreground", "maskdiffusion", "dog", {"confusion", "boundary", "saliency", "structure", "boxes"}),
        ("foreground", "kmeans", None, {"overlaps", "segments"}),
        ("classes", "kmeans", None, {"overlaps", "segments"}),
    ],
)
def test_every_kind_of_method_is_counted_on_what_it_can_be_measured_by(
    tmp_path: Path, kind: str, method: str, words: str | None, counted: set[str]
) -> None:
    dataset = pictures(tmp_path / "set", kind=kind, count=1)
    vocabulary = None if words is None else Vocabulary.parse(words)
    folder = Runner(dataset, (Choice(method, method),), model=model(), words=vocabulary).run(tmp_path / "out")
    assert folder.lines[0]["failed"] is None
    assert set(folder.lines[0]["statistics"]) == counted
    found = summarise(folder.evaluation, folder.lines, draws=5)["methods"][method]
    assert all(0 <= metric["value"] <= 1 for metric in found["metrics"].values())


def test_a_square_protocol_reads_and_scores_the_central_square(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    wide = np.concatenate([render(seed, split="tuning").image for seed in range(2)], axis=1)  # 64 x 128
    Image.fromarray(wide).save(tmp_path / "set" / "images" / "a.png")
    mask = np.zeros((64, 128), dtype=np.uint8)
    mask[:, 30:40] = mask[:, 90:] = 255
    Image.fromarray(mask).save(tmp_path / "set" / "masks" / "a.png")
    runner = Runner(read_pictures(tmp_path / "set"), REGIONS, Protocol(crop="square"), model=model())
    (outcome,) = dict(runner.outcomes(0)).values()
    np.testing.assert_array_equal(outcome.result.picture.pixels, wide[:, 32:96])
    overlaps = from_triples(outcome.statistics["overlaps"], (2, outcome.statistics["segments"] + 1))
    assert overlaps.sum(1).tolist() == [64 * (64 - 14), 64 * 14]


def test_words_may_come_from_the_names_of_the_pictures(tmp_path: Path) -> None:
    pictures(tmp_path / "set", count=1)
    for name in ("images", "masks"):
        (tmp_path / "set" / name / "0.png").rename(tmp_path / "set" / name / "red-apple_007.png")
    dataset = read_pictures(tmp_path / "set")
    choices = (BOTH[0], Choice("daam", "daam"))
    outcomes = dict(Runner(dataset, choices, model=model(), words="@name").outcomes(0))
    assert outcomes["diffsegmenter"].result.names == outcomes["daam"].result.words == ("red apple",)


def test_regions_are_compared_with_every_annotator_and_may_ask_for_their_number(tmp_path: Path) -> None:
    for name in ("images", "segments"):
        (tmp_path / "set" / name).mkdir(parents=True)
    scene = render(0, split="tuning")
    Image.fromarray(scene.image).save(tmp_path / "set" / "images" / "a.png")
    for annotator, columns in enumerate((2, 4)):
        regions = np.repeat(np.arange(64)[None] * columns // 64, 64, 0).astype(np.uint8)
        Image.fromarray(regions).save(tmp_path / "set" / "segments" / f"a-{annotator}.png")
    runner = Runner(read_pictures(tmp_path / "set"), (Choice("kmeans", "kmeans", {"regions": "oracle"}),), model=model())
    (outcome,) = dict(runner.outcomes(0)).values()
    assert len(outcome.statistics["agreement"]["covering"]) == 2
    assert len(outcome.result.names) == 3  # the median of 2 and 4


def test_evaluation_says_what_decides_the_numbers() -> None:
    evaluation = scenes().evaluation()
    assert json.loads(json.dumps(evaluation)) == evaluation
    assert evaluation["dataset"]["pictures"] == 200 and len(evaluation["dataset"]["classes"]) == 56
    assert evaluation["methods"][0]["settings"]["prompting"] == "shared"
    assert "timings" not in evaluation["methods"][0]["record"]


@pytest.mark.parametrize(
    ("part", "numbers"),
    [(Part(), [0, 1, 2, 3, 4]), (Part(limit=3), [0, 1, 2]), (Part(shard=(2, 2)), [1, 3]), (Part(limit=4, shard=(1, 3)), [0, 3])],
)
def test_a_part_of_the_pictures(part: Part, numbers: list[int]) -> None:
    assert list(part.numbers(5)) == numbers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: Part(limit=0), "limit must be at least 1"),
        (lambda _: Part(shard=(3, 2)), "i from 1 to n"),
        (lambda _: scenes(()), "one or more different methods"),
        (lambda _: scenes((BOTH[0], BOTH[0])), "one or more different methods"),
        (lambda _: scenes(words=Vocabulary.parse("dog")), "has its own classes"),
        (lambda _: scenes((Choice("attentioncut", "attentioncut"),)), "finds one object, which a set of classes cannot measure"),
        (lambda _: scenes(protocol=Protocol(labels="filtered")), "category filter"),
        (lambda path: Runner(pictures(path), BOTH[:1], model=model()), "diffsegmenter needs words"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make(tmp_path)


@pytest.mark.parametrize("kind", ["classes", "foreground"])
def test_the_truth_is_shown_with_the_numbers_of_the_results(tmp_path: Path, kind: str) -> None:
    dataset = pictures(tmp_path / "set", count=1, kind=kind)
    task = Task(dataset, Protocol())
    picture = dataset.items[0].open()
    truth = task.truth(dataset.items[0], picture)
    shown = show_truth(task, picture, truth)
    assert shown is not None
    np.testing.assert_array_equal(shown.label_map, truth)  # the background is class 0, so that numbers are positions
    smaller = Task(dataset, Protocol(resolution=(8, 8), labels="present"))
    again = show_truth(smaller, picture, smaller.truth(dataset.items[0], picture))
    assert again is not None and again.label_map.shape == (64, 64)
    assert set(again.names) <= set(shown.names)


def test_drawn_results_have_the_found_labels_only_and_share_their_numbers() -> None:
    runner = scenes(part=Part(limit=1))
    one, other = (outcome.result for _, outcome in runner.outcomes(0))
    drawn = only_found([one, other])
    names = [{seg.names[number - 1] for number in np.unique(seg.label_map)} for seg in (one, other)]
    assert set(drawn[0].names) == names[0] and set(drawn[0].names) | set(drawn[1].names) == names[0] | names[1]
    for before, after in zip((one, other), drawn, strict=True):
        for name in names[0] & names[1]:
            np.testing.assert_array_equal(before.mask(name), after.mask(name))
            assert drawn[0].number(name) == drawn[1].number(name)
