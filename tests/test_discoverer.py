import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.backbones.unet import UNetBackbone
from maskwright.discovery.discoverer import Discoverer
from maskwright.discovery.matching import MatchSettings, attention_strength, best_words, denoising_errors
from maskwright.discovery.result import Discovery
from maskwright.errors import ImageError, OutputError, SettingsError, VocabularyError
from maskwright.exports import to_coco
from maskwright.exports.overlay import canvas_size
from maskwright.images import Picture, upsample
from maskwright.methods.attentioncut.method import AttentionCut
from maskwright.methods.daam.method import Daam
from maskwright.readings.attention import LayerMaps
from maskwright.readings.probe import Probe
from maskwright.record import Record
from maskwright.text.planning import plan_text
from maskwright.text.wording import Wording
from maskwright.vocabulary import Vocabulary
from tests.tiny import Passes, build_backbone, build_scheduler, pixels, random, save_folder
from tests.tolerances import assert_close

DAAM, CUT = Daam(timesteps=(50, 300)), AttentionCut(timesteps=(50,))
METHODS = pytest.mark.parametrize("method", [CUT, DAAM], ids=["attentioncut", "daam"])
CLOSED = {"words": ["a", "photo", "of", "and", "dog", "cat", "owl", "grass"], "objects": ["dog|puppy", "cat", "owl"], "advice": "Be kind."}
WORDING = Wording(template="a photo of a {}")


@pytest.fixture(scope="session")
def closed() -> UNetBackbone:
    """Knows three objects and nothing else."""
    return build_backbone(sidecar=CLOSED)


def discovery(mask: np.ndarray, *, words: tuple[str, ...] = ("dog",)) -> Discovery:
    """A result with this mask."""
    picture = Picture(pixels(size=mask.shape[:2]), "dog", "dog.png")
    return Discovery(picture, words, "given", np.where(mask, 0.8, 0.2).astype(np.float32), Record(method="test", model="none"))


class TestDiscover:
    @METHODS
    @pytest.mark.parametrize("size", [(24, 24), (20, 45), (45, 20), (1, 3)])
    def test_results_have_the_pictures_own_size(self, backbone: UNetBackbone, method: Any, size: tuple[int, int]) -> None:
        found = Discoverer(backbone, method).discover(pixels(size=size), "dog")
        assert found.probability.shape == found.mask.shape == size
        assert found.probability.dtype == np.float32 and found.mask.dtype == np.bool_
        assert (found.words, found.word, found.choice) == (("dog",), "dog", "given")
        assert 0 <= found.probability.min() and found.probability.max() <= 1

    @METHODS
    def test_it_is_the_method_on_one_reading_under_the_words_prompt(self, backbone: UNetBackbone, method: Any) -> None:
        picture = pixels(size=(16, 24))
        with Passes(backbone.unet) as passes:
            found = Discoverer(backbone, method, seed=3).discover(picture, "dog")
        assert (passes.count, passes.rows) == (1, method.probe().repeats)
        plan = plan_text(backbone.text, Vocabulary.parse("dog"), method.wording(), "joint")
        discoverer = Discoverer(backbone, method)
        latents = discoverer.reader.latents([found.picture], discoverer.reader.size(found.picture))
        reading = backbone.read(latents, method.probe(), condition=plan.passes[0].condition, seed=3)
        attention = None if method.grid_factor is None else reading.self_attention_at(method.grid_factor)
        alone = method.foreground(reading.cross_attention.maps(plan.keys), attention, picture, seed=3)
        np.testing.assert_allclose(found.probability, upsample(alone.probability, (16, 24))[0], atol=1e-5)

    @METHODS
    def test_several_words_are_one_object_whose_attention_is_their_sum(self, backbone: UNetBackbone, method: Any) -> None:
        with Passes(backbone.unet) as passes:
            found = Discoverer(backbone, method).discover(pixels(), "dog, red apple")
        assert passes.count == 1 and (found.words, found.word) == (("dog", "red apple"), "dog and red apple")
        plan = plan_text(backbone.text, Vocabulary.parse("dog, red apple"), method.wording(), "joint")
        discoverer = Discoverer(backbone, method)
        latents = discoverer.reader.latents([found.picture], discoverer.reader.size(found.picture))
        reading = backbone.read(latents, method.probe(), condition=plan.passes[0].condition)
        maps = [
            LayerMaps(layer.factor, layer.layers, layer.maps[:, :1] + layer.maps[:, 1:])
            for layer in reading.cross_attention.maps(plan.keys)
        ]
        attention = None if method.grid_factor is None else reading.self_attention_at(method.grid_factor)
        together = method.foreground(maps, attention, pixels())
        np.testing.assert_allclose(found.probability, upsample(together.probability, (24, 24))[0], atol=1e-5)

    def test_the_same_seed_gives_the_same_bits_and_another_does_not(self, backbone: UNetBackbone) -> None:
        one, two, other = (Discoverer(backbone, CUT, seed=seed).discover(pixels(), "dog").probability for seed in (1, 1, 2))
        assert np.array_equal(one, two) and not np.array_equal(one, other)

    @METHODS
    def test_neighbours_in_a_batch_do_not_matter(self, backbone: UNetBackbone, method: Any) -> None:
        pictures = [pixels(number, size=(20, 28)) for number in range(3)]
        discoverer = Discoverer(backbone, method, batch=3)
        with Passes(backbone.unet) as passes:
            together = discoverer.discover(pictures, "dog")
        assert passes.count == 1
        for one, picture in zip(together, pictures, strict=True):
            np.testing.assert_allclose(one.probability, discoverer.discover(picture, "dog").probability, atol=2e-3)

    def test_lists_give_lists_in_order(self, backbone: UNetBackbone) -> None:
        sizes = [(24, 24), (24, 24), (20, 45), (24, 24)]
        discoverer, pictures = Discoverer(backbone, CUT, batch=2), [pixels(number, size=size) for number, size in enumerate(sizes)]
        found = discoverer.discover(pictures, "dog")
        assert [one.picture.size for one in found] == sizes
        for one, picture in zip(found, pictures, strict=True):  # each read at its own shape
            np.testing.assert_allclose(one.probability, discoverer.discover(picture, "dog").probability, atol=2e-3)
        assert Discoverer(backbone, CUT).discover([], "dog") == []

    def test_labels_are_checked_at_once_pictures_when_their_turn_comes(self, backbone: UNetBackbone) -> None:
        discoverer = Discoverer(backbone, CUT, batch=2)
        with pytest.raises(VocabularyError, match="no labels"):
            discoverer.discover_many([pixels()], "")
        stream = discoverer.discover_many([pixels(), "no-such.png"], "dog")
        assert next(stream).word == "dog"
        with pytest.raises(ImageError, match="no-such"):
            next(stream)

    @pytest.mark.parametrize("refine", ["guided", "pamr"])
    def test_refiners(self, backbone: UNetBackbone, refine: Any) -> None:
        plain, found = (Discoverer(backbone, DAAM, refine=name).discover(pixels(size=(40, 40)), "dog") for name in ("none", refine))
        assert found.record.refine == refine and 0 <= found.probability.min() <= found.probability.max() <= 1
        assert float(np.abs(found.probability - plain.probability).max()) > 1e-3


class TestWords:
    def test_match_takes_the_one_given_word_that_fits_best(self, backbone: UNetBackbone) -> None:
        discoverer = Discoverer(backbone, CUT)
        found = discoverer.discover(pixels(), "dog, cat|kitten, owl", match=True)
        latents = discoverer.reader.latents([found.picture], discoverer.reader.size(found.picture))
        (best,) = best_words(backbone, latents, Vocabulary.parse("dog, cat|kitten, owl"), CUT.wording())
        assert found.words == (("dog", "cat", "owl")[best],) and found.choice == "best match of the given words"
        alone = discoverer.discover(pixels(), ["dog", "cat|kitten", "owl"][best])
        np.testing.assert_allclose(found.probability, alone.probability, atol=1e-5)

    def test_each_picture_of_a_batch_has_its_own_word(self, backbone: UNetBackbone) -> None:
        pictures = [pixels(), np.zeros((24, 24, 3), np.uint8), np.full((24, 24, 3), 255, np.uint8), pixels(5)]
        labels = "dog, cat, owl, grass, snow, tree, light, fire, sky"
        discoverer = Discoverer(backbone, DAAM, batch=4, matching=MatchSettings(timesteps=(5,)))
        together = discoverer.discover(pictures, labels, match=True)
        assert len({found.word for found in together}) > 1
        for found in together:
            alone = discoverer.discover(found.picture, found.word)
            np.testing.assert_allclose(found.probability, alone.probability, atol=2e-3)

    def test_without_a_word_the_models_own_objects_compete(self, closed: UNetBackbone) -> None:
        found = Discoverer(closed, CUT).discover(pixels())
        assert found.word in ("dog", "cat", "owl") and found.choice == "best match of the model's words"
        assert found.record.naming is not None and found.record.naming["labels"] == [["dog", ["puppy"]], ["cat", []], ["owl", []]]
        assert found.record.naming["matching"]["timesteps"] == (300, 500)

    def test_an_open_model_looks_for_the_generic_word(self, backbone: UNetBackbone) -> None:
        for generic in ("object", "tree"):
            found = Discoverer(backbone, CUT, generic=generic).discover(pixels())
            assert (found.word, found.choice) == (generic, "generic word")
            assert found.record.naming == {"choice": "generic word", "labels": [[generic, []]], "background": []}
            same = Discoverer(backbone, CUT).discover(pixels(), generic)
            assert np.array_equal(found.probability, same.probability) and same.choice == "given"

    def test_a_word_for_what_lies_behind_stands_in_the_prompt_and_is_not_looked_for(self, backbone: UNetBackbone) -> None:
        discoverer = Discoverer(backbone, CUT)
        found = discoverer.discover(pixels(), Vocabulary.parse("dog, cat, sky", background="sky"))
        assert found.words == ("dog", "cat") and found.record.naming is not None
        assert found.record.naming["background"] == [["sky", []]] and found.record.naming["labels"] == [["dog", []], ["cat", []]]
        for others in ("dog, cat", "dog, cat, sky"):
            assert not np.array_equal(discoverer.discover(pixels(), others).probability, found.probability)
        matched = discoverer.discover(pixels(), Vocabulary.parse("dog, sky", background="sky"), match=True)
        one = discoverer.discover(pixels(), Vocabulary.parse("dog, sky", background="sky"))
        assert matched.words == ("dog",) and np.array_equal(matched.probability, one.probability)

    def test_an_open_model_has_nothing_to_choose_from(self, backbone: UNetBackbone) -> None:
        with pytest.raises(SettingsError, match="nothing to choose from"):
            Discoverer(backbone, CUT).discover(pixels(), match=True)

    def test_unknown_words_are_told(
        self, closed: UNetBackbone, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        monkeypatch.setattr(logging.getLogger("maskwright"), "propagate", True)
        with caplog.at_level(logging.WARNING, logger="maskwright"):
            found = Discoverer(closed, CUT).discover([pixels(), pixels(1)], "yak")
        assert [record.getMessage() for record in caplog.records] == ["tiny does not know yak. Be kind."]
        assert found[1].record.warnings == ("tiny does not know yak",)


class TestMatching:
    @pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
    def test_the_error_is_that_of_the_networks_own_target(self, prediction: str) -> None:
        backbone = build_backbone(scheduler=build_scheduler(prediction))
        latents, noise = random(1, 4, 8, 12), torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(7))
        condition = backbone.text.encode(["dog", "cat"]).embeddings
        expected = torch.zeros(2)
        for timestep in (300, 500):
            alpha = backbone.scheduler.alphas_cumprod[timestep]
            noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
            velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
            target = {"epsilon": noise, "v_prediction": velocity, "sample": latents}[prediction]
            for row in range(2):
                with torch.no_grad():
                    answer = backbone.unet(noisy, timestep, condition[row : row + 1]).sample
                expected[row] += (answer - target).square().mean() / 2
        assert_close(denoising_errors(backbone, latents, condition, (300, 500), seed=7), expected)

    def test_rows_may_be_chunked_in_any_way(self, backbone: UNetBackbone) -> None:
        condition = backbone.text.encode(["dog", "cat", "owl"]).embeddings
        errors = [denoising_errors(backbone, random(1, 4, 8, 8), condition, (300, 500), chunk=chunk) for chunk in (1, 4, 99)]
        assert_close(errors[0], errors[2])
        assert_close(errors[1], errors[2])

    def test_the_word_of_least_error_is_taken(self, backbone: UNetBackbone) -> None:
        vocabulary, latents = Vocabulary.parse("dog, cat, owl, grass"), random(5, 4, 8, 8)
        condition = backbone.text.encode([WORDING.write(label.name) for label in vocabulary]).embeddings
        expected = [int(denoising_errors(backbone, one[None], condition, (300, 500)).argmin()) for one in latents]
        assert best_words(backbone, latents, vocabulary, WORDING) == expected and len(set(expected)) > 1

    def test_among_many_words_only_those_of_most_attention_are_compared(self, backbone: UNetBackbone) -> None:
        vocabulary, latents = Vocabulary.parse("dog, cat, owl, grass, snow, tree"), random(3, 4, 8, 8)
        strength = attention_strength(backbone, latents, vocabulary, WORDING)
        assert strength.shape == (3, 6)
        for shortlist, rows in ((1, 3), (2, 3 + 3 * 2 * 2), (6, 3 * 6 * 2)):
            with Passes(backbone.unet) as passes:
                best = best_words(backbone, latents, vocabulary, WORDING, settings=MatchSettings(shortlist=shortlist))
            assert passes.rows == rows
            assert all(index in strength[row].topk(shortlist).indices for row, index in enumerate(best))

    def test_one_word_needs_no_pass(self, backbone: UNetBackbone) -> None:
        with Passes(backbone.unet) as passes:
            assert best_words(backbone, random(2, 4, 8, 8), Vocabulary.parse("dog"), WORDING) == [0, 0]
        assert passes.count == 0

    def test_attention_is_that_of_the_pixels_with_most(self, backbone: UNetBackbone) -> None:
        latents, settings = random(1, 4, 8, 8), MatchSettings(share=1 / 64)
        plan = plan_text(backbone.text, Vocabulary.parse("dog, cat"), WORDING, "shared")
        reading = backbone.read(latents, Probe(timesteps=(100,), cross=AttentionCut(attention_factors=(1,)).probe().cross),
                                condition=plan.passes[0].condition)  # fmt: skip
        peaks = reading.cross_attention.maps(plan.keys)[0].maps.amax((-2, -1))
        assert_close(attention_strength(backbone, latents, Vocabulary.parse("dog, cat"), WORDING, settings=settings), peaks)

    @pytest.mark.parametrize("wrong", [{"shortlist": 0}, {"share": 0.0}, {"share": 2.0}, {"timesteps": ()}, {"attended": (-1,)}])
    def test_settings_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(SettingsError):
            MatchSettings(**wrong)


class TestResult:
    def test_mask_box_and_score(self) -> None:
        mask = np.zeros((20, 30), dtype=bool)
        mask[3:8, 10:25] = True  # the largest piece
        mask[15:19, 2:5] = True
        found = discovery(mask)
        assert np.array_equal(found.mask, mask) and found.box == (10, 3, 15, 5)
        assert found.score == pytest.approx(0.8) and "dog 14.5%, box (10, 3, 15, 5)" in repr(found)

    def test_an_exact_half_is_background(self) -> None:
        found = Discovery(Picture(pixels(), "a", "a"), ("dog",), "given", np.full((24, 24), 0.5, np.float32), Record(method="t", model="t"))
        assert not found.mask.any()

    def test_an_empty_mask_has_no_box(self, tmp_path: Path) -> None:
        found = discovery(np.zeros((20, 30), dtype=bool))
        assert (found.box, found.score) == (None, 0.0)
        document = json.loads(found.save(tmp_path, box=True)[-1].read_text())
        assert (document["box"], document["area"], document["score"]) == (None, 0, 0.0)

    def test_a_full_mask_is_boxed_by_the_picture(self) -> None:
        assert discovery(np.ones((20, 30), dtype=bool)).box == (0, 0, 30, 20)

    def test_as_a_segmentation_with_one_label(self) -> None:
        mask = np.zeros((20, 30), dtype=bool)
        mask[3:8, 10:25] = True
        found = discovery(mask, words=("dog", "cat"))
        seg = found.segmentation
        assert np.array_equal(seg.mask("dog and cat"), mask) and np.array_equal(seg.scores[0], found.probability)
        assert (seg.confidence >= 0.5).all() and seg.record.background == 0.5
        assert to_coco(seg)["annotations"][0]["bbox"] == [10, 3, 15, 5]

    def test_many_words_still_make_a_name(self) -> None:
        found = discovery(np.ones((4, 4), dtype=bool), words=tuple(f"a long name of an owl {n}" for n in range(50)))
        assert found.word == "a long name of an owl 0 and others" and found.segmentation.names == (found.word,)
        assert len(discovery(np.ones((4, 4), dtype=bool), words=("x" * 200, "y")).word) == 200

    def test_three_files_the_json_last(self, tmp_path: Path) -> None:
        mask = np.zeros((20, 30), dtype=bool)
        mask[3:8, 10:25] = True
        found = discovery(mask)
        paths = found.save(tmp_path)
        assert [path.name for path in paths] == ["dog.mask.png", "dog.overlay.png", "dog.json"]
        with Image.open(paths[0]) as image:
            assert image.mode == "L" and np.array_equal(np.asarray(image), mask * np.uint8(255))
        document = json.loads(paths[2].read_text())
        assert document == json.loads(json.dumps(found.document()))
        assert (document["words"], document["box"], document["area"], document["choice"]) == (["dog"], [10, 3, 15, 5], 75, "given")
        assert document["picture"] == {"name": "dog", "source": "dog.png", "height": 20, "width": 30}

    def test_whole_or_not_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "a.mask.png").mkdir()  # cannot be replaced by a file
        with pytest.raises(OutputError):
            discovery(np.ones((4, 4), dtype=bool)).save(tmp_path, stem="a")
        assert not (tmp_path / "a.json").exists() and not list(tmp_path.glob(".*"))
        with pytest.raises(OutputError, match="cannot name a file"):
            discovery(np.ones((4, 4), dtype=bool)).save(tmp_path, stem="a/b")

    @pytest.mark.parametrize("size", [(20, 30), (200, 20), (3, 2000)])
    def test_the_box_is_drawn_where_it_is(self, size: tuple[int, int]) -> None:
        mask = np.zeros(size, dtype=bool)
        top, left = size[0] // 4, size[1] // 4
        mask[top : size[0] // 2 + 1, left : size[1] // 2 + 1] = True
        found = discovery(mask)
        plain, boxed = (np.asarray(found.overlay(box=box)).astype(int) for box in (False, True))
        rows, columns = np.nonzero(np.abs(plain - boxed).sum(-1))
        height, width = canvas_size(size)
        margin = (plain.shape[1] - width) // 2
        assert found.box is not None
        x, y, wide, high = found.box
        edges = np.array(
            [y * height / size[0], (y + high) * height / size[0], margin + x * width / size[1], margin + (x + wide) * width / size[1]]
        )
        np.testing.assert_allclose([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1], edges, atol=1)

    @pytest.mark.parametrize("wrong", [np.zeros((3, 3), np.float32), np.zeros((24, 24)), np.full((24, 24), 1.5, np.float32),
                                       np.full((24, 24), np.nan, np.float32)])  # fmt: skip
    def test_probabilities_that_are_none(self, wrong: np.ndarray) -> None:
        with pytest.raises(ValueError, match="probability"):
            Discovery(Picture(pixels(), "a", "a"), ("dog",), "given", wrong, Record(method="t", model="t"))

    def test_an_overlay_is_a_picture(self) -> None:
        content = io.BytesIO()
        discovery(np.ones((20, 30), dtype=bool)).overlay(box=True).save(content, "PNG")
        assert content.getvalue()


class TestOptions:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"refine": "crf"}, "unknown refine 'crf': use none, guided, pamr"),
            ({"batch": 0}, "batch must be at least 1"),
            ({"method": "kmeans"}, "unknown method 'kmeans': choose one of attentioncut, daam"),
            ({"settings": {"steps": 1}}, "attentioncut has no setting steps"),
        ],
    )
    def test_they_are_told_before_a_model_is_loaded(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            Discoverer("/no/such/folder", **wrong)

    def test_a_sidecars_settings_are_used_unless_the_user_has_others(self) -> None:
        model = build_backbone(sidecar={"methods": {"attentioncut": {"grid_factor": 1, "timesteps": [300]}}})
        assert Discoverer(model).method == AttentionCut(grid_factor=1, timesteps=(300,))
        assert Discoverer(model, settings={"timesteps": (50,)}).method == AttentionCut(grid_factor=1, timesteps=(50,))
        assert Discoverer(model, AttentionCut()).method == AttentionCut()

    def test_the_record_makes_the_result_again(self, tmp_path: Path) -> None:
        folder = save_folder(tmp_path / "tiny")
        found = Discoverer(folder, "daam", settings={"timesteps": (50,)}, seed=5, device="cpu").discover(pixels(), "dog, cat")
        record = found.record
        assert (record.model, record.method, record.seed) == (str(folder), "daam", 5)
        assert set(record.timings) == {"encode", "choose", "read", "foreground_and_full_size"}
        again = Discoverer(record.model, record.method, settings=record.settings, seed=record.seed, device="cpu")
        assert record.naming is not None
        labels = [name for name, _ in record.naming["labels"]]
        assert np.array_equal(again.discover(pixels(), labels).probability, found.probability)
