"""A data set on disk: killed at any moment it goes on without losing or repeating a pair, and ends as if nothing had happened."""

import errno
import itertools
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.discovery.finish import finish
from maskwright.discovery.lines import read_lines
from maskwright.discovery.pairs import Drawn, Pair
from maskwright.discovery.store import PairStore
from maskwright.errors import OutputError, SettingsError
from maskwright.exports.palette import palette
from maskwright.vocabulary import Vocabulary

WORDS = Vocabulary.parse(["dog", "cat|kitten", "Tür"])
SETTINGS = {"model": "sticker", "revision": None, "method": "attentioncut", "guidance": 7.5, "filters": {"least": 0.03, "steps": [1, 2]}}
PLACES = 6


def draw(number: int, attempt: int) -> Drawn:
    """A function of the place and the attempt alone, as pairs are; about every third is rejected."""
    rng = np.random.default_rng([number, attempt])
    image = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    label = number % len(WORDS)
    mask = np.zeros((9, 12), dtype=np.uint8)
    mask[2:7, 3 : 5 + number % 6] = label + 1
    mask[7, 3:6] = 255
    name, kept = WORDS.names[label], (number + attempt) % 3 != 0
    scores = {name: {"area": float(rng.random()), "contrast": 1 / 3}}
    reasons = () if kept else (f"{name}: too small",)
    return Drawn(Pair(number, attempt, f"a {name}", (name,), 1000 * number + attempt, scores, kept, reasons), image, mask)


def next_batch(pairs: tuple[Pair, ...], places: int) -> list[tuple[int, int]]:
    """What to draw next is a function of what is there; three at a time."""
    tries = {number: [pair for pair in pairs if pair.number == number] for number in range(places)}
    open_places = [number for number, tried in tries.items() if not any(pair.kept for pair in tried)]
    return [(number, len(tries[number])) for number in open_places[:3]]


def run(folder: Path, places: int = PLACES, *, resume: bool = True, pause: float = 0) -> None:
    with PairStore.open(folder, SETTINGS, WORDS, resume=resume) as store:
        while batch := next_batch(store.pairs, places):
            store.add([draw(*task) for task in batch])
            time.sleep(pause)


def complete(folder: Path) -> None:
    with PairStore.open(folder, SETTINGS, WORDS, resume=True) as store:
        finish(store, formats=("coco", "voc", "yolo"), command="maskwright synthesize", licence="none")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    run(folder, resume=False)
    return folder


class Killed(BaseException):
    """The process is gone: nothing that it would still do happens."""


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Ends everything at the file operation with this number, and half way through when it is a write."""
    operations = itertools.count()

    def guard(name: str):
        real = getattr(os, name)

        def call(*args, **options):
            place = next(operations)
            if place == moment and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            if place >= moment:
                raise Killed
            return real(*args, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("open", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir"):
        guard(name)


def is_killed(action, folder: Path, moment: int) -> bool:
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(monkeypatch, moment)
        try:
            action(folder)
        except Killed:
            return True
    return False


def test_a_run_killed_at_any_file_operation_ends_like_an_uninterrupted_one(whole: Path, tmp_path: Path) -> None:
    expected = content(whole)
    assert len(expected) == 2 * PLACES + 2
    for moment in itertools.count():
        folder = tmp_path / str(moment)
        if not is_killed(run, folder, moment):
            break
        is_killed(run, folder, moment % 7)  # while it takes up again, too
        run(folder)
        assert content(folder) == expected, f"operation {moment}"
    assert moment > 30


def test_finishing_killed_at_any_file_operation_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    base = tmp_path / "base"
    run(base, 1)
    shutil.copytree(base, tmp_path / "whole")
    complete(tmp_path / "whole")
    expected = content(tmp_path / "whole")
    for moment in itertools.count():
        folder = tmp_path / str(moment)
        shutil.copytree(base, folder)
        if not is_killed(complete, folder, moment):
            break
        assert content(folder).items() >= content(base).items(), "pairs are never touched"
        complete(folder)
        assert content(folder) == expected, f"operation {moment}"
    assert moment > 30


def test_a_killed_process_leaves_no_lock_and_a_living_one_does(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    folder, places = tmp_path / "killed", 24
    process = multiprocessing.get_context("spawn").Process(target=run, args=(folder, places), kwargs={"pause": 0.02})
    process.start()
    log, end = folder / "pairs.jsonl", time.monotonic() + 60
    while not (log.exists() and log.stat().st_size > 2000):
        assert time.monotonic() < end and process.exitcode in (None, 0)
        time.sleep(0.01)
    with pytest.raises(OutputError, match=r"another run writes to .*killed'.*--out"):
        PairStore.open(folder, SETTINGS, WORDS, resume=True)
    process.kill()
    process.join()
    run(folder, places)
    run(tmp_path / "whole", places)
    assert content(folder) == content(tmp_path / "whole")


def test_a_data_set_may_grow(tmp_path: Path) -> None:
    run(tmp_path / "small", 3)
    before = content(tmp_path / "small")
    run(tmp_path / "small", 7)
    after = content(tmp_path / "small")
    assert after["pairs.jsonl"].startswith(before.pop("pairs.jsonl"))
    assert before.items() <= after.items()
    assert sum(name.startswith("masks/") for name in after) == 7


def test_pairs_read_back_as_they_were_added(whole: Path) -> None:
    with PairStore.open(whole, SETTINGS, WORDS, resume=True) as store:
        assert len(store.pairs) > len(store.kept) == PLACES
        for pair in store.pairs:
            drawn = draw(pair.number, pair.attempt)
            assert pair == drawn.pair
            if pair.kept:
                np.testing.assert_array_equal(store.read_image(pair), drawn.image)
                np.testing.assert_array_equal(store.read_mask(pair), drawn.mask)
    row = json.loads((whole / "pairs.jsonl").read_text().splitlines()[-1])
    assert row["image"] == "images/000005.png" and (whole / row["mask"]).is_file()
    assert (row["model"], row["revision"], row["method"]) == ("sticker", None, "attentioncut")
    with Image.open(whole / "masks" / "000005.png") as mask:
        assert mask.mode == "P"
        assert bytes(mask.getpalette())[: 3 * 255] == palette()[: 3 * 255]


@pytest.mark.parametrize("cut", [1, 30, 400])
def test_a_torn_end_is_cut_off_with_the_rest_of_its_batch(whole: Path, tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(whole, folder)
    log = (folder / "pairs.jsonl").read_bytes()
    (folder / "pairs.jsonl").write_bytes(log[:-cut])
    pairs, end = read_lines(log[:-cut])
    assert log[:end].endswith(b'"batch_left": 0}\n') and len(pairs) < len(read_lines(log)[0])
    with PairStore.open(folder, SETTINGS, WORDS, resume=True) as store:
        assert store.pairs == tuple(pairs)
        assert (folder / "pairs.jsonl").read_bytes() == log[:end]
        assert {path.stem for path in (folder / "images").iterdir()} == {pair.stem for pair in store.kept}
    run(folder)
    assert content(folder) == content(whole)


def test_left_overs_go_and_other_files_stay(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    for name in ("images/.0123456789abcdef.tmp", ".0123456789abcdef.tmp", "masks/000099.png"):
        (folder / name).write_bytes(b"half")
    for name in ("notes.txt", "images/mine.png", ".hidden.tmp"):
        (folder / name).write_bytes(b"mine")
    run(folder)
    names = set(content(folder)) - set(content(whole))
    assert names == {"notes.txt", "images/mine.png", ".hidden.tmp"}


def test_a_data_set_is_not_overwritten_without_resume(whole: Path) -> None:
    before = content(whole)
    with pytest.raises(OutputError, match=r"holds a data set already: .*--resume.*--out"):
        PairStore.open(whole, SETTINGS, WORDS, resume=False)
    assert content(whole) == before


@pytest.mark.parametrize("name", ["holiday.jpg", "synthesis.json", "pairs.jsonl"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_foreign_folder_is_refused_untouched(tmp_path: Path, name: str, resume: bool) -> None:
    (tmp_path / name).write_text('{"format": "another"}\n')
    with pytest.raises(OutputError, match=r"no data set to go on with: .*--out"):
        PairStore.open(tmp_path, SETTINGS, WORDS, resume=resume)
    assert content(tmp_path) == {name: b'{"format": "another"}\n'}


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        PairStore.open(tmp_path / "set", SETTINGS, WORDS, resume=True)


def test_other_settings_are_refused_by_name(whole: Path) -> None:
    before = content(whole)
    other = {**SETTINGS, "guidance": 5.0, "filters": {"least": 0.03, "steps": list(range(90))}, "new": True}
    with pytest.raises(SettingsError) as refusal:
        PairStore.open(whole, other, WORDS, resume=True)
    text = str(refusal.value)
    assert "guidance 7.5, not 5.0" in text and "filters.steps" in text and "new null, not true" in text
    assert "least" not in text and "labels" not in text
    with pytest.raises(SettingsError, match="labels"):
        PairStore.open(whole, SETTINGS, Vocabulary.parse("dog, cat"), resume=True)
    assert content(whole) == before


@pytest.mark.parametrize("missing", ["pairs.jsonl", "masks/000002.png"])
def test_missing_files_are_named_and_nothing_is_removed(whole: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    (folder / missing).unlink()
    before = content(folder)
    with pytest.raises(OutputError, match=f"{missing} is missing"):
        PairStore.open(folder, SETTINGS, WORDS, resume=True)
    assert content(folder) == before


def test_a_damaged_line_is_named(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    lines = (folder / "pairs.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "pairs.jsonl").write_bytes(b"".join([lines[0], b"{}\n", *lines[2:]]))
    before = content(folder)
    with pytest.raises(OutputError, match=r"line 2 of pairs\.jsonl is damaged"):
        PairStore.open(folder, SETTINGS, WORDS, resume=True)
    assert content(folder) == before


def test_a_damaged_picture_is_named(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    for place in ("images", "masks"):
        path = folder / place / "000002.png"
        path.write_bytes(path.read_bytes()[:60])
    with PairStore.open(folder, SETTINGS, WORDS, resume=True) as store:
        with pytest.raises(OutputError, match=r"images/000002\.png' is damaged"):
            store.read_image(store.kept[2])
        with pytest.raises(OutputError, match=r"masks/000002\.png' is damaged"):
            finish(store)


def test_two_stores_of_one_folder_exclude_each_other(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with PairStore.open(tmp_path, SETTINGS, WORDS, resume=True), pytest.raises(OutputError, match="another run"):
        PairStore.open(tmp_path, SETTINGS, WORDS, resume=True)
    PairStore.open(tmp_path, SETTINGS, WORDS, resume=True).close()


def test_a_failed_write_is_explained_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def fill_disk(log: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(log, data[:-99])

    with PairStore.open(tmp_path, SETTINGS, WORDS, resume=False) as store:
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", fill_disk)
            with pytest.raises(OutputError, match=r"cannot write into .* \(No space left on device\): .*--out"):
                store.add([draw(1, 0)])
        assert store.pairs == ()
        store.add([draw(2, 0)])
        assert read_lines((tmp_path / "pairs.jsonl").read_bytes())[0] == [draw(2, 0).pair]


def test_more_labels_than_a_mask_holds_are_refused(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(255)]
    with pytest.raises(SettingsError, match="255 labels: masks of 8 bits hold 254"):
        PairStore.open(tmp_path / "set", SETTINGS, Vocabulary.parse(words), resume=False)
    assert not (tmp_path / "set").exists()
    PairStore.open(tmp_path / "set", SETTINGS, Vocabulary.parse(words[1:]), resume=False).close()


def test_pairs_that_contradict_the_store_are_refused(tmp_path: Path) -> None:
    good, pair = draw(1, 0), draw(1, 0).pair
    assert pair.kept
    with PairStore.open(tmp_path, SETTINGS, WORDS, resume=False) as store:
        for wrong in (
            [Drawn(pair, good.image, good.mask[1:])],
            [Drawn(pair, good.image.astype(np.float32), good.mask)],
            [Drawn(pair, good.image, np.full_like(good.mask, 4))],
            [good, good],
        ):
            with pytest.raises(ValueError, match="pair 1"):
                store.add(wrong)
        store.add([good])
        with pytest.raises(ValueError, match="kept already"):
            store.add([good])
        assert len(store.pairs) == 1


def test_a_folder_with_a_broken_link_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000000.png").write_bytes(b"mine")
    (tmp_path / ".#notes").symlink_to("nowhere")
    for resume in (False, True):
        with pytest.raises(OutputError, match="not empty"):
            PairStore.open(tmp_path, SETTINGS, WORDS, resume=resume)
    assert (tmp_path / "images" / "000000.png").read_bytes() == b"mine"
