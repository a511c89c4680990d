import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.backbones.contract import ModelInfo
from maskwright.errors import ModelError, SettingsError, VocabularyError
from maskwright.text.captioning import Captioner
from maskwright.text.clip import Clip, cosines
from maskwright.text.filter_rules import RATIO, in_table, keep_near_best, label_texts, near_best, near_nouns
from maskwright.text.filtering import PREFIXES, CategoryFilter, corner_crops
from maskwright.text.nouns import candidate_nouns
from maskwright.vocabulary import Label, Vocabulary
from tests.tiny_text_models import SIDE, build_blip, build_clip, build_dual_encoder, picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return Clip.from_pretrained(build_clip(tmp_path_factory.mktemp("clip")), offline=True)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return Captioner.from_pretrained(build_blip(tmp_path_factory.mktemp("blip")), offline=True)


def turned(cosine: float) -> list[float]:
    """A unit vector with this cosine to (1, 0)."""
    return [cosine, (1 - cosine**2) ** 0.5]


class TestRules:
    def test_near_best_keeps_the_first_two(self) -> None:
        assert keep_near_best([1.0, 0.98, 0.96]) == (True, True, False)

    def test_ties_and_other_ratios(self) -> None:
        assert keep_near_best([0.2, 0.2, 0.1]) == (True, True, False)
        assert keep_near_best([1.0, 0.98, 0.96], ratio=1) == (True, False, False)
        assert keep_near_best([1.0, 0.98, 0.96], ratio=0.5) == (True, True, True)
        assert keep_near_best([]) == ()

    def test_negative_similarities_are_measured_by_their_distance(self) -> None:
        assert keep_near_best([-1.0, -1.02, -1.04]) == (True, True, False)
        assert keep_near_best([0.0, -0.001, 0.0]) == (True, False, True)
        assert keep_near_best([0.1, -0.1]) == (True, False)

    @given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.integers(-20, 20), st.floats(0.01, 1))
    def test_never_empty_and_scale_free(self, similarities: list[float], power: int, ratio: float) -> None:
        kept = keep_near_best(similarities, ratio=ratio)
        assert kept[int(np.argmax(similarities))]
        if all(s == 0 or abs(s) > 1e-200 for s in similarities):  # a power of two scales exactly, subnormal numbers aside
            assert kept == keep_near_best([s * 2.0**power for s in similarities], ratio=ratio)

    @pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
    def test_numbers_that_are_none(self, wrong: float) -> None:
        with pytest.raises(ModelError, match="not finite"):
            keep_near_best([0.2, wrong])

    def test_background_is_not_measured_against(self) -> None:
        vocabulary = Vocabulary.parse("sky, dog, cat", background="sky")
        assert set(near_best([0.9, 0.2, 0.1], vocabulary)) == {1}

    def test_near_nouns_counts_the_best_text(self) -> None:
        vocabulary = Vocabulary.parse("dog|hound, cat, owl")
        _, owners = label_texts(vocabulary)
        labels = np.array([turned(0.1), turned(0.9), turned(0.79), turned(0.81)], dtype=np.float32) * [[5], [1], [9], [2]]
        nouns = np.array([turned(0), [3, 0]], dtype=np.float32)
        nouns[0] = [0, -1]
        found = near_nouns(labels.astype(np.float32), owners, nouns, ["thing", "puppy"])
        assert set(found) == {0, 2}
        assert found[0] == "cosine 0.9000 with the caption word 'puppy'"

    def test_near_nouns_needs_more_than_the_threshold(self) -> None:
        one = np.array([[1, 0]], dtype=np.float32)
        assert near_nouns(one, np.array([0]), one, ["dog"], cosine=1) == {}

    def test_cosines_of_nothing_are_zero(self) -> None:
        assert cosines(np.zeros((1, 2), np.float32), np.ones((3, 2), np.float32)).tolist() == [[0, 0, 0]]

    def test_the_table_matches_whole_words_side_by_side(self) -> None:
        vocabulary = Vocabulary.parse("Dog, signal, cat")
        table = {"dog": ["puppy"], "signal": ["Traffic-Light", "traffic light"], "cat": ["kit", "ten"]}
        captions = ["A Puppy, by a kitten", "a red traffic light"]
        assert in_table(captions, vocabulary, table) == {
            0: "caption word 'puppy' (synonym table)",
            1: "caption word 'traffic light' (synonym table)",
        }


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("a dog sitting on the grass", ("dog", "grass")),
        ("two dogs at a traffic light.", ("dogs", "traffic", "light", "traffic light")),
        ("a t-shirt, a café's sign", ("t-shirt", "café's", "sign", "café's sign")),
        ("there is a", ()),
        ("", ()),
    ],
)
def test_candidate_nouns(caption: str, nouns: tuple[str, ...]) -> None:
    assert candidate_nouns([caption, caption]) == nouns


class TestClip:
    def test_similarities_are_the_models_own(self, clip: Clip) -> None:
        texts = ["A photo of a dog", "A photo of a traffic light", "café", "🦉"]
        checkpoint = clip.checkpoint
        for seed in range(3):
            inputs = checkpoint.tokenizer(texts, padding=True, return_tensors="pt")
            with torch.inference_mode():
                out = checkpoint.model(**inputs, pixel_values=checkpoint.pixel_values([picture(seed)]))
            logits = out.logits_per_image[0] / checkpoint.model.logit_scale.exp()
            np.testing.assert_allclose(clip.similarities(picture(seed), texts), logits, atol=1e-6)

    def test_long_strips_are_cropped_before_they_are_enlarged(self, clip: Clip) -> None:
        strip = np.zeros((2, 4000, 3), np.uint8)
        strip[:, 1900:2100] = (200, 60, 90)
        plain = np.full((40, 40, 3), (200, 60, 90), np.uint8)
        np.testing.assert_allclose(clip.similarities(strip, ["dog"]), clip.similarities(plain, ["dog"]), atol=1e-5)
        np.testing.assert_allclose(clip.similarities(strip.swapaxes(0, 1), ["dog"]), clip.similarities(plain, ["dog"]), atol=1e-5)

    @pytest.mark.parametrize("word", ["dog", "Dog", "traffic light", "t-shirt", "café", "🦉", "x" * 200])
    def test_word_features_are_the_mean_over_the_words_own_tokens(self, word: str, clip: Clip) -> None:
        tokens = clip.checkpoint.tokenizer(word, return_tensors="pt", truncation=True, max_length=48)
        with torch.inference_mode():
            states = clip.checkpoint.model.text_model(**tokens).last_hidden_state[0]  # (start, word's tokens, end; width)
        np.testing.assert_allclose(clip.word_features([word])[0], states[1:-1].mean(dim=0), atol=1e-6)

    def test_features_do_not_depend_on_neighbours_or_history(self, clip: Clip) -> None:
        fresh = Clip(clip.checkpoint)
        together = fresh.word_features(["dog", "a much longer neighbour", "dog"])
        np.testing.assert_allclose(together[[0, 2]], clip.word_features(["dog", "dog"]), atol=1e-6)
        np.testing.assert_array_equal(fresh.word_features(["dog"])[0], together[0])
        assert len(fresh._words) == 2

    def test_a_text_without_tokens_is_like_nothing(self, clip: Clip) -> None:
        assert not clip.word_features([" "]).any()


class TestFilter:
    def test_none_keeps_all(self) -> None:
        result = CategoryFilter().keep(picture(0), Vocabulary.parse("dog, cat"))
        assert result.kept == (True, True) and result.similarities == () and result.captions == ()

    def test_clip_keeps_the_nearest_and_background(self, clip: Clip) -> None:
        vocabulary = Vocabulary.parse("sky, dog, cat, owl, traffic light, snow", background="sky")
        for seed in range(4):
            result = CategoryFilter("clip", clip=clip).keep(picture(seed), vocabulary)
            expected = clip.similarities(picture(seed), [f"A photo of a {name}" for name in vocabulary.names])
            np.testing.assert_allclose(result.similarities, expected, atol=1e-6)
            assert result.kept == (True, *keep_near_best(expected[1:].tolist()))
            assert result.reasons[0] == "background" and result.captions == ()
            assert all(("near the best" in why) == kept for why, kept in zip(result.reasons[1:], result.kept[1:], strict=True))

    @pytest.mark.parametrize("size", [(40, 64), (7, 5), (1, 9)])
    def test_crops_are_its_corners_and_cover_a_picture(self, size: tuple[int, int]) -> None:
        numbers = np.arange(size[0] * size[1] * 3).astype(np.uint8).reshape(*size, 3)
        places = np.stack(np.meshgrid(*(np.arange(side) for side in size), indexing="ij"), -1)
        crops = corner_crops(np.concatenate([numbers, places.astype(np.uint8)], -1))
        assert len({crop.shape for crop in crops}) == 1 and len(crops) == 4
        for crop, (row, column) in zip(crops, [(0, 0), (0, -1), (-1, 0), (-1, -1)], strict=True):
            np.testing.assert_array_equal(crop[row, column, :3], numbers[row, column])
        assert {tuple(place) for crop in crops for place in crop[..., 3:].reshape(-1, 2).tolist()} == set(np.ndindex(size))

    def test_crops_count_as_much_as_the_picture(self, clip: Clip) -> None:
        vocabulary = Vocabulary.parse("sky, dog, cat, owl, traffic light, snow", background="sky")
        prompts = [f"A photo of a {name}" for name in vocabulary.names]
        shown = picture(1)
        result = CategoryFilter("clip+crops", clip=clip, ratio=0.99).keep(shown, vocabulary)
        best = np.max([clip.similarities(crop, prompts) for crop in corner_crops(shown)], axis=0)
        expected = (clip.similarities(shown, prompts) + best) / 2
        np.testing.assert_allclose(result.similarities, expected, atol=1e-6)
        assert result.kept == (True, *keep_near_best(expected[1:].tolist(), ratio=0.99))
        assert not np.allclose(result.similarities, CategoryFilter("clip", clip=clip).keep(shown, vocabulary).similarities)

    def test_a_label_counts_with_its_best_synonym(self, clip: Clip) -> None:
        names = ["dog", "cat", "owl", "traffic light"]
        best = names[int(np.argmax(clip.similarities(picture(0), [f"A photo of a {name}" for name in names])))]
        worst = next(name for name in names if name != best)
        result = CategoryFilter("clip", clip=clip).keep(picture(0), Vocabulary((Label(worst, (best,)), Label("boat"))))
        assert result.kept[0]

    def test_braces_in_a_label_are_text(self, clip: Clip) -> None:
        assert CategoryFilter("clip", clip=clip).keep(picture(0), Vocabulary.parse("{0}, {label}, dog")).kept

    def test_captions_speak_for_their_words(self, clip: Clip, captioner: Captioner) -> None:
        flt = CategoryFilter("clip+caption", clip=clip, captioner=captioner, ratio=1, cosine=0.99999)
        vocabulary = Vocabulary.parse("dog, boat, zebra, traffic light, picture")
        result = flt.keep(picture(1), vocabulary)
        assert [caption.startswith(prefix) for caption, prefix in zip(result.captions, PREFIXES, strict=True)] == [True, True]
        assert set(candidate_nouns(c.removeprefix(p) for c, p in zip(result.captions, PREFIXES, strict=True))) >= {"dog", "boat"}
        assert result.kept[:3] == (True, True, False)
        assert set(flt._evidence(result.captions, vocabulary)) == {0, 1}  # "picture" stands in our own prefix only
        assert "caption word 'dog'" in result.reasons[0] or "near the best" in result.reasons[0]
        assert result.reasons[2] == "similarity too far below the best, and no caption speaks for it"

    def test_the_table_adds_labels(self, clip: Clip, captioner: Captioner) -> None:
        vocabulary = Vocabulary.parse("traffic light, zebra, owl")
        bare = CategoryFilter("clip+caption", clip=clip, captioner=captioner, ratio=1, cosine=1)
        table = CategoryFilter(
            "clip+caption", clip=clip, captioner=captioner, ratio=1, cosine=1, table={"ZEBRA": "dog", "unheard of": ["dog"]}
        )
        assert not bare.keep(picture(1), vocabulary).kept[1]
        result = table.keep(picture(1), vocabulary)
        assert result.kept[1] and result.reasons[1] == "caption word 'dog' (synonym table)"

    def test_a_caption_without_nouns_leaves_rule_b(self, clip: Clip, captioner: Captioner) -> None:
        vocabulary = Vocabulary.parse("dog, owl, traffic light")
        seed = next(seed for seed in range(9) if not candidate_nouns(captioner.caption([picture(seed)])))
        both = CategoryFilter("clip+caption", clip=clip, captioner=captioner).keep(picture(seed), vocabulary)
        assert any(both.kept) and any(both.captions)

    def test_given(self) -> None:
        vocabulary = Vocabulary.parse("sky, dog|hound, cat, owl", background="sky")
        flt = CategoryFilter("given", given=["owl"])
        assert flt.keep(picture(0), vocabulary).kept == (True, False, False, True)
        result = flt.keep(picture(0), vocabulary, given=["HOUND", "cat"])
        assert result.kept == (True, True, True, False)
        assert result.reasons == ("background", "given", "given", "not given")
        assert flt.keep(picture(0), vocabulary, given=[]).kept == (True, False, False, False)
        with pytest.raises(VocabularyError, match="no label 'zebra'"):
            flt.keep(picture(0), vocabulary, given=["zebra"])
        with pytest.raises(SettingsError, match="needs the names"):
            CategoryFilter("given").keep(picture(0), vocabulary)
        with pytest.raises(SettingsError, match=r"pass a list .*\['dog'\]"):
            flt.keep(picture(0), vocabulary, given="dog")

    @pytest.mark.parametrize(
        ("mode", "options", "words"),
        [
            ("best", {}, "choose one of none, clip, clip\\+crops, clip\\+caption, given"),
            ("clip", {}, "from_pretrained\\('clip'\\)"),
            ("none", {"ratio": 0}, "ratio is 0"),
            ("none", {"ratio": 1.01}, "ratio is 1.01"),
            ("none", {"ratio": float("nan")}, "ratio is nan"),
            ("none", {"cosine": 2}, "cosine is 2"),
            ("clip", {"table": {"dog": ["puppy"]}}, "reads no synonym table"),
            ("clip", {"given": ["dog"]}, "reads no given names"),
        ],
    )
    def test_settings_that_cannot_work(self, mode: str, options: dict[str, object], words: str) -> None:
        with pytest.raises(SettingsError, match=words):
            CategoryFilter(mode, **options)

    def test_given_names_need_their_mode(self) -> None:
        with pytest.raises(SettingsError, match="use filter 'given'"):
            CategoryFilter().keep(picture(0), Vocabulary.parse("dog"), given=["dog"])

    def test_the_weights_may_not_be_nan(self, tmp_path: Path) -> None:
        clip = Clip.from_pretrained(build_clip(tmp_path), offline=True)
        clip.checkpoint.model.visual_projection.weight.fill_(float("nan"))
        with pytest.raises(ModelError, match="not finite"):
            CategoryFilter("clip", clip=clip).keep(picture(0), Vocabulary.parse("dog"))

    def test_from_pretrained_loads_what_the_mode_needs(self, clip: Clip, captioner: Captioner) -> None:
        folder = clip.checkpoint.source
        assert CategoryFilter.from_pretrained("none", clip="/nowhere").clip is None
        only_clip = CategoryFilter.from_pretrained("clip", clip=folder, captioner="/nowhere", offline=True)
        assert only_clip.settings == {"mode": "clip", "ratio": 0.97, "clip": folder, "clip_revision": None}
        both = CategoryFilter.from_pretrained(clip=folder, captioner=captioner, offline=True)
        assert both.captioner is captioner
        assert both.settings["blip"] == captioner.checkpoint.source and both.settings["cosine"] == 0.8
        with pytest.raises(ModelError, match="no folder /nowhere"):
            CategoryFilter.from_pretrained(clip=clip, captioner="/nowhere", offline=True)
        with pytest.raises(SettingsError, match="ratio"):
            CategoryFilter.from_pretrained("clip", clip="/nowhere", ratio=2)

    def test_a_model_brings_its_own_clip(self, clip: Clip, tmp_path: Path) -> None:
        folder = build_clip(tmp_path / "clip")
        (folder / "maskwright.json").write_text('{"ratio": 0.4, "revision": "12ab"}')
        info = ModelInfo(
            name="toy", source="bundled:toy", revision="", licence="", native=64, prediction="epsilon", multiple=8, clip=str(folder)
        )  # fmt: skip
        own = CategoryFilter.for_model(info, offline=True)
        assert own.settings == {"mode": "clip", "ratio": 0.4, "clip": "bundled:toy/clip", "clip_revision": "12ab"}
        named = CategoryFilter.for_model(info, clip=folder, offline=True)
        assert (named.ratio, named.settings["clip"]) == (0.4, str(folder))
        assert CategoryFilter.from_pretrained("clip", clip=folder, ratio=0.7, offline=True).ratio == 0.7
        assert CategoryFilter("clip", clip=clip).ratio == RATIO, "the paper's, where a CLIP says nothing"
        assert CategoryFilter.for_model(info, "none").clip is None

    @pytest.mark.parametrize("wrong", ['"high"', "2", "0", "true"])
    def test_a_ratio_that_is_none_is_told_with_its_file(self, wrong: str, tmp_path: Path) -> None:
        folder = build_clip(tmp_path / "clip")
        (folder / "maskwright.json").write_text(f'{{"ratio": {wrong}}}')
        with pytest.raises(ModelError, match=r"maskwright\.json.*above 0 and at most 1"):
            CategoryFilter.from_pretrained("clip", clip=folder, offline=True)

    def test_other_text_encoders_are_refused(self, tmp_path: Path) -> None:
        folder = build_dual_encoder(tmp_path)
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["model_type"] = "bert"
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="'bert', not by CLIP's"):
            Clip.from_pretrained(folder, offline=True)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_a_convolutional_tower_reads_pictures_of_any_shape(self, tmp_path: Path) -> None:
        clip = Clip.from_pretrained(build_dual_encoder(tmp_path), offline=True)
        model, texts = clip.checkpoint.model, ["dog", "light"]
        pixels = clip.checkpoint.pixel_values([picture(0)])
        with torch.no_grad():
            image = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output[..., 0, 0])
            tokens = clip.checkpoint.tokenizer(texts, padding=True, return_tensors="pt")
            words = model.text_projection(model.text_model(**tokens).pooler_output)
        np.testing.assert_allclose(clip.similarities(picture(0), texts), cosines(words.numpy(), image.numpy())[:, 0], atol=1e-5)
        assert pixels.shape[-2:] == (SIDE, SIDE * 3 // 2)
