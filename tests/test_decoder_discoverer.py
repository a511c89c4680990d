"""Discovery by a decoder: the decoder's answer at the picture's size, its mask, its box, and the record that tells decoders apart."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.backbones.unet import UNetBackbone
from maskwright.decoders.decoder import Decoder
from maskwright.decoders.discoverer import DecoderDiscoverer
from maskwright.decoders.identity import identify
from maskwright.decoders.predictor import DecoderPredictor
from maskwright.discovery.matching import best_words
from maskwright.discovery.result import Discovery
from maskwright.errors import ImageError, ModelError, SettingsError, VocabularyError
from maskwright.evaluation.boxes import is_hit
from maskwright.images import Picture, upsample
from maskwright.methods.attentioncut.method import AttentionCut
from maskwright.reader import Reader
from maskwright.record import Record
from maskwright.vocabulary import Vocabulary
from tests.tiny import Passes, build_backbone, build_unet, digest, pixels
from tests.tiny_decoders import build_decoder

CLOSED = {"words": ["a", "photo", "of", "and", "dog", "cat", "owl", "grass"], "objects": ["dog|puppy", "cat", "owl"], "advice": "Be kind."}
MATCH = {"prior": "match"}


@pytest.fixture(scope="module")
def decoder(backbone: UNetBackbone) -> Decoder:
    return build_decoder(backbone)


@pytest.fixture(scope="module")
def matching(backbone: UNetBackbone) -> Decoder:
    """Wants words."""
    return build_decoder(backbone, **MATCH)


@pytest.fixture(scope="module")
def closed() -> UNetBackbone:
    """The same model, which says that it knows three objects and nothing else."""
    return build_backbone(sidecar=CLOSED)


class TestDiscover:
    @pytest.mark.parametrize("size", [(24, 24), (20, 45), (45, 20), (1, 3)])
    def test_results_have_the_pictures_own_size(self, backbone: UNetBackbone, decoder: Decoder, size: tuple[int, int]) -> None:
        found = DecoderDiscoverer(backbone, decoder).discover(pixels(size=size))
        assert found.probability.shape == found.mask.shape == size and found.probability.dtype == np.float32
        assert (found.words, found.choice, found.word) == (("object",), "without words", "object")

    @pytest.mark.parametrize("inversion", ["none", "partial", "full"])
    def test_it_is_the_decoders_answer_upsampled(self, backbone: UNetBackbone, inversion: str) -> None:
        decoder = build_decoder(backbone, inversion=inversion, steps=2, timestep=400)
        found = DecoderDiscoverer(backbone, decoder, seed=3).discover(pixels(size=(16, 24)))
        small = DecoderPredictor(Reader(backbone, seed=3), decoder).probabilities([found.picture])[0]
        np.testing.assert_allclose(found.probability, upsample(small, (16, 24))[0], atol=1e-5)
        np.testing.assert_array_equal(found.mask, found.probability > 0.5)
        assert 0 < found.mask.mean() < 1

    def test_the_same_seed_gives_the_same_masks_and_boxes_and_another_noise_does_not(
        self, backbone: UNetBackbone, decoder: Decoder
    ) -> None:
        one, two, other = (DecoderDiscoverer(backbone, decoder, seed=seed).discover(pixels()) for seed in (1, 1, 2))
        assert np.array_equal(one.probability, two.probability) and one.box == two.box
        assert not np.array_equal(one.probability, other.probability)

    def test_neighbours_in_a_batch_do_not_matter(self, backbone: UNetBackbone, decoder: Decoder) -> None:
        pictures = [pixels(number, size=(20, 28)) for number in range(3)]
        discoverer = DecoderDiscoverer(backbone, decoder, batch=3)
        with Passes(backbone.unet) as passes:
            together = discoverer.discover(pictures)
        assert (passes.count, passes.rows) == (1, 3)
        for one, picture in zip(together, pictures, strict=True):
            np.testing.assert_allclose(one.probability, discoverer.discover(picture).probability, atol=2e-3)

    def test_lists_of_several_shapes_come_in_order_and_pictures_are_opened_when_their_turn_comes(
        self, backbone: UNetBackbone, decoder: Decoder
    ) -> None:
        discoverer = DecoderDiscoverer(backbone, decoder, batch=2)
        sizes = [(24, 24), (24, 24), (20, 45), (24, 24)]
        assert [one.picture.size for one in discoverer.discover([pixels(size=size) for size in sizes])] == sizes
        assert discoverer.discover([]) == []
        stream = discoverer.discover_many([pixels(), "no-such.png"])
        assert next(stream).word == "object"
        with pytest.raises(ImageError, match="no-such"):
            next(stream)

    @pytest.mark.parametrize("refine", ["guided", "pamr"])
    def test_refiners(self, backbone: UNetBackbone, decoder: Decoder, refine: Any) -> None:
        plain, found = (DecoderDiscoverer(backbone, decoder, refine=name).discover(pixels(size=(40, 40))) for name in ("none", refine))
        assert found.record.refine == refine and 0 <= found.probability.min() <= found.probability.max() <= 1
        assert float(np.abs(found.probability - plain.probability).max()) > 1e-3

    def test_the_model_stays_as_it_is(self, backbone: UNetBackbone, decoder: Decoder) -> None:
        before = digest(backbone.unet)
        DecoderDiscoverer(backbone, decoder).discover(pixels())
        assert digest(backbone.unet) == before


class TestWords:
    def test_a_decoder_without_words_refuses_them(self, backbone: UNetBackbone, decoder: Decoder) -> None:
        discoverer = DecoderDiscoverer(backbone, decoder)
        for asked in ({"labels": "dog"}, {"match": True}):
            with pytest.raises(SettingsError, match="trained without words"):
                discoverer.discover_many([pixels()], **asked)

    def test_given_words_are_the_prompt_that_features_are_read_under(self, backbone: UNetBackbone, matching: Decoder) -> None:
        discoverer = DecoderDiscoverer(backbone, matching)
        found, other = discoverer.discover(pixels(), "dog, red apple"), discoverer.discover(pixels(), "cat")
        small = DecoderPredictor(Reader(backbone), matching).probabilities([found.picture], words=[("dog", "red apple")])[0]
        np.testing.assert_allclose(found.probability, upsample(small, (24, 24))[0], atol=1e-5)
        assert (found.words, found.choice) == (("dog", "red apple"), "given")
        assert not np.allclose(found.probability, other.probability)

    def test_words_marked_as_background_are_left_out(self, backbone: UNetBackbone, matching: Decoder) -> None:
        discoverer = DecoderDiscoverer(backbone, matching)
        assert discoverer.discover(pixels(), Vocabulary.parse("dog, grass", background="grass")).words == ("dog",)

    def test_match_takes_the_one_given_word_that_fits_best(self, backbone: UNetBackbone, matching: Decoder) -> None:
        discoverer = DecoderDiscoverer(backbone, matching)
        found = discoverer.discover(pixels(), "dog, cat|kitten, owl", match=True)
        latents = discoverer.reader.latents([found.picture], discoverer.reader.size(found.picture))
        (best,) = best_words(backbone, latents, Vocabulary.parse("dog, cat|kitten, owl"), AttentionCut().wording())
        assert found.words == (("dog", "cat", "owl")[best],) and found.choice == "best match of the given words"
        np.testing.assert_array_equal(found.probability, discoverer.discover(pixels(), found.word).probability)

    def test_without_words_the_decoders_own_come_before_the_models_and_these_before_a_generic_one(
        self, backbone: UNetBackbone, closed: UNetBackbone, matching: Decoder
    ) -> None:
        generic = DecoderDiscoverer(backbone, matching).discover(pixels())
        assert (generic.words, generic.choice) == (("object",), "generic word")
        models = DecoderDiscoverer(closed, matching).discover(pixels())
        assert models.word in ("dog", "cat", "owl") and models.choice == "best match of the model's words"
        own = build_decoder(closed, labels="snow, tree", task="saliency", **MATCH)
        found = DecoderDiscoverer(closed, own).discover(pixels())
        assert found.word in ("snow", "tree") and found.choice == "best match of the decoder's words"
        implied = DecoderPredictor(Reader(closed), own).probabilities([found.picture])[0]  # the predictor makes the same choice
        np.testing.assert_allclose(found.probability, upsample(implied, (24, 24))[0], atol=1e-5)

    def test_nothing_to_choose_from_and_labels_that_are_none(self, backbone: UNetBackbone, matching: Decoder) -> None:
        discoverer = DecoderDiscoverer(backbone, matching)
        with pytest.raises(SettingsError, match="nothing to choose from"):
            discoverer.discover_many([pixels()], match=True)
        with pytest.raises(VocabularyError, match="no labels"):
            discoverer.discover_many([pixels()], "")


class TestRecord:
    def test_it_names_method_model_settings_and_weights(self, backbone: UNetBackbone, decoder: Decoder) -> None:
        record = DecoderDiscoverer(backbone, decoder, seed=5).discover(pixels()).record
        assert (record.method, record.model, record.seed, record.naming) == (
            "diffusionseg", "tiny", 5, {"choice": "without words", "labels": [], "background": []},
        )  # fmt: skip
        assert record.settings == identify(decoder) and record.settings["timestep"] == 100 and len(record.settings["digest"]) == 16
        assert {"choose", "read_and_decode", "foreground_and_full_size"} == set(record.timings)
        assert json.loads(json.dumps(record.as_dict())) == record.as_dict()

    def test_the_identity_follows_weights_labels_and_settings_but_not_the_place(self, backbone: UNetBackbone, tmp_path: Path) -> None:
        decoder = build_decoder(backbone, labels="dog, cat")
        for name in ("here", "there"):
            decoder.save(tmp_path / name)
        assert identify(decoder) == identify(Decoder.load(tmp_path / "here")) == identify(Decoder.load(tmp_path / "there"))
        others = (
            build_decoder(backbone, labels="dog, cat", seed=1), build_decoder(backbone, labels="cat, dog"),
            build_decoder(backbone, labels="dog, cat", timestep=101),
        )  # fmt: skip
        assert all(identify(other) != identify(decoder) for other in others)

    def test_words_are_in_it_where_they_matter(self, backbone: UNetBackbone, matching: Decoder) -> None:
        discoverer = DecoderDiscoverer(backbone, matching)
        naming = discoverer.record(discoverer.quest("dog, cat|kitten", match=True)).naming
        assert naming["labels"] == [["dog", []], ["cat", ["kitten"]]] and naming["matching"]["shortlist"] == 8  # type: ignore[index]


def test_a_decoder_that_does_not_fit_is_told_in_one_line(backbone: UNetBackbone, decoder: Decoder, tmp_path: Path) -> None:
    other = build_backbone(unet=build_unet(block_out_channels=(8, 16)))
    with pytest.raises(ModelError, match="was trained on"):
        DecoderDiscoverer(other, decoder)
    with pytest.raises(SettingsError, match="this decoder finds classes, not what stands out: use it with segment"):
        DecoderDiscoverer(backbone, build_decoder(backbone, labels="dog"))
    with pytest.raises(ModelError, match="holds no decoder"):
        DecoderDiscoverer("no-such-model", tmp_path)  # told before a model is loaded


class TestMaskAndBox:
    """What `Discovery` makes of a decoder's probability; properties 9 and 10 of the method's page."""

    def found(self, probability: np.ndarray) -> Discovery:
        picture = Picture(np.zeros((*probability.shape, 3), np.uint8), "a", "a.png")
        return Discovery(picture, ("object",), "without words", probability.astype(np.float32), Record(method="test", model="none"))

    def test_a_half_is_background_and_the_box_is_that_of_the_largest_piece_with_an_exclusive_maximum(self) -> None:
        probability = np.full((10, 14), 0.5)
        assert not self.found(probability).mask.any() and self.found(probability).box is None
        probability[1:4, 2:7] = 0.51  # 15 pixels
        probability[6:8, 8:13] = 0.9  # 10 pixels
        assert self.found(probability).box == (2, 1, 5, 3)
        probability[4, 6] = probability[5, 7] = 0.9  # corners that touch join nothing
        assert self.found(probability).box == (2, 1, 5, 4)

    def test_a_full_picture_is_boxed_whole_and_a_single_pixel_has_a_box_of_one(self) -> None:
        assert self.found(np.ones((3, 5))).box == (0, 0, 5, 3)
        lone = np.zeros((3, 5))
        lone[2, 4] = 1
        assert self.found(lone).box == (4, 2, 1, 1)

    def test_a_box_with_an_iou_of_exactly_one_half_is_a_hit_for_the_mask_that_it_comes_from(self) -> None:
        probability = np.zeros((20, 20))
        probability[:10, :5] = 0.8
        assert is_hit(self.found(probability).box, [(0, 0, 10, 10)])
        probability[9, :5] = 0.2
        assert not is_hit(self.found(probability).box, [(0, 0, 10, 10)])


def test_a_probability_that_is_no_number_is_a_model_error(backbone: UNetBackbone) -> None:
    broken = build_decoder(backbone)
    with torch.no_grad():
        broken.network.last.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        DecoderDiscoverer(backbone, dataclasses.replace(broken)).discover(pixels())
