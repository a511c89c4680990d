"""Training a decoder: its losses, the figures it is validated by, and a folder that ends the same whatever stopped it."""

import dataclasses
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskwright.backbones.unet import UNetBackbone
from maskwright.decoders.decoder import Decoder, new_network
from maskwright.decoders.features import FeatureReader
from maskwright.decoders.predictor import DecoderPredictor
from maskwright.decoders.settings import DecoderSettings
from maskwright.decoders.task import DecoderTask
from maskwright.decoders.training import DecoderTraining
from maskwright.errors import OutputError, SettingsError
from maskwright.evaluation.confusion import count_pixels, mean_iou
from maskwright.evaluation.saliency import count_saliency, join_counts, saliency_scores
from maskwright.images import Picture, upsample
from maskwright.reader import Reader
from maskwright.training.augment import NOTHING
from maskwright.training.curve import read_curve
from maskwright.training.examples import Example, ExampleSet
from maskwright.training.loop import TrainingSettings
from maskwright.training.losses import saliency_loss, semantic_loss
from tests.drawn_pairs import draw_pairs
from tests.one_thread import one_thread as one_thread
from tests.tiny import digest, random
from tests.watching import opened_pictures

SMALL = DecoderSettings(inversion="none", width=8)
SETTINGS = TrainingSettings(epochs=2, batch=5, rate=0.01, seed=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def reader(backbone: UNetBackbone) -> Reader:
    return Reader(backbone, batch=4)


def begin(reader: Reader, data: Path, out: Path, *, settings: DecoderSettings = SMALL, **options: Any) -> DecoderTraining:
    return DecoderTraining(reader, ExampleSet.open(data), out, settings=settings, **({"training": SETTINGS} | options))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestLosses:
    MASKS = torch.tensor([[[0, 1, 1, 255], [0, 2, 2, 0]], [[0, 0, 0, 0], [255, 255, 0, 3]]])

    def test_saliency_is_entropy_and_dice_of_the_known_pixels(self) -> None:
        logits = random(2, 1, 2, 4, seed=1)
        entropies, dices = [], []
        for row, mask in zip(logits[:, 0], self.MASKS, strict=True):
            known = mask != 255
            truth, guess = (mask[known] > 0).float(), row[known]
            entropies.append(F.binary_cross_entropy_with_logits(guess, truth, reduction="none"))
            p = guess.sigmoid()
            dices.append((2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1))
        expected = torch.cat(entropies).mean() + 1 - torch.stack(dices).mean()
        assert saliency_loss(logits, self.MASKS) == pytest.approx(float(expected), abs=1e-6)

    def test_classes_are_entropy_and_dice_of_the_classes_that_are_there(self) -> None:
        logits = random(2, 6, 2, 4, seed=2)
        known = self.MASKS != 255
        guesses, truth = logits.permute(0, 2, 3, 1)[known], self.MASKS[known]
        chances, wanted = guesses.softmax(-1), F.one_hot(truth, 6).float()
        dice = (2 * (chances * wanted).sum(0) + 1) / (chances.sum(0) + wanted.sum(0) + 1)
        expected = F.cross_entropy(guesses, truth) + 1 - dice[:4].mean()
        assert semantic_loss(logits, self.MASKS) == pytest.approx(float(expected), abs=1e-6)

    @pytest.mark.parametrize(("loss", "channels"), [(saliency_loss, 1), (semantic_loss, 4)])
    def test_uncertain_pixels_have_no_say(self, loss: Any, channels: int) -> None:
        logits = random(2, channels, 2, 4, seed=3).requires_grad_()
        loss(logits, self.MASKS).backward()
        silent = (self.MASKS == 255)[:, None].expand_as(logits)
        assert (logits.grad[silent] == 0).all() and (logits.grad[~silent] != 0).all()
        nothing = loss(logits, torch.full_like(self.MASKS, 255))
        nothing.backward()
        assert float(nothing.detach()) == 0 and logits.grad.isfinite().all()

    @pytest.mark.parametrize(("loss", "channels"), [(saliency_loss, 1), (semantic_loss, 4)])
    def test_right_costs_nothing(self, loss: Any, channels: int) -> None:
        numbers = self.MASKS.where(self.MASKS != 255, 0)
        wanted = (numbers > 0)[:, None] if channels == 1 else F.one_hot(numbers, 4).movedim(-1, 1)
        assert 0 <= float(loss(200.0 * wanted - 100, self.MASKS)) < 1e-6


class TestFigures:
    def examples(self, data: Path) -> list[Example]:
        found = ExampleSet.open(data)
        return [found.read(index) for index in range(5)]

    def test_saliency_is_measured_by_the_projects_metrics(self, reader: Reader, data: Path) -> None:
        features = FeatureReader(reader, SMALL)
        network, examples = new_network(SMALL, features.channels).eval(), self.examples(data)
        task = DecoderTask(features, classes=1)
        known = [dataclasses.replace(one, mask=np.where(one.mask == 255, 0, one.mask)) for one in examples]
        with torch.no_grad():
            figures = task.figures([task.measure(network, known[:2]), task.measure(network, known[2:])])
            logits = network(features.read([Picture(one.image, "x", "x") for one in known]))
        chances = upsample(logits[:, 0], (16, 16)).sigmoid().numpy()
        rows = [count_saliency(chance, one.mask > 0) for chance, one in zip(chances, known, strict=True)]
        scores = saliency_scores(join_counts(rows))
        assert figures == pytest.approx({name: getattr(scores, name) for name in figures}) and len(figures) == 5

    @pytest.mark.parametrize("task", ["saliency", "semantic"])
    def test_uncertain_pixels_do_not_count(self, reader: Reader, data: Path, task: Any) -> None:
        settings = dataclasses.replace(SMALL, task=task)
        labels = ExampleSet.open(data).labels if task == "semantic" else ()
        features, examples = FeatureReader(reader, settings), self.examples(data)
        network, learned = new_network(settings, features.channels, labels=labels).eval(), DecoderTask(features, classes=4)
        with torch.no_grad():
            figures = learned.figures([learned.measure(network, examples)])
            known = [one.mask != 255 for one in examples]
            logits = upsample(network(features.read([Picture(one.image, "x", "x") for one in examples])).flatten(0, 1), (16, 16))
        answers = logits.unflatten(0, (5, -1))
        if task == "semantic":
            pairs = zip(answers.argmax(1).numpy(), examples, known, strict=True)
            counts = sum(count_pixels(one.mask[sure], answer[sure], classes=4) for answer, one, sure in pairs)
            assert figures["mean_iou"] == mean_iou(counts)
        else:
            pairs = zip(answers[:, 0].numpy(), examples, known, strict=True)
            shares = [((answer > 0) == (one.mask > 0))[sure].mean() for answer, one, sure in pairs]
            assert figures["accuracy"] == pytest.approx(np.mean(shares))


class TestTraining:
    @pytest.mark.parametrize(
        "settings",
        [
            SMALL, DecoderSettings(task="semantic", inversion="partial", steps=2, width=8, prior="match"),
            DecoderSettings(inversion="none", width=8, prior="match", attention=True),
        ],
        ids=["saliency", "classes", "attention"],
    )  # fmt: skip
    def test_a_folder_becomes_a_decoder_that_has_learned(
        self, reader: Reader, backbone: UNetBackbone, data: Path, tmp_path: Path, settings: DecoderSettings
    ) -> None:
        before = digest(backbone.unet)
        long = dataclasses.replace(SETTINGS, epochs=9, rate=0.02, augment=NOTHING)
        training = begin(reader, data, tmp_path, settings=settings, training=long)
        told = list(training.run())
        assert digest(backbone.unet) == before
        names = {"decoder.safetensors", "decoder.json", "curve.jsonl", "curve.png", "README.md"}
        assert {path.name for path in tmp_path.iterdir()} == names
        assert told[-1].loss < 0.8 * next(one.loss for one in told if one.validation is not None)
        decoder = Decoder.load(tmp_path)
        assert decoder.settings == settings
        assert decoder.labels == (() if settings.prior == "empty" else ExampleSet.open(data).labels)
        last = read_curve(tmp_path / "curve.jsonl")[-1]
        assert decoder.training["figures"] == told[-1].validation == training.figures == last["validation"]
        assert (decoder.training["trained_on"], decoder.training["validated_on"]) == (11, 1)
        example = ExampleSet.open(data).read(0)
        chances = DecoderPredictor(reader, decoder).probabilities([Picture(example.image, "x", "x")], words=[example.words])
        full = upsample(chances[0], (16, 16)).numpy()
        found = 1 - full[0] if settings.task == "semantic" else full[0]
        assert found[example.mask == 1].mean() > found[example.mask == 0].mean() + 0.1

    def test_stopped_anywhere_it_ends_in_the_same_files(self, reader: Reader, data: Path, tmp_path: Path) -> None:
        list(begin(reader, data, tmp_path / "whole").run())
        whole = content(tmp_path / "whole")
        for stop in (1, 5):
            out = tmp_path / str(stop)
            list(islice(begin(reader, data, out).run(), stop))
            list(begin(reader, data, out, resume=True).run())
            assert content(out) == whole, stop

    def test_killed_while_it_finishes(self, reader: Reader, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        list(begin(reader, data, tmp_path / "whole").run())
        for place, name in enumerate(("save", "card", "clean")):
            out = tmp_path / name
            with monkeypatch.context() as patch:
                where = (Decoder, "maskwright.decoders.training.write_card", DecoderTraining)[place]
                patch.setattr(*((where, _stop) if isinstance(where, str) else (where, ("save", "", "_clean")[place], _stop)))
                with pytest.raises(KeyboardInterrupt):
                    list(begin(reader, data, out).run())
            assert list(begin(reader, data, out, resume=True).run()) == []
            assert content(out) == content(tmp_path / "whole")

    def test_what_is_over_stays_and_refuses_other_settings(self, reader: Reader, data: Path, tmp_path: Path) -> None:
        list(begin(reader, data, tmp_path).run())
        before = content(tmp_path)
        again = begin(reader, data, tmp_path, resume=True)
        assert again.is_over and list(again.run()) == [] and content(tmp_path) == before
        with pytest.raises(OutputError, match="holds a decoder already"):
            begin(reader, data, tmp_path)
        other = begin(reader, data, tmp_path, resume=True, settings=dataclasses.replace(SMALL, width=16))
        with pytest.raises(SettingsError, match=r"decoder\.width 8, not 16"):
            list(other.run())
        assert content(tmp_path) == before

    def test_a_step_takes_only_what_the_settings_name(self, reader: Reader, data: Path, tmp_path: Path) -> None:
        """Noise, number format and model decide the features, so they are compared, too."""
        list(islice(begin(reader, data, tmp_path).run(), 1))
        other = begin(Reader(reader.backbone, batch=4, seed=9), data, tmp_path, resume=True)
        with pytest.raises(SettingsError, match="noise 0, not 9"):
            list(other.run())

    def test_the_card_says_what_it_is(self, reader: Reader, data: Path, tmp_path: Path) -> None:
        list(begin(reader, data, tmp_path, settings=dataclasses.replace(SMALL, task="semantic")).run())
        text = (tmp_path / "README.md").read_text()
        parts = ("3 classes", "11 pictures", "`pairs`", "maskwright segment", "dog, cat, owl", "curve.png", "| `decoder.width` | `8` |")
        assert all(part in text for part in parts) and str(tmp_path) not in text
        assert "drawn by the model `tiny`, the masks cut from its own attention by `attentioncut`" in text and "No human mask" in text

    def test_the_card_claims_nothing_of_masks_from_elsewhere(self, reader: Reader, data: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(data, tmp_path / "own"))
        (folder / "synthesis.json").unlink()
        (folder / "labels.txt").write_text("dog\ncat\nowl\n")
        list(begin(reader, folder, tmp_path / "out").run())
        text = (tmp_path / "out" / "README.md").read_text()
        assert "11 pictures with masks (data set `own`)." in text and "human" not in text and "attention" not in text.partition("## How")[0]


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_training_reads_no_picture_but_those_of_its_data_set(reader: Reader, data: Path, tmp_path: Path) -> None:
    with opened_pictures() as opened:
        list(begin(reader, data, tmp_path / "decoder").run())
    read = {path for path in opened if tmp_path not in path.parents}  # the curve is written there
    assert {path.parent for path in read} == {data / "images", data / "masks"}
