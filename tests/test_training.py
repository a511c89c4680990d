"""Training: examples of a folder, how they are varied, and a loop that ends the same whatever stopped it on its way."""

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from maskwright.errors import DatasetError, OutputError, SettingsError
from maskwright.training import loop
from maskwright.training.augment import NOTHING, AugmentSettings, augment
from maskwright.training.checkpoint import load_checkpoint, save_checkpoint
from maskwright.training.curve import draw_curve, read_curve
from maskwright.training.examples import Example, ExampleSet
from maskwright.training.loop import TrainingSettings, train
from maskwright.training.schedule import cosine_rate
from tests.command_line import ENVIRONMENT
from tests.drawn_pairs import WORDS, draw, draw_pairs
from tests.one_thread import one_thread as one_thread
from tests.training_run import SETTINGS, Redness, build, go

STEPS = 9  # of `go`: three epochs of three steps, from 12 examples of which two validate


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The curve of a training that nothing stopped."""
    out = tmp_path_factory.mktemp("whole")
    assert sum(progress.validation is None for progress in go(data, out)) == STEPS
    return (out / "curve.jsonl").read_bytes()


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


class TestExamples:
    def test_a_synthesised_folder_is_read_and_left_as_it_is(self, data: Path) -> None:
        before = content(data)
        examples = ExampleSet.open(data)
        assert (len(examples), examples.names, examples.labels[0].synonyms) == (12, ("dog", "cat", "owl"), ("puppy",))
        for number in (0, 7):
            example, drawn = examples.read(number), draw(number)
            assert (example.image == drawn.image).all() and (example.mask == drawn.mask).all()
            assert example.words == (WORDS.names[number % 3],) and example.image.dtype == example.mask.dtype == np.uint8
        assert examples.digest and content(data) == before

    def test_what_is_not_drawn_to_its_end_is_left_out(self, data: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(data, tmp_path / "pairs"))
        log = folder / "pairs.jsonl"
        line = json.loads(log.read_bytes().splitlines()[-1])
        with log.open("a") as file:
            file.write(json.dumps({**line, "number": 90, "batch_left": 1}) + "\n")  # the rest of this batch was never written
            file.write('{"number": 91, "att')
        assert len(ExampleSet.open(folder)) == 12

    def test_a_plain_folder_says_the_same(self, data: Path, tmp_path: Path) -> None:
        for part in ("images", "masks"):
            shutil.copytree(data / part, tmp_path / part)
        (tmp_path / "labels.txt").write_text("dog|puppy\ncat  # asleep\nowl\n")
        plain, drawn = ExampleSet.open(tmp_path), ExampleSet.open(data)
        assert (plain.labels, plain.stems, plain.digest) == (drawn.labels, drawn.stems, drawn.digest)
        assert (plain.origin, drawn.origin) == ({}, {"model": "tiny", "revision": None, "method": "attentioncut"})
        assert (plain.read(3).mask == drawn.read(3).mask).all() and plain.read(3).words == ("dog",)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda folder: shutil.rmtree(folder), "is no folder"),
            (lambda folder: (folder / "synthesis.json").unlink(), "has no labels.txt"),
            (lambda folder: (folder / "pairs.jsonl").unlink(), "has no pairs.jsonl"),
            (lambda folder: (folder / "masks" / "000003.png").unlink(), "lacks 1 of 12 files, first '000003.png'"),
            (lambda folder: (folder / "synthesis.json").write_text("{}"), "is no data set"),
            (lambda folder: (folder / "synthesis.json").write_text('{"format": "maskwright pairs 9"}'), "of another form"),
            (lambda folder: (folder / "pairs.jsonl").write_text("nonsense\n"), "line 1 of pairs.jsonl is damaged: restore"),
            (lambda folder: (folder / "pairs.jsonl").write_text(""), "holds no pair"),
        ],
    )
    def test_a_folder_that_is_no_data_set_is_refused(self, data: Path, tmp_path: Path, change: object, message: str) -> None:
        folder = Path(shutil.copytree(data, tmp_path / "pairs"))
        change(folder)  # type: ignore[operator]
        with pytest.raises(DatasetError, match=message) as caught:
            ExampleSet.open(folder)
        assert "\n" not in str(caught.value)

    def test_a_mask_that_fits_neither_labels_nor_picture_is_refused(self, data: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(data, tmp_path / "pairs"))
        Image.new("L", (16, 16), 4).save(folder / "masks" / "000000.png")
        Image.new("L", (8, 16)).save(folder / "masks" / "000001.png")
        examples = ExampleSet.open(folder)
        with pytest.raises(DatasetError, match="has the number 4, but there are 3 labels"):
            examples.read(0)
        with pytest.raises(DatasetError, match="8 x 16 pixels, its picture 16 x 16"):
            examples.read(1)

    def test_the_digest_tells_examples_apart_and_a_grown_set_begins_like_the_old_one(self, data: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(data, tmp_path / "pairs"))
        old = ExampleSet.open(folder)
        assert old.digest == ExampleSet.open(data).digest
        new = ExampleSet.open(draw_pairs(folder, 15))
        assert new.digest != old.digest == new.first(12).digest
        mask = folder / "masks" / "000002.png"
        mask.write_bytes((folder / "masks" / "000005.png").read_bytes())
        assert ExampleSet.open(folder).first(12).digest != old.digest

    def test_a_split_parts_the_numbers_by_its_seed(self, data: Path) -> None:
        examples = ExampleSet.open(data)
        learned, held = examples.split(0.25, 0)
        assert (len(learned), len(held)) == (9, 3) and sorted((*learned, *held)) == list(range(12))
        assert examples.split(0.25, 0) == (learned, held) != examples.split(0.25, 1)
        assert len(examples.split(0.001, 0)[1]) == 1 and examples.split(0, 0) == (tuple(range(12)), ())


class TestAugmentation:
    @pytest.fixture
    def example(self) -> Example:
        """The picture tells where each pixel comes from: red its column, green its row. The mask is its left half."""
        rows, columns = np.mgrid[0:40, 0:40]
        image = np.stack([columns * 6, rows * 6, np.full_like(rows, 60)], -1).astype(np.uint8)
        return Example(image, np.where(columns < 20, 2, 3).astype(np.uint8), ("cat", "owl"))

    @pytest.mark.parametrize("seed", range(12))
    def test_picture_and_mask_move_together(self, example: Example, seed: int) -> None:
        settings = AugmentSettings(jitter=0, blur=0, area=(0.2, 0.9))
        varied = augment(example, settings, size=(32, 24), seed=seed)
        assert varied.image.shape == (32, 24, 3) and varied.mask.shape == (32, 24)
        columns = varied.image[..., 0] / 6.0
        assert ((varied.mask == 2) == (columns < 19.5))[np.abs(columns - 19.5) > 1.2].all()
        assert set(np.unique(varied.mask)) <= {2, 3}, "no numbers between those of the labels"
        assert varied.words == tuple(name for number, name in ((2, "cat"), (3, "owl")) if (varied.mask == number).any())

    def test_colours_and_blur_leave_the_mask_alone(self, example: Example) -> None:
        settings = dataclasses.replace(NOTHING, jitter=1.0, blur=1.0)
        varied = augment(example, settings, size=example.size, seed=3)
        assert (varied.mask == example.mask).all() and (varied.image != example.image).any()

    def test_nothing_is_nothing(self, example: Example) -> None:
        same = augment(example, NOTHING, size=example.size, seed=1)
        assert (same.image == example.image).all() and (same.mask == example.mask).all() and same.words == example.words

    def test_half_of_all_are_mirrored_and_a_mirror_image_is_exact(self, example: Example) -> None:
        settings = dataclasses.replace(NOTHING, flip=0.5)
        varied = [augment(example, settings, size=example.size, seed=seed) for seed in range(60)]
        mirrored = [one for one in varied if (one.image == example.image[:, ::-1]).all() and (one.mask == example.mask[:, ::-1]).all()]
        assert 20 < len(mirrored) < 40
        assert sum((one.image == example.image).all() for one in varied) == 60 - len(mirrored)

    def test_only_the_seed_decides(self, example: Example) -> None:
        first, again, other = (augment(example, AugmentSettings(), size=(32, 32), seed=seed) for seed in (7, 7, 8))
        assert (first.image == again.image).all() and (first.mask == again.mask).all()
        assert (first.image != other.image).any()

    def test_a_crop_without_any_label_keeps_the_words(self) -> None:
        mask = np.zeros((40, 40), dtype=np.uint8)
        mask[0, 0] = 1
        lone = Example(np.zeros((40, 40, 3), dtype=np.uint8), mask, ("dog",))
        varied = [augment(lone, AugmentSettings(area=(0.2, 0.3)), size=(16, 16), seed=seed) for seed in range(20)]
        assert any(not one.mask.any() for one in varied) and all(one.words == ("dog",) for one in varied)

    @pytest.mark.parametrize("wrong", [{"flip": 2}, {"area": (0.5, 0.1)}, {"area": (0, 1)}, {"hue": 0.7}, {"radius": (1, 0)}])
    def test_settings_that_cannot_be_drawn_from_are_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(SettingsError):
            AugmentSettings(**wrong)  # type: ignore[arg-type]


def test_the_rate_rises_falls_and_has_the_value_of_pytorchs_cosine() -> None:
    rates = [cosine_rate(step, steps=50, peak=0.1, warmup=5) for step in range(50)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1]) and max(rates) == rates[5] == 0.1
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 45)
    for rate in rates[5:]:
        assert rate == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_a_checkpoint_brings_everything_back(tmp_path: Path) -> None:
    def walk(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for number in range(steps):
            optimizer.zero_grad()
            module(torch.full((2, 3, 4, 4), float(number + 1))).sum().backward()
            optimizer.step()

    module, other = build().eval(), build().train()
    optimizers = [torch.optim.AdamW(one.parameters(), lr=0.1) for one in (module, other)]
    walk(module, optimizers[0], 3)
    save_checkpoint(tmp_path / "c.safetensors", module, optimizers[0], {"position": {"step": 3}, "decisive": {}})
    assert load_checkpoint(tmp_path / "c.safetensors", other.eval(), optimizers[1]) == {"position": {"step": 3}, "decisive": {}}
    for one, optimizer in zip((module, other), optimizers, strict=True):
        walk(one, optimizer, 2)
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), other.state_dict().values(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]
    with pytest.raises(OutputError, match="another network"):
        load_checkpoint(tmp_path / "c.safetensors", nn.Conv2d(1, 1, 1), optimizers[1])


class TestResuming:
    @pytest.mark.parametrize("every", [60.0, 0.0], ids=["a checkpoint an epoch", "a checkpoint a step"])
    def test_a_training_that_stops_anywhere_goes_on_to_the_same_curve(
        self, data: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float
    ) -> None:
        monkeypatch.setattr(loop, "SECONDS", every)
        for stop in range(0, STEPS + 4, 2) if every else (2, 5, 7):
            out = tmp_path / str(stop)
            list(islice(go(data, out), stop))
            list(go(data, out, resume=True))
            assert (out / "curve.jsonl").read_bytes() == whole, stop

    def test_killed_at_random_and_again(self, data: Path, whole: bytes, tmp_path: Path) -> None:
        """SIGKILL, once in the middle of a step and once while it is stopped anyhow; the weights are the same in the end, too."""
        out = tmp_path / "killed"
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.training_run", str(data), str(out)], stdout=subprocess.PIPE, text=True,
            env=ENVIRONMENT | {"PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{Path(__file__).parents[1]}"},
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(random.Random(4).randint(3, 6)):
            assert process.stdout.readline()
        process.kill()
        process.stdout.close()
        assert process.wait(timeout=30) == -signal.SIGKILL
        assert whole.startswith((out / "curve.jsonl").read_bytes()) and (out / "curve.jsonl").stat().st_size < len(whole)
        list(islice(go(data, out, resume=True), 2))
        (out / ".0123456789abcdef.tmp").write_bytes(b"torn")
        list(go(data, out, resume=True))
        assert (out / "curve.jsonl").read_bytes() == whole
        assert sorted(path.name for path in out.iterdir()) == ["checkpoint.safetensors", "curve.jsonl"]

    def test_what_is_over_gives_nothing_more(self, data: Path, whole: bytes, tmp_path: Path) -> None:
        list(go(data, tmp_path))
        assert list(go(data, tmp_path, resume=True)) == [] and (tmp_path / "curve.jsonl").read_bytes() == whole

    def test_other_settings_are_refused_by_name(self, data: Path, tmp_path: Path) -> None:
        list(islice(go(data, tmp_path), 1))
        before = content(tmp_path)
        with pytest.raises(SettingsError, match=r"training\.epochs 3, not 4"):
            go(data, tmp_path, resume=True, settings=dataclasses.replace(SETTINGS, epochs=4))
        with pytest.raises(SettingsError, match=r"network\.width 4, not 8; method null, not \"x\""):
            go(data, tmp_path, resume=True, decisive={"network": {"width": 8}, "method": "x"})
        assert content(tmp_path) == before

    def test_a_data_set_that_has_grown_is_used_as_it_was_and_one_that_changed_is_refused(
        self, data: Path, whole: bytes, tmp_path: Path
    ) -> None:
        folder, out = Path(shutil.copytree(data, tmp_path / "pairs")), tmp_path / "out"
        list(islice(go(folder, out), 5))
        draw_pairs(folder, 15)
        list(go(folder, out, resume=True))
        assert (out / "curve.jsonl").read_bytes() == whole
        shutil.copy(folder / "masks" / "000005.png", folder / "masks" / "000002.png")
        with pytest.raises(SettingsError, match=r"examples\.digest"):
            go(folder, out, resume=True)

    def test_a_folder_that_is_taken_is_refused_and_left(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "thesis.tex").write_text("x")
        for resume in (False, True):
            with pytest.raises(OutputError, match="is not empty and holds no training"):
                go(data, tmp_path / "other", resume=resume)
        running = go(data, tmp_path / "mine")
        next(running)
        with pytest.raises(OutputError, match="holds a training already: go on with it by --resume"):
            go(data, tmp_path / "mine")
        with pytest.raises(OutputError, match="another run trains in"):
            next(go(data, tmp_path / "mine", resume=True))
        next(running)

    def test_a_curve_that_lost_lines_is_refused(self, data: Path, tmp_path: Path) -> None:
        list(islice(go(data, tmp_path), 4))
        (tmp_path / "curve.jsonl").write_bytes(b"")
        with pytest.raises(OutputError, match="shorter than its checkpoint says"):
            next(go(data, tmp_path, resume=True))


class TestTraining:
    def test_it_learns_and_tells_of_it(self, data: Path, tmp_path: Path) -> None:
        settings = dataclasses.replace(SETTINGS, epochs=12, rate=0.05, augment=NOTHING)
        told = list(go(data, tmp_path, settings=settings))
        epochs = [progress for progress in told if progress.validation is not None]
        assert [progress.step for progress in told if progress.validation is None] == list(range(1, 37))
        assert [progress.epoch for progress in epochs] == list(range(1, 13)) and told[-1].steps == 36
        assert epochs[-1].loss < epochs[0].loss / 2 and epochs[-1].validation["entropy"] < epochs[0].validation["entropy"] / 2
        lines = read_curve(tmp_path / "curve.jsonl")
        assert [line["validation"] for line in lines if "validation" in line] == [progress.validation for progress in epochs]
        steps = [line for line in lines if "rate" in line]
        assert [line["loss"] for line in steps] == [progress.loss for progress in told if progress.validation is None]
        assert epochs[0].loss == pytest.approx(np.mean([line["loss"] for line in steps[:3]]))

    def test_the_network_keeps_what_it_learned_and_global_chance_stays(self, data: Path, tmp_path: Path) -> None:
        module = build()
        first, state = module[0].weight.detach().clone(), torch.get_rng_state()
        list(train(module, Redness(), ExampleSet.open(data), SETTINGS, tmp_path))
        assert not torch.equal(module[0].weight, first) and torch.equal(torch.get_rng_state(), state)

    def test_examples_of_other_sizes_are_cropped_to_the_side_and_validated_as_they_are(self, data: Path, tmp_path: Path) -> None:
        folder = tmp_path / "mixed"
        for part in ("images", "masks"):
            shutil.copytree(data / part, folder / part)
            for number, size in ((1, (24, 20)), (2, (12, 30)), (3, (24, 20))):
                path = folder / part / f"{number:06d}.png"
                with Image.open(path) as picture:
                    resized = picture.resize(size, Image.Resampling.NEAREST)
                resized.save(path)
        (folder / "labels.txt").write_text("dog\ncat\nowl\n")
        seen: dict[str, list[set[tuple[int, int]]]] = {"loss": [], "measure": []}

        class Sizes(Redness):
            def loss(self, module: nn.Module, batch: list[Example]) -> torch.Tensor:
                seen["loss" if module.training else "measure"].append({example.size for example in batch})
                return super().loss(module, batch)

        settings = TrainingSettings(epochs=1, batch=3, validation=0.5, side=20)
        list(train(build(), Sizes(), ExampleSet.open(folder), settings, tmp_path / "out"))
        assert all(sizes == {(20, 20)} for sizes in seen["loss"])
        assert all(len(sizes) == 1 for sizes in seen["measure"]) and len(set.union(*seen["measure"])) > 1

    def test_a_loss_that_is_no_number_ends_it_in_one_line(self, data: Path, tmp_path: Path) -> None:
        class Broken(Redness):
            def loss(self, module: nn.Module, batch: list[Example]) -> torch.Tensor:
                return super().loss(module, batch) * float("nan")

        with pytest.raises(SettingsError, match="no number any more at step 1: train with a smaller --rate"):
            list(train(build(), Broken(), ExampleSet.open(data), SETTINGS, tmp_path))

    def test_too_few_examples_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="3 examples are too few"):
            go(draw_pairs(tmp_path / "few", 3), tmp_path / "out")

    @pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 0}, {"rate": 0}, {"rate": float("nan")}, {"validation": 1.0}, {"side": 0}])
    def test_settings_that_cannot_be_trained_with_are_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(SettingsError):
            TrainingSettings(**wrong)  # type: ignore[arg-type]

    def test_the_curve_is_drawn(self, data: Path, tmp_path: Path) -> None:
        list(go(data, tmp_path))
        path = draw_curve(tmp_path / "curve.jsonl")
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert path.name == "curve.png" and pixels.shape[0] > 300 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
