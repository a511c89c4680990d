"""The second round: pictures without masks, each with AttentionCut's mask or, where the decoder disagrees, with its own."""

import dataclasses
import json
import logging
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.backbones.unet import UNetBackbone
from maskwright.decoders.decoder import Decoder
from maskwright.decoders.features import FeatureReader
from maskwright.decoders.self_training import JoinedExamples, SelfTrainingSettings, choose_mask, make_pseudo_examples, predict
from maskwright.decoders.settings import DecoderSettings
from maskwright.decoders.training import DecoderTraining
from maskwright.discovery.discoverer import Discoverer
from maskwright.errors import ImageError, OutputError, SettingsError
from maskwright.images import Picture, resize
from maskwright.reader import Reader
from maskwright.training.examples import ExampleSet
from maskwright.training.loop import TrainingSettings
from tests.drawn_pairs import draw_pairs
from tests.one_thread import one_thread as one_thread
from tests.tiny import pixels
from tests.tiny_decoders import build_decoder

SMALL = DecoderSettings(inversion="none", width=8)
TRAINING = TrainingSettings(epochs=1, batch=4, rate=0.01)


@pytest.fixture(scope="module")
def reader(backbone: UNetBackbone) -> Reader:
    return Reader(backbone, batch=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pairs(tmp_path_factory.mktemp("data") / "pairs", 8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of two shapes, larger than the model reads them."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        Image.fromarray(pixels(number, size=(48, 48) if number % 2 else (32, 64))).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("own", "pseudo", "is_own"),
    [([1, 1, 0, 0], [1, 1, 0, 0], False), ([1, 1, 0, 0], [1, 0, 0, 0], False), ([1, 1, 1, 0], [1, 0, 0, 0], True),
     ([1, 0, 0, 0], [0, 1, 0, 0], True), ([0, 0, 0, 0], [0, 0, 0, 0], False), ([0, 0, 0, 0], [1, 0, 0, 0], True)],
)  # fmt: skip
def test_the_decoders_own_mask_is_taken_where_the_iou_is_under_one_half(own: list[int], pseudo: list[int], is_own: bool) -> None:
    masks = np.array([own], dtype=bool), np.array([pseudo], dtype=bool)
    target, chosen = choose_mask(*masks, agreement=0.5)
    assert chosen is is_own and (target == masks[not is_own]).all()


class TestPseudoMasks:
    def make(self, reader: Reader, photos: Path, out: Path, **settings: Any) -> tuple[ExampleSet, dict[str, Any], Decoder]:
        decoder = build_decoder(reader.backbone, **settings)
        features = FeatureReader(reader, decoder.settings, labels=decoder.labels)
        made = make_pseudo_examples(reader, features, decoder.network, SelfTrainingSettings(photos), out)
        return *made, decoder

    def test_each_picture_has_one_of_both_masks(self, reader: Reader, photos: Path, tmp_path: Path) -> None:
        examples, record, decoder = self.make(reader, photos, tmp_path / "out")
        features, discoverer = FeatureReader(reader, decoder.settings), Discoverer(reader.backbone, batch=2)
        replaced = 0
        for number in range(6):
            picture = Picture.open(photos / f"{number}.png")
            small = Picture(resize(picture, reader.size(picture)), "x", "x")
            own, pseudo = predict(features, decoder.network, [small])[0], discoverer.discover(small).mask
            target, is_own = choose_mask(own, pseudo, agreement=0.5)
            example = examples.read(number)
            assert (example.image == small.pixels).all() and ((example.mask > 0) == target).all()
            replaced += is_own
        assert record == {"pictures": 6, "replaced": replaced, "unreadable": 0} and 0 < replaced <= 6
        assert examples.names == ("object",)

    def test_under_the_prior_match_the_words_are_those_that_fit(self, reader: Reader, photos: Path, tmp_path: Path) -> None:
        examples, *_ = self.make(reader, photos, tmp_path / "out", labels=["dog", "cat"], task="saliency", prior="match")
        found = Discoverer(reader.backbone, batch=1).discover_many(
            [Picture(examples.read(number).image, "x", "x") for number in range(6)], ["dog", "cat"], match=True
        )
        words = [one.words for one in found]
        assert set(examples.names) == {word for (word,) in words}
        for number, word in enumerate(words):
            assert examples.read(number).words in (word, ())

    def test_they_are_made_once_and_what_was_interrupted_is_made_again(self, reader: Reader, photos: Path, tmp_path: Path) -> None:
        examples, record, _ = self.make(reader, photos, tmp_path / "out")
        before = examples.digest
        (tmp_path / "out" / "masks" / "000000.png").write_bytes((tmp_path / "out" / "masks" / "000001.png").read_bytes())
        changed = ExampleSet.open(tmp_path / "out").digest
        assert self.make(reader, photos, tmp_path / "out")[0].digest == changed != before
        (tmp_path / "out" / "self-training.json").unlink()
        (tmp_path / "out" / "images" / "000099.png").write_bytes(b"torn")
        again, told, _ = self.make(reader, photos, tmp_path / "out")
        assert (again.digest, told) == (before, record)

    def test_a_broken_picture_is_left_out_with_a_warning(
        self, reader: Reader, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = Path(shutil.copytree(photos, tmp_path / "photos"))
        (folder / "3.png").write_bytes(b"no picture")
        with caplog.at_level(logging.WARNING, "maskwright"):
            examples, record, _ = self.make(reader, folder, tmp_path / "out")
        assert len(examples) == record["pictures"] == 5 and record["unreadable"] == 1
        assert [line for line in caplog.messages if "3.png" in line and "left out" in line]
        for path in folder.glob("*.png"):
            path.write_bytes(b"no picture")
        with pytest.raises(SettingsError, match="no picture in"):
            self.make(reader, folder, tmp_path / "none")


def test_joined_examples_validate_on_drawn_ones_only(reader: Reader, data: Path, photos: Path, tmp_path: Path) -> None:
    decoder = build_decoder(reader.backbone)
    features = FeatureReader(reader, decoder.settings)
    made, _ = make_pseudo_examples(reader, features, decoder.network, SelfTrainingSettings(photos), tmp_path / "out")
    drawn = ExampleSet.open(data)
    joined = JoinedExamples(drawn, made)
    learned, held = joined.split(0.25, 3)
    assert held == drawn.split(0.25, 3)[1] and sorted((*learned, *held)) == list(range(14)) and set(range(8, 14)) <= set(learned)
    assert (joined.read(7).image == drawn.read(7).image).all() and (joined.read(8).image == made.read(0).image).all()
    assert joined.digest != JoinedExamples(drawn.first(7), made).digest == joined.first(13).digest


class TestRounds:
    def begin(self, reader: Reader, data: Path, photos: Path, out: Path, *, resume: bool = False, epochs: int = 2) -> DecoderTraining:
        second = SelfTrainingSettings(photos, epochs=epochs)
        return DecoderTraining(
            reader, ExampleSet.open(data), out, settings=SMALL, training=TRAINING, self_training=second, resume=resume
        )  # fmt: skip

    def content(self, folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def test_stopped_anywhere_both_rounds_end_in_the_same_files(self, reader: Reader, data: Path, photos: Path, tmp_path: Path) -> None:
        told = list(self.begin(reader, data, photos, tmp_path / "whole").run())
        assert [(one.round, one.epoch) for one in told if one.validation is not None] == [(1, 1), (2, 1), (2, 2)]
        whole = self.content(tmp_path / "whole")
        own = {"decoder.safetensors", "decoder.json", "curve.jsonl", "curve.png", "README.md"}
        assert set(whole) == own | {f"self-training/{name}" for name in ("curve.jsonl", "curve.png", "labels.txt", "self-training.json")}
        for stop in (2, 5):
            out = tmp_path / str(stop)
            list(islice(self.begin(reader, data, photos, out).run(), stop))
            list(self.begin(reader, data, photos, out, resume=True).run())
            assert self.content(out) == whole, stop

    def test_between_the_rounds_no_other_run_may_enter(self, reader: Reader, data: Path, photos: Path, tmp_path: Path) -> None:
        running = self.begin(reader, data, photos, tmp_path / "out").run()
        for progress in running:
            if progress.round == 2:
                with pytest.raises(OutputError, match="another run trains in"):
                    next(self.begin(reader, data, photos, tmp_path / "out", resume=True).run())
                break
        list(running)
        assert (tmp_path / "out" / "decoder.json").exists()

    def test_the_record_and_the_card_tell_how_many_masks_were_replaced(
        self, reader: Reader, data: Path, photos: Path, tmp_path: Path
    ) -> None:
        told = list(self.begin(reader, data, photos, tmp_path).run())
        record = json.loads((tmp_path / "decoder.json").read_bytes())["training"]
        assert record["self_training"].keys() == {"pictures", "replaced", "unreadable"} and record["self_training"]["pictures"] == 6
        assert record["figures"] == told[-1].validation and record["decisive"]["self_training"]["epochs"] == 2
        replaced = record["self_training"]["replaced"]
        assert "6 pictures without masks" in (text := (tmp_path / "README.md").read_text()) and f"in {replaced} of them" in text

    def test_other_pictures_are_refused_on_resume(self, reader: Reader, data: Path, photos: Path, tmp_path: Path) -> None:
        list(islice(self.begin(reader, data, photos, tmp_path / "out").run(), 1))
        folder = Path(shutil.copytree(photos, tmp_path / "photos"))
        Image.fromarray(pixels(9)).save(folder / "new.png")
        with pytest.raises(SettingsError, match=r"self_training\.pictures 6, not 7"):
            list(self.begin(reader, data, folder, tmp_path / "out", resume=True).run())

    def test_what_cannot_be_done_is_told_at_once(self, reader: Reader, data: Path, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="use it with --task saliency"):
            DecoderTraining(
                reader, ExampleSet.open(data), tmp_path / "out", settings=dataclasses.replace(SMALL, task="semantic"), training=TRAINING,
                self_training=SelfTrainingSettings(photos),
            )  # fmt: skip
        with pytest.raises(ImageError, match="holds no pictures"):
            list(self.begin(reader, data, tmp_path, tmp_path / "out").run())
