"""`maskwright distill`: what it writes and says, runs that end early, and everything that can be wrong with its input."""

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.students import export, speed
from maskwright.students.student import Student
from tests.command_line import COMMAND, ENVIRONMENT, documents, outputs, refused, run, surroundings
from tests.one_thread import one_thread as one_thread
from tests.students import NAMES, SIDE, draw_pair, write_checkpoint, write_pairs

__all__ = ["surroundings"]  # a fixture of every test here


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and a tiny network to begin with."""
    folder = tmp_path_factory.mktemp("place")
    write_pairs(folder / "pairs", count=12)
    write_checkpoint(folder / "tiny")
    return folder


def ask(place: Path, *more: str | Path, out: str = "student", epochs: int = 3) -> list[str | Path]:
    """A command that takes a fraction of a second."""
    given = ["--student", place / "tiny", "--size", "32", "--epochs", str(epochs), "--batch", "4", "--device", "cpu", "--no-onnx"]
    return ["distill", place / "pairs", "--out", out, *given, *more]


def content(folder: str, *names: str) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in names}


def test_a_data_set_becomes_a_student(place: Path) -> None:
    result = run(*ask(place))
    assert result.stdout == ""
    first, *epochs, writing, last = result.stderr.splitlines()
    assert all(part in first for part in ("segformer of 0.0", "reading 32 pixels", "12 examples of 2 labels", "rate 0.0001", "on cpu"))
    assert [line.partition(":")[0] for line in epochs] == [f"epoch {number} of 3" for number in (1, 2, 3)]
    assert all("mean IoU" in line and "accuracy" in line for line in (*epochs, last)) and writing.startswith("writing")
    assert "pictures a second" in last and last.endswith("in student")
    assert outputs(Path("student")) == sorted([
        "README.md", "config.json", "curve.jsonl", "curve.png", "labels.txt", "model.safetensors", "preprocessor_config.json",
        "student.json",
    ])  # fmt: skip
    student = Student.load("student")
    assert tuple(label.name for label in student.labels) == NAMES and student.made["settings"]["checkpoint"] == "tiny"
    assert student.segment(draw_pair(0)[0]).label_map.shape == (SIDE, SIDE)


def test_json_is_one_object_an_epoch_then_the_record_and_all_of_stdout(place: Path) -> None:
    result = run(*ask(place, "--json", "--quiet"))
    assert result.stderr == ""
    *epochs, last = documents(result)
    assert [(row["epoch"], row["step"], row["steps"]) for row in epochs] == [(1, 2, 6), (2, 4, 6), (3, 6, 6)]
    assert all(set(row["validation"]) == {"mean_iou", "accuracy"} for row in epochs)
    assert last == {"student": json.loads(Path("student/student.json").read_text()), "folder": "student"}
    assert last["student"]["figures"] == epochs[-1]["validation"]


def test_a_synthesised_data_set_is_told_from_a_plain_one(place: Path) -> None:
    folder = shutil.copytree(place / "pairs", "drawn")
    Path(folder, "labels.txt").unlink()
    stems = [f"{number:06d}" for number in range(12)]
    for part in ("images", "masks"):
        for number, stem in enumerate(stems):
            Path(folder, part, f"{number:03d}.png").rename(Path(folder, part, f"{stem}.png"))
    settings = {"model": "bundled:sticker", "revision": "abc", "method": "attentioncut"}
    described = {"format": "maskwright pairs 1", "labels": [["red square", "cube"], ["blue disc"]], "background": [], "settings": settings}
    Path(folder, "synthesis.json").write_text(json.dumps(described))
    line: dict[str, Any] = {"attempt": 0, "prompt": "a", "labels": ["red square"], "seed": 1, "scores": [], "kept": True, "reasons": []}
    lines = [{"number": number, **line, "image": "", "mask": "", "batch_left": 0} for number in range(12)]
    Path(folder, "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    run("distill", folder, *ask(place)[2:])
    made = json.loads(Path("student/student.json").read_text())
    assert made["labels"] == [["red square", "cube"], ["blue disc"]]
    assert {key: made["examples"][key] for key in settings} == settings and made["examples"]["count"] == 12
    card = Path("student/README.md").read_text()
    assert "bundled:sticker" in card and "licence" in card.lower() and "A model has drawn these, too" in card


def test_a_killed_run_goes_on_as_if_it_had_not_been(place: Path) -> None:
    """SIGKILL at random moments, then to the end: the weights and the curve of an uninterrupted run."""
    run(*ask(place, epochs=8, out="whole"))
    chance = random.Random(3)
    command = [*COMMAND, *map(str, ask(place, "--json", "--quiet", "--resume", epochs=8, out="killed"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    for _ in range(chance.randint(1, 4)):
        assert process.stdout.readline()
    time.sleep(chance.uniform(0, 0.01))
    process.kill()
    process.stdout.close()
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert "checkpoint.safetensors" in outputs(Path("killed")) and "student.json" not in outputs(Path("killed"))
    assert "--resume" in refused(*ask(place, epochs=8, out="killed"))
    run(*ask(place, "--resume", epochs=8, out="killed"))
    names = ("curve.jsonl", "model.safetensors", "config.json")
    assert content("killed", *names) == content("whole", *names)


def test_another_run_goes_on_only_when_told_to_and_with_the_same_settings(place: Path) -> None:
    run(*ask(place))
    before = content("student", "model.safetensors", "curve.jsonl")
    assert "holds a student already" in refused(*ask(place))
    assert "training.rate 0.0001, not 0.001" in refused(*ask(place, "--resume", "--rate", "1e-3"))
    result = run(*ask(place, "--resume"))
    assert "epoch" not in result.stderr.partition("\n")[2] and content("student", *before) == before


def test_missing_packages_are_told_before_anything_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = export.util.find_spec
    monkeypatch.setattr(export.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else found(name, *rest))
    line = refused("distill", "no-such-folder", "--out", "student")
    assert "onnxruntime" in line and 'pip install "maskwright[train]"' in line and "--no-onnx" in line
    assert not Path("student").exists()
    assert "no-such-folder" in refused("distill", "no-such-folder", "--no-onnx")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "100"], "multiple of 32"),
        (["--epochs", "0"], "epochs is 0"),
        (["--batch", "0"], "batch is 0"),
        (["--rate", "0"], "rate"),
        (["--rate", "nan"], "rate"),
        (["--validation", "1"], "validation"),
        (["--seed", "-1"], "--seed is -1"),
        (["--device", "abacus"], "unknown device"),
        (["--student", "no/such/folder"], "no folder"),
        (["--student", "some words"], "no folder"),
        (["--student", "owner/name", "--offline"], "not in the local cache and offline is on"),
    ],
)
def test_options_that_cannot_be_used_are_told_in_one_line(place: Path, options: list[str], said: str) -> None:
    assert said in refused(*ask(place), *options)
    assert not Path("student").exists()


def test_data_sets_that_cannot_be_used_are_told_in_one_line(place: Path) -> None:
    def told(folder: Path) -> str:
        return refused("distill", folder, *ask(place)[2:])

    broken = Path(shutil.copytree(place / "pairs", "broken"))
    (broken / "masks" / "000.png").unlink()
    assert "'000' lacks its picture or its mask" in told(broken)
    (broken / "labels.txt").unlink()
    assert "has no labels.txt" in told(broken)
    few = write_pairs(Path("few"), count=3)
    assert "3 examples are too few" in told(few)
    assert "is no folder" in told(few / "labels.txt")
    strange = write_pairs(Path("strange"), count=4)
    for path in (strange / "masks").iterdir():
        Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(path)
    assert "has the number 7, but there are 2 labels" in refused("distill", strange, *ask(place)[2:], model_line=True)


def test_a_folder_of_something_else_is_left_alone(place: Path) -> None:
    Path("student").mkdir()
    Path("student/thesis.txt").write_text("important")
    assert "is not empty and holds no training" in refused(*ask(place))
    assert outputs(Path("student")) == ["thesis.txt"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_checkpoint_to_begin_with_is_told_in_one_line(place: Path, name: str) -> None:
    tiny = Path(shutil.copytree(place / "tiny", "tiny"))
    (tiny / name).write_text("{")
    assert "cannot begin with 'tiny'" in refused(*ask(place), "--student", "tiny")
    (tiny / name).unlink()
    assert "'tiny' lacks" in refused(*ask(place), "--student", "tiny")
