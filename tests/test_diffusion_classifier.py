"""The diffusion classifier made local: its evidence against plain loops, who stays, who competes, and what it refuses."""

import dataclasses

import pytest
import torch

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.datasets.scenes import compose
from maskwright.errors import NumberError, SettingsError
from maskwright.evaluation.scenes import run_benchmark
from maskwright.methods.diffusion_classifier.method import DiffusionClassifier
from maskwright.readings.denoising import Denoiser
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from maskwright.segmenter import Segmenter
from maskwright.serve.settings import ServeSettings
from maskwright.text.planning import plan_text
from maskwright.vocabulary import Vocabulary
from tests.tiny import random
from tests.tolerances import assert_close

METHOD = DiffusionClassifier(factors=(1, 2), looks=(350, 650), look_samples=2, shortlist=8)


def ask(backbone: UNetBackbone, labels: list[str], method: DiffusionClassifier = METHOD, pictures: int = 1) -> tuple[Reading, object]:
    plan = plan_text(backbone.text, Vocabulary.parse(labels), method.wording(), "shared")
    return backbone.read(random(pictures, 4, 8, 12), method.probe(), condition=plan.passes[0].condition, seed=3), plan.keys


class TestDenoiser:
    @pytest.mark.parametrize("chunk", [1, 3, 16])
    def test_errors_are_those_of_a_plain_loop(self, backbone: UNetBackbone, chunk: int) -> None:
        latents, conditions = random(2, 4, 8, 12), backbone.text.encode(["dog", "a cat", ""]).embeddings
        found = Denoiser(backbone, latents, 5).errors(conditions, (200, 700), samples=2, chunk=chunk)
        assert found.shape == (2, 3, 8, 12) and found.dtype == torch.float32
        for picture in range(2):
            rows, steps = backbone.noised(latents[picture : picture + 1], Probe(timesteps=(200, 700), samples=2), seed=5)
            for text in range(3):
                errors = []
                for row, step in zip(rows, steps, strict=True):
                    alpha = backbone.scheduler.alphas_cumprod[int(step)]
                    noise = (row - alpha.sqrt() * latents[picture]) / (1 - alpha).sqrt()
                    target = noise
                    if backbone.info.prediction == "v_prediction":
                        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents[picture]
                    predicted = backbone.predict(row[None], step[None], conditions[text : text + 1])[0]
                    errors.append((predicted - target).square().mean(0))
                assert_close(found[picture, text], torch.stack(errors).mean(0), dtype=torch.float16)

    def test_mirrored_errors_are_those_of_both_signs_of_the_noise(self, backbone: UNetBackbone) -> None:
        latents, conditions = random(1, 4, 8, 12), backbone.text.encode(["dog", ""]).embeddings
        found = Denoiser(backbone, latents, 5).errors(conditions, (200, 700), samples=2, mirrored=True, chunk=3)
        rows, steps = backbone.noised(latents, Probe(timesteps=(200, 700), samples=2), seed=5)
        alpha = backbone.scheduler.alphas_cumprod[steps][:, None, None, None]
        noise = (rows - alpha.sqrt() * latents) / (1 - alpha).sqrt()
        for text in range(2):
            errors = []
            for sign in (1, -1):
                noisy = alpha.sqrt() * latents + sign * (1 - alpha).sqrt() * noise
                predicted = backbone.predict(noisy, steps, conditions[text : text + 1].expand(len(rows), -1, -1))
                target = sign * noise
                if backbone.info.prediction == "v_prediction":
                    target = alpha.sqrt() * target - (1 - alpha).sqrt() * latents
                errors.append((predicted - target).square().mean(1))
            assert_close(found[0, text], torch.cat(errors).mean(0), dtype=torch.float16)

    def test_a_reading_of_some_pictures_asks_about_its_own(self, backbone: UNetBackbone) -> None:
        reading, _ = ask(backbone, ["dog"], pictures=3)
        assert reading.denoiser is not None
        own = reading.picture(1).denoiser
        assert own is not None and torch.equal(own.latents, random(3, 4, 8, 12)[1:2]) and own.seed == 3
        assert_close(own.errors(own.neutral, (500,))[0], reading.denoiser.errors(own.neutral, (500,))[1])


class TestSteps:
    @pytest.mark.parametrize("mirror", [False, True])
    def test_evidence_is_the_gain_over_the_empty_prompt_each_timestep_alike(self, backbone: UNetBackbone, mirror: bool) -> None:
        method = dataclasses.replace(METHOD, hops=0, mirror=mirror)
        reading, keys = ask(backbone, ["dog", "traffic light|light"], method)
        gains, asked = method.evidence(reading, keys)  # type: ignore[arg-type]
        assert asked == [0, 1] and reading.denoiser is not None
        texts = backbone.text.encode(["", *(f"a photograph of {name}" for name in ("dog", "traffic light", "light"))]).embeddings
        expected = torch.zeros(3, 8, 12)
        for timestep in (350, 650):
            errors = reading.denoiser.errors(texts, (timestep,), samples=2, mirrored=mirror)[0]
            expected += (errors[0] - errors[1:]) / errors[0].mean() / 2
        assert_close(gains[0], expected[0])
        assert_close(gains[1], torch.maximum(expected[1], expected[2]))

    def test_evidence_is_smoothed_by_sharpened_self_attention(self, backbone: UNetBackbone) -> None:
        plain, smooth = (dataclasses.replace(METHOD, hops=hops, sharpen=2.0) for hops in (0, 1))
        reading, keys = ask(backbone, ["dog", "cat"], plain)
        squared = reading.self_attention.dense()[0].square()
        raw = plain.evidence(reading, keys)[0]  # type: ignore[arg-type]
        expected = raw.flatten(1) @ (squared / squared.sum(1, keepdim=True)).T
        assert_close(smooth.evidence(reading, keys)[0].flatten(1), expected)  # type: ignore[arg-type]

    def test_the_shortlist_holds_what_comes_nearest_to_being_best_somewhere(self, backbone: UNetBackbone) -> None:
        labels = ["dog", "cat", "traffic light", "sky", "tree"]
        method = dataclasses.replace(METHOD, shortlist=2, first=(500,), hops=1)
        reading, keys = ask(backbone, labels, method)
        gains, asked = method.evidence(reading, keys)  # type: ignore[arg-type]
        first = dataclasses.replace(METHOD, looks=(500,), look_samples=1, mirror=False).evidence(reading, keys)[0].flatten(1)  # type: ignore[arg-type]
        lacks = (first.amax(0) - first).amin(1)
        assert set(asked) <= {int(place) for place in torch.nonzero(lacks <= lacks.sort().values[1]).flatten()}
        assert len(asked) == 2 and all(bool((gains[place] == 0).all()) != (place in asked) for place in range(5))

    def test_who_stays_and_in_which_order(self) -> None:
        gains = torch.zeros(4, 10, 10)
        gains[0, :1, :2], gains[1, 5:], gains[2, :5] = 1, 1, 0.5  # 2, 50 and 48 of 100 pixels, and none
        for keep, least, expected in ((1, 0.03, [2, 1]), (3, 0.03, [0, 2, 1]), (1, 0.02, [0, 2, 1]), (4, 1.0, [3, 0, 2, 1]), (1, 1.0, [1])):
            assert dataclasses.replace(METHOD, keep=keep, least=least).present(gains) == expected

    def test_who_left_is_below_all_who_stay_everywhere(self, backbone: UNetBackbone) -> None:
        method = dataclasses.replace(METHOD, shortlist=2, keep=1)
        reading, keys = ask(backbone, ["dog", "cat", "sky", "tree"], method)
        scores = method.score(reading, keys)[0]  # type: ignore[arg-type]
        left = [bool((one == one.flatten()[0]).all()) for one in scores]
        assert left.count(True) >= 2
        stays = scores[[not gone for gone in left]]
        assert all(bool((one < stays.amin(0)).all()) for one, gone in zip(scores, left, strict=True) if gone)

    def test_the_best_label_keeps_its_score_and_others_fall_behind_it(self, backbone: UNetBackbone) -> None:
        method = dataclasses.replace(METHOD, contrast=3.0)
        reading, keys = ask(backbone, ["dog", "cat", "sky"], method)
        gains, asked = method.evidence(reading, keys)  # type: ignore[arg-type]
        kept = method.present(gains)
        assert sorted(kept) == asked == [0, 1, 2]
        competing = method.attention(reading, keys, kept) + method.weight * gains[kept]  # type: ignore[arg-type]
        scores = method.score(reading, keys)[0][kept]  # type: ignore[arg-type]
        best = competing.amax(0)
        assert_close(scores.amax(0), best.clamp(0.01, 1))
        assert torch.equal(scores.argmax(0), competing.argmax(0))
        assert_close((scores / scores.amax(0)).log() / 3, competing - best)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "named"),
        [({"least": 1.5}, "least"), ({"shortlist": 0}, "shortlist"), ({"keep": 0}, "keep"), ({"look_samples": 0}, "look_samples"),
         ({"weight": -1.0}, "weight"), ({"weight": float("nan")}, "weight"), ({"hops": -1}, "hops"), ({"sharpen": -0.5}, "sharpen"),
         ({"sharpen": float("nan")}, "sharpen"), ({"contrast": 0.0}, "contrast"), ({"factors": ()}, "factors"),
         ({"looks": ()}, "timesteps"), ({"first": (-1,)}, "timesteps"), ({"template": "a dog"}, "template")],
    )  # fmt: skip
    def test_settings_that_cannot_be_used(self, options: dict[str, object], named: str) -> None:
        with pytest.raises(SettingsError, match=named):
            DiffusionClassifier(**options)  # type: ignore[arg-type]

    def test_a_picture_that_was_drawn_cannot_be_asked_again(self, backbone: UNetBackbone) -> None:
        reading, keys = ask(backbone, ["dog"])
        with pytest.raises(SettingsError, match="given, not drawn"):
            METHOD.score(dataclasses.replace(reading, denoiser=None), keys)  # type: ignore[arg-type]

    def test_errors_that_are_no_numbers_are_told_as_such(self, backbone: UNetBackbone) -> None:
        reading, keys = ask(backbone, ["dog"])
        assert reading.denoiser is not None
        broken = dataclasses.replace(reading.denoiser, latents=reading.denoiser.latents * torch.inf)
        with pytest.raises(NumberError, match="float32"):
            METHOD.score(dataclasses.replace(reading, denoiser=broken), keys)  # type: ignore[arg-type]

    def test_it_is_not_served(self) -> None:
        with pytest.raises(SettingsError, match="unknown method"):
            ServeSettings(method="diffusion-classifier")


class TestBundledModel:
    def test_it_finds_the_words_of_a_scene_among_many(self) -> None:
        """Eight words compete, three of which are there; attention stretched word by word cannot tell them apart."""
        scene = compose(["dog", "banana"], "grass", seed=1)
        labels = ["dog", "banana", "grass", "bus", "whale", "night", "brick", "owl"]
        segmenter = Segmenter("sticker", "diffusion-classifier", settings={"keep": 1}, background="none")
        found = segmenter.segment(scene.image, labels)
        shares = {region.name: region.share for region in found.regions}
        assert sum(shares[name] for name in ("dog", "banana", "grass")) > 0.75
        named = torch.tensor(found.label_map.astype(int))
        assert shares["grass"] > 0.4 and int(torch.bincount(named.flatten(), minlength=9)[1:].argmax()) == labels.index("grass")

    def test_all_words_competing_it_beats_attention_alone(self) -> None:
        backbone = load_backbone("sticker")
        few = {"shortlist": 10, "mirror": False}  # a third of the passes
        scores = {
            method: run_benchmark(
                Segmenter(backbone, method, settings=settings, background="none"), limit=4, split="tuning", labels="all"
            ).miou
            for method, settings in (("maskdiffusion", None), ("diffusion-classifier", few))
        }
        assert scores["diffusion-classifier"] > 3 * scores["maskdiffusion"]
