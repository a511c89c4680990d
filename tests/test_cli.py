import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskwright import __version__
from maskwright.backbones import catalog, loading
from maskwright.cli import engine, guard, scenes, settings
from maskwright.cli.naming import output_names
from maskwright.cli.progress import progress_bar
from maskwright.errors import SettingsError
from maskwright.evaluation.scenes import ASK, Asked
from maskwright.methods import METHODS
from maskwright.refine import REFINERS
from maskwright.segmenter import TILINGS
from maskwright.text import filtering
from tests.command_line import COMMAND, ENDINGS, ENVIRONMENT, load_once, outputs, run, scene, surroundings, three
from tests.tiny_text_models import build_blip, build_clip

__all__ = ["surroundings"]  # a fixture of every test here


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_answer_at_once(argument: str) -> None:
    """Seconds are the processor's, for other tests run beside this one."""
    seconds = []
    for _ in range(4):
        began = os.times()
        command = [sys.executable, "-X", "importtime", *COMMAND[1:], argument]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
        ended = os.times()
        seconds.append(ended.children_user + ended.children_system - began.children_user - began.children_system)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "diffusers", "transformers", "numpy", "PIL", "scipy", "huggingface_hub", "rich"}
    assert min(seconds) < 0.3
    assert "segment" in done.stdout if argument == "--help" else done.stdout == f"maskwright {__version__}\n"


def test_the_choices_are_those_of_the_modules_that_use_them() -> None:
    assert (engine.REFINERS, engine.TILINGS) == (REFINERS, TILINGS)
    assert set(engine.FILTERS) == set(get_args(filtering.Mode)) - {"given"}
    assert scenes.ASKED == get_args(Asked) == tuple(ASK)
    text = run("segment", "--help").stdout
    for choices in (METHODS, engine.PROMPTINGS, REFINERS, TILINGS, engine.FILTERS, ("auto", *engine.DTYPES)):
        assert "|".join(choices) in text


def test_segment_writes_three_files_and_a_table() -> None:
    picture = scene(Path("pictures/a picture [1].png"))
    result = run("segment", picture, "--labels", "banana, bus|coach, grass", "--out", "out")
    assert outputs(Path("out")) == three("a picture [1]")
    assert all(word in result.stdout for word in ("banana", "share", "mean score", "out/a picture [1].overlay.png"))
    (line,) = result.stderr.splitlines()
    assert all(word in line for word in ("sticker", "cpu", "float32", "diffsegmenter", "prompting"))
    document = json.loads(Path("out/a picture [1].json").read_text())
    assert [label["name"] for label in document["labels"]] == ["banana", "bus", "grass"]
    with Image.open("out/a picture [1].labels.png") as labels:
        assert np.array(labels).shape == (64, 64)


def test_quiet_says_nothing() -> None:
    result = run("segment", scene(Path("a.png")), "-l", "bus", "-q", "--background", "0.4")
    assert (result.stdout, result.stderr) == ("", "")
    assert outputs(Path("maskwright-out")) == three("a")


def test_json_is_all_of_stdout() -> None:
    for number in range(3):
        scene(Path(f"in/deep/{number}.png"), number)
    result = run("segment", "in", "-l", "bus, grass", "--json", "--out", "out", "--method", "maskdiffusion", "--set", "samples=1")
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [document["picture"]["name"] for document in documents] == ["0", "1", "2"]
    for document in documents:
        files = document.pop("files")
        assert json.loads(Path(files["json"]).read_text()) == document
        assert document["record"]["method"] == "maskdiffusion"


def test_options_reach_the_result() -> None:
    picture = scene(Path("a.png"), side=160)
    options = ["--prompting", "per-label", "--background", "grass", "--refine", "guided", "--tile", "auto", "--flip", "--seed", "7"]
    settings = ["--set", "hops=2", "--set", "timesteps=50,100"]
    result = run("segment", picture, "-l", "bus", "--json", *options, *settings, "--batch", "2", "--dtype", "float32")
    document = json.loads(result.stdout)
    record = document["record"]
    found = [record[key] for key in ("prompting", "background", "refine", "tile", "flip", "seed")]
    assert found == ["per-label", "grass", "guided", "auto", True, 7]
    assert (record["settings"]["hops"], record["settings"]["timesteps"]) == (2, [50, 100])
    assert document["background"]["names"] == ["grass"] and len(document["labels"]) == 1


def test_labels_come_from_option_and_file() -> None:
    Path("labels.txt").write_text("tree  # tall\ngrass|lawn\n")
    arguments = ["segment", scene(Path("a.png")), "--labels-file", "labels.txt", "--json"]
    result = run(*arguments, "-l", "bus", "-l", "banana, owl")
    assert [label["name"] for label in json.loads(result.stdout)["labels"]] == ["bus", "banana", "owl", "tree", "grass"]
    assert len(json.loads(run(*arguments).stdout)["labels"]) == 2


def test_standard_input() -> None:
    picture = scene(Path("a.png"))
    result = run("segment", "-", picture, "-l", "bus", "--json", stdin=picture.read_bytes())
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert [first["picture"][key] for key in ("name", "source")] == ["stdin", "stdin"]
    assert first["labels"] == second["labels"]
    assert outputs(Path("maskwright-out")) == three("a", "stdin")


def test_a_bad_picture_does_not_stop_the_others() -> None:
    scene(Path("in/a.png"))
    scene(Path("in/c.png"), 1)
    Path("in/b.jpg").write_text("no picture")
    result = run("segment", "in", "missing.png", "-l", "bus", "--json", "--out", "out", code=1)
    assert len(result.stdout.splitlines()) == 2
    missing, _, bad, count = result.stderr.splitlines()
    assert missing.startswith("error: 'missing.png'") and bad.startswith("error: 'in/b.jpg'")
    assert count == "error: 2 of 4 pictures failed"
    assert outputs(Path("out")) == three("a", "c")


def test_resume_keeps_what_is_done() -> None:
    for number in range(3):
        scene(Path(f"in/{number}.png"), number)
    ask = ["segment", "in", "--out", "out", "--json", "-l"]
    before = run(*ask, "bus, grass|lawn").stdout
    kept = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    Path("out/1.json").unlink()
    result = run(*ask, "bus, grass|lawn", "--resume")
    assert {path for path, changed in kept.items() if path.stat().st_mtime_ns != changed} == {Path(f"out/{n}") for n in three("1")}
    parsed = [sorted(json.loads(line)["picture"]["name"] for line in text.splitlines()) for text in (before, result.stdout)]
    assert parsed == [["0", "1", "2"]] * 2
    assert "3 pictures done (2 by an earlier run), in out" in result.stderr


def test_resume_makes_again_what_was_asked_for_otherwise() -> None:
    picture = scene(Path("a/x.png"))
    ask = ["segment", "--out", "out", "-q"]
    run(*ask, picture, "-l", "bus, grass")
    document = Path("out/x.json")

    def made_again(*arguments: str | Path) -> bool:
        changed = document.stat().st_mtime_ns
        run(*ask, "--resume", *arguments)
        return document.stat().st_mtime_ns != changed

    assert not made_again(picture, "-l", "bus, grass")
    assert made_again(picture, "-l", "grass, bus")
    assert not made_again(picture, "-l", "grass, bus")
    assert made_again(picture, "-l", "grass, bus", "--background", "none")
    assert made_again(picture, "-l", "grass, bus", "--background", "none", "--set", "hops=0")
    assert made_again(picture, "-l", "grass, bus", "--background", "none", "--set", "hops=0", "--flip")
    assert made_again(scene(Path("b/x.png")), "-l", "grass, bus", "--background", "none", "--set", "hops=0")
    document.write_text("{")
    assert made_again(Path("b/x.png"), "-l", "grass, bus", "--background", "none", "--set", "hops=0")
    result = run("segment", "--out", "out", "--resume", "b/x.png", "-l", "bus")
    assert "note: earlier results that differ in labels, settings, background are made again" in result.stderr


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.png", "a/y.png"], ["x", "y"]),
        (["a/x.jpg", "a/x.png"], ["x.jpg", "x.png"]),
        (["a/x.png", "b/x.png"], ["a-x", "b-x"]),
        (["a/x.jpg", "a/x.png", "b/x.jpg"], ["a-x", "x.png", "b-x"]),
        (["1/in/x.png", "2/in/x.png"], ["1-in-x", "2-in-x"]),
        (["a/x.png", "b/x.png", "a-x.png"], ["a-x.png", "b-x", "a-x"]),
    ],
)
def test_names_of_outputs(paths: list[str], names: list[str]) -> None:
    assert output_names([Path(path) for path in paths]) == names


part = st.sampled_from(["a", "A", "b", "a-b", "é", "e\u0301", "x" * 150])


@given(st.lists(st.builds(lambda *parts: Path("/", *parts[:-1], f"{parts[-2]}.{parts[-1]}"), part, part, part), unique=True))
def test_names_never_meet_and_do_not_depend_on_order(paths: list[Path]) -> None:
    names = output_names(paths)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names)
    assert all("/" not in name and len(name.encode()) < 220 for name in names)
    assert output_names(paths[::-1]) == names[::-1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hops=3", 3),
        ("timesteps=50", (50,)),
        ("timesteps=[50, 100]", (50, 100)),
        ("fusion=[[8, 0.5], [4, 1]]", ((8, 0.5), (4, 1.0))),
        ("fusion=[8, 0.5], [4, 1]", ((8, 0.5), (4, 1.0))),
        ("keep=true", True),
        ("reject=1", 1.0),
        ("template=a {}, seen from = above", "a {}, seen from = above"),
        ("absent=5", "5"),
        ('absent="null"', "null"),
        ("tokens=last", "last"),
    ],
)
def test_settings_are_read_as_their_types(text: str, value: object) -> None:
    (found,) = settings.parse_settings("diffsegmenter", [text]).values()
    assert found == value and type(found) is type(value)


def test_a_setting_may_be_none() -> None:
    assert settings.parse_settings("maskdiffusion", ["grid=none"]) == {"grid": None}
    assert settings.parse_settings("maskdiffusion", ["grid=16,22"]) == {"grid": (16, 22)}


@pytest.mark.parametrize(
    "text", ["hops=2.5", "hops=true", "keep=1", "timesteps=", "timesteps=[]", "fusion=[[8]]", "reject=NaN", "tokens=x"]
)
def test_settings_of_another_type_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=f"diffsegmenter: {text.partition('=')[0]} takes "):
        settings.parse_settings("diffsegmenter", [text])


def test_filter_and_captions_use_the_given_folders() -> None:
    clip, blip = build_clip(Path("clip")), build_blip(Path("blip"))
    ask = ["segment", scene(Path("a.png")), "-l", "dog, cat", "-q"]
    run(*ask, "--filter", "clip", "--clip", clip)
    run(*ask, "--filter", "clip+caption", "--clip", clip, "--blip", blip, "--caption", "--prompting", "shared")
    run(*ask, "--caption", "--prompting", "shared", "--blip", blip, "--offline")
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_warning_is_told_once() -> None:
    result = run("segment", scene(Path("a.png")), scene(Path("b.png"), side=80), "-l", "zeppelin, dog", "-q")
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: sticker does not know zeppelin")


def test_models() -> None:
    for command in (["models"], ["models", "list"]):
        text = run(*command).stdout
        assert all(name in text for name in catalog.catalog())
    assert "CompVis/stable-diffusion-v1-4" in run("models", "show", "sd14").stdout
    assert "banana" in run("models", "show", "sticker").stdout
    assert run("models", "fetch", "sticker").stdout.strip() == str(catalog.find_row("sticker").folder)
    result = run("models", "show", "nope", code=1)
    assert result.stderr.startswith("error: unknown model 'nope'") and "sd15" in result.stderr


def test_benchmark_scenes() -> None:
    ask = ["benchmark-scenes", "--limit", "3", "--split", "tuning", "--labels", "all"]
    result = run(*ask, "--json")
    *scenes, document = (json.loads(line) for line in result.stdout.splitlines())
    assert [scene["scene"] for scene in scenes] == [0, 1, 2]
    assert 0 <= document["miou"] <= 1 and document["scenes"] == 3 and document["words"]
    assert document["method"] == "diffsegmenter" and document["split"] == "tuning"
    text = run(*ask).stdout
    assert f"mIoU {document['miou']:.4f}" in text and all(word in text for word in document["words"])


def test_doctor() -> None:
    lines = run("doctor").stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert all(any(word in line for line in lines) for word in ("torch ", "torchvision", "cpu", "GB free", "segmented in"))


def test_doctor_fails_where_something_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "ASSETS", tmp_path)
    monkeypatch.setattr(loading, "load_backbone", load_once.__wrapped__)
    lines = run("doctor", code=1).stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("fail")] == [["fail", "model"]]


def test_an_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @guard.guarded
    def broken() -> None:
        raise KeyError("a\nb")

    with pytest.raises(typer.Exit) as caught:
        broken()
    assert caught.value.exit_code == 1
    text = capsys.readouterr().err
    assert text.startswith("error: unexpected KeyError: ") and text.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for kind in (Terminal, io.StringIO):
        monkeypatch.setattr(sys, "stderr", kind())
        monkeypatch.setenv("TERM", "xterm")
        with progress_bar(2, unit="pictures") as bar:
            bar.advance()
            with bar.aside():
                print("to stdout")
            bar.advance()
        shown[kind] = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", sys.stderr.getvalue())
    assert "2/2 pictures" in shown[Terminal] and shown[io.StringIO] == ""
    assert capsys.readouterr().out == "to stdout\n" * 2


def test_an_interrupt_leaves_whole_files_only() -> None:
    picture = scene(Path("in/0.png"), side=300)
    for number in range(1, 60):
        shutil.copy(picture, f"in/{number}.png")
    ask = ["segment", "in", "-l", "bus, grass, tree", "--json", "--out", "out", "--batch", "1"]
    # a test run in the background may have handed down that interrupts are ignored
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from maskwright.cli.main import main; main()"
    command = [sys.executable, "-c", code, *ask]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    _, message = errors.splitlines()
    assert message.startswith("interrupted, ") and "--resume" in message
    done = [json.loads(line)["picture"]["name"] for line in [*lines, *rest.splitlines()]]
    assert 2 <= len(done) < 60
    for path in Path("out").iterdir():
        assert path.name.endswith(ENDINGS)  # no temporary file
        json.loads(path.read_text()) if path.suffix == ".json" else Image.open(path).load()  # whole
    assert {f"{name}.json" for name in done} <= set(outputs(Path("out")))


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen([*COMMAND, "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 1
    assert "Error" not in errors and "Exception" not in errors
