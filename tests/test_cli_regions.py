import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.settings import parse_settings
from maskwright.errors import SettingsError
from maskwright.methods import ALL_METHODS, READ_ONCE, REGION_METHODS
from maskwright.segmentation import Segmentation
from tests.command_line import documents, no_model, outputs, refused, run, scene, surroundings, three

__all__ = ["no_model", "surroundings"]  # fixtures, the second of every test here

FAST = ["--method", "diffcut", "--set", "timesteps=100"]


def test_the_choices_are_those_of_the_modules_that_use_them() -> None:
    text = run("regions", "--help").stdout
    for choices in (REGION_METHODS, READ_ONCE):
        assert re.search(r"[\s│]*".join(map(re.escape, "|".join(choices))), text)


@pytest.mark.parametrize("method", list(REGION_METHODS))
def test_every_method_writes_three_files_and_a_table(method: str) -> None:
    result = run("regions", scene(Path("pictures/a picture [1].png"), side=80), "--method", method, "--regions", "3", "--out", "out")
    assert outputs(Path("out")) == three("a picture [1]")
    assert all(word in result.stdout for word in ("region 1", "share", "out/a picture [1].overlay.png")) and "score" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert all(word in line for word in ("sticker", "cpu", "float32", method, "3 regions"))
    document = json.loads(Path("out/a picture [1].json").read_text())
    assert [label["name"] for label in document["labels"]] == ["region 1", "region 2", "region 3"]
    assert document["background"]["area"] == 0 and document["record"]["settings"]["regions"] == 3
    with Image.open("out/a picture [1].labels.png") as labels:
        assert set(np.unique(np.array(labels))) == {1, 2, 3}


def test_quiet_says_nothing() -> None:
    result = run("regions", scene(Path("a.png")), "-q", *FAST)
    assert (result.stdout, result.stderr) == ("", "") and outputs(Path("maskwright-out")) == three("a")


def test_json_is_all_of_stdout() -> None:
    for number in range(3):
        scene(Path(f"in/deep/{number}.png"), number)
    result = run("regions", "in", "--json", "--out", "out", *FAST)
    assert [document["picture"]["name"] for document in documents(result)] == ["0", "1", "2"]
    for document in documents(result):
        files = document.pop("files")
        assert list(files) == ["labels", "overlay", "json"] and json.loads(Path(files["json"]).read_text()) == document


def test_options_reach_the_result() -> None:
    options = ["--refine", "guided", "--seed", "7", "--batch", "2", "--dtype", "float32", "--regions", "4"]
    settings = ["--method", "diffseg", "--set", "threshold=0.5", "--set", "timesteps=50,100"]
    (document,) = documents(run("regions", scene(Path("a.png")), "--json", *options, *settings))
    record = document["record"]
    assert [record[key] for key in ("method", "refine", "seed", "prompting", "naming")] == ["diffseg", "guided", 7, None, None]
    assert [record["settings"][key] for key in ("regions", "threshold", "timesteps")] == [4, 0.5, [50, 100]]


def test_pictures_that_are_not_square_and_a_pipe() -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)).save("wide.png")
    first, second = documents(run("regions", "-", "wide.png", "--json", *FAST, stdin=Path("wide.png").read_bytes()))
    assert first["labels"] == second["labels"]
    assert [first["picture"][key] for key in ("height", "width", "name")] == [40, 90, "stdin"]


def test_words_name_regions() -> None:
    Path("labels.txt").write_text("grass|lawn\n")
    ask = ["regions", scene(Path("a.png")), "--regions", "4", "--json", *FAST, "-l", "bus, banana", "--labels-file", "labels.txt"]
    for naming in (["--naming", "diffsegmenter"], []):
        (document,) = documents(run(*ask, *naming))
        assert {label["name"].rstrip(" 234") for label in document["labels"]} <= {"bus", "banana", "grass"}
        assert document["record"]["naming"]["method"] == (naming[-1] if naming else "maskdiffusion")
        assert document["record"]["naming"]["labels"] == [["bus", []], ["banana", []], ["grass", ["lawn"]]]


def test_unknown_words_are_warned_of_once() -> None:
    result = run("regions", scene(Path("a.png")), scene(Path("b.png"), side=80), "-l", "zeppelin, dog", "-q", *FAST)
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: sticker does not know zeppelin")


def test_a_bad_picture_does_not_stop_the_others() -> None:
    scene(Path("in/a.png"))
    scene(Path("in/c.png"), 1)
    Path("in/b.jpg").write_text("no picture")
    result = run("regions", "in", "missing.png", "--json", "--out", "out", *FAST, code=1)
    assert len(documents(result)) == 2 and outputs(Path("out")) == three("a", "c")
    missing, _, bad, count = result.stderr.splitlines()
    assert missing.startswith("error: 'missing.png'") and bad.startswith("error: 'in/b.jpg'")
    assert count == "error: 2 of 4 pictures failed"


def test_resume_keeps_what_was_asked_for_in_the_same_way() -> None:
    picture = scene(Path("a.png"))
    document = Path("out/a.json")

    def made_again(*arguments: str) -> bool:
        changed = document.stat().st_mtime_ns if document.exists() else 0
        run("regions", picture, "--out", "out", "-q", "--resume", *FAST, *arguments)
        return document.stat().st_mtime_ns != changed

    assert made_again() and not made_again()
    assert made_again("--regions", "3") and not made_again("--regions", "3")
    assert made_again("-l", "dog, grass") and not made_again("-l", "dog, grass")
    assert made_again("-l", "grass, dog") and made_again("-l", "grass, dog", "--naming", "diffsegmenter")
    assert made_again("--refine", "guided") and made_again("--seed", "1") and made_again("--set", "threshold=0.1")
    assert not made_again("--set", "threshold=0.1")
    result = run("regions", picture, "--out", "out", "--resume", "--method", "diffseg", "--set", "timesteps=100")
    assert "note: earlier results that differ in method, settings are made again" in result.stderr


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "nope"], "unknown method 'nope': choose one of maskdiffusion-unsupervised, diffseg, diffcut, kmeans"),
        (["--method", "diffsegmenter"], "unknown method 'diffsegmenter'"),
        (["--regions", "0"], "--regions is '0': give a number from 1"),
        (["--regions", "-1"], "--regions is '-1'"),
        (["--regions", "2.5"], "--regions is '2.5'"),
        (["--regions", "many"], "--regions is 'many'"),
        (["--regions", "99999"], "--regions is '99999'"),
        (["--regions", "oracle"], "--regions oracle: oracle is the number of regions in the ground truth, which only an evaluation has"),
        (["--set", "regions=oracle"], "--set regions=oracle: oracle is the number"),
        (["--set", "regions=3", "--regions", "4"], "say the same: keep one of them"),
        (["--set", "regions=0"], "regions must be a whole number of at least 1"),
        (["--set", "least=1"], "no setting"),
        (["--naming", "maskdiffusion"], "--naming scores the words that name regions: add --labels"),
        (["--naming", "nope", "-l", "dog"], "unknown naming 'nope': choose one of diffsegmenter, maskdiffusion"),
        (["-l", ""], "no labels"),
        (["--refine", "nope"], "unknown refine 'nope'"),
        (["--seed", "-1"], "--seed is -1"),
        (["--model", "nope"], "unknown model 'nope'"),
        (["--out", "/dev/null/x"], "cannot write into"),
    ],
)
def test_options_that_cannot_be_used(options: list[str], message: str) -> None:
    assert message in refused("regions", scene(Path("a.png")), *(FAST if "least=1" in options else ()), *options)


@pytest.mark.usefixtures("no_model")
def test_pictures_that_cannot_be_used() -> None:
    Path("empty").mkdir()
    Path("text.jpg").write_text("hello")
    assert "'missing.jpg' does not exist" in refused("regions", "missing.jpg")
    assert "the folder 'empty' holds no pictures" in refused("regions", "empty")
    assert "is not a picture that can be read" in refused("regions", "text.jpg")


def test_own_outputs_are_no_pictures() -> None:
    scene(Path("in/a.png"))
    for _ in range(2):
        run("regions", "in", "--out", "in", "-q", *FAST)
    assert outputs(Path("in")) == sorted(["a.png", *three("a")])


def test_settings_of_every_kind_of_method_are_read() -> None:
    assert parse_settings("kmeans", ["regions=5", "grid=16,22"], among=ALL_METHODS) == {"regions": 5, "grid": (16, 22)}
    assert parse_settings("diffcut", ["regions=auto", "factors=2,1"], among=REGION_METHODS) == {"regions": "auto", "factors": (2, 1)}
    assert parse_settings("diffcut", ["factors=finest", "scale=none"], among=REGION_METHODS) == {"factors": "finest", "scale": None}
    with pytest.raises(SettingsError, match="kmeans: regions takes a whole number or 'auto' or 'oracle', not 'many'"):
        parse_settings("kmeans", ["regions=many"], among=ALL_METHODS)
    with pytest.raises(SettingsError, match="unknown method 'kmeans'"):
        parse_settings("kmeans", [])


def test_an_interrupt_leaves_whole_files_only_and_the_rest_is_done_by_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        scene(Path(f"in/{number}.png"), number)
    save, saved = Segmentation.save, list[str]()

    def interrupted(result: Segmentation, *args: Any, **kwargs: Any) -> tuple[Path, ...]:
        if saved:
            raise KeyboardInterrupt
        saved.append(result.picture.name)
        return save(result, *args, **kwargs)

    monkeypatch.setattr(Segmentation, "save", interrupted)
    result = run("regions", "in", "--out", "out", *FAST, code=130)
    assert result.stderr.splitlines()[-1] == "interrupted, 2 pictures to go: what is written is whole, and --resume goes on from here"
    assert outputs(Path("out")) == three("0")
    monkeypatch.setattr(Segmentation, "save", save)
    assert "3 pictures done (1 by an earlier run)" in run("regions", "in", "--out", "out", "--resume", *FAST).stderr
    assert outputs(Path("out")) == three("0", "1", "2")
