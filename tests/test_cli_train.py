"""`maskwright train` on the bundled model: a decoder from a folder of pairs, and all that can be wrong told in one line."""

import json
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from maskwright.backbones import loading
from maskwright.backbones.inversion import Inversion
from maskwright.cli.train import INVERSIONS, PRIORS, TASKS
from maskwright.decoders.decoder import Decoder
from maskwright.decoders.settings import Prior, Task
from tests.command_line import documents, no_model, outputs, refused, run, scene, surroundings
from tests.drawn_pairs import draw_pairs

__all__ = ["no_model", "surroundings"]  # fixtures, the second of every test here

QUICK = ("--inversion", "none", "--width", "8", "--epochs", "2", "--batch", "4", "--rate", "0.01")
OWN = ["README.md", "curve.jsonl", "curve.png", "decoder.json", "decoder.safetensors"]
FIGURES = {"iou", "accuracy", "mae", "max_f_tokencut", "max_f_selfmask"}


@pytest.fixture
def pairs() -> Path:
    return draw_pairs(Path("pairs"), 9, side=32)


def test_a_folder_of_pairs_becomes_a_decoder_that_discover_takes(pairs: Path) -> None:
    result = run("train", pairs, "--out", "out", *QUICK)
    first, *epochs, last = result.stderr.splitlines()
    assert all(part in first for part in ("sticker", "saliency decoder", "none inversion", "8 pairs to train on, 1 to validate on"))
    assert [line.split(":")[0] for line in epochs] == ["epoch 1 of 2", "epoch 2 of 2"] and last == "the decoder is in out"
    figures = json.loads(Path("out/decoder.json").read_bytes())["training"]["figures"]
    assert figures.keys() == FIGURES and all(f"{value:.4f}" in result.stdout for value in figures.values())
    assert outputs(Path("out")) == OWN and f"iou {figures['iou']:.3f}" in epochs[-1]
    picture = scene(Path("scene.png"))
    run("discover", picture, "--decoder", "out", "--out", "found", "--quiet")
    assert {"scene.mask.png", "scene.json"} <= set(outputs(Path("found")))


def test_classes_become_a_decoder_that_segment_takes(pairs: Path) -> None:
    told = documents(run("train", pairs, "--out", "out", "--task", "semantic", "--json", *QUICK))
    assert [(line["epoch"], line["step"]) for line in told] == [(1, 2), (2, 4)] and told[0]["validation"].keys() == {"mean_iou", "accuracy"}
    assert [label.name for label in Decoder.load("out").labels] == ["dog", "cat", "owl"]
    run("segment", scene(Path("scene.png")), "--decoder", "out", "--out", "found", "--quiet")
    with Image.open("found/scene.labels.png") as labels:
        assert set(np.unique(np.asarray(labels))) <= {0, 1, 2, 3}


def test_json_is_one_object_an_epoch_and_quiet_is_quiet(pairs: Path) -> None:
    result = run("train", pairs, "--out", "out", "--json", *QUICK)
    told = documents(result)
    assert len(told) == 2 and told[1]["validation"].keys() == FIGURES and told[1]["round"] == 1
    assert told[1]["validation"] == json.loads(Path("out/curve.jsonl").read_text().splitlines()[-1])["validation"]
    result = run("train", pairs, "--out", "quiet", "--quiet", *QUICK)
    assert (result.stdout, result.stderr) == ("", "")


def test_a_second_round_takes_pictures_without_masks(pairs: Path) -> None:
    for seed in range(3):
        scene(Path("photos", f"{seed}.png"), seed)
    result = run("train", pairs, "--out", "out", "--self-train", "photos", *QUICK)
    assert "epoch 3 of 3, second round: loss" in result.stderr
    assert json.loads(Path("out/decoder.json").read_bytes())["training"]["self_training"]["pictures"] == 3
    assert set(outputs(Path("out"))) == {*OWN, "self-training"}


# The interrupt may fall between the opening of a file and its with block: the collector closes that file, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_training_goes_on_where_it_was(pairs: Path) -> None:
    run("train", pairs, "--out", "whole", *QUICK, "--quiet")
    over = threading.Event()

    def interrupt() -> None:
        while not (Path("out/curve.jsonl").is_file() and Path("out/curve.jsonl").read_bytes().count(b"\n") > 2):
            if over.wait(0.005):
                return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def raise_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, raise_interrupt)
    watch = threading.Thread(target=interrupt)
    watch.start()
    try:
        line = run("train", pairs, "--out", "out", *QUICK, "--epochs", "5", code=130).stderr.splitlines()[-1]
    finally:
        over.set()
        watch.join()
        signal.signal(signal.SIGUSR1, before)
    assert line.startswith("interrupted in epoch ") and "--resume goes on from the last checkpoint" in line
    assert "holds a training already: go on with it by --resume" in refused("train", pairs, "--out", "out", *QUICK)
    assert "training.epochs 5, not 2" in refused("train", pairs, "--out", "out", *QUICK, "--resume", "--quiet")
    head = Path("out/curve.jsonl").read_bytes()
    run("train", pairs, "--out", "out", *QUICK, "--epochs", "5", "--resume", "--quiet")
    assert Path("out/curve.jsonl").read_bytes().startswith(head[: head.index(b"\n")]) and outputs(Path("out")) == OWN


def test_what_is_over_is_left_as_it_is(pairs: Path) -> None:
    run("train", pairs, "--out", "out", *QUICK, "--quiet")
    before = {name: Path("out", name).read_bytes() for name in OWN}
    result = run("train", pairs, "--out", "out", *QUICK, "--resume")
    assert "nothing is left to do" in result.stderr and "iou" in result.stdout
    assert {name: Path("out", name).read_bytes() for name in OWN} == before
    assert "holds a decoder already" in refused("train", pairs, "--out", "out", *QUICK)


def _break(folder: Path) -> None:
    shutil.rmtree(folder / "masks")


def _fill(folder: Path) -> None:
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("x")


def _few(folder: Path) -> None:
    shutil.rmtree(folder)
    draw_pairs(folder, 3)


def _empty(folder: Path) -> None:
    (folder / "pairs.jsonl").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (shutil.rmtree, [], "'pairs' is no folder: give a folder of `maskwright synthesize`"),
        (_break, [], "lacks 9 of 9 files"),
        (_empty, [], "holds no pair"),
        (_few, [], "3 examples are too few to train on"),
        (_fill, [], "'out' is not empty and holds no training"),
        (_fill, ["--resume"], "'out' is not empty and holds no training"),
        (None, ["--task", "depth"], "unknown task 'depth': choose one of saliency, semantic"),
        (None, ["--inversion", "half"], "unknown inversion"),
        (None, ["--prior", "clip"], "unknown prior"),
        (None, ["--attention"], "prior 'match'"),
        (None, ["--epochs", "0"], "epochs is 0"),
        (None, ["--batch", "0"], "batch is 0"),
        (None, ["--rate", "nan"], "rate"),
        (None, ["--width", "0"], "width must be"),
        (None, ["--timestep", "-1"], "timestep must be"),
        (None, ["--seed", "-1"], "--seed is -1"),
        (None, ["--self-train", "nowhere"], "'nowhere' does not exist"),
        (None, ["--self-train", "pairs/images", "--task", "semantic"], "use it with --task saliency"),
        (None, ["--model", "nothing"], "nothing"),
        (None, ["--dtype", "int8"], "unknown dtype"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line_before_a_model_is_loaded(
    pairs: Path, no_model: None, change: Callable[[Path], object] | None, options: list[str], message: str
) -> None:
    if change is not None:
        change(pairs)
    before = sorted(Path().rglob("*"))
    assert message in refused("train", pairs, "--out", "out", *options)
    assert sorted(Path().rglob("*")) == before


def test_a_timestep_beyond_the_schedule_is_refused(pairs: Path) -> None:
    loading.load_backbone("sticker", device="auto", dtype="auto", offline=False)
    assert "timestep" in refused("train", pairs, "--out", "out", "--timestep", "5000", "--quiet")
    assert not any(Path("out").glob("*"))  # nothing stands in the way of the next try


def test_the_choices_are_those_of_the_settings() -> None:
    assert (TASKS, INVERSIONS, PRIORS) == (get_args(Task), get_args(Inversion), get_args(Prior))
