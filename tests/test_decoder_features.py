"""What a decoder is given: levels of a frozen model under a prompt, at the end of an inversion."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.decoders.features import FeatureReader, describe_model, last_levels
from maskwright.decoders.settings import DecoderSettings
from maskwright.discovery.matching import best_words
from maskwright.errors import SettingsError
from maskwright.images import Picture
from maskwright.methods.attentioncut.method import AttentionCut
from maskwright.reader import Reader
from maskwright.text.planning import plan_text
from maskwright.vocabulary import Label, Vocabulary
from tests.tiny import Passes, build_backbone, digest, pixels, random, save_folder
from tests.tolerances import assert_close

PLAIN = DecoderSettings(inversion="none", width=16)
PARTIAL = DecoderSettings(steps=2, width=16)
MATCH = DecoderSettings(inversion="none", width=16, prior="match")
ATTENTION = DecoderSettings(inversion="none", width=16, prior="match", attention=True)
DOG, CAT, OWL = Label("dog", ("puppy",)), Label("cat"), Label("owl")
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


class TestFeatures:
    def test_the_levels_are_the_last_resolutions(self, reader: Reader, sd_backbone: UNetBackbone) -> None:
        """The page's 1280, 640 and 320 channels at 1/4, 1/2 and 1 of the latent side, 320 being 16; a model with fewer gives its own."""
        levels = last_levels(sd_backbone, 3)
        assert [(level.factor, level.channels) for level in levels] == [(4, 1280 // 20), (2, 640 // 20), (1, 320 // 20)]
        assert FeatureReader(Reader(sd_backbone), DecoderSettings(levels=1)).channels == (16,)
        assert FeatureReader(reader, PLAIN).channels == (32, 16)

    @pytest.mark.parametrize("settings", [PLAIN, PARTIAL], ids=["none", "partial"])
    @pytest.mark.parametrize(("size", "latent"), [((16, 16), (8, 8)), ((20, 45), (6, 12)), ((45, 20), (12, 6))])
    def test_pictures_of_any_shape(self, reader: Reader, settings: DecoderSettings, size: tuple[int, int], latent: tuple[int, int]) -> None:
        found = FeatureReader(reader, settings).read(pictures(2, size=size))
        h, w = latent
        assert [tuple(level.shape) for level in found] == [(2, 32, h // 2, w // 2), (2, 16, h, w)]
        assert all(level.dtype == torch.float32 and not level.requires_grad and not level.is_inference() for level in found)

    @pytest.mark.parametrize("settings", [PLAIN, PARTIAL, ATTENTION], ids=["none", "partial", "attention"])
    def test_neighbours_do_not_matter(self, reader: Reader, settings: DecoderSettings) -> None:
        features, several = FeatureReader(reader, settings), pictures(4, size=(16, 24))
        together = features.read(several)  # batches of three and one
        assert all(torch.equal(one, other) for one, other in zip(features.read(several), together, strict=True))
        for row, picture in enumerate(several):
            for level, alone in zip(together, features.read([picture]), strict=True):
                assert_close(level[row : row + 1], alone)

    @pytest.mark.parametrize(("settings", "expected"), [(PLAIN, 1), (PARTIAL, 3), (ATTENTION, 1)], ids=["none", "partial", "attention"])
    def test_inversion_then_one_pass(self, reader: Reader, settings: DecoderSettings, expected: int) -> None:
        features = FeatureReader(reader, settings)
        features.read(pictures(1), words=[("dog",)])
        with Passes(reader.backbone.unet) as passes:  # type: ignore[attr-defined]
            features.read(pictures(3), words=[("dog",)] * 3)
        assert (passes.count, passes.rows) == (expected, 3 * expected)

    def test_features_are_read_at_the_settings_timestep_of_inverted_latents(self, reader: Reader) -> None:
        """Written out: what the last level hands on is what the output layers make the prediction of."""
        backbone: Any = reader.backbone
        several = pictures(2)
        found = FeatureReader(reader, PLAIN).read(several)
        latents, condition = reader.latents(several, (16, 16)), backbone.text.encode([""] * 2).embeddings
        alpha = backbone.scheduler.alphas_cumprod[100]
        rows = alpha.sqrt() * latents + (1 - alpha).sqrt() * random(1, 4, 8, 8, seed=reader.seed)
        with torch.no_grad():
            made = backbone.unet.conv_out(backbone.unet.conv_act(backbone.unet.conv_norm_out(found[-1])))
        assert_close(made, backbone.predict(rows, torch.tensor(100), condition))

    def test_the_backbone_stays_as_it_was(self) -> None:
        backbone = build_backbone(sidecar=CLOSED)
        parts = (backbone.unet, backbone.vae, backbone.text.encoder)
        before = [digest(part) for part in parts]
        for settings in (PLAIN, PARTIAL, ATTENTION):
            FeatureReader(Reader(backbone), settings).read(pictures(2))
        assert [digest(part) for part in parts] == before

    def test_texts_are_encoded_once(self, closed: UNetBackbone) -> None:
        features = FeatureReader(Reader(closed), MATCH)
        features.read(pictures(1), words=[("dog", "cat")])
        calls: list[int] = []
        handle = closed.text.encoder.register_forward_pre_hook(lambda *_: calls.append(1))
        closed.text._memory.clear()  # what the tower itself remembers
        features.read(pictures(2), words=[("dog", "cat")] * 2)
        handle.remove()
        assert calls == []

    def test_several_shapes_or_wrong_words_are_refused(self, reader: Reader) -> None:
        features = FeatureReader(reader, PLAIN)
        with pytest.raises(SettingsError, match="of one size, not of 2"):
            features.read([*pictures(1), *pictures(1, size=(16, 32))])
        with pytest.raises(SettingsError, match="2 pictures with the words of 1"):
            features.read(pictures(2), words=[("dog",)])
        assert len(features.read([*pictures(1), *pictures(1, size=(32, 32))])[0]) == 2  # both are read at 16 x 16


class TestPrior:
    def test_the_empty_prior_does_not_look_at_words(self, reader: Reader) -> None:
        features = FeatureReader(reader, PLAIN)
        for one, other in zip(features.read(pictures(1)), features.read(pictures(1), words=[("dog",)]), strict=True):
            assert torch.equal(one, other)

    def test_words_are_the_condition_and_none_is_the_empty_prompt(self, reader: Reader) -> None:
        features, several = FeatureReader(reader, MATCH), pictures(3)
        mixed = features.read(several, words=[("dog",), ("dog", "cat"), ()])[-1]
        assert_close(mixed[2:], FeatureReader(reader, PLAIN).read(several[2:])[-1])
        assert_close(mixed[:1], features.read(several[:1], words=[("dog",)])[-1])
        assert float((mixed[1:2] - features.read(several[1:2], words=[("dog",)])[-1]).abs().max()) > 1e-3

    def test_the_model_chooses_among_its_objects_or_the_given_labels(self, reader: Reader) -> None:
        several, backbone = pictures(3), reader.backbone
        latents = reader.latents(several, (16, 16))
        wording = AttentionCut().wording()
        for labels, competing in (((), "dog, cat, owl"), ((OWL, CAT), "owl, cat")):
            vocabulary = Vocabulary.parse(competing)
            best = best_words(backbone, latents, vocabulary, wording, seed=reader.seed)  # type: ignore[arg-type]
            words = [(vocabulary.labels[place].name,) for place in best]
            features = FeatureReader(reader, MATCH, labels=labels)
            assert_close(features.read(several)[-1], features.read(several, words=words)[-1])

    def test_an_open_vocabulary_needs_labels_or_words(self, backbone: UNetBackbone) -> None:
        features = FeatureReader(Reader(backbone), MATCH)
        with pytest.raises(SettingsError, match="nothing to choose from"):
            features.read(pictures(1))
        assert features.read(pictures(1), words=[("dog",)])
        assert FeatureReader(Reader(backbone), MATCH, labels=[DOG]).read(pictures(1))

    def test_words_beyond_the_prompts_length_are_left_out(self, reader: Reader) -> None:
        many = tuple(f"{first}{second}" for first in "abcdefgh" for second in "stuvwxyz")
        found = FeatureReader(reader, MATCH).read(pictures(2), words=[many, ("dog",)])
        assert len(found[0]) == 2


class TestAttention:
    def test_its_two_maps_are_joined_to_every_level(self, reader: Reader) -> None:
        with_maps, words = FeatureReader(reader, ATTENTION), [("dog",), ("dog", "cat")]
        assert with_maps.channels == (34, 18)
        found = with_maps.read(pictures(2, size=(16, 24)), words=words)
        plain = FeatureReader(reader, MATCH).read(pictures(2, size=(16, 24)), words=words)
        for level, own in zip(found, plain, strict=True):
            assert_close(level[:, :-2], own)
        fine = found[-1][:, -2:]  # both grids are the latents' own
        assert float(fine.min()) == 0 and float(fine.max()) == 1
        assert_close(found[0][:, -2:], F.interpolate(fine, scale_factor=0.5, mode="bilinear", antialias=True))

    def test_they_are_the_methods_evidence_from_the_same_noisy_latents(self, reader: Reader) -> None:
        """With the model's own settings for attentioncut, but at the decoder's timestep."""
        method = AttentionCut(attention_factors=(1,), grid_factor=1, timesteps=(100,))
        found = FeatureReader(reader, ATTENTION).read(pictures(1), words=[("dog",)])[-1][0, -2:]
        plan = plan_text(reader.backbone.text, Vocabulary.parse("dog"), method.wording(), "joint")
        latents = reader.latents(pictures(1), (16, 16))
        reading = reader.backbone.read(latents, method.probe(), condition=plan.passes[0].condition, seed=reader.seed)
        evidence = method.evidence(reading.cross_attention.maps(plan.keys), reading.self_attention_at(1))
        assert_close(found, torch.stack([evidence.cross[0], evidence.refined[0]]))

    def test_a_picture_without_words_has_none(self, reader: Reader) -> None:
        assert not FeatureReader(reader, ATTENTION).read(pictures(1), words=[()])[-1][:, -2:].any()


def test_the_bundled_model_is_read_at_its_two_resolutions() -> None:
    features = FeatureReader(Reader("sticker"), DecoderSettings(steps=1))
    levels = features.read(pictures(1, size=(64, 64)))
    assert [tuple(level.shape) for level in levels] == [(1, 160, 8, 8), (1, 96, 16, 16)]
    assert features.channels == (160, 96)


def test_the_name_of_a_model_says_nothing_of_where_it_lies(tmp_path: Path) -> None:
    bundled = describe_model(load_backbone("sticker"), ())
    assert (bundled["name"], bundled["source"]) == ("sticker", "sticker") and bundled["revision"]
    folder = load_backbone(save_folder(tmp_path / "mine"))
    assert describe_model(folder, last_levels(folder, 1)) == {"name": "mine", "source": "mine", "revision": "", "channels": [16]}
