import dataclasses
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import ImageError, SettingsError, VocabularyError
from maskwright.grouping import Grouper
from maskwright.images import Picture
from maskwright.methods.diffsegmenter.method import DiffSegmenter
from maskwright.methods.maskdiffusion.method import MaskDiffusion
from maskwright.segmentation import Segmentation
from maskwright.segmenter import Segmenter
from maskwright.text.filtering import CategoryFilter
from maskwright.vocabulary import Label, Vocabulary
from tests.tiny import Passes, build_backbone, pixels, save_folder

MASKDIFFUSION = {"attention_factors": (1, 2), "feature_factors": (2, 1)}


class Captions:
    """Continues every prompt with the same words, and remembers what it was asked."""

    source = "the test's own"

    def __init__(self, words: str = " on grass") -> None:
        self.words, self.asked = words, list[tuple[tuple[int, ...], str]]()

    def continue_prompt(self, picture: np.ndarray, prefix: str) -> str:
        self.asked.append((picture.shape, prefix))
        return prefix + self.words


def same(one: Segmentation, two: Segmentation, *, atol: float = 0.0) -> None:
    np.testing.assert_allclose(one.scores, two.scores, atol=atol)
    if not atol:
        assert np.array_equal(one.label_map, two.label_map)


class TestPictures:
    def test_every_form_of_a_picture_gives_the_same(self, backbone: UNetBackbone, tmp_path: Path) -> None:
        array = pixels()
        Image.fromarray(array).save(tmp_path / "dog.png")
        content = (tmp_path / "dog.png").read_bytes()
        segmenter = Segmenter(backbone)
        first = segmenter.segment(array, "dog, cat")
        forms: list[Any] = [tmp_path / "dog.png", str(tmp_path / "dog.png"), content, io.BytesIO(content), Image.fromarray(array)]
        for form in [*forms, torch.from_numpy(array).permute(2, 0, 1), Picture.open(array)]:
            same(segmenter.segment(form, "dog, cat"), first)

    def test_lists_give_lists_in_order(self, backbone: UNetBackbone) -> None:
        sizes = [(24, 24), (24, 24), (20, 45), (24, 24), (45, 20)]
        pictures = [pixels(number, size=size) for number, size in enumerate(sizes)]
        found = Segmenter(backbone, batch=2).segment(pictures, "dog, cat")
        assert [one.picture.size for one in found] == sizes
        for one, picture in zip(found, pictures, strict=True):
            assert np.array_equal(one.picture.pixels, picture)
        assert Segmenter(backbone).segment([], "dog") == []

    def test_neighbours_of_one_shape_share_a_pass(self, backbone: UNetBackbone) -> None:
        for batch, passes in ((1, 4), (3, 2), (8, 1)):
            with Passes(backbone.unet) as counted:
                list(Segmenter(backbone, batch=batch).segment_many([pixels(n) for n in range(4)], "dog, cat"))
            assert (counted.count, counted.rows) == (passes, 4)

    def test_pictures_are_opened_when_their_turn_comes_labels_at_once(self, backbone: UNetBackbone) -> None:
        for batch in (1, 2, 4):
            stream = Segmenter(backbone, batch=batch).segment_many([pixels(), pixels(1), pixels(2), "no-such.png"], "dog")
            assert [next(stream).names for _ in range(3)] == [("dog",)] * 3
            with pytest.raises(ImageError, match="no-such"):
                next(stream)
        with pytest.raises(VocabularyError):
            Segmenter(backbone).segment_many([pixels()], "")

    def test_squash_reads_at_the_models_square(self, backbone: UNetBackbone) -> None:
        seen: list[tuple[int, ...]] = []
        handle = backbone.unet.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
        for squash in (False, True):
            Segmenter(backbone, DiffSegmenter(squash=squash)).segment(pixels(size=(20, 40)), "dog")
        handle.remove()
        assert seen == [(1, 4, 6, 12), (1, 4, 8, 8)]


class TestLabels:
    def test_every_form_of_labels_gives_the_same(self, backbone: UNetBackbone) -> None:
        segmenter = Segmenter(backbone)
        first = segmenter.segment(pixels(), "dog, cat|owl")
        forms: list[Any] = [["dog", "cat|owl"], Vocabulary.parse("dog, cat|owl"), [Label("dog"), Label("cat", ("owl",))]]
        for labels in [*forms, (text for text in ("dog", "cat|owl"))]:
            same(segmenter.segment(pixels(), labels), first)

    def test_unknown_words_are_told_once(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logging.getLogger("maskwright"), "propagate", True)
        segmenter = Segmenter(build_backbone(sidecar={"words": ["red", "dog", "cat"], "advice": "Ask for animals."}))
        with caplog.at_level(logging.WARNING, logger="maskwright"):
            found = segmenter.segment([pixels(), pixels(1)], ["red dog", "zebra|cat", "purple dog", "yak"])
        assert [record.getMessage() for record in caplog.records] == ["tiny does not know purple dog, yak. Ask for animals."]
        assert found[1].record.warnings == ("tiny does not know purple dog, yak",)
        assert Segmenter(build_backbone()).segment(pixels(), "yak").record.warnings == ()

    def test_a_sidecars_settings_are_used_unless_the_user_has_others(self) -> None:
        backbone = build_backbone(sidecar={"methods": {"diffsegmenter": {"fusion": [[1, 1.0]], "hops": 2}}})
        assert Segmenter(backbone).method == DiffSegmenter(fusion=((1, 1.0),), hops=2)
        assert Segmenter(backbone, settings={"hops": 0}).method == DiffSegmenter(fusion=((1, 1.0),), hops=0)
        assert Segmenter(backbone, DiffSegmenter()).method == DiffSegmenter()


class TestReadings:
    @pytest.mark.parametrize("method", ["diffsegmenter", "maskdiffusion"])
    def test_new_labels_need_no_pass(self, backbone: UNetBackbone, method: str) -> None:
        segmenter = Segmenter(backbone, method, settings=MASKDIFFUSION if method == "maskdiffusion" else None)
        shared = Segmenter(backbone, segmenter.method, prompting="shared")
        with Passes(backbone.unet) as passes:
            reading = segmenter.read(pixels(size=(20, 45)))
        assert passes.count == 1
        for labels in ("dog, cat", "traffic light, sky, owl"):
            with Passes(backbone.unet) as passes:
                found = segmenter.segment(reading, labels)
            assert passes.count == 0 and found.record.prompting == "shared"
            same(found, shared.segment(pixels(size=(20, 45)), labels))

    def test_readings_and_pictures_in_one_list(self, backbone: UNetBackbone) -> None:
        segmenter = Segmenter(backbone)
        found = segmenter.segment([segmenter.read(pixels()), pixels(1)], "dog, cat")
        same(found[0], segmenter.segment(pixels(), "dog, cat"))
        same(found[1], segmenter.segment(pixels(1), "dog, cat"))

    def test_filter_and_captioner_work_on_readings_too(self, backbone: UNetBackbone) -> None:
        captions = Captions()
        chosen = CategoryFilter("given", given=["cat"])
        segmenter = Segmenter(backbone, category_filter=chosen, captioner=captions)
        found = segmenter.segment(segmenter.read(pixels()), "dog, cat")
        assert np.isneginf(found.score("dog")).all() and np.isfinite(found.score("cat")).all()
        assert captions.asked == [((24, 24, 3), "a photograph of a cat")]
        same(found, segmenter.segment(pixels(), "dog, cat"))

    def test_a_reading_is_of_the_whole_picture(self, backbone: UNetBackbone) -> None:
        segmenter = Segmenter(backbone, tile="auto")
        picture = pixels(2, size=(64, 64))
        found = segmenter.segment(segmenter.read(picture), "dog, cat")
        assert found.record.tile == "none"
        same(found, Segmenter(backbone).segment(picture, "dog, cat"))

    def test_a_reading_of_another_method_is_refused(self, backbone: UNetBackbone) -> None:
        reading = Segmenter(backbone, "maskdiffusion", settings=MASKDIFFUSION).read(pixels())
        with pytest.raises(SettingsError, match="holds no self-attention"):
            Segmenter(backbone).segment(reading, "dog")


class TestFilter:
    def test_only_kept_labels_compete_and_get_a_pass(self, backbone: UNetBackbone) -> None:
        labels = "dog, cat, owl, sky"
        segmenter = Segmenter(backbone, prompting="per-label", category_filter=CategoryFilter("given", given=["cat", "sky"]))
        with Passes(backbone.unet) as passes:
            found = segmenter.segment(pixels(), labels)
        assert passes.rows == 2 and set(np.unique(found.label_map)) <= {0, 2, 4}
        alone = Segmenter(backbone, prompting="per-label").segment(pixels(), "cat, sky")
        for name in ("cat", "sky"):
            np.testing.assert_allclose(found.score(name), alone.score(name), atol=2e-3)
        assert np.isneginf(found.score("dog")).all()

    def test_nothing_to_look_for_needs_no_pass(self, backbone: UNetBackbone) -> None:
        for background in ("auto", "grass"):
            segmenter = Segmenter(backbone, category_filter=CategoryFilter("given", given=[]), background=background)
            with Passes(backbone.unet) as passes:
                found = segmenter.segment(pixels(), "dog, cat")
            assert passes.count == 0 and not found.label_map.any()

    def test_filter_and_rejection_together(self, backbone: UNetBackbone) -> None:
        chosen = CategoryFilter("given", given=["cat", "owl"])
        found = Segmenter(backbone, DiffSegmenter(reject=1e6), category_filter=chosen).segment(pixels(), "dog, cat, owl")
        assert np.isneginf(found.scores).all() and not found.label_map.any()

    def test_per_picture(self, backbone: UNetBackbone) -> None:
        """A filter that looks at the picture: dark pictures keep the first label, bright ones the second."""

        class ByBrightness(CategoryFilter):
            def keep(self, picture: np.ndarray, vocabulary: Vocabulary, *, given: Any = None) -> Any:
                return super().keep(picture, vocabulary, given=["dog" if picture.mean() < 128 else "cat"])

        pictures = [np.full((24, 24, 3), value, np.uint8) for value in (10, 240, 20)]
        for picture in pictures:
            picture[::3] //= 2
        segmenter = Segmenter(backbone, category_filter=ByBrightness("given"), background="none")
        assert [int(found.label_map.max()) for found in segmenter.segment(pictures, "dog, cat")] == [1, 2, 1]


class TestCaptioner:
    @pytest.mark.parametrize("prompting", ["shared", "per-label"])
    def test_it_continues_each_labels_prompt_for_each_picture(self, backbone: UNetBackbone, prompting: str) -> None:
        captions = Captions()
        found = Segmenter(backbone, prompting=prompting, captioner=captions).segment([pixels(), pixels(1, size=(20, 45))], "dog, cat")
        prompts = ["a photograph of a dog", "a photograph of a cat"]
        assert captions.asked == [(shape, prompt) for shape in ((24, 24, 3), (20, 45, 3)) for prompt in prompts]
        plain = Segmenter(backbone, prompting=prompting).segment(pixels(), "dog, cat")
        assert float(np.abs(found[0].scores - plain.scores).max()) > 1e-4

    def test_joint_prompts_cannot_be_continued(self, backbone: UNetBackbone) -> None:
        with pytest.raises(SettingsError, match="continues the prompt of each label"):
            Segmenter(backbone, prompting="joint", captioner=Captions())

    def test_the_record_names_filter_and_captioner(self, backbone: UNetBackbone) -> None:
        chosen = CategoryFilter("given", given=["dog"])
        record = Segmenter(backbone, category_filter=chosen, captioner=Captions()).segment(pixels(), "dog, cat").record
        assert record.category_filter == chosen.settings and record.captioner == "the test's own"


class TestBackground:
    def test_the_methods_own_and_a_threshold(self, backbone: UNetBackbone) -> None:
        auto = Segmenter(backbone).segment(pixels(), "dog, cat")
        assert auto.record.background == 0.5
        for threshold in (0.5, "0.5"):
            same(Segmenter(backbone, background=threshold).segment(pixels(), "dog, cat"), auto)
        above = auto.scores.max(0) > 0.5
        assert np.array_equal(auto.label_map > 0, above) and above.any() and not above.all()

    def test_none(self, backbone: UNetBackbone) -> None:
        for background in ("none", None):
            found = Segmenter(backbone, background=background).segment(pixels(), "dog, cat")
            assert found.record.background is None
            assert np.array_equal(found.label_map, np.where(found.scores.max(0) > -np.inf, found.scores.argmax(0) + 1, 0))

    @pytest.mark.parametrize("labels", ["dog, cat", "dog, cat, grass", Vocabulary.parse("dog, cat"), [Label("dog"), Label("cat")]])
    def test_a_word_competes_with_its_own_map(self, backbone: UNetBackbone, labels: Any) -> None:
        found = Segmenter(backbone, background="grass").segment(pixels(), labels)
        assert found.names == ("dog", "cat") and found.record.background == "grass"
        place = found.vocabulary.index("grass")
        assert np.array_equal(found.label_map == 0, found.scores.argmax(0) == place)
        assert (found.label_map == 0).any()

    def test_a_marked_label_takes_the_place_of_the_methods_own_threshold(self, backbone: UNetBackbone) -> None:
        """Step 9: "a label marked as background competes with its own map instead"; a threshold that is asked for stays."""
        vocabulary = Vocabulary((Label("dog"), Label("cat"), Label("grass", background=True)))
        auto = Segmenter(backbone).segment(pixels(), vocabulary)
        assert auto.record.background is None
        same(auto, Segmenter(backbone, background="none").segment(pixels(), vocabulary))
        both = Segmenter(backbone, background=0.5).segment(pixels(), vocabulary)
        assert both.record.background == 0.5 and (both.confidence >= 0.5).all()

    @pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "nan", "-inf"])
    def test_thresholds_that_are_no_numbers(self, backbone: UNetBackbone, wrong: Any) -> None:
        with pytest.raises(SettingsError, match="give a number such as"):
            Segmenter(backbone, background=wrong)


class TestTiles:
    def test_large_pictures_get_finer_maps(self, backbone: UNetBackbone) -> None:
        picture = pixels(2, size=(64, 64))
        with Passes(backbone.unet) as passes:
            found = Segmenter(backbone, tile="auto").segment(picture, "dog, cat")
        assert passes.rows == 1 + 16 and found.record.tile == "auto"
        assert found.score_source.maps.maps.shape[-2:] == (24, 24)  # type: ignore[attr-defined]
        coarse = Segmenter(backbone).segment(picture, "dog, cat")
        assert coarse.score_source.maps.maps.shape[-2:] == (8, 8)  # type: ignore[attr-defined]
        assert float(np.corrcoef(found.scores.ravel(), coarse.scores.ravel())[0, 1]) > 0.5

    def test_neighbours_in_a_list_do_not_change_that(self, backbone: UNetBackbone) -> None:
        """Large pictures of one shape would share a pass, and then nobody would be tiled."""
        pictures = [pixels(2, size=(64, 64)), pixels(3, size=(64, 64)), pixels(4, size=(20, 20)), pixels(5, size=(20, 20))]
        segmenter = Segmenter(backbone, tile="auto", batch=4)
        for together, picture in zip(segmenter.segment(pictures, "dog, cat"), pictures, strict=True):
            same(together, segmenter.segment(picture, "dog, cat"), atol=2e-3)

    def test_small_pictures_are_not_tiled(self, backbone: UNetBackbone) -> None:
        with Passes(backbone.unet) as passes:
            Segmenter(backbone, tile="auto").segment([pixels(size=(20, 20)), pixels(1, size=(20, 20))], "dog")
        assert (passes.count, passes.rows) == (1, 2)

    @pytest.mark.parametrize("method", [DiffSegmenter(prompting="per-label", reject=0.5), MaskDiffusion(**MASKDIFFUSION)])  # type: ignore[arg-type]
    def test_with_every_method_and_shape(self, backbone: UNetBackbone, method: Any) -> None:
        found = Segmenter(backbone, method, tile="auto", background="sky").segment(pixels(size=(30, 90)), "dog, cat")
        assert found.scores.shape == (3, 30, 90)


class TestOptions:
    @pytest.mark.parametrize("refine", ["guided", "pamr"])
    def test_refiners(self, backbone: UNetBackbone, refine: Any) -> None:
        found = Segmenter(backbone, refine=refine).segment(pixels(), "dog, cat")
        assert found.record.refine == refine
        assert float(np.abs(found.scores - Segmenter(backbone).segment(pixels(), "dog, cat").scores).max()) > 1e-3

    @pytest.mark.parametrize("labels", ["dog, cat", Vocabulary.parse("dog, cat, grass", background="grass")])
    @pytest.mark.parametrize("method", [DiffSegmenter(reject=0.9), MaskDiffusion(**MASKDIFFUSION)])  # type: ignore[arg-type]
    @pytest.mark.parametrize("tile", ["none", "auto"])
    def test_a_result_is_drawn_again_without_a_pass(self, backbone: UNetBackbone, labels: Any, method: Any, tile: Any) -> None:
        picture = pixels(2, size=(64, 64))
        found = Segmenter(backbone, method, tile=tile).segment(picture, labels)
        other = Segmenter(backbone, method, tile=tile, refine="pamr", background=0.7)
        with Passes(backbone.unet) as passes:
            again = other.redraw(found)
        assert passes.count == 0
        anew = other.segment(picture, labels)
        same(again, anew)
        same(Segmenter(backbone, method).redraw(again), found)
        assert dataclasses.replace(again.record, timings={}).as_dict() == dataclasses.replace(anew.record, timings={}).as_dict()
        assert again.record.timings.keys() == {"read_and_score", "full_size"}
        assert again.record.timings["read_and_score"] == found.record.timings["read_and_score"]

    def test_a_background_word_stays_when_a_result_is_drawn_again(self, backbone: UNetBackbone) -> None:
        found = Segmenter(backbone, background="grass").segment(pixels(), "dog, cat")
        again = Segmenter(backbone, background="grass", refine="pamr").redraw(found)
        same(again, Segmenter(backbone, background="grass", refine="pamr").segment(pixels(), "dog, cat"))
        assert again.record.background == Segmenter(backbone).redraw(found).record.background == "grass"
        assert Segmenter(backbone, background=0.4).redraw(found).record.background == 0.4

    @pytest.mark.parametrize("method", [DiffSegmenter(reject=0.5), MaskDiffusion(**MASKDIFFUSION)])  # type: ignore[arg-type]
    def test_with_flip_a_picture_in_a_mirror_has_its_scores_in_a_mirror(self, backbone: UNetBackbone, method: Any) -> None:
        picture = pixels(3, size=(64, 48))
        segmenter = Segmenter(backbone, method, flip=True)
        with Passes(backbone.unet) as passes:
            found = segmenter.segment(picture, "dog, cat")
        assert found.record.flip
        turned = segmenter.segment(picture[:, ::-1].copy(), "dog, cat")
        np.testing.assert_allclose(turned.scores[:, :, ::-1], found.scores, atol=1e-4)
        with Passes(backbone.unet) as once:
            plain = Segmenter(backbone, method).segment(picture, "dog, cat")
        assert passes.count == 2 * once.count and float(np.abs(plain.scores - found.scores).max()) > 1e-3

    def test_a_stored_reading_knows_no_mirror(self, backbone: UNetBackbone) -> None:
        segmenter = Segmenter(backbone, flip=True)
        found = segmenter.segment(segmenter.read(pixels()), "dog, cat")
        assert not found.record.flip
        same(found, Segmenter(backbone).segment(Segmenter(backbone).read(pixels()), "dog, cat"))

    def test_scoring_and_drawing_are_segmenting(self, backbone: UNetBackbone) -> None:
        segmenter = Segmenter(backbone, refine="guided")
        vocabulary, picture = segmenter.vocabulary("dog, cat"), Picture.open(pixels())
        (maps,) = segmenter.score([picture], vocabulary)
        same(segmenter.draw(picture, vocabulary, maps), segmenter.segment(pixels(), "dog, cat"))

    def test_what_cannot_be_drawn_again(self, backbone: UNetBackbone) -> None:
        found = Segmenter(backbone).segment(pixels(), "dog, cat")
        with pytest.raises(SettingsError, match="'grass' took no part in this result as background: segment the picture again"):
            Segmenter(backbone, background="grass").redraw(found)
        with pytest.raises(SettingsError, match="a result of diffsegmenter cannot be drawn again by maskdiffusion"):
            Segmenter(backbone, MaskDiffusion(**MASKDIFFUSION)).redraw(found)  # type: ignore[arg-type]
        parts = Grouper(backbone, "kmeans", settings={"feature_factors": (2, 1)}).regions(pixels())
        with pytest.raises(SettingsError, match="a result of kmeans cannot be drawn again"):
            Segmenter(backbone).redraw(parts)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"refine": "crf"}, "unknown refine 'crf': use none, guided, pamr"),
            ({"tile": "yes"}, "unknown tile 'yes': use none, auto"),
            ({"prompting": "each"}, "unknown prompting 'each': use shared, per-label, joint"),
            ({"batch": 0}, "batch must be at least 1"),
            ({"method": "daam"}, "unknown method 'daam': choose one of diffsegmenter, maskdiffusion"),
            ({"settings": {"steps": 1}}, "diffsegmenter has no setting steps"),
            ({"method": DiffSegmenter(), "settings": {"hops": 1}}, "settings go into the method object"),
        ],
    )
    def test_options_that_cannot_be_used(self, backbone: UNetBackbone, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            Segmenter(backbone, **wrong)

    def test_wrong_options_are_told_before_a_model_is_loaded(self) -> None:
        for wrong in ({"refine": "crf"}, {"method": "daam"}, {"settings": {"steps": 1}}):
            with pytest.raises(SettingsError):
                Segmenter("/no/such/folder", **wrong)  # type: ignore[arg-type]

    def test_the_record_makes_the_result_again(self, tmp_path: Path) -> None:
        folder = save_folder(tmp_path / "tiny")
        found = Segmenter(folder, "maskdiffusion", settings=MASKDIFFUSION, prompting="shared", seed=3, device="cpu").segment(
            pixels(), "dog, cat"
        )
        record = found.record
        assert (record.model, record.method, record.prompting, record.seed) == (str(folder), "maskdiffusion", "shared", 3)
        assert (record.device, record.dtype, record.background) == ("cpu", "float32", None)
        assert set(record.timings) == {"read_and_score", "full_size"} and record.versions["torch"] == torch.__version__
        again = Segmenter(record.model, record.method, settings=record.settings, seed=record.seed, device=record.device)
        same(again.segment(pixels(), "dog, cat"), found)
