"""Stable Diffusion 1.x and 2.x: a U-Net with CLIP text conditioning, epsilon- or v-prediction, any native size."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maskwright.backbones.contract import ModelInfo
from maskwright.backbones.devices import choose_layout
from maskwright.backbones.text_tower import TextTower
from maskwright.errors import ModelError, SettingsError
from maskwright.readings.attention import CrossLayer, SelfLayer
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from maskwright.readings.recorder import Recorder, Recording, split_heads
from maskwright.readings.sites import Site, choose, unet_sites


class UNetBackbone:
    """A frozen Stable-Diffusion-like model behind the `Backbone` contract. The parts are used as they are, on their devices.

    Args:
        unet: UNet2DConditionModel, in eval mode like the other two networks.
        vae: AutoencoderKL or AutoencoderTiny.
        text_encoder: CLIPTextModel.
        tokenizer: its fast tokenizer.
        scheduler: any diffusers scheduler with `alphas_cumprod`; its own kind is used for generating.
        name: what the user called the model.
        source: hub id or folder.
        revision: commit or "".
        licence: of the weights or "".
        sidecar: the model's maskwright.json: "words", "advice", "methods".

    Raises:
        ModelError: parts that are not of the Stable Diffusion kind or do not fit each other.
    """

    def __init__(
        self, *, unet: Any, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any, name: str, source: str, revision: str,
        licence: str, sidecar: Mapping[str, Any],
    ) -> None:  # fmt: skip
        if not hasattr(scheduler, "alphas_cumprod"):
            raise ModelError(f"{type(scheduler).__name__} has no noise schedule of the diffusion kind: use an SD 1.x or 2.x model")
        if unet.config.in_channels != vae.config.latent_channels:
            raise ModelError(
                f"this U-Net reads {unet.config.in_channels} channels, its autoencoder gives {vae.config.latent_channels} "
                "(an inpainting or depth model?): use a plain text-to-image model"
            )
        self.unet, self.vae, self.scheduler = unet, vae, scheduler
        self.device, self.dtype = unet.device, unet.dtype
        self.layout = choose_layout(self.device)
        self.text = TextTower(tokenizer, text_encoder, text_encoder.device)
        self.sites = unet_sites(unet)
        self.vae_factor = 2 ** (len(vae.config.decoder_block_out_channels if "decoder_block_out_channels" in vae.config
                                    else vae.config.block_out_channels) - 1)  # fmt: skip
        side = unet.config.sample_size
        self.latent_side = int(side if isinstance(side, int) else side[0])
        levels = max((site.factor for site in self.sites), default=1)
        self.info = ModelInfo(
            name=name, source=source, revision=revision, licence=licence, native=self.latent_side * self.vae_factor,
            prediction=str(scheduler.config.prediction_type), multiple=self.vae_factor * levels,
            words=tuple(sidecar["words"]) if "words" in sidecar else None, advice=sidecar.get("advice", ""),
            methods=sidecar.get("methods", {}),
        )  # fmt: skip

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """(pictures, 3, H, W) in -1..1 to scaled latents (pictures, channels, h, w): the posterior's mean."""
        encoded = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype, memory_format=self.layout))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        scaled: Tensor = (latents - shift) * self.vae.config.scaling_factor
        return scaled.to(self.device, self.dtype)

    def noised(self, latents: Tensor, probe: Probe, *, seed: int) -> tuple[Tensor, Tensor]:
        """The U-Net's rows for a probe: sqrt(a) x + sqrt(1 - a) e, and the timestep of each row.

        Rows are ordered picture, timestep, sample. All pictures share the noise, which depends on seed and size alone.
        """
        schedule = self.scheduler.alphas_cumprod
        if max(probe.timesteps) >= len(schedule):
            raise SettingsError(f"timestep {max(probe.timesteps)} is beyond this model's {len(schedule)}: use 0 to {len(schedule) - 1}")
        timesteps = torch.tensor(probe.timesteps).repeat_interleave(probe.samples)
        rows = latents.repeat_interleave(probe.repeats, 0)
        if probe.noise:
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(probe.samples, *latents.shape[1:], generator=generator)
            noise = noise.repeat(len(latents) * len(probe.timesteps), 1, 1, 1).to(rows)
            alpha = schedule.cpu()[timesteps].float().repeat(len(latents))[:, None, None, None]
            rows = alpha.sqrt().to(rows) * rows + (1 - alpha).sqrt().to(rows) * noise
        return rows, timesteps.repeat(len(latents)).to(self.device)

    @torch.inference_mode()
    def read(self, latents: Tensor, probe: Probe, *, condition: Tensor, seed: int = 0) -> Reading:
        """One pass over a batch, stopped after the last layer that the probe asks for; see `Backbone.read`."""
        cross = choose(self.sites, "cross", probe.cross)
        selves = choose(self.sites, "self", probe.self_attention)
        features = choose(self.sites, "feature", probe.features)
        fold = probe.self_mode == "fold"
        if not (cross or selves or features):
            raise SettingsError("this probe asks for nothing: choose cross-attention, self-attention or features")
        rows, timesteps = self.noised(latents, probe, seed=seed)
        rows = rows.to(self.device, self.dtype, memory_format=self.layout)
        text = condition.expand(len(latents), -1, -1).repeat_interleave(probe.repeats, 0).to(rows)
        recorder = Recorder(
            self.unet, kept=cross + features + (() if fold else selves), folded=selves if fold else (),
            rows_per_picture=probe.repeats,
        )  # fmt: skip
        recorder.run(lambda: self.unet(rows, timesteps, encoder_hidden_states=text, return_dict=False))
        return self._reading(recorder.recording, probe, latents, cross, selves)

    def _reading(self, seen: Recording, probe: Probe, latents: Tensor, cross: tuple[Site, ...], selves: tuple[Site, ...]) -> Reading:
        cross_layers = []
        for site in cross:
            attention = self.unet.get_submodule(site.path)
            query = split_heads(seen.queries[site.name], attention.heads)
            weight = attention.to_k.weight.detach()  # the model's own memory, without its gradient
            cross_layers.append(CrossLayer(site.name, site.factor, query, weight, attention.scale, seen.grids[site.name]))
        self_layers = []
        for site in selves if probe.self_mode == "keep" else ():
            attention = self.unet.get_submodule(site.path)
            query, key = (split_heads(seen_by[site.name], attention.heads) for seen_by in (seen.queries, seen.keys))
            self_layers.append(SelfLayer(site.name, site.factor, query, key, attention.scale, seen.grids[site.name]))
        grids = {site.factor: seen.grids[site.name] for site in selves}
        return Reading(
            probe=probe, latent_size=(int(latents.shape[-2]), int(latents.shape[-1])), pictures=len(latents),
            cross_layers=tuple(cross_layers), self_layers=tuple(self_layers),
            folded={factor: (total.div_(layers), grids[factor]) for factor, (total, layers) in seen.folded.items()},
            features={name: torch.unflatten(values.float(), 0, (-1, probe.repeats)).mean(1) for name, values in seen.features.items()},
        )  # fmt: skip

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], *, steps: int = 25, guidance: float = 7.5, seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:  # fmt: skip
        """Pictures for prompts, (prompts, 3, native, native) float32 in 0..1; picture n depends on seed + n only."""
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        shape = (self.unet.config.in_channels, self.latent_side, self.latent_side)
        generators = [torch.Generator().manual_seed(seed + n) for n in range(len(prompts))]
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        latents = noise.to(self.device, self.dtype) * scheduler.init_noise_sigma
        draws = "generator" in inspect.signature(scheduler.step).parameters  # a sampler that adds noise on its way
        extra: dict[str, Any] = {"generator": generators} if draws else {}
        text = self.text.encode([*([""] * len(prompts)), *prompts]).embeddings.to(latents)
        for number, timestep in enumerate(scheduler.timesteps):
            doubled = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
            doubled = doubled.to(self.dtype).contiguous(memory_format=self.layout)
            predicted = self.unet(doubled, timestep, encoder_hidden_states=text, return_dict=False)[0]
            plain, guided = predicted.chunk(2)
            latents = scheduler.step(plain + guidance * (guided - plain), timestep, latents, **extra, return_dict=False)[0]
            if progress:
                progress(number + 1)
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        decoded = self.vae.decode((latents / self.vae.config.scaling_factor + shift).to(self.vae.device, self.vae.dtype)).sample
        pictures: Tensor = (decoded.float() / 2 + 0.5).clamp(0, 1)
        return pictures
