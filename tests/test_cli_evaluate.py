"""`maskwright evaluate` in the test's own process, on the bundled model."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.choices import read_choices, split_values
from maskwright.evaluation.run_folder import LINES, comparable, read_folder
from maskwright.evaluation.runner import Runner
from tests.command_line import COMMAND, ENVIRONMENT, run, scene, surroundings  # noqa: F401 - a fixture

SCENES = ("evaluate", "--dataset", "scenes", "--limit", "2", "--overlays", "0", "--out", "out")


def test_methods_are_measured_and_the_protocol_stands_beside_the_numbers() -> None:
    result = run(*SCENES, "--method", "diffsegmenter,kmeans")
    assert "scenes, benchmark: 2 of 200 pictures" in result.stdout
    assert "protocol maskwright: all classes; background the method's own; original size" in result.stdout
    assert re.search(r"diffsegmenter +miou +0\.\d{4}  \[0\.\d{4}, 0\.\d{4}\]", result.stdout)
    assert re.search(r"diffsegmenter - kmeans  miou  [+-]0\.\d{4}", result.stdout)
    assert "written to out" in result.stderr and "diffsegmenter, kmeans" in result.stderr
    assert len(read_folder("out").lines) == 4


def test_json_is_one_object_and_quiet_says_only_the_figures() -> None:
    result = run(*SCENES, "--json", "--quiet")
    summary = json.loads(result.stdout)
    assert summary["methods"]["diffsegmenter"]["headline"] == "miou" and summary["protocol"]["name"] == "maskwright"
    assert result.stderr == ""


def test_shards_merged_are_the_single_run() -> None:
    run(*SCENES)
    for shard in "12":
        run(*SCENES[:-1], f"out{shard}", "--shard", f"{shard}/2")
    merged = run("evaluate", "--merge", "out2", "out1", "--out", "merged")
    assert list(map(comparable, read_folder("merged").lines)) == list(map(comparable, read_folder("out").lines))
    assert "2 of 200 pictures;" in merged.stdout


def test_a_run_is_resumed_and_never_overwritten() -> None:
    run(*SCENES)
    expected = list(map(comparable, read_folder("out").lines))
    assert "add --resume" in run(*SCENES, code=1).stderr
    path = Path("out") / LINES
    path.write_bytes(path.read_bytes()[:-20])
    run(*SCENES, "--resume")
    assert list(map(comparable, read_folder("out").lines)) == expected
    assert "something else in protocol: " in run(*SCENES, "--resume", "--protocol", "labels=present", code=1).stderr


def test_an_interrupted_run_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "outcomes", interrupt)
    monkeypatch.setattr("sys.argv", ["maskwright", *SCENES])
    result = run(*SCENES, code=130)
    assert "go on with: maskwright evaluate --dataset scenes --limit 2 --overlays 0 --out out --resume" in result.stderr


def test_a_sweep_makes_a_method_of_each_value() -> None:
    result = run(*SCENES, "--limit", "1", "--sweep", "timesteps=50,[50,100]", "--sweep", "hops=0,1", "--json")
    assert list(json.loads(result.stdout)["methods"]) == [
        "diffsegmenter[timesteps=50,hops=0]", "diffsegmenter[timesteps=50,hops=1]",
        "diffsegmenter[timesteps=[50,100],hops=0]", "diffsegmenter[timesteps=[50,100],hops=1]",
    ]  # fmt: skip


def test_settings_reach_the_methods_that_have_them() -> None:
    choices = read_choices(["diffsegmenter,kmeans"], ["timesteps=50", "kmeans.regions=3", "hops=2"])
    assert [choice.settings for choice in choices] == [{"timesteps": (50,), "hops": 2}, {"timesteps": (50,), "regions": 3}]
    swept = read_choices(["diffsegmenter", "kmeans"], [], ["hops=0,1"])
    assert [choice.key for choice in swept] == ["diffsegmenter[hops=0]", "diffsegmenter[hops=1]", "kmeans"]


def test_values_are_split_outside_of_brackets() -> None:
    assert split_values("1, [2,3],none,[[4,5],6]") == ["1", "[2,3]", "none", "[[4,5],6]"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "segment"], "unknown method 'segment': choose one or more of diffsegmenter"),
        (["--method", "kmeans,kmeans"], "one or more different methods"),
        (["--dataset", "pascal"], "no data set 'pascal'"),
        (["--dataset", "voc2012:nowhere"], "nowhere"),
        (["--split", "val"], "scenes has no split 'val'"),
        (["--protocol", "paper:nobody"], "no protocol 'paper:nobody'"),
        (["--set", "hop=2"], "diffsegmenter has no setting hop: there are"),
        (["--set", "hops=two"], "takes a whole number"),
        (["--set", "hops"], "is not KEY=VALUE"),
        (["--set", "kmeans.regions=3"], "'kmeans' is not among the methods diffsegmenter"),
        (["--sweep", "hops=1,x"], "takes a whole number"),
        (["--sweep", "hops=1,2", "--set", "hops=1"], "to --set and to --sweep"),
        (["--sweep", f"hops={','.join(map(str, range(300)))}"], "makes 300 methods"),
        (["--shard", "3/2"], "write I/N"),
        (["--shard", "half"], "write I/N"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--limit", "1", "--shard", "2/2"], "this shard has no pictures"),
        (["--labels", "dog"], "has its own classes"),
        (["--filter", "clip"], "--filter goes with protocols whose labels are filtered"),
        (["--protocol", "paper:diffsegmenter"], "add --filter clip"),
        (["--model", "sd99"], "unknown model 'sd99'"),
        (["folder"], "--merge takes the folders"),
        (["--merge"], "--merge takes the folders"),
        (["--merge", "nowhere"], "holds no evaluation"),
    ],
)  # fmt: skip
def test_a_bad_input_is_told_in_one_line_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, options: Sequence[str], message: str
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("maskwright.backbones.loading.load_backbone", load)
    result = run(*SCENES, *options, code=1)
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert not Path("out").exists()


def test_out_and_dataset_are_asked_for() -> None:
    assert "--out is missing" in run("evaluate", "--dataset", "scenes", code=1).stderr
    assert "--dataset is missing" in run("evaluate", "--out", "out", code=1).stderr


def test_the_protocols_are_listed_with_their_sources() -> None:
    listed = run("evaluate", "--protocol", "list").stdout
    assert "paper:diffseg: all classes" in listed and "google/diffseg" in listed


def test_a_foreground_set_needs_a_word_and_a_failed_picture_is_an_error() -> None:
    for number in range(2):
        scene(Path(f"set/images/{number}.png"), number)
        Path("set/masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(f"set/masks/{number}.png")
    Path("set/images/1.png").write_bytes(Path("set/images/1.png").read_bytes()[:100])
    command = ("evaluate", "--dataset", "folder:set", "--out", "out")
    assert "add for instance --labels horse" in run(*command, code=1).stderr
    result = run(*command, "--labels", "dog", code=1)
    assert re.search(r"error: 1 \(diffsegmenter\): .*damaged", result.stderr) and "1 results failed" in result.stderr
    assert re.search(r"diffsegmenter +iou", result.stdout)


def test_help_answers_without_torch_or_numpy() -> None:
    program = "import sys; from maskwright.cli.main import app; sys.exit(', '.join({'torch', 'numpy', 'scipy'} & set(sys.modules)) or 0)"
    done = subprocess.run([COMMAND[0], "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pictures_of_a_report_are_drawn_once() -> None:
    run(*SCENES, "--method", "diffsegmenter,kmeans", "--overlays", "1")
    drawn = sorted(path.name for path in Path("out/overlays").iterdir())
    assert drawn == sorted(f"benchmark-00{n}{end}.png" for n in range(2) for end in ("", ".diffsegmenter", ".kmeans"))
    for path in Path("out/overlays").iterdir():
        with Image.open(path) as picture:
            assert picture.size[0] >= 64
    times = {path: path.stat().st_mtime_ns for path in Path("out/overlays").iterdir()}
    run(*SCENES, "--method", "diffsegmenter,kmeans", "--overlays", "1", "--resume")
    assert {path: path.stat().st_mtime_ns for path in Path("out/overlays").iterdir()} == times
