"""Stable Diffusion 1.x and 2.x: a U-Net with CLIP text conditioning, epsilon- or v-prediction, any native size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from maskwright.backbones.contract import GUIDANCE, STEPS, ModelInfo
from maskwright.backbones.devices import choose_layout
from maskwright.backbones.sampling import sample
from maskwright.backbones.text_tower import TextTower
from maskwright.errors import ModelError, SettingsError
from maskwright.readings.attention import CrossLayer, SelfLayer
from maskwright.readings.denoising import Denoiser
from maskwright.readings.folding import upcast_of
from maskwright.readings.probe import Kind, Probe, Selection
from maskwright.readings.reading import Reading
from maskwright.readings.recorder import Recorder, Recording, split_heads
from maskwright.readings.sites import Site, choose, unet_sites

MORE_THAN_TEXT = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type")  # settings of other families


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
        sidecar: the model's maskwright.json: "words", "objects", "advice", "methods", "synthesis".
        clip: folder of the CLIP that comes with the model, or "".

    Raises:
        ModelError: parts that are not of the Stable Diffusion kind or do not fit each other.
    """

    def __init__(
        self, *, unet: Any, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any, name: str, source: str, revision: str,
        licence: str, sidecar: Mapping[str, Any], clip: str = "",
    ) -> None:  # fmt: skip
        if not hasattr(scheduler, "alphas_cumprod"):
            raise ModelError(f"{type(scheduler).__name__} has no noise schedule of the diffusion kind: use an SD 1.x or 2.x model")
        if unet.config.in_channels != vae.config.latent_channels:
            raise ModelError(
                f"this U-Net reads {unet.config.in_channels} channels, its autoencoder gives {vae.config.latent_channels} "
                "(an inpainting or depth model?): use a plain text-to-image model"
            )
        _refuse_other_text(unet.config, int(text_encoder.config.hidden_size))
        self.unet, self.vae, self.scheduler = unet, vae, scheduler
        self.device, self.dtype = unet.device, unet.dtype
        self.layout = choose_layout(self.device)
        self.text = TextTower(tokenizer, text_encoder, text_encoder.device)
        self.sites = unet_sites(unet)
        self.vae_factor = 2 ** (len(vae.config.decoder_block_out_channels if "decoder_block_out_channels" in vae.config
                                    else vae.config.block_out_channels) - 1)  # fmt: skip
        side = unet.config.sample_size
        self.latent_side = int(side if isinstance(side, int) else side[0])
        self.latent_shape = (int(unet.config.in_channels), self.latent_side, self.latent_side)
        levels = max((site.factor for site in self.sites), default=1)
        self.info = ModelInfo(
            name=name, source=source, revision=revision, licence=licence, native=self.latent_side * self.vae_factor,
            prediction=str(scheduler.config.prediction_type), multiple=self.vae_factor * levels,
            words=tuple(sidecar["words"]) if "words" in sidecar else None,
            objects=tuple(sidecar["objects"]) if "objects" in sidecar else None, advice=sidecar.get("advice", ""),
            methods=sidecar.get("methods", {}), synthesis=sidecar.get("synthesis", {}), clip=clip,
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
        rows, timesteps = self.noised(latents, probe, seed=seed)
        text = condition.expand(len(latents), -1, -1).repeat_interleave(probe.repeats, 0)
        reading = self._record(rows, timesteps, text, probe, stop=True)[1]
        return replace(reading, denoiser=Denoiser(self, latents, seed))

    @torch.inference_mode()
    def read_rows(self, rows: Tensor, timesteps: Tensor, condition: Tensor, probe: Probe) -> tuple[Tensor, Reading]:
        """One whole pass over noisy latents, as a sampler makes it: the network's prediction, and what was read on the way.

        Args:
            rows: (pictures, channels, h, w), noisy already.
            timesteps: of the rows, a scalar or (pictures,).
            condition: (pictures, tokens, width).
            probe: what to read; its timesteps, samples and noise are not looked at.
        """
        one = replace(probe, timesteps=(0,), samples=1, noise=False)
        predicted, reading = self._record(rows, timesteps, condition, one, stop=False)
        return cast(Tensor, predicted), reading

    @torch.inference_mode()
    def predict(self, rows: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The network's prediction for noisy latents, of their shape; arguments as for `read_rows`."""
        rows = rows.to(self.device, self.dtype).contiguous(memory_format=self.layout)
        predicted: Tensor = self.unet(rows, timesteps, encoder_hidden_states=condition.to(rows), return_dict=False)[0]
        return predicted

    def _record(
        self, rows: Tensor, timesteps: Tensor, condition: Tensor, probe: Probe, *, stop: bool
    ) -> tuple[Tensor | None, Reading]:
        cross = choose(self.sites, "cross", probe.cross)
        selves = choose(self.sites, "self", probe.self_attention)
        asked: tuple[tuple[Kind, Selection], ...] = (("feature", probe.features), ("output", probe.outputs), ("level", probe.levels))
        others = tuple(site for kind, selection in asked for site in choose(self.sites, kind, selection))
        fold = probe.self_mode == "fold"
        if not (cross or selves or others):
            raise SettingsError("this probe asks for nothing: choose cross-attention, self-attention, features, outputs or levels")
        recorder = Recorder(
            self.unet, kept=cross + others + (() if fold else selves), folded=selves if fold else (),
            rows_per_picture=probe.repeats, stop=stop,
        )  # fmt: skip
        predicted = recorder.run(lambda: self.predict(rows, timesteps, condition))
        pictures, size = len(rows) // probe.repeats, (int(rows.shape[-2]), int(rows.shape[-1]))
        return predicted, self._reading(recorder.recording, probe, pictures, size, (*cross, *selves, *others))

    def _reading(self, seen: Recording, probe: Probe, pictures: int, size: tuple[int, int], sites: tuple[Site, ...]) -> Reading:
        cross_layers, self_layers = [], []
        for site in sites:
            attention = self.unet.get_submodule(site.path)
            if site.kind == "cross":
                query = split_heads(seen.queries[site.name], attention.heads)
                weight = attention.to_k.weight.detach()  # the model's own memory, without its gradient
                cross_layers.append(CrossLayer(site.name, site.factor, query, weight, attention.scale, seen.grids[site.name]))
            elif site.kind == "self" and probe.self_mode == "keep":
                query, key = (split_heads(seen_by[site.name], attention.heads) for seen_by in (seen.queries, seen.keys))
                grid, upcast = seen.grids[site.name], upcast_of(attention)
                self_layers.append(SelfLayer(site.name, site.factor, query, key, attention.scale, grid, upcast))
        grids = {site.factor: seen.grids[site.name] for site in sites if site.kind == "self"}
        outputs = {name: torch.unflatten(values.transpose(1, 2), -1, seen.grids[name]) for name, values in seen.outputs.items()}

        def averaged(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: torch.unflatten(values.float(), 0, (-1, probe.repeats)).mean(1) for name, values in maps.items()}

        return Reading(
            probe=probe, latent_size=size, pictures=pictures, cross_layers=tuple(cross_layers), self_layers=tuple(self_layers),
            folded={factor: (total.div_(layers), grids[factor], layers) for factor, (total, layers) in seen.folded.items()},
            features=averaged(seen.features), outputs=averaged(outputs), levels=averaged(seen.levels), sites=sites,
        )  # fmt: skip

    def generate(
        self, prompts: Sequence[str], *, steps: int | None = None, guidance: float | None = None, seed: int = 0, side: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:  # fmt: skip
        """Pictures for prompts, (prompts, 3, side, side) float32 in 0..1; see `Backbone.generate`."""
        steps = self.info.synthesis.get("steps", STEPS) if steps is None else steps
        guidance = self.info.synthesis.get("guidance", GUIDANCE) if guidance is None else guidance
        side = self.info.synthesis.get("side") if side is None else side
        seeds = range(seed, seed + len(prompts))
        return sample(self, prompts, steps=steps, guidance=guidance, seeds=seeds, side=side, progress=progress)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (pictures, channels, h, w) to pictures (pictures, 3, H, W) float32 in 0..1."""
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        decoded = self.vae.decode((latents / self.vae.config.scaling_factor + shift).to(self.vae.device, self.vae.dtype)).sample
        pictures: Tensor = (decoded.float() / 2 + 0.5).clamp(0, 1)
        return pictures


def _refuse_other_text(config: Any, width: int) -> None:
    """Refuses a U-Net that is told more than the text of its own encoder.

    Args:
        config: of the U-Net.
        width: of what the text encoder gives.

    Raises:
        ModelError: it is conditioned on more than text, or on text of another width.
    """
    if more := [f"{name} {value}" for name in MORE_THAN_TEXT if (value := getattr(config, name, None)) is not None]:
        raise ModelError(f"this U-Net is told more than text ({', '.join(more)}): use a plain SD 1.x or 2.x model, without adapters")
    read = config.cross_attention_dim
    if any(one != width for one in ([read] if isinstance(read, int) else read)):
        raise ModelError(f"this U-Net reads text of width {read}, its text encoder gives {width}: use a plain SD 1.x or 2.x model")
