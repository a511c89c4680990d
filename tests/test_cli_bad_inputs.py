"""What a user can get wrong: one line on stderr that says what and how to mend it, exit code 1, nothing on stdout."""

import struct
import zlib
from pathlib import Path

import pytest
from huggingface_hub import constants
from PIL import Image

from tests.command_line import no_model, outputs, refused, run, scene, surroundings, three

__all__ = ["no_model", "surroundings"]  # fixtures, the second of every test here


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that claims 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))
    return path


def truncated(path: Path) -> Path:
    content = scene(path, side=200).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.usefixtures("no_model")
def test_pictures() -> None:
    Path("empty").mkdir()
    written(Path("empty/notes.txt"), "no picture")
    ask = ["-l", "dog"]
    assert "'missing.jpg' does not exist" in refused("segment", "missing.jpg", *ask)
    assert "the folder 'empty' holds no pictures" in refused("segment", "empty", *ask)
    assert "no picture matches 'none*.jpg'" in refused("segment", "none*.jpg", *ask)
    assert "is not a picture that can be read" in refused("segment", written(Path("text.jpg"), "hello"), *ask)
    assert "is cut short or damaged" in refused("segment", truncated(Path("half.jpg")), *ask)
    assert "30000 x 30000 pixels" in refused("segment", bomb(Path("bomb.png")), *ask)
    assert "is empty (0 bytes)" in refused("segment", written(Path("zero.png"), ""), *ask)
    assert "is empty (0 bytes)" in refused("segment", "-", *ask)


def test_every_picture_can_be_bad() -> None:
    written(Path("a.jpg"), "hello")
    written(Path("b.jpg"), "hello")
    result = run("segment", "a.jpg", "b.jpg", "-l", "dog", code=1)
    assert [line[:14] for line in result.stderr.splitlines()] == ["error: 'a.jpg'", "error: 'b.jpg'", "error: 2 of 2 "]


@pytest.mark.parametrize(
    ("size", "options"), [((1, 1), ()), ((1, 5000), ()), ((5000, 1), ()), ((1, 5000), ("--tile", "auto", "--refine", "guided"))]
)
def test_odd_sizes_are_no_error(size: tuple[int, int], options: tuple[str, ...]) -> None:
    Image.new("RGB", size, "red").save("odd.png")
    run("segment", "odd.png", "-l", "dog, grass", *options)
    assert outputs(Path("maskwright-out")) == three("odd")
    with Image.open("maskwright-out/odd.labels.png") as labels:
        assert labels.size == size


@pytest.mark.usefixtures("no_model")
def test_outputs() -> None:
    picture = scene(Path("a.png"))
    assert "cannot write into '/dev/null/x' (Not a directory)" in refused("segment", picture, "-l", "dog", "--out", "/dev/null/x")
    assert "cannot write into 'a.png' (File exists)" in refused("segment", picture, "-l", "dog", "--out", picture)
    assert outputs(Path()) == ["a.png"]


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no labels: name what to look for"),
        (["-l", ""], "no labels"),
        (["-l", " , ,"], "no labels"),
        (["-l", "dog, Dog"], "'Dog' stands for the label 'dog'"),
        (["-l", "dog|"], "empty synonym"),
        (["-l", "x" * 300], "300 characters: shorten it to 200"),
        (["-l", "dog, <|endoftext|>"], "<|endoftext|> is a special token"),
        (["-l", "dog", "--background", "dog"], "every label is background"),
        (["-l", "dog", "--background", " "], "--background is empty"),
        (["-l", "dog", "--background", "nan"], "--background nan is no threshold"),
        (["--labels-file", "missing.txt"], "cannot read labels from missing.txt"),
        (["--labels-file", "a.png"], "is not UTF-8 text"),
        (["-l", "dog", "--labels-file", "dog.txt"], "'dog' stands for the label 'dog'"),
    ],
)
def test_labels(labels: list[str], message: str) -> None:
    written(Path("dog.txt"), "dog\n")
    assert message in refused("segment", scene(Path("a.png")), *labels)


@pytest.mark.parametrize("method", ["diffsegmenter", "maskdiffusion"])
def test_many_labels_are_no_error(method: str) -> None:
    words = ", ".join(f"owl {number}" for number in range(500))
    result = run("segment", scene(Path("a.png")), "-l", words, "--method", method)
    assert "more" in result.stdout and max(map(len, result.stdout.splitlines())) < 200
    with Image.open("maskwright-out/a.labels.png") as labels:
        assert labels.mode == "I;16"


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--model", "nope"], ["unknown model 'nope'", "sticker", "sd15", "hub id", "folder"]),
        (["--model", "./nope"], ["no such model folder"]),
        (["--method", "nope"], ["unknown method 'nope'", "diffsegmenter, maskdiffusion"]),
        (["--prompting", "nope"], ["unknown prompting 'nope'", "shared, per-label, joint"]),
        (["--refine", "nope"], ["unknown refine 'nope'", "none, guided, pamr"]),
        (["--tile", "nope"], ["unknown tile 'nope'", "none, auto"]),
        (["--filter", "nope"], ["unknown filter 'nope'", "none, clip, clip+crops, clip+caption"]),
        (["--dtype", "nope"], ["unknown dtype 'nope'", "auto, float32"]),
        (["--device", "nope"], ["unknown device 'nope'", "cpu"]),
        (["--device", "cuda:99"], ["cuda"]),
        (["--device", "cpu", "--dtype", "float16"], ["float16", "bfloat16"]),
        (["--batch", "0"], ["--batch is '0'", "at least 1"]),
        (["--batch", "many"], ["--batch is 'many'"]),
        (["--seed", "-1"], ["--seed is -1"]),
        (["--clip", "x"], ["--filter clip"]),
        (["--blip", "x"], ["--caption"]),
        (["--set", "hops"], ["is not KEY=VALUE"]),
        (["--set", "hops=many"], ["hops takes a whole number"]),
        (["--set", "hops=1", "--set", "hops=2"], ["given twice"]),
        (["--set", "hop=1"], ["no setting hop", "hops"]),
        (["--set", "template=dog"], ["must hold {}"]),
        (["--set", "hops=-1"], ["hops must be 0 or more"]),
    ],
)
def test_options(options: list[str], messages: list[str]) -> None:
    line = refused("segment", scene(Path("a.png")), "-l", "dog", *options)
    assert all(message in line for message in messages), line


def test_what_only_the_model_can_tell() -> None:
    ask = ["segment", scene(Path("a.png")), "-l", "dog"]
    assert "timestep 5000" in refused(*ask, "--set", "timesteps=5000", model_line=True)
    assert "names no grid of this model" in refused(*ask, "--set", "fusion=[[3, 1]]", model_line=True)
    assert "--prompting shared" in refused(*ask, "--caption", "--prompting", "joint")
    assert "no folder ./nope" in refused(*ask, "--filter", "clip", "--clip", "./nope")
    assert "no folder ./nope" in refused(*ask, "--caption", "--prompting", "shared", "--blip", "./nope")


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    ask = ["segment", scene(Path("a.png")), "-l", "dog", "--model"]
    for model in ("owner/name", "sd15"):
        assert "the hub cannot be reached" in refused(*ask, model)
        assert "not in the local cache" in refused(*ask, model, "--offline")
    assert "the hub cannot be reached" in refused("models", "fetch", "sd15")


def test_a_folder_that_is_no_model() -> None:
    Path("folder").mkdir()
    assert "folder lacks unet" in refused("segment", scene(Path("a.png")), "-l", "dog", "--model", "folder")


@pytest.mark.parametrize("option", [["--limit", "0"], ["--nope"], ["--seed", "x"]])
def test_usage_errors_keep_their_exit_code(option: list[str]) -> None:
    result = run("benchmark-scenes", *option, code=2)
    assert result.stdout == "" and "Error: " in result.stderr


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("option", "choices"), [("--split", "benchmark, benchmark-fine, tuning"), ("--labels", "caption, absent, family, all")]
)
def test_benchmark_options(option: str, choices: str) -> None:
    assert choices in refused("benchmark-scenes", option, "nope")
