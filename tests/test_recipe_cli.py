"""`maskwright-recipe` on a small list of one's own words: from pictures to a model that maskwright reads."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from maskwright.backbones.catalog import find_row
from maskwright.cli.main import app as segmenting
from maskwright.datasets.scenes import open_scenes
from maskwright_recipes.cli import app
from maskwright_recipes.sheets import draw_sheet, portrait_captions, recogniser_of
from maskwright_recipes.tune import measure
from tests.command_line import restored
from tests.tiny_words import draw_discs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
LIST = """
side = 32
most = 2
[objects]
"my mug" = { picture = "mug.png" }
plate = { picture = "plate.png", synonyms = ["dish"] }
[grounds]
table = { draw = "tiles" }
"""


def run(*arguments):
    with restored():
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A word list, and the folder of a training of two steps on it."""
    folder = tmp_path_factory.mktemp("kitchen")
    draw_discs(folder, "mug", "plate")
    words = folder / "kitchen.toml"
    words.write_text(LIST)
    size = ("--samples", 4, "--batch", 2, "--autoencoder-steps", 2, "--device", "cpu")
    arguments = ("train", "--words", words, "--out", folder / "run", *size)
    code, output = run(*arguments)
    assert code == 0, output
    return words, folder / "run", arguments, output


def test_train_does_everything_in_order_and_then_nothing_twice(trained):
    words, out, arguments, output = trained
    steps = [output.rindex(part) for part in ("atlas: ", "autoencoder: PSNR on 200", "step 2/2", "model: ")]
    assert steps == sorted(steps) and words.with_suffix(".png").is_file()
    assert json.loads((out / "checkpoint" / "state.json").read_text())["samples"] == 4
    code, again = run(*arguments)
    assert code == 0 and "step" not in again and "atlas" not in again and "PSNR" not in again


def test_a_training_goes_on_with_more_samples_and_composed_batches(trained):
    _, out, arguments, _ = trained
    longer = [8 if part == 4 else part for part in arguments]
    code, output = run(*longer, "--compose", "device", "--workers", 0)
    assert code == 0 and "step 4/4" in output
    assert json.loads((out / "checkpoint" / "state.json").read_text())["samples"] == 8


def test_what_is_published_can_be_tuned_and_drawn_with(trained, tmp_path):
    words, out, _, _ = trained
    model = tmp_path / "kitchen"
    code, output = run("publish", "--words", words, "--out", out, "--to", model)
    assert code == 0 and "samples seen" in output
    assert json.loads((model / "maskwright.json").read_text())["labels"] == ["my mug", "plate", "dish", "table"]
    code, output = run("publish", "--words", words, "--out", out, "--to", words.parent)
    assert code == 1 and "holds something that is no model: name a new folder" in output and words.is_file()
    code, output = run("tune", "--words", words, "--model", model, "--limit", 2, "--try", "timesteps=[[50],[300]]")
    assert code == 0 and output.count("timesteps") == 4
    asked = {"words": words, "limit": 2}
    plain, refined = (next(measure(str(model), "diffsegmenter", {}, refine=name, **asked)) for name in ("none", "pamr"))
    assert (plain.given, plain.competing) != (refined.given, refined.competing)
    code, output = run("sheet", tmp_path / "sheet.png", "--words", words, "--model", model, "--count", 2, "--device", "cpu")
    assert code == 0 and Image.open(tmp_path / "sheet.png").size == (260, 130)
    drawn = []
    for seed in (0, 0, 1):
        code, output = run("sheet", tmp_path / "p.png", "--words", words, "--model", model, "--count", 2, "--portraits", "--seed", seed)
        assert code == 0 and output.count("a photograph of ") == 2 and "my mug" in output and "plate" in output
        drawn.append((tmp_path / "p.png").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]
    again = ("sheet", tmp_path / "p.png", "--words", words, "--model", model, "--portraits", "--attempts", 3)
    refusal = f"error: {model} has no folder clip, which would recognise pictures: leave --attempts out, or copy one there\n"
    assert run(*again) == (1, refusal)
    assert "--attempts is for --portraits" in run(*(part for part in again if part != "--portraits"))[1]


def test_a_clip_goes_with_what_is_published_and_trainings_align_with_it(trained, tmp_path):
    words, out, arguments, _ = trained
    code, output = run("clip", "--words", words, "--out", out, "--samples", 8, "--batch", 4, "--pool", 6, "--device", "cpu")
    assert code == 0 and "step 2/2" in output and "F1" in output
    longer = [12 if part == 4 else part for part in arguments]
    code, output = run(*longer, "--align", 0.5)
    assert code == 0 and "step 6/6" in output
    model = tmp_path / "kitchen"
    assert run("publish", "--words", words, "--out", out, "--to", model)[0] == 0
    found = json.loads((out / "clip" / "maskwright.json").read_text())
    assert json.loads((model / "clip" / "maskwright.json").read_text()) == found, "settings of the bundled CLIPs are for these alone"
    code, output = run("sheet", tmp_path / "p.png", "--words", words, "--model", model, "--portraits", "--count", 2, "--attempts", 2)
    assert code == 0 and output.count("a photograph of ") == 2, output
    assert output.count("(not recognised)") == 1, "untrained, it takes everything for the same of two words"
    Image.new("RGB", (40, 32), (220, 40, 30)).save(tmp_path / "red.png")
    with restored():
        options = ("--labels", "my mug, plate", "--background", "none", "--model", model, "--filter", "clip", "--offline")
        result = CliRunner().invoke(segmenting, ["segment", *map(str, (tmp_path / "red.png", *options, "--out", tmp_path))])
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "red.json").read_text())["record"]["category_filter"]
    assert told == {"mode": "clip", "ratio": found["ratio"], "clip": f"{model}/clip", "clip_revision": found["revision"]}


def test_of_several_pictures_the_clearest_is_kept(tmp_path):
    scenes, model = open_scenes("scenes-full"), find_row("sticker-full").folder
    named, judge = portrait_captions(scenes, 3), recogniser_of(model, scenes)
    shown, captions = [name for name, _ in named], [caption for _, caption in named]
    options = {"device": torch.device("cpu"), "side": 64, "shown": shown, "recogniser": judge}
    few, many = (draw_sheet(model, captions, tmp_path / f"{n}.png", attempts=n, **options) for n in (1, 4))
    assert all(-2 <= first <= later <= 2 for first, later in zip(few, many, strict=True)) and many != few
    sheets = [np.asarray(Image.open(tmp_path / f"{n}.png")) for n in (1, 4)]
    for place, (first, later) in enumerate(zip(few, many, strict=True)):
        cell = (slice(0, 128), slice(130 * place, 130 * place + 128))
        assert np.array_equal(sheets[0][cell], sheets[1][cell]) == (first == later)
    assert draw_sheet(model, captions[:1], tmp_path / "plain.png", device=torch.device("cpu"), side=64) == []


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (("train", "--words", "nothing.toml"), "there is no word list 'nothing.toml'"),
        (("train", "--size", "huge"), "there is no size 'huge': choose one of small, medium, deep, full"),
        (("train", "--words", "scenes-full", "--compose", "cloud"), "compose must be auto, device or painter"),
        (("publish", "--out", "nowhere", "--to", "nothing"), "no checkpoint in nowhere: train first"),
        (("tune", "--try", "hops"), "is no list of values"),
        (("tune", "--split", "test"), "unknown split 'test': choose one of train, tuning"),
        (("tune", "--refine", "crf"), "unknown refine 'crf': choose one of none, guided, pamr"),
        (("train", "--init", "tests"), "tests holds no model to start from"),
        (("clip", "--init", "tests"), "tests holds no model to start from"),
        (("train", "--out", "nowhere", "--align", "0.5"), "there is no CLIP in nowhere to align with"),
        (("train", "--pool", "10", "--compose", "device"), "a pool is painted, not composed"),
        (("atlas", "--words", "scenes-full", "--font", "no.ttf"), "no font at no.ttf: install fonts-noto-color-emoji"),
    ],
)
def test_a_mistake_is_one_line(arguments, refusal):
    code, output = run(*arguments)
    assert code == 1 and refusal in output and len(output.strip().splitlines()) == 1
