"""Tiny real models with random weights: a Stable Diffusion of a few thousand parameters, built in a fraction of a second."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from maskwright.backbones.unet import UNetBackbone

WIDTH = 16  # of the text
KNOWN = "a an the photograph photo of and in on with dog cat owl grass snow tree light fire sky red apple running".split()
BEGIN, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def seeded(build: Callable[[], Any], seed: int) -> Any:
    """What `build` returns under a seed, without touching the global one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def build_tokenizer(*, length: int = 77) -> CLIPTokenizer:
    """Knows the words of KNOWN; all others fall back to their letters, one token a byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + SUFFIX for letter in letters)]
    merges: dict[tuple[str, str], None] = {}
    for word in KNOWN:
        parts = [*word[:-1], word[-1] + SUFFIX]
        while len(parts) > 1:
            merges[parts[0], parts[1]] = None
            parts[:2] = [parts[0] + parts[1]]
            pieces.append(parts[0])
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, BEGIN, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=length)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length, projection_dim=WIDTH, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, initializer_factor=20.0,
    )  # fmt: skip
    return seeded(lambda: CLIPTextModel(config), 1)


def build_unet(**options: Any) -> UNet2DConditionModel:
    """Two resolutions, cross-attention at both: 3 + 3 attention layers at the finer grid and 3 + 3 at half of it."""
    settings: dict[str, Any] = {
        "sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2,
        "cross_attention_dim": WIDTH,
    }  # fmt: skip
    return sharpen(seeded(lambda: UNet2DConditionModel(**(settings | options)), 2))


def build_sd_unet(*, width: int = 16) -> UNet2DConditionModel:
    """Stable Diffusion 1.x in its structure (4 levels, 16 + 16 attention layers of 8 heads), 16 channels wide instead of 320."""
    return build_unet(
        sample_size=64, block_out_channels=(width, 2 * width, 4 * width, 4 * width), layers_per_block=2, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip


def sharpen(unet: UNet2DConditionModel, *, factor: float = 3.0) -> UNet2DConditionModel:
    """Attention of random weights is flat; larger queries and keys make it choose, so that tests see a difference."""
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight")):
                parameter.mul_(factor)
    return unet.eval()


def build_vae(*, levels: int = 2) -> AutoencoderKL:
    """Latents of 4 channels, 1 / 2 ** (levels - 1) of a picture's side."""
    return seeded(
        lambda: AutoencoderKL(
            block_out_channels=(8,) * levels, down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels, norm_num_groups=4, latent_channels=4, sample_size=16,
        ).eval(), 3,
    )  # fmt: skip


def build_tiny_vae() -> AutoencoderTiny:
    return seeded(
        lambda: AutoencoderTiny(
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1), latent_channels=4,
        ).eval(), 3,
    )  # fmt: skip


def build_scheduler(prediction: str = "v_prediction") -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def build_parts(**changed: Any) -> dict[str, Any]:
    """The five components of a model that is trained at 16 x 16 pixels."""
    tokenizer = changed.get("tokenizer") or build_tokenizer()
    return {
        "unet": changed.get("unet") or build_unet(), "vae": changed.get("vae") or build_vae(),
        "text_encoder": changed.get("text_encoder") or build_text_encoder(tokenizer).eval(), "tokenizer": tokenizer,
        "scheduler": changed.get("scheduler") or build_scheduler(),
    }  # fmt: skip


def build_backbone(*, sidecar: dict[str, Any] | None = None, **changed: Any) -> UNetBackbone:
    """A ready model: native 16 pixels, latents of half the side, sides multiples of 4."""
    parts = build_parts(**changed)
    return UNetBackbone(**parts, name="tiny", source="tiny", revision="", licence="", sidecar=sidecar or {})


def save_folder(folder: Path, *, variant: str | None = None, **changed: Any) -> Path:
    """The components in the hub's folder layout."""
    parts = build_parts(**changed)
    for part in ("unet", "vae", "text_encoder"):
        saved = parts[part].half() if variant else parts[part]
        saved.save_pretrained(folder / part, variant=variant)
    for part in ("tokenizer", "scheduler"):
        parts[part].save_pretrained(folder / part)
    kinds = {part: type(parts[part]) for part in PARTS}
    index = {part: [kind.__module__.partition(".")[0], kind.__name__] for part, kind in kinds.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}))
    return folder


def pixels(seed: int = 0, *, size: tuple[int, int] = (24, 24)) -> np.ndarray:
    """(H, W, 3) uint8: a few coloured rectangles and noise."""
    rng = np.random.default_rng(seed)
    picture = np.full((*size, 3), rng.integers(0, 256, 3), dtype=np.int64)
    for _ in range(3):
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        picture[top : top + size[0] // 2, left : left + size[1] // 2] = rng.integers(0, 256, 3)
    return np.clip(picture + rng.integers(-20, 20, picture.shape), 0, 255).astype(np.uint8)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def digest(module: nn.Module) -> list[tuple[str, int, bytes]]:
    """Everything that reading must leave alone: parameters, their versions, processors and hooks."""
    found = [(name, p._version, p.detach().contiguous().float().numpy().tobytes()) for name, p in module.named_parameters()]
    for name, part in module.named_modules():
        hooks = len(part._forward_hooks) + len(part._forward_pre_hooks)
        found.append((name, hooks, str(id(getattr(part, "processor", None))).encode()))
    return found


class Passes:
    """Counts the forward passes of a network, and its rows, while the block runs."""

    def __init__(self, unet: nn.Module) -> None:
        self.unet, self.count, self.rows = unet, 0, 0

    def __enter__(self) -> "Passes":
        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.count += 1
            self.rows += len(inputs[0])

        self._handle = self.unet.register_forward_pre_hook(note)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
