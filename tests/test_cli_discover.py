import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.datasets.scenes import load_words
from maskwright.methods import DISCOVERY_METHODS
from tests.command_line import documents, load_once, no_model, outputs, refused, run, scene, surroundings

__all__ = ["no_model", "surroundings"]  # fixtures, the second of every test here

ENDINGS = (".mask.png", ".overlay.png", ".json")
FAST = ["--method", "daam", "--set", "timesteps=100"]


def three(*names: str) -> list[str]:
    """The files that pictures of these names give."""
    return sorted(f"{name}{ending}" for name in names for ending in ENDINGS)


def test_the_choices_are_those_of_the_modules_that_use_them() -> None:
    text = run("discover", "--help").stdout
    assert re.search(r"[\s│]*".join(map(re.escape, "|".join(DISCOVERY_METHODS))), text)


@pytest.mark.parametrize("method", list(DISCOVERY_METHODS))
def test_every_method_writes_three_files_and_a_table(method: str) -> None:
    result = run("discover", scene(Path("pictures/a picture [1].png"), side=80), "-l", "owl", "--method", method, "--out", "out")
    assert outputs(Path("out")) == three("a picture [1]")
    assert all(word in result.stdout for word in ("owl", "share", "mean score", "out/a picture [1].overlay.png"))
    assert "box" not in result.stdout and "the word" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert all(word in line for word in ("sticker", "cpu", "float32", method, "given"))
    document = json.loads(Path("out/a picture [1].json").read_text())
    assert document["words"] == ["owl"] and document["record"]["method"] == method
    with Image.open("out/a picture [1].mask.png") as mask:
        assert set(np.unique(np.array(mask))) <= {0, 255} and np.count_nonzero(np.array(mask)) == document["area"]


def test_boxes_are_printed_and_drawn() -> None:
    picture = scene(Path("a.png"))
    run("discover", picture, "-l", "owl", "-q", "--out", "plain", *FAST)
    result = run("discover", picture, "-l", "owl", "--boxes", "--out", "boxed", *FAST)
    document = json.loads(Path("boxed/a.json").read_text())
    assert "box (x, y, width, height)" in result.stdout and ", ".join(map(str, document["box"])) in result.stdout
    assert document["box"] == json.loads(Path("plain/a.json").read_text())["box"]
    with Image.open("plain/a.overlay.png") as plain, Image.open("boxed/a.overlay.png") as boxed:
        assert plain.size == boxed.size and plain.tobytes() != boxed.tobytes()
    with Image.open("plain/a.mask.png") as plain, Image.open("boxed/a.mask.png") as boxed:
        assert plain.tobytes() == boxed.tobytes()


def test_json_is_all_of_stdout() -> None:
    for number in range(3):
        scene(Path(f"in/deep/{number}.png"), number)
    result = run("discover", "in", "-l", "owl", "--json", "--out", "out", *FAST)
    assert [document["picture"]["name"] for document in documents(result)] == ["0", "1", "2"]
    for document in documents(result):
        files = document.pop("files")
        assert list(files) == ["mask", "overlay", "json"] and json.loads(Path(files["json"]).read_text()) == document


def test_without_a_word_one_of_the_models_objects_is_taken() -> None:
    result = run("discover", scene(Path("a.png")), "--out", "out", *FAST)
    (word,) = json.loads(Path("out/a.json").read_text())["words"]
    assert word in {word.name for word in load_words().objects} and word in result.stdout
    assert "the word: best match of the model's words" in result.stdout


def test_match_takes_one_of_the_given_words() -> None:
    ask = ["discover", scene(Path("a.png")), "--json", "-l", "owl, banana", *FAST]
    (matched,), (together,) = (documents(run(*ask, *more)) for more in (["--match"], []))
    assert len(matched["words"]) == 1 and matched["choice"] == "best match of the given words"
    assert together["words"] == ["owl", "banana"] and together["choice"] == "given"


def test_options_reach_the_result() -> None:
    options = ["--refine", "guided", "--seed", "7", "--batch", "2", "--dtype", "float32", "-l", "owl|dog"]
    settings = ["--set", "grid_factor=1", "--set", "neighbours=full", "--set", "balance=2"]
    (document,) = documents(run("discover", scene(Path("a.png")), "--json", *options, *settings))
    record = document["record"]
    assert [record[key] for key in ("method", "refine", "seed")] == ["attentioncut", "guided", 7]
    assert [record["settings"][key] for key in ("grid_factor", "neighbours", "balance")] == [1, "full", 2]
    assert record["naming"] == {"choice": "given", "labels": [["owl", ["dog"]]], "background": []}


def test_labels_come_from_a_file_and_unknown_ones_are_warned_of() -> None:
    Path("labels.txt").write_text("zeppelin  # large\n")
    result = run("discover", scene(Path("a.png")), scene(Path("b.png"), side=80), "-q", "--labels-file", "labels.txt", *FAST)
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: sticker does not know zeppelin")


def test_a_bad_picture_does_not_stop_the_others() -> None:
    scene(Path("in/a.png"))
    scene(Path("in/c.png"), 1)
    Path("in/b.jpg").write_text("no picture")
    result = run("discover", "in", "missing.png", "-l", "owl", "--json", "--out", "out", *FAST, code=1)
    assert len(documents(result)) == 2 and outputs(Path("out")) == three("a", "c")
    missing, _, bad, count = result.stderr.splitlines()
    assert missing.startswith("error: 'missing.png'") and bad.startswith("error: 'in/b.jpg'")
    assert count == "error: 2 of 4 pictures failed"


def test_resume_keeps_what_was_asked_for_in_the_same_way() -> None:
    picture = scene(Path("a.png"))
    document = Path("out/a.json")

    def made_again(*arguments: str) -> bool:
        changed = document.stat().st_mtime_ns if document.exists() else 0
        run("discover", picture, "--out", "out", "-q", "--resume", *FAST, *arguments)
        return document.stat().st_mtime_ns != changed

    assert made_again("-l", "owl") and not made_again("-l", "owl")
    assert made_again("-l", "owl", "--boxes") and not made_again("-l", "owl", "--boxes")
    assert made_again("-l", "owl", "--background", "grass") and not made_again("-l", "owl", "--background", "grass")
    assert made_again("-l", "owl, dog") and made_again("-l", "owl, dog", "--match") and not made_again("-l", "owl, dog", "--match")
    assert made_again() and not made_again()
    assert made_again("--set", "threshold=0.5") and made_again("--seed", "1")
    Path("out/a.mask.png").unlink()
    assert made_again("--seed", "1")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "nope"], "unknown method 'nope': choose one of attentioncut, daam"),
        (["--method", "kmeans"], "unknown method 'kmeans'"),
        (["--set", "solver=guess"], "attentioncut: solver takes"),
        (["--set", "steps=1"], "attentioncut has no setting steps"),
        (["--set", "seed_share=2"], "seed_share must lie in 0..1"),
        (["-l", " , "], "no labels"),
        (["-l", "dog, dog"], "stands for the label 'dog'"),
        (["--labels-file", "missing.txt"], "cannot read labels from missing.txt"),
        (["--background", "grass"], "behind the words of --labels"),
        (["-l", "dog", "--background", "0.5"], "--background 0.5 is a number"),
        (["--refine", "nope"], "unknown refine 'nope'"),
        (["--batch", "0"], "--batch is '0'"),
        (["--device", "nope"], "unknown device 'nope'"),
        (["--model", "nope"], "unknown model 'nope'"),
        (["--out", "/dev/null/x"], "cannot write into"),
    ],
)
def test_options_that_cannot_be_used(options: list[str], message: str) -> None:
    assert message in refused("discover", scene(Path("a.png")), *options)


@pytest.mark.usefixtures("no_model")
def test_pictures_that_cannot_be_used() -> None:
    Path("empty").mkdir()
    Path("text.jpg").write_text("hello")
    assert "'missing.jpg' does not exist" in refused("discover", "missing.jpg")
    assert "the folder 'empty' holds no pictures" in refused("discover", "empty")
    assert "is not a picture that can be read" in refused("discover", "text.jpg")


def test_own_outputs_are_no_pictures() -> None:
    scene(Path("in/a.png"))
    for _ in range(2):
        run("discover", "in", "-l", "owl", "--out", "in", "-q", *FAST)
    assert outputs(Path("in")) == sorted(["a.png", *three("a")])


def test_the_bundled_model_lists_its_objects() -> None:
    objects = load_once("sticker").info.objects
    assert objects is not None and [text.split("|") for text in objects] == [[w.name, *w.synonyms] for w in load_words().objects]
