"""The light decoder: the network, what it learns, its folder on disk, which models it fits, and its probabilities of pictures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from maskwright.backbones.unet import UNetBackbone
from maskwright.decoders.decoder import Decoder, new_network
from maskwright.decoders.features import FeatureReader
from maskwright.decoders.network import LightDecoder
from maskwright.decoders.predictor import DecoderPredictor
from maskwright.decoders.settings import DecoderSettings
from maskwright.errors import ModelError, OutputError, SettingsError
from maskwright.images import Picture
from maskwright.reader import Reader
from maskwright.vocabulary import Label
from tests.tiny import build_backbone, build_scheduler, build_unet, digest, pixels, random
from tests.tolerances import assert_close

PLAIN = DecoderSettings(inversion="none", width=16)
PARTIAL = DecoderSettings(steps=2, width=16)
MATCH = DecoderSettings(inversion="none", width=16, prior="match")
ATTENTION = DecoderSettings(inversion="none", width=16, prior="match", attention=True)
SEMANTIC = DecoderSettings(task="semantic", inversion="none", width=16)
DOG, CAT, OWL = LABELS = (Label("dog", ("puppy",)), Label("cat"), Label("owl"))
CLOSED: dict[str, Any] = {
    "words": ["a", "photo", "of", "and", "dog", "cat", "owl"], "objects": ["dog", "cat", "owl"],
    "methods": {"attentioncut": {"attention_factors": [1], "grid_factor": 1, "timesteps": [300]}},
}  # fmt: skip


@pytest.fixture(scope="session")
def closed() -> UNetBackbone:
    """Knows three objects."""
    return build_backbone(sidecar=CLOSED)


@pytest.fixture(scope="session")
def reader(closed: UNetBackbone) -> Reader:
    return Reader(closed, batch=3)


def pictures(count: int = 2, *, size: tuple[int, int] = (16, 16)) -> list[Picture]:
    return [Picture(pixels(seed, size=size), f"{seed}", f"{seed}") for seed in range(count)]


def untrained(reader: Reader, settings: DecoderSettings = PLAIN, *, labels: tuple[Label, ...] = (), seed: int = 0) -> Decoder:
    features = FeatureReader(reader, settings)
    return Decoder(settings, labels, new_network(settings, features.channels, labels=labels, seed=seed), features.model)


class TestNetwork:
    @pytest.mark.parametrize("sides", [((1, 2),), ((2, 3), (4, 6), (8, 12))])
    def test_logits_have_twice_the_sides_of_the_finest_level(self, sides: tuple[tuple[int, int], ...]) -> None:
        network = LightDecoder([5] * len(sides), width=12, outputs=3)
        logits = network([random(2, 5, *side) for side in sides])
        assert logits.shape == (2, 3, 2 * sides[-1][0], 2 * sides[-1][1])

    def test_every_level_reaches_the_logits_and_neighbours_do_not(self) -> None:
        network = new_network(PLAIN, (6, 5))
        levels = [random(2, 6, 4, 4).requires_grad_(), random(2, 5, 8, 8).requires_grad_()]
        network(levels)[0].sum().backward()
        for level in levels:
            assert level.grad is not None and level.grad[0].abs().sum() > 0 and not level.grad[1].any()

    def test_the_last_convolution_and_the_last_doubling_commute(self) -> None:
        """The page doubles before the last 1x1; the order saves work and changes rounding only."""
        network, level = new_network(PLAIN, (6,)), random(1, 6, 5, 4)
        hidden = network.stages[0](level)
        doubled = F.interpolate(hidden, scale_factor=2, mode="bilinear", align_corners=False)
        assert_close(network([level]), network.last(doubled))

    def test_weights_depend_on_the_seed_alone(self) -> None:
        state = torch.get_rng_state()
        one, same, other = (new_network(PLAIN, (6, 5), seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not torch.equal(one["last.weight"], other["last.weight"])
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("options", [{"channels": []}, {"width": 0}, {"outputs": 0}, {"channels": [4, 0]}])
    def test_refusals(self, options: dict[str, Any]) -> None:
        with pytest.raises(SettingsError, match="1 or more"):
            LightDecoder(**({"channels": [4], "width": 8, "outputs": 1} | options))


class TestLearning:
    def test_property_8_gradients_reach_the_decoder_only_and_the_backbone_keeps_its_hash(self) -> None:
        backbone = build_backbone()
        parts = (backbone.unet, backbone.vae, backbone.text.encoder)
        before = [digest(part) for part in parts]
        for part in parts:
            part.requires_grad_(True)  # as a live pipeline comes
        features = FeatureReader(Reader(backbone), PARTIAL)
        network = new_network(PARTIAL, features.channels)
        optimiser = torch.optim.AdamW(network.parameters())
        network(features.read(pictures(2))).square().mean().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
        assert all(parameter.grad is None for part in parts for parameter in part.parameters())
        optimiser.step()
        assert [digest(part) for part in parts] == before

    def test_property_8_the_decoder_overfits_16_pairs(self, reader: Reader) -> None:
        """IoU above 0.97 on the decoder's grid, of rectangles on noise."""
        rng = np.random.default_rng(0)
        several, masks = [], torch.zeros(16, 1, 16, 16)
        for number in range(16):
            top, left, height, width = *rng.integers(0, 8, 2), *rng.integers(4, 9, 2)
            ground, thing = rng.integers(0, 256, (2, 3))
            picture = np.tile(ground.astype(np.uint8), (16, 16, 1))
            picture[top : top + height, left : left + width] = thing
            masks[number, 0, top : top + height, left : left + width] = 1
            several.append(Picture(picture, "", ""))
        features = FeatureReader(reader, PARTIAL)
        levels = features.read(several)
        network = new_network(DecoderSettings(width=32), features.channels)
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
        for _ in range(150):
            optimiser.zero_grad()
            F.binary_cross_entropy_with_logits(network(levels), masks).backward()
            optimiser.step()
        found = Decoder(DecoderSettings(steps=2, width=32), (), network, features.model)
        mask = DecoderPredictor(reader, found).probabilities(several) > 0.5
        both, either = ((mask & (masks > 0)).sum((1, 2, 3)), (mask | (masks > 0)).sum((1, 2, 3)))
        assert float((both / either).mean()) > 0.97


class TestFolder:
    @pytest.mark.parametrize("settings", [PLAIN, SEMANTIC, ATTENTION], ids=["saliency", "semantic", "attention"])
    def test_a_decoder_comes_back_as_it_was(self, reader: Reader, tmp_path: Path, settings: DecoderSettings) -> None:
        decoder = untrained(reader, settings, labels=LABELS if settings == SEMANTIC else ())
        decoder = Decoder(decoder.settings, decoder.labels, decoder.network, decoder.model, {"epochs": 3, "data": {"größe": [1, 2.5]}})
        paths = decoder.save(tmp_path / "new" / "folder")
        assert [path.name for path in paths] == ["decoder.safetensors", "decoder.json"]
        assert sorted(path.name for path in paths[0].parent.iterdir()) == ["decoder.json", "decoder.safetensors"]
        found = Decoder.load(paths[0].parent)
        assert (found.settings, found.labels, found.model, found.training) == (settings, decoder.labels, decoder.model, decoder.training)
        one, other = (DecoderPredictor(reader, each).probabilities(pictures(2)) for each in (decoder, found))
        assert torch.equal(one, other)
        assert not any(parameter.requires_grad for parameter in found.network.parameters()) and not found.network.training

    def test_what_the_json_says(self, reader: Reader, tmp_path: Path) -> None:
        untrained(reader, SEMANTIC, labels=LABELS).save(tmp_path)
        content = json.loads((tmp_path / "decoder.json").read_text(encoding="utf-8"))
        assert content["format"] == "maskwright decoder 1" and content["labels"] == [["dog", "puppy"], ["cat"], ["owl"]]
        assert content["model"] == {"name": "tiny", "source": "tiny", "revision": "", "channels": [32, 16]}
        assert content["settings"]["inversion"] == "none" and "torch" in content["versions"]

    def test_half_precision_takes_half_the_space(self, reader: Reader, tmp_path: Path) -> None:
        decoder = untrained(reader)
        whole, half = decoder.save(tmp_path / "whole")[0], decoder.save(tmp_path / "half", half=True)[0]
        assert half.stat().st_size < 0.7 * whole.stat().st_size
        assert {values.dtype for values in safetensors.torch.load_file(half).values()} == {torch.float16}
        assert next(decoder.network.parameters()).dtype == torch.float32
        found = Decoder.load(tmp_path / "half")
        one, other = (DecoderPredictor(reader, each).probabilities(pictures(1)) for each in (decoder, found))
        assert one.dtype == other.dtype == torch.float32
        assert_close(other, one, dtype=torch.float16)

    def test_a_save_that_fails_leaves_nothing_half_written(self, reader: Reader, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError):
            untrained(reader).save(tmp_path / "file")

    @pytest.mark.parametrize(("name", "spoil", "message"), [
        ("decoder.json", lambda old: None, "holds no decoder"),
        ("decoder.safetensors", lambda old: None, "lacks decoder.safetensors"),
        ("decoder.json", lambda old: old[:-20], "cannot be read"),
        ("decoder.json", lambda old: b"[]", "does not describe a decoder"),
        ("decoder.json", lambda old: b'{"format": "maskwright pairs 1"}', "does not describe a decoder"),
        ("decoder.json", lambda old: old.replace(b"decoder 1", b"decoder 2"), "has format 2"),
        ("decoder.json", lambda old: old.replace(b'"labels"', b'"lobels"'), "damaged"),
        ("decoder.json", lambda old: old.replace(b'"width": 16', b'"width": 24'), "damaged"),
        ("decoder.json", lambda old: old.replace(b'"width"', b'"height"'), "damaged"),
        ("decoder.json", lambda old: old.replace(b'"inversion": "none"', b'"inversion": "some"'), "damaged .*inversion"),
        ("decoder.json", lambda old: old.replace(b'"model": {', b'"model": 3, "other": {'), "damaged"),
        ("decoder.safetensors", lambda old: old[:-100], "damaged"),
        ("decoder.safetensors", lambda old: b"", "damaged"),
        ("decoder.safetensors", lambda old: safetensors.torch.save({"w": torch.zeros(1)}), "damaged"),
    ])  # fmt: skip
    def test_broken_and_foreign_folders(
        self, reader: Reader, tmp_path: Path, name: str, spoil: Callable[[bytes], bytes | None], message: str
    ) -> None:
        untrained(reader).save(tmp_path)
        content = spoil((tmp_path / name).read_bytes())
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=message) as raised:
            Decoder.load(tmp_path)
        assert "\n" not in str(raised.value) and ": " in str(raised.value)

    def test_the_bundled_one(self, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("maskwright.decoders.decoder.ASSETS", tmp_path)
        with pytest.raises(ModelError, match="train one with `maskwright train`"):
            Decoder.load("bundled")
        untrained(reader).save(tmp_path / "decoder")
        assert Decoder.load("bundled").settings == PLAIN

    def test_no_folder_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="holds no decoder"):
            Decoder.load(tmp_path / "nowhere")


class TestFit:
    def test_parts_that_do_not_fit_each_other(self, reader: Reader) -> None:
        model = FeatureReader(reader, PLAIN).model
        for settings, labels in ((ATTENTION, ()), (DecoderSettings(width=32), ()), (SEMANTIC, LABELS)):
            with pytest.raises(ModelError, match="channels, width and outputs"):
                Decoder(settings, labels, new_network(PLAIN, (32, 16)), model)
        with pytest.raises(ModelError, match="without labels"):
            Decoder(SEMANTIC, (), new_network(SEMANTIC, (32, 16)), model)

    def test_another_model_is_refused(self, reader: Reader) -> None:
        decoder = untrained(reader)
        decoder.refuse(reader.backbone)
        wide = build_backbone(unet=build_unet(block_out_channels=(16, 64)))
        with pytest.raises(ModelError, match=r"trained on tiny \(channels \[32, 16\]\), not on tiny \(channels \[64, 16\]\)"):
            DecoderPredictor(Reader(wide), decoder)

    @pytest.mark.parametrize(("own", "other", "fits"), [
        (("model", "abc"), ("model", "abc"), True), (("model", "abc"), ("model", "def"), False),
        (("model", "abc"), ("elsewhere", "abc"), True), (("model", "abc"), ("model", ""), True),
        (("model", "abc"), ("other", ""), False), (("model", ""), ("model", ""), True), (("model", ""), ("other", ""), False),
    ])  # fmt: skip
    def test_revisions_decide_where_both_are_known(
        self, reader: Reader, own: tuple[str, str], other: tuple[str, str], fits: bool
    ) -> None:
        plain = untrained(reader)
        decoder = Decoder(plain.settings, (), plain.network, {**plain.model, "source": own[0], "revision": own[1]})
        model = {**plain.model, "source": other[0], "revision": other[1]}
        if fits:
            decoder.refuse_model(model)
        else:
            with pytest.raises(ModelError, match="load that model, or train a decoder for this one"):
                decoder.refuse_model(model)


class TestPredictor:
    @pytest.mark.parametrize("settings", [PLAIN, PARTIAL, ATTENTION], ids=["none", "partial", "attention"])
    def test_saliency_is_one_probability_on_the_decoders_grid(self, reader: Reader, settings: DecoderSettings) -> None:
        predictor = DecoderPredictor(reader, untrained(reader, settings))
        several = pictures(4, size=(20, 45))
        found = predictor.probabilities(several)
        assert found.shape == (4, 1, 12, 24) and found.dtype == torch.float32
        assert 0 < float(found.min()) < float(found.max()) < 1
        assert torch.equal(predictor.probabilities(several), found)
        for row, picture in enumerate(several):
            assert_close(predictor.probabilities([picture]), found[row : row + 1])

    def test_classes_share_one(self, reader: Reader) -> None:
        found = DecoderPredictor(reader, untrained(reader, SEMANTIC, labels=LABELS)).probabilities(pictures(2))
        assert found.shape == (2, 4, 16, 16)
        assert_close(found.sum(1), torch.ones(2, 16, 16))

    def test_an_untrained_decoder_knows_nothing(self, reader: Reader) -> None:
        """Another seed of its weights finds something else."""
        one, other = (DecoderPredictor(reader, untrained(reader, seed=seed)).probabilities(pictures(3)) for seed in (0, 1))
        assert not torch.allclose(one, other, atol=1e-2)

    def test_the_decoders_labels_compete_and_given_words_stand(self, reader: Reader) -> None:
        decoder = untrained(reader, MATCH)
        named = Decoder(MATCH, (OWL,), decoder.network, decoder.model)
        owl = DecoderPredictor(reader, decoder).probabilities(pictures(2), words=[("owl",)] * 2)
        assert_close(DecoderPredictor(reader, named).probabilities(pictures(2)), owl)
        assert_close(DecoderPredictor(reader, decoder, labels=[OWL]).probabilities(pictures(2)), owl)

    def test_the_decoder_stays_as_it_is(self, reader: Reader) -> None:
        decoder = untrained(reader)
        before = digest(decoder.network)
        DecoderPredictor(reader, decoder).probabilities(pictures(1))
        assert digest(decoder.network) == before

    @pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
    def test_both_kinds_of_prediction(self, prediction: str) -> None:
        reader = Reader(build_backbone(scheduler=build_scheduler(prediction)))
        settings = DecoderSettings(inversion="full", timestep=500, steps=1, width=16)
        assert torch.isfinite(DecoderPredictor(reader, untrained(reader, settings)).probabilities(pictures(1))).all()


class TestSettings:
    @pytest.mark.parametrize(("options", "message"), [
        ({"task": "depth"}, "task must be one of saliency, semantic, not 'depth'"), ({"inversion": "half"}, "none, partial, full"),
        ({"prior": "clip"}, "empty, match"), ({"steps": 0}, "steps must be a whole number of 1 or more, not 0"),
        ({"timestep": -1}, "timestep must be .* 0 or more"), ({"levels": 0}, "levels"), ({"levels": True}, "levels"),
        ({"width": 2.5}, "width"), ({"attention": True}, "prior 'match'"), ({"attention": 1}, "true or false"),
        ({"attention": True, "prior": "match", "task": "semantic"}, "task 'saliency'"),
    ])  # fmt: skip
    def test_refusals(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            DecoderSettings(**options)

    def test_a_timestep_beyond_the_schedule(self, reader: Reader) -> None:
        for inversion in ("none", "partial"):
            with pytest.raises(SettingsError, match="use 0 to 999"):
                FeatureReader(reader, DecoderSettings(inversion=inversion, timestep=1000)).read(pictures(1))
