import re
from typing import Any

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import ModelError, SettingsError
from maskwright.readings.probe import Probe, Select
from tests.tiny import (
    build_backbone,
    build_scheduler,
    build_tiny_vae,
    build_unet,
    build_vae,
    digest,
    random,
)
from tests.tolerances import assert_close

ALL = Probe(cross=Select(), self_attention=Select(factors="finest"), self_mode="keep", features=Select(last=True))


def text(backbone: UNetBackbone, *prompts: str) -> torch.Tensor:
    return backbone.text.encode(prompts).embeddings


class TestFacts:
    @pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
    def test_prediction_type_is_told_and_does_not_change_a_reading(self, backbone: UNetBackbone, prediction: str) -> None:
        other = build_backbone(scheduler=build_scheduler(prediction))
        assert other.info.prediction == prediction
        one, two = (model.read(random(1, 4, 8, 8), ALL, condition=text(backbone, "a dog")) for model in (backbone, other))
        assert torch.equal(one.cross_layers[-1].query, two.cross_layers[-1].query)

    def test_native_size_and_multiple_follow_from_the_parts(self, backbone: UNetBackbone, sd_backbone: UNetBackbone) -> None:
        assert (backbone.info.native, backbone.info.multiple) == (16, 4)
        assert (sd_backbone.info.native, sd_backbone.info.multiple) == (512, 64)
        odd = build_backbone(unet=build_unet(sample_size=[12, 20]), vae=build_tiny_vae())
        assert (odd.info.native, odd.info.multiple) == (24, 4)

    def test_what_a_sidecar_says(self) -> None:
        methods = {"diffsegmenter": {"hops": 2}}
        info = build_backbone(sidecar={"words": ["dog", "cat"], "advice": "ask for animals", "methods": methods}).info
        assert (info.words, info.advice, info.methods) == (("dog", "cat"), "ask for animals", methods)
        assert build_backbone().info.words is None


class TestEncoding:
    def test_latents_are_the_posteriors_mean_scaled(self, backbone: UNetBackbone) -> None:
        pixels = random(2, 3, 16, 24).clamp(-1, 1)
        latents = backbone.encode_image(pixels)
        assert latents.shape == (2, 4, 8, 12)
        with torch.no_grad():
            expected = backbone.vae.encode(pixels).latent_dist.mean * backbone.vae.config.scaling_factor
        assert_close(latents, expected)
        assert torch.equal(backbone.encode_image(pixels), latents)

    def test_a_shift_is_subtracted_first(self) -> None:
        vae, pixels = build_vae(), random(1, 3, 16, 16)
        plain = build_backbone(vae=vae).encode_image(pixels)
        vae.register_to_config(shift_factor=0.5, scaling_factor=2.0)
        assert_close(build_backbone(vae=vae).encode_image(pixels), (plain / 0.18215 - 0.5) * 2)

    def test_the_tiny_autoencoder_has_no_distribution(self) -> None:
        backbone = build_backbone(vae=build_tiny_vae())
        assert backbone.encode_image(random(1, 3, 16, 16)).shape == (1, 4, 8, 8)
        assert backbone.generate(["a dog"], steps=1).shape == (1, 3, 16, 16)

    def test_parts_of_different_precision(self) -> None:
        """Half-precision U-Nets often come with an autoencoder in float32."""
        backbone = build_backbone(unet=build_unet().bfloat16())
        assert backbone.dtype == torch.bfloat16 and backbone.vae.dtype == torch.float32
        assert backbone.encode_image(random(1, 3, 16, 16)).dtype == torch.bfloat16
        assert backbone.generate(["a dog"], steps=1).dtype == torch.float32


class TestNoise:
    def test_rows_are_the_published_mixture(self, backbone: UNetBackbone) -> None:
        """DiffSegmenter, step 2: at t = 100 0.945634 of the latent and 0.325233 of the noise."""
        latents = random(1, 4, 8, 8)
        rows, timesteps = backbone.noised(latents, Probe(timesteps=(100,)), seed=7)
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
        assert timesteps.tolist() == [100]
        assert_close(rows, 0.945634 * latents + 0.325233 * noise)

    def test_one_noise_for_all_pictures_and_timesteps(self, backbone: UNetBackbone) -> None:
        latents, probe = random(3, 4, 8, 8), Probe(timesteps=(50, 150), samples=2)
        rows, timesteps = backbone.noised(latents, probe, seed=0)
        assert timesteps.tolist() == [50, 50, 150, 150] * 3
        alone, _ = backbone.noised(latents[2:], probe, seed=0)
        assert torch.equal(rows[8:], alone)
        alpha = backbone.scheduler.alphas_cumprod[timesteps][:, None, None, None]
        noise = (rows - alpha.sqrt() * latents.repeat_interleave(4, 0)) / (1 - alpha).sqrt()
        assert_close(noise, noise[:2].repeat(6, 1, 1, 1))
        assert float((noise[0] - noise[1]).abs().max()) > 1

    def test_seeds_and_no_noise(self, backbone: UNetBackbone) -> None:
        latents = random(1, 4, 8, 8)
        one, other = (backbone.noised(latents, Probe(), seed=seed)[0] for seed in (0, 1))
        assert not torch.equal(one, other)
        assert torch.equal(backbone.noised(latents, Probe(timesteps=(0,), noise=False), seed=0)[0], latents)

    def test_timesteps_beyond_the_schedule(self, backbone: UNetBackbone) -> None:
        with pytest.raises(SettingsError, match="use 0 to 999"):
            backbone.read(random(1, 4, 8, 8), Probe(timesteps=(1000,), cross=Select()), condition=text(backbone, ""))


class TestReading:
    def test_property_2_the_conditional_pass_alone_equals_that_half_of_a_guided_batch(self, backbone: UNetBackbone) -> None:
        latents = random(1, 4, 8, 8)
        alone = backbone.read(latents, ALL, condition=text(backbone, "a dog"))
        half = backbone.read(latents.repeat(2, 1, 1, 1), ALL, condition=text(backbone, "", "a dog")).picture(1)
        for one, other in zip(alone.cross_layers + alone.self_layers, half.cross_layers + half.self_layers, strict=True):
            assert_close(other.query, one.query)
        for name, values in alone.features.items():
            assert_close(half.features[name], values)

    def test_timesteps_and_samples_are_averaged_as_a_batch_axis(self, backbone: UNetBackbone) -> None:
        latents, condition = random(1, 4, 8, 8), text(backbone, "a dog")
        both = backbone.read(latents, Probe(timesteps=(50, 150), features=Select()), condition=condition)
        each = [backbone.read(latents, Probe(timesteps=(t,), features=Select()), condition=condition) for t in (50, 150)]
        for name, values in both.features.items():
            assert_close(values, (each[0].features[name] + each[1].features[name]) / 2)

    def test_neighbours_do_not_matter(self, backbone: UNetBackbone) -> None:
        latents, condition = random(4, 4, 8, 12), text(backbone, "a dog")
        together = backbone.read(latents, ALL, condition=condition)
        for number in range(4):
            alone, row = backbone.read(latents[number : number + 1], ALL, condition=condition), together.picture(number)
            assert_close(row.self_attention.dense(), alone.self_attention.dense())
            assert all(assert_close(row.features[name], values) is None for name, values in alone.features.items())

    def test_half_precision(self, backbone: UNetBackbone) -> None:
        half = build_backbone(unet=build_unet().bfloat16())
        probe = Probe(self_attention=Select(factors="finest"), features=Select(last=True))
        one, other = (model.read(random(1, 4, 8, 8), probe, condition=text(backbone, "a dog")) for model in (backbone, half))
        assert other.self_attention.dense().dtype == other.features["up.1.1.input"].dtype == torch.float32
        assert_close(other.self_attention.dense(), one.self_attention.dense(), dtype=torch.bfloat16)

    def test_the_model_stays_as_it_was(self, backbone: UNetBackbone) -> None:
        before = [digest(part) for part in (backbone.unet, backbone.vae, backbone.text.encoder)]
        asked = [parameter.requires_grad for parameter in backbone.unet.parameters()]
        latents = backbone.encode_image(random(1, 3, 16, 16))
        for mode in ("keep", "fold"):
            backbone.read(latents, Probe(**(vars(ALL) | {"self_mode": mode})), condition=text(backbone, "a dog"))
        assert [digest(part) for part in (backbone.unet, backbone.vae, backbone.text.encoder)] == before
        assert [parameter.requires_grad for parameter in backbone.unet.parameters()] == asked

    def test_maps_of_a_reading_need_no_inference_mode(self, backbone: UNetBackbone) -> None:
        from maskwright.readings.keys import TextKeys

        condition = text(backbone, "a dog")
        reading = backbone.read(random(1, 4, 8, 8), ALL, condition=condition)
        maps = reading.cross_attention.maps(TextKeys(condition, torch.zeros(1, 77), ((((0, 2),),),)))
        assert not maps[0].maps.requires_grad

    def test_a_probe_for_nothing(self, backbone: UNetBackbone) -> None:
        with pytest.raises(SettingsError, match="asks for nothing"):
            backbone.read(random(1, 4, 8, 8), Probe(), condition=text(backbone, ""))


class TestGenerating:
    @pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")  # diffusers
    @pytest.mark.parametrize("kind", ["deterministic", "ancestral"])
    def test_a_picture_depends_on_its_own_seed_only(self, kind: str) -> None:
        scheduler = build_scheduler()
        if kind == "ancestral":  # adds noise on its way
            scheduler = EulerAncestralDiscreteScheduler.from_config(scheduler.config)
        backbone = build_backbone(scheduler=scheduler)
        state = torch.get_rng_state()
        together = backbone.generate(["a dog", "a cat", "sky"], steps=3, seed=5)
        assert together.shape == (3, 3, 16, 16) and together.dtype == torch.float32
        assert 0 <= float(together.min()) <= float(together.max()) <= 1
        assert_close(backbone.generate(["a cat"], steps=3, seed=6), together[1:2])
        assert torch.equal(backbone.generate(["a dog", "a cat", "sky"], steps=3, seed=5), together)
        assert float((backbone.generate(["a cat"], steps=3, seed=9) - together[1:2]).abs().max()) > 1e-3
        assert torch.equal(torch.get_rng_state(), state)

    def test_guidance_1_is_the_conditional_prediction(self, backbone: UNetBackbone) -> None:
        """Written out with the scheduler's own formula for one v-prediction step."""
        drawn = backbone.generate(["a dog"], steps=1, guidance=1.0, seed=2)
        noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(2))[None]
        with torch.no_grad():
            v = backbone.unet(noise, 1, encoder_hidden_states=text(backbone, "a dog"), return_dict=False)[0]
            alphas = backbone.scheduler.alphas_cumprod
            clean, eps = alphas[1].sqrt() * noise - (1 - alphas[1]).sqrt() * v, alphas[1].sqrt() * v + (1 - alphas[1]).sqrt() * noise
            last = backbone.scheduler.final_alpha_cumprod
            latents = last.sqrt() * clean + (1 - last).sqrt() * eps
            expected = backbone.vae.decode(latents / backbone.vae.config.scaling_factor).sample / 2 + 0.5
        assert_close(drawn, expected.clamp(0, 1))

    def test_progress(self, backbone: UNetBackbone) -> None:
        seen: list[int] = []
        backbone.generate(["a dog"], steps=3, progress=seen.append)
        assert seen == [1, 2, 3]


class TestRefusals:
    def test_inpainting_models(self) -> None:
        with pytest.raises(ModelError, match="reads 9 channels, its autoencoder gives 4"):
            build_backbone(unet=build_unet(in_channels=9))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"addition_embed_type": "text", "addition_embed_type_num_heads": 2}, "told more than text (addition_embed_type text)"),
            ({"class_embed_type": "timestep"}, "told more than text (class_embed_type timestep)"),
            ({"num_class_embeds": 3}, "told more than text (num_class_embeds 3)"),
            ({"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 16}, "told more than text (encoder_hid_dim_type text_proj)"),
            ({"cross_attention_dim": 24}, "reads text of width 24, its text encoder gives 16"),
            ({"cross_attention_dim": (16, 24)}, "reads text of width (16, 24), its text encoder gives 16"),
        ],
    )  # fmt: skip
    def test_models_that_are_told_more_than_the_text(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=re.escape(message)) as error:
            build_backbone(unet=build_unet(**settings))
        assert "\n" not in str(error.value)

    def test_schedulers_of_another_kind(self) -> None:
        with pytest.raises(ModelError, match="no noise schedule of the diffusion kind"):
            build_backbone(scheduler=FlowMatchEulerDiscreteScheduler())


def test_stable_diffusions_features_at_its_own_shape(sd_backbone: UNetBackbone) -> None:
    probe = Probe(timesteps=(0,), noise=False, features=Select(factors=(4, 2), stages=("up",), last=True))
    reading = sd_backbone.read(random(1, 4, 16, 24), probe, condition=text(sd_backbone, "a dog"))
    assert [tuple(values.shape[-2:]) for values in reading.features.values()] == [(4, 6), (8, 12)]
