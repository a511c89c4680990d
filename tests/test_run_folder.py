"""The folder of an evaluation survives a kill at any byte, and its shards put together are the single run."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import OutputError, SettingsError
from maskwright.evaluation.run_folder import HEAD, LINES, RunFolder, comparable, differences, merge_folders, read_folder
from tests.evaluations import evaluation, labelled, line, random_maps

KEYS = ("one", "other")


def make_lines(numbers: range, *, seconds: float = 1.0) -> list[list[dict]]:
    """The lines of each picture."""
    return [[line(number, key, labelled(*random_maps(number)), seconds=seconds) for key in KEYS] for number in numbers]


def write(path: Path, numbers: range, *, shard: list[int] | None = None, seconds: float = 1.0) -> RunFolder:
    folder = RunFolder.start(path, evaluation(*KEYS, shard=shard))
    for lines in make_lines(numbers, seconds=seconds):
        folder.append(lines)
    return folder


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    folder = write(tmp_path, range(3))
    again = read_folder(tmp_path)
    assert again.lines == folder.lines and again.evaluation == json.loads((tmp_path / HEAD).read_text())
    assert again.done() == {(number, key) for number in range(3) for key in KEYS}
    assert sorted(path.name for path in tmp_path.iterdir()) == [HEAD, LINES]  # no temporary file is left


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_run_killed_at_any_byte_and_resumed_equals_the_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("killed")
    write(path, range(3))
    whole = (path / LINES).read_bytes()
    (path / LINES).write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    folder = RunFolder.start(path, evaluation(*KEYS), resume=True)
    done = folder.done()
    for lines in make_lines(range(3)):
        folder.append([one for one in lines if (one["number"], one["method"]) not in done])
    assert (path / LINES).read_bytes() == whole


def test_a_folder_is_neither_overwritten_nor_mixed_with_another_evaluation(tmp_path: Path) -> None:
    write(tmp_path, range(1))
    with pytest.raises(OutputError, match="holds an evaluation: add --resume"):
        RunFolder.start(tmp_path, evaluation(*KEYS))
    with pytest.raises(OutputError, match="asked for something else in dataset: split, seed"):
        RunFolder.start(tmp_path, evaluation(*KEYS, split="test") | {"seed": 1}, resume=True)
    assert len(RunFolder.start(tmp_path, evaluation(*KEYS), resume=True).lines) == 2


def test_resume_in_a_new_folder_starts(tmp_path: Path) -> None:
    assert RunFolder.start(tmp_path / "new", evaluation(*KEYS), resume=True).lines == []


def test_shards_put_together_are_the_single_run_bit_by_bit(tmp_path: Path) -> None:
    write(tmp_path / "all", range(5))
    for shard in (1, 2, 3):
        write(tmp_path / str(shard), range(shard - 1, 5, 3), shard=[shard, 3])
    merge_folders([tmp_path / "3", tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    for name in (HEAD, LINES):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


def test_only_seconds_and_memory_are_left_out_of_a_comparison(tmp_path: Path) -> None:
    slow, fast = write(tmp_path / "slow", range(2), seconds=9.0), write(tmp_path / "fast", range(2))
    assert slow.lines != fast.lines
    assert list(map(comparable, slow.lines)) == list(map(comparable, fast.lines))
    assert set(slow.lines[0]) - set(comparable(slow.lines[0])) == {"seconds", "peak_mb"}


def test_merge_refuses_what_does_not_belong_together(tmp_path: Path) -> None:
    write(tmp_path / "1", range(0, 4, 2), shard=[1, 2])
    RunFolder.start(tmp_path / "other", evaluation(*KEYS, split="test"))
    with pytest.raises(OutputError, match="differ in dataset: split"):
        merge_folders([tmp_path / "1", tmp_path / "other"], tmp_path / "out")
    with pytest.raises(OutputError, match="'p0' was evaluated twice by one"):
        merge_folders([tmp_path / "1", tmp_path / "1"], tmp_path / "out")
    with pytest.raises(OutputError, match="choose another folder"):
        merge_folders([tmp_path / "1"], tmp_path / "other")
    with pytest.raises(SettingsError, match="nothing to merge"):
        merge_folders([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_folder_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no evaluation"):
        read_folder(tmp_path)
    write(tmp_path, range(2))
    lines = (tmp_path / LINES).read_bytes().splitlines(keepends=True)
    (tmp_path / LINES).write_bytes(lines[0] + b"rubbish\n" + lines[1])
    with pytest.raises(OutputError, match="damaged in line 2"):
        read_folder(tmp_path)
    (tmp_path / HEAD).write_text("{")
    with pytest.raises(OutputError, match=r"evaluation\.json' is damaged"):
        read_folder(tmp_path)
    (tmp_path / HEAD).unlink()
    with pytest.raises(OutputError, match=r"has pictures\.jsonl but no evaluation\.json"):
        RunFolder.start(tmp_path, evaluation(*KEYS))


def test_differences_are_named_where_they_are() -> None:
    assert differences({"a": 1, "b": {"c": 1, "d": 2}}, {"a": 1, "b": {"c": 2, "d": 2}, "e": 0}) == ["b: c", "e"]


def test_a_name_that_is_no_text_is_written_and_read(tmp_path: Path) -> None:
    folder = RunFolder.start(tmp_path, evaluation("one"))
    folder.append([line(0, "one", {}) | {"picture": "caf\udce9"}])
    assert read_folder(tmp_path).lines[0]["picture"] == "caf\udce9"
