"""A Stable Diffusion 1.5 of full size with random weights: it costs what the real one costs and needs no download."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from maskwright.backbones.catalog import find_row
from maskwright.backbones.devices import choose_device, choose_dtype
from maskwright.backbones.unet import UNetBackbone

LABELS = [f"{adjective} {noun}" for noun in (
    "dog cat horse sheep cow bird person car bus train truck boat bicycle chair sofa table plant bottle monitor".split()
) for adjective in "red green blue white black small large old new".split()]  # fmt: skip


def random_stable_diffusion(dtype: str = "auto", device: str = "auto") -> UNetBackbone:
    """Shapes as in the published configuration files; the bundled tokenizer stands in for CLIP's, of the same length."""
    target = choose_device(device)
    number = choose_dtype(dtype, target, parameters=860_000_000)
    torch.manual_seed(0)
    torch.set_default_dtype(number)
    try:
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512, scaling_factor=0.18215,
        )  # fmt: skip
        config = CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77
        )
        text_encoder = CLIPTextModel(config)
    finally:
        torch.set_default_dtype(torch.float32)
    folder = find_row("sticker").folder
    if folder is None:
        raise SystemExit("the bundled model is missing: its tokenizer is needed")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=77)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    parts = {"unet": unet.to(target), "vae": vae.to(target), "text_encoder": text_encoder.to(target)}
    return UNetBackbone(
        **parts, tokenizer=tokenizer, scheduler=scheduler, name="random", source="random weights", revision="", licence="", sidecar={}
    )
