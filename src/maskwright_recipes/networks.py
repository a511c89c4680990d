"""The networks of a model, in the sizes of sizes.toml. What comes from diffusers is typed as Any: its classes carry no types."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from maskwright.errors import SettingsError

FACTOR = 4  # side of a picture / side of its latents
CHANNELS = 8  # of the latents
HEADS = 4


@dataclass(frozen=True)
class Size:
    """One row of sizes.toml.

    Attributes:
        name: of the row.
        unet: channels at each resolution, finest first.
        text_width: of the text encoder, and of the keys in cross-attention.
        text_layers: of the text encoder.
        text_length: tokens of a prompt, begin and end included.
        autoencoder: channels of the autoencoder.
        rate: learning rate.
        average: decay of the moving average of the weights.
        batch: samples in a step.
        heads: of attention at each resolution of the U-Net, finest first. Maps at the finest are what costs memory there.
        time_width: of the time embedding; 0: four times the channels of the finest resolution, as is usual.
    """

    name: str
    unet: tuple[int, ...]
    text_width: int
    text_layers: int
    text_length: int
    autoencoder: int
    rate: float
    average: float
    batch: int
    heads: tuple[int, ...] | int = HEADS
    time_width: int = 0


@functools.cache
def load_sizes() -> dict[str, Size]:
    """All sizes by name."""
    rows: dict[str, dict[str, Any]] = tomllib.loads((Path(__file__).parent / "sizes.toml").read_text(encoding="utf-8"))
    lists = {name: {key: tuple(value) for key, value in row.items() if isinstance(value, list)} for name, row in rows.items()}
    return {name: Size(**{**row, **lists[name], "name": name}) for name, row in rows.items()}


def usual_size(side: int) -> str:
    """The name of the size for pictures of a side where none is chosen."""
    return "small" if side <= 64 else "full"


def choose_size(name: str | None, side: int) -> Size:
    """A size by name; without one, "small" for pictures of up to 64 pixels, else "full".

    Raises:
        SettingsError: an unknown name, or pictures that the U-Net cannot halve as often as it has resolutions.
    """
    sizes = load_sizes()
    size = sizes.get(name or usual_size(side))
    if size is None:
        raise SettingsError(f"there is no size {name!r}: choose one of {', '.join(sizes)}")
    if side % (step := FACTOR * 2 ** (len(size.unet) - 1)):
        raise SettingsError(f"pictures of {side} pixels do not fit the size {size.name}: take a multiple of {step}")
    return size


def build_unet(size: Size, side: int) -> Any:
    """A U-Net with cross-attention at every resolution, for pictures of `side` pixels."""
    levels = len(size.unet)
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=side // FACTOR, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=size.unet, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * levels, up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=size.text_width, attention_head_dim=size.heads, time_embedding_dim=size.time_width or None,
    )  # fmt: skip


def build_text_encoder(size: Size, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A text encoder for this vocabulary."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=size.text_width, intermediate_size=4 * size.text_width, num_hidden_layers=size.text_layers,
        num_attention_heads=HEADS, max_position_embeddings=size.text_length, projection_dim=size.text_width,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return CLIPTextModel(config)


def build_autoencoder(size: Size) -> Any:
    """Factor 4, 8 latent channels."""
    channels = (size.autoencoder,) * 3
    return AutoencoderTiny(  # type: ignore[no-untyped-call]
        encoder_block_out_channels=channels, decoder_block_out_channels=channels, latent_channels=CHANNELS,
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), upsampling_scaling_factor=2, scaling_factor=1.0,
    )  # fmt: skip


def build_scheduler() -> Any:
    """Stable Diffusion's noise schedule with v-prediction."""
    return DDIMScheduler(  # type: ignore[no-untyped-call]
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def load_autoencoder(folder: Path) -> Any:
    """The autoencoder of a pipeline folder or of a training, fp32."""
    return AutoencoderTiny.from_pretrained(folder / "vae", torch_dtype=torch.float32)  # type: ignore[no-untyped-call]


def load_unet(folder: Path) -> Any:
    """The U-Net of a pipeline folder, fp32."""
    return UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)  # type: ignore[no-untyped-call]


def load_pipeline(folder: Path) -> Any:
    """A pipeline folder, fp32."""
    return StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)  # type: ignore[no-untyped-call]


def assemble_pipeline(model: "Model", tokenizer: CLIPTokenizer, vae: Any) -> Any:
    """A pipeline of these parts."""
    return StableDiffusionPipeline(  # type: ignore[no-untyped-call]
        vae=vae, text_encoder=model.text_encoder, tokenizer=tokenizer, unet=model.unet, scheduler=build_scheduler(),
        safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip


class Model(nn.Module):
    """The two networks that learn, so that optimiser, average and checkpoint see one thing."""

    def __init__(self, size: Size, tokenizer: CLIPTokenizer, side: int) -> None:
        super().__init__()
        self.unet = build_unet(size, side)
        self.text_encoder = build_text_encoder(size, tokenizer)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The predicted v, of the latents' shape."""
        predicted: torch.Tensor = self.unet(noisy, timesteps, encoder_hidden_states=self.text_encoder(tokens)[0]).sample
        return predicted

    def observe(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor, heard: list[Any] | None = None
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """The predicted v as `forward` gives it, and two feature maps.

        Of the second finest resolution what attention leaves on the way down; of the coarsest what its up block passes on, at twice its
        side. `heard` gets the queries of cross-attention on the way up, where the U-Net was told to hand them on
        (`word_attention.overhear`).
        """
        unet, words = self.unet, self.text_encoder(tokens)[0]
        given_on = {} if heard is None else {"cross_attention_kwargs": {"heard": heard}}
        time = unet.time_embedding(unet.time_proj(timesteps).to(noisy.dtype))
        hidden = unet.conv_in(noisy)
        skipped, seen = (hidden,), []
        for block in unet.down_blocks:
            hidden, left = block(hidden_states=hidden, temb=time, encoder_hidden_states=words)
            skipped += left
            seen.append(left[0])
        hidden = unet.mid_block(hidden, time, encoder_hidden_states=words)
        for block in unet.up_blocks:
            here = len(block.resnets)
            skipped, given = skipped[:-here], skipped[-here:]
            hidden = block(hidden_states=hidden, temb=time, res_hidden_states_tuple=given, encoder_hidden_states=words, **given_on)
            seen.append(hidden)
        levels = len(unet.down_blocks)
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden))), seen[1], seen[levels]
