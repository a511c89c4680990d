"""`maskwright synthesize` on the bundled model: the data set, what is said of it, and runs that end early."""

import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.backbones import loading
from maskwright.backbones.catalog import find_row
from tests.command_line import COMMAND, ENVIRONMENT, no_model, outputs, run, surroundings

__all__ = ["no_model", "surroundings"]  # fixtures, the second of every test here

WORDS = "dog, cat, red apple, whale|fish"
OWN = {"README.md", "annotations.json", "images", "masks", "pairs.jsonl", "preview.png", "synthesis.json"}


def ask(*more: str | Path, count: int = 5, out: str = "out", words: str = WORDS, steps: int = 4) -> list[str | Path]:
    """A command that takes about 0.2 s a pair."""
    Path("templates.txt").write_text("a {} on grass\na photograph of a {} on sand\n{} and snow\n")
    given = ["-l", words, "-n", str(count), "--out", out, "--steps", str(steps), "--guidance", "4", "--method", "daam"]
    return ["synthesize", *given, *(() if "--prompts" in more else ("--templates", "templates.txt")), *more]


def load() -> None:
    """Loads the model that all commands of this process share, so that it costs the test's clock nothing."""
    loading.load_backbone("sticker", device="auto", dtype="auto", offline=False)


def content(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def lines(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "pairs.jsonl").read_text().splitlines()]


def test_words_become_a_labelled_data_set() -> None:
    result = run(*ask(count=6))
    assert result.stdout == ""
    first, last = result.stderr.splitlines()
    assert all(part in first for part in ("sticker", "cpu in float32", "daam, 4 steps", "guidance 4"))
    assert last.startswith("6 of 6 pairs kept, ") and last.endswith(", in out") and "s a kept pair" in last
    assert set(outputs(Path("out"))) == OWN
    names = [f"{number:06d}.png" for number in range(6)]
    assert outputs(Path("out/images")) == outputs(Path("out/masks")) == names
    kept = [line for line in lines("out") if line["kept"]]
    counts = Counter(label for line in kept for label in line["labels"])
    assert set(counts) == {"dog", "cat", "red apple", "whale"} and max(counts.values()) - min(counts.values()) == 1
    for line in kept:
        with Image.open(Path("out", line["image"])) as image, Image.open(Path("out", line["mask"])) as mask:
            assert image.size == mask.size == (64, 64) and image.mode == "RGB" and mask.mode == "P"
            number = 1 + ["dog", "cat", "red apple", "whale"].index(line["labels"][0])
            assert set(np.unique(np.asarray(mask))) <= {0, number, 255} and (np.asarray(mask) == number).any()
        assert line["labels"][0] in line["prompt"] and line["model"] == "bundled:sticker"


def test_json_is_one_object_an_attempt_and_all_of_stdout() -> None:
    result = run(*ask("--json", "--quiet", "--attempts", "2", "--set", "threshold=0.7", count=6))
    assert result.stderr == "" or "passed the filters" in result.stderr
    told = [json.loads(line) for line in result.stdout.splitlines()]
    for line, stored in zip(told, lines("out"), strict=True):
        assert (line["number"], line["attempt"], line["seed"]) == (stored["number"], stored["attempt"], stored["seed"])
        assert line["kept"] == (line["reasons"] == []) == (line["image"] is not None)
        assert not line["kept"] or Path(line["mask"]).is_file()
        assert all({"area", "component", "corners", "contrast"} == set(score) for score in line["scores"].values())


def test_another_run_goes_on_only_when_told_to_and_draws_nothing_twice() -> None:
    run(*ask())
    before = content("out")
    assert "--resume" in run(*ask(), code=1).stderr
    assert "5 of 5 pairs kept" in run(*ask("--resume")).stderr and content("out") == before
    assert "guidance 4.0, not 5.0" in run(*ask("--resume", "--guidance", "5"), code=1).stderr
    run(*ask("--resume", count=7))
    grown = content("out")
    assert all(grown[name] == data for name, data in before.items() if name.endswith("0.png"))
    assert len(outputs(Path("out/images"))) == 7 and grown["pairs.jsonl"].startswith(before["pairs.jsonl"])


def test_a_killed_run_goes_on_as_if_it_had_not_been() -> None:
    """SIGKILL at three random moments, then to the end: file by file what an uninterrupted run gives."""
    load()
    began = time.perf_counter()
    run(*ask(count=14, out="whole"))
    pace, chance = (time.perf_counter() - began) / 14, random.Random(20)
    for turn in range(3):
        command = [*COMMAND, *ask("--json", "--quiet", *(("--resume",) if turn else ()), count=14, out="killed")]
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert process.stdout is not None
        for _ in range(chance.randint(1, 2)):
            assert process.stdout.readline()
        time.sleep(chance.uniform(0, min(pace, 0.5)))  # a busy moment may have measured a pace at which the rest would be done
        process.kill()
        process.stdout.close()
        assert process.wait(timeout=30) == -signal.SIGKILL
        assert 0 < len(lines("killed")) < len(lines("whole")) and "README.md" not in outputs(Path("killed"))
    run(*ask("--resume", count=14, out="killed"))
    assert content("killed") == content("whole")


def test_an_interrupt_tells_what_is_there() -> None:
    load()
    over = threading.Event()

    def interrupt() -> None:
        while len(list(Path("out/masks").glob("*.png"))) < 3:
            if over.wait(0.05):
                return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    watcher = threading.Thread(target=interrupt, daemon=True)
    try:
        watcher.start()
        result = run(*ask(count=200), code=130)
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGUSR1, previous)
    message = result.stderr.splitlines()[-1]
    kept = sum(line["kept"] for line in lines("out"))
    assert message.startswith(f"interrupted, {kept} of 200 pairs are kept") and "--resume" in message and kept
    assert "preview.png" not in outputs(Path("out"))
    run(*ask("--resume", count=kept))
    assert set(outputs(Path("out"))) == OWN


def test_any_pair_can_be_made_again_alone() -> None:
    run(*ask())
    run(*ask("--only", "3,1-1", out="some"))
    some, whole = content("some"), content("out")
    assert outputs(Path("some/images")) == ["000001.png", "000003.png"]
    assert all(some[name] == whole[name] for name in some if name.startswith(("images", "masks")))


def test_the_data_card_quotes_the_command_without_paths_of_this_machine() -> None:
    Path("deep").mkdir()
    Path("deep/words.txt").write_text("dog\n")
    run(*ask("--labels-file", Path("deep/words.txt"), "--seed", "3", words="cat", count=2))
    card = Path("out/README.md").read_text()
    command = "maskwright synthesize --labels cat --labels-file words.txt {}--templates templates.txt --steps 4 --guidance 4.0"
    assert f"{command.format('--count 2 ')} --method daam --seed 3 --out DIR" in card
    assert f"{command.format('')} --method daam --seed 3 --only 0 --out DIR" in card


def test_prompts_from_a_file() -> None:
    Path("prompts.txt").write_text("# mine\na dog on grass\n\na red apple and a cat\ngrass\na fish in water\na dog on a zeppelin\n")
    result = run(*ask("--prompts", "prompts.txt", "--attempts", "1", count=6))
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning")]
    assert any("1 of 5 prompts name no label" in line for line in warnings)
    assert any("does not know zeppelin" in line for line in warnings) and len(warnings) == 2
    found = {line["prompt"]: line["labels"] for line in lines("out")}
    assert found["a red apple and a cat"] == ["cat", "red apple"] and found["a fish in water"] == ["whale"]


def test_several_labels_in_a_scene() -> None:
    run(*ask("--objects", "2-3", "--attempts", "1", count=6))
    sizes = {len(line["labels"]) for line in lines("out")}
    assert sizes == {2, 3} and all(len(line["scores"]) == len(line["labels"]) for line in lines("out"))


def test_pictures_that_clip_does_not_take_for_their_labels_are_left_out() -> None:
    """The CLIP of the larger bundled model, which knows these words, looks at what the smaller one draws."""
    folder = find_row("sticker-full").folder
    result = run(*ask("--filter", "clip", "--clip", str(folder / "clip"), "--attempts", "3", "--json", count=4))
    attempts = [json.loads(line) for line in result.stdout.splitlines()]
    ranks = [attempt["scores"][attempt["labels"][0]]["rank"] for attempt in attempts]
    assert len(set(ranks)) > 2 and max(ranks) <= 48  # the words given, and the model's others
    unknown = [rank > 1 for rank in ranks]
    assert unknown == [f"{attempt['labels'][0]}: not recognised" in attempt["reasons"] for attempt in attempts]
    assert f"not recognised {sum(unknown)}" in result.stderr and "not recognised" in Path("out/README.md").read_text()
    settings = json.loads(Path("out/synthesis.json").read_text())["settings"]
    assert settings["filter"] == "clip" and settings["clip_revision"]
    assert "filter" in run(*ask("--resume"), code=1).stderr


def test_forms_for_other_programs() -> None:
    run(*ask("--format", "yolo, voc", "--refine", "none", count=1))
    assert {"annotations.json", "data.yaml", "VOCdevkit"} < set(outputs(Path("out")))
    assert json.loads(Path("out/synthesis.json").read_text())["settings"]["masks"]["refine"] == "none"


def test_nothing_kept_is_an_error_and_something_missing_a_note() -> None:
    none = ["--set", "threshold=0.999", "--attempts", "1"]
    result = run(*ask(*none, count=2), code=1)
    *_, counts, line = result.stderr.splitlines()
    assert line.startswith("error: no attempt at 2 of 2 pairs passed the filters") and "too small 2" in counts
    assert len(lines("out")) == 2 and not outputs(Path("out/images")) and Path("out/README.md").exists()
    result = run(*ask("--set", "threshold=0.8", "--attempts", "1", "-q", count=8, out="some"))
    kept = len(outputs(Path("some/images")))
    assert 0 < kept < 8
    assert result.stderr.startswith(f"note: no attempt at {8 - kept} of 8 pairs passed")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no labels: name what to look for"),
        (("-l", "dog", "-n", "0"), "--count is 0"),
        (("-l", "dog", "-n", "-3"), "--count is -3"),
        (("-l", "dog", "--steps", "0"), "steps is 0"),
        (("-l", "dog", "--guidance", "-1"), "guidance is -1"),
        (("-l", "dog", "--guidance", "nan"), "guidance is nan"),
        (("-l", "dog", "--guidance", "inf"), "guidance is inf"),
        (("-l", "dog", "--side", "0"), "side is 0"),
        (("-l", "dog", "--attempts", "0"), "attempts is 0"),
        (("-l", "dog", "--method", "diffsegmenter"), "unknown method 'diffsegmenter': choose one of attentioncut, daam"),
        (("-l", "dog", "--set", "hops=2"), "attentioncut has no setting hops"),
        (("-l", "dog", "--method", "daam", "--set", "threshold=2"), "threshold must lie between 0 and 1"),
        (("-l", "dog", "--refine", "much"), "unknown refine 'much'"),
        (("-l", "dog", "--filter", "blip"), "unknown filter 'blip': choose one of none, clip"),
        (("-l", "dog", "--clip", "folder"), "--clip names the model of a filter: add --filter clip"),
        (("-l", "dog", "--format", "coco,pdf"), "unknown format 'pdf'"),
        (("-l", "dog", "--objects", "0"), "--objects is '0'"),
        (("-l", "dog", "--objects", "3-1"), "--objects is '3-1'"),
        (("-l", "dog", "--objects", "many"), "--objects is 'many'"),
        (("-l", "dog", "--only", "3,,4"), "--only is '3,,4'"),
        (("-l", "dog", "--only", "9-3"), "--only is '9-3'"),
        (("-l", "dog", "--only", "0-99999999"), "numbers below 1000000"),
        (("-l", "dog", "--prompts", "missing.txt"), "cannot read prompts from missing.txt (No such file"),
        (("-l", "dog", "--prompts", "empty.txt"), "empty.txt holds no prompts"),
        (("-l", "dog", "--prompts", "empty.txt", "--objects", "2"), "leave --templates and --objects out"),
        (("-l", "dog", "--templates", "bare.txt"), "the template 'a dog' must hold {} exactly once"),
        (("-l", ", ".join(f"word {number}" for number in range(255))), "255 labels"),
        (("-l", "dog", "--device", "cuda:99"), "cuda"),
        (("-l", "dog", "--batch", "0"), "--batch is '0'"),
        (("-l", "dog", "--model", "nope"), "unknown model 'nope'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_before_a_model_is_loaded(options: tuple[str, ...], message: str) -> None:
    Path("empty.txt").write_text("\n# nothing\n")
    Path("bare.txt").write_text("a dog\n")
    result = run("synthesize", *options, code=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line and "unexpected" not in line
    assert result.stdout == "" and not Path("maskwright-pairs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--objects", "9"), "a scene cannot hold 9 of 4 labels"),
        (("--prompts", "nameless.txt"), "no prompt can be used: 1 of 1 name no label"),
        (("--templates", "own.txt"), "every template names one of the labels"),
        (("--templates", "long.txt"), "is short enough for the model"),
        (("--filter", "clip", "--offline"), "openai/clip-vit-large-patch14"),
        (("--filter", "clip", "--clip", "full"), "full"),
        (("--side", "60"), "side is 60: sticker draws sides that are multiples of 8, best 64"),
        (("--out", "full"), "choose an empty or new folder"),
    ],
)
def test_what_only_the_model_can_tell(options: tuple[str, ...], message: str) -> None:
    Path("nameless.txt").write_text("a bus on grass\n")
    Path("own.txt").write_text("a {} and a cat\n")
    Path("long.txt").write_text(f"a {{}} {'on grass ' * 20}\n")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    result = run("synthesize", "-l", WORDS, "--out", "new", *options, code=1)
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: ") and message in line and "unexpected" not in line
    assert result.stdout == "" and not Path("new").exists() and outputs(Path("full")) == ["notes.txt"]
