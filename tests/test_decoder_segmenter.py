"""Segmentation by a decoder: its classes compete, the background first, and labels choose among them."""

import json

import numpy as np
import pytest
import torch

from maskwright.backbones.unet import UNetBackbone
from maskwright.decoders.decoder import Decoder
from maskwright.decoders.identity import identify
from maskwright.decoders.predictor import DecoderPredictor
from maskwright.decoders.segmenter import DecoderSegmenter
from maskwright.errors import SettingsError, VocabularyError
from maskwright.images import upsample
from maskwright.reader import Reader
from maskwright.vocabulary import Vocabulary
from tests.tiny import Passes, pixels
from tests.tiny_decoders import build_decoder

LABELS = ["dog|puppy", "cat", "red apple"]


@pytest.fixture(scope="module")
def decoder(backbone: UNetBackbone) -> Decoder:
    return build_decoder(backbone, labels=LABELS)


@pytest.fixture(scope="module")
def segmenter(backbone: UNetBackbone, decoder: Decoder) -> DecoderSegmenter:
    return DecoderSegmenter(backbone, decoder)


@pytest.mark.parametrize("size", [(24, 24), (20, 45), (45, 20), (1, 3)])
def test_results_have_the_pictures_own_size_and_the_decoders_names(segmenter: DecoderSegmenter, size: tuple[int, int]) -> None:
    found = segmenter.segment(pixels(size=size))
    assert found.label_map.shape == found.confidence.shape == size
    assert found.names == ("dog", "cat", "red apple") and found.vocabulary[0].background


def test_the_likeliest_class_wins_and_the_background_is_number_0(backbone: UNetBackbone, segmenter: DecoderSegmenter) -> None:
    found = segmenter.segment(pixels(size=(32, 40)))
    small = DecoderPredictor(Reader(backbone), segmenter.decoder).probabilities([found.picture])[0]
    full = upsample(small, (32, 40))
    np.testing.assert_array_equal(found.label_map, full.argmax(0).numpy())
    np.testing.assert_allclose(found.confidence, full.amax(0).numpy(), atol=1e-5)
    assert len(np.unique(found.label_map)) > 1
    np.testing.assert_allclose(found.scores.sum(0), 1, atol=1e-5)


def test_labels_leave_classes_out_of_the_competition_and_set_the_order_of_numbers(
    backbone: UNetBackbone, segmenter: DecoderSegmenter
) -> None:
    found = segmenter.segment(pixels(size=(32, 40)), "red apple, puppy")
    assert found.names == ("red apple", "dog")  # under the decoder's own name
    small = DecoderPredictor(Reader(backbone), segmenter.decoder).probabilities([found.picture])[0][[0, 3, 1]]
    full = upsample(small / small.sum(0), (32, 40))
    np.testing.assert_array_equal(found.label_map, full.argmax(0).numpy())
    np.testing.assert_allclose(found.confidence, full.amax(0).numpy(), atol=1e-5)


def test_all_labels_in_another_order_find_the_same_masks(segmenter: DecoderSegmenter) -> None:
    plain, turned = segmenter.segment(pixels()), segmenter.segment(pixels(), ["cat", "red apple", "dog"])
    for name in plain.names:
        np.testing.assert_array_equal(plain.mask(name), turned.mask(name))


def test_labels_that_the_decoder_was_not_trained_for_are_refused_with_the_list(segmenter: DecoderSegmenter) -> None:
    with pytest.raises(VocabularyError, match="not trained for 'owl': it knows dog, cat, red apple"):
        segmenter.segment_many([pixels()], "dog, owl")  # at once, not when the picture's turn comes
    with pytest.raises(VocabularyError, match="'dog' stands for"):
        segmenter.vocabulary("dog, puppy")


def test_a_class_called_background_leaves_its_name_to_the_class(backbone: UNetBackbone) -> None:
    segmenter = DecoderSegmenter(backbone, build_decoder(backbone, labels="background, dog"))
    assert segmenter.vocabulary().names == ("no label", "background", "dog")
    assert segmenter.record(segmenter.vocabulary()).background == "no label"


def test_classes_that_underflow_are_background(backbone: UNetBackbone) -> None:
    decoder = build_decoder(backbone, labels="dog, cat")
    with torch.no_grad():
        decoder.network.last.weight.zero_()
        decoder.network.last.bias.copy_(torch.tensor([-500.0, -500.0, 500.0]))
    found = DecoderSegmenter(backbone, decoder).segment(pixels(), "dog")
    assert not found.label_map.any() and np.isfinite(found.confidence).all()


def test_neighbours_in_a_batch_do_not_matter(backbone: UNetBackbone, decoder: Decoder) -> None:
    pictures = [pixels(number, size=(20, 28)) for number in range(3)]
    segmenter = DecoderSegmenter(backbone, decoder, batch=3)
    with Passes(backbone.unet) as passes:
        together = segmenter.segment(pictures)
    assert passes.count == 1
    for one, picture in zip(together, pictures, strict=True):
        np.testing.assert_allclose(one.scores, segmenter.segment(picture).scores, atol=2e-3)


def test_refiners_and_saved_files(backbone: UNetBackbone, decoder: Decoder, tmp_path) -> None:
    plain, found = (DecoderSegmenter(backbone, decoder, refine=name).segment(pixels(size=(40, 40))) for name in ("none", "guided"))
    assert not np.array_equal(plain.confidence, found.confidence)
    document = json.loads(found.save(tmp_path, stem="a")[-1].read_text())
    assert document["record"]["method"] == "diffusionseg-semantic" and document["record"]["refine"] == "guided"
    assert [label["name"] for label in document["labels"]] == ["dog", "cat", "red apple"]
    assert document["background"]["names"] == ["background"]


def test_the_record_tells_the_decoder_by_its_weights(segmenter: DecoderSegmenter, decoder: Decoder) -> None:
    record = segmenter.record(segmenter.vocabulary(Vocabulary.parse("cat")))
    assert (record.settings, record.background, record.prompting) == (identify(decoder), "background", None)
    assert {"read_and_score", "full_size"} == set(segmenter.segment(pixels()).record.timings)


def test_a_saliency_decoder_is_refused(backbone: UNetBackbone) -> None:
    with pytest.raises(SettingsError, match="this decoder finds what stands out, not classes: use it with discover"):
        DecoderSegmenter(backbone, build_decoder(backbone))
