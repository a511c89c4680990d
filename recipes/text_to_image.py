"""Trains the bundled text-to-image model, U-Net and text encoder together, on rendered scenes and their captions.

Command: `python -m recipes.text_to_image --out runs/sticker` (after `python -m recipes.autoencoder`). It resumes by
itself from `runs/sticker/text_to_image.pt`; `--init FOLDER` starts from the weights of a landed pipeline instead.
The network sees pictures and captions, never a mask. See recipes/README.md for times and the score to expect.
"""

import argparse
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from recipes.tokenizer import LENGTH, save_tokenizer, tokenizer_of
from recipes.training import Progress, choose_device, cosine_rate, load_checkpoint, save_checkpoint, scene_batches

RATE, WARMUP, EMA, DROPOUT = 7e-4, 200, 0.997, 0.10
TIMESTEP_MEAN, TIMESTEP_DEVIATION = 560, 230  # where captions matter most


def build_unet(side: int) -> UNet2DConditionModel:
    """7.3 million parameters: two resolutions with cross-attention at both, latent side `side`."""
    return UNet2DConditionModel(
        sample_size=side, in_channels=8, out_channels=8, block_out_channels=(96, 160), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=128, attention_head_dim=4,
    )  # fmt: skip


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """0.6 million parameters: 3 layers, 128 wide."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=LENGTH, projection_dim=128, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule with v-prediction."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


class Model(nn.Module):
    """The two networks that learn, so that optimiser, average and checkpoint see one thing."""

    def __init__(self, tokenizer: CLIPTokenizer, side: int) -> None:
        super().__init__()
        self.unet = build_unet(side)
        self.text_encoder = build_text_encoder(tokenizer)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The predicted v, of the latents' shape."""
        return self.unet(noisy, timesteps, encoder_hidden_states=self.text_encoder(tokens)[0]).sample


def draw_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Integers in 0..999 from N(560, 230), redrawn by clamping."""
    drawn = torch.randn(count, generator=generator) * TIMESTEP_DEVIATION + TIMESTEP_MEAN
    return drawn.round().clamp(0, 999).long()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int) -> None:
    """Exponential moving average of the weights, shorter while training is young."""
    decay = min(EMA, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def export(model: Model, tokenizer: CLIPTokenizer, vae: AutoencoderTiny, folder: Path) -> None:
    """Writes a StableDiffusionPipeline folder in fp16 safetensors."""
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=model.text_encoder, tokenizer=tokenizer, unet=model.unet, scheduler=build_scheduler(),
        safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    save_tokenizer(tokenizer, folder / "tokenizer")
    # AutoencoderTiny saves a derived value and then warns of it; transformers would load the text encoder in the format it is
    # stored in, beside a U-Net in float32.
    edit_json(folder / "vae" / "config.json", block_out_channels=None)
    edit_json(folder / "text_encoder" / "config.json", dtype="float32")


def edit_json(path: Path, **changes: Any) -> None:
    """Sets keys of a JSON file; None removes."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    content = {key: value for key, value in content.items() if key not in changes or value is not None}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class Trainer:
    """Holds what a step needs; `run` trains to the end and leaves the averaged weights in `out/model`."""

    def __init__(self, out: Path, *, samples: int, batch: int, side: int, device: torch.device, init: Path | None, fast: bool) -> None:
        self.out, self.batch, self.side, self.device = out, batch, side, device
        self.steps = samples // batch
        self.tokenizer = tokenizer_of(out, init=init)
        if init and not (out / "vae").is_dir():
            shutil.copytree(init / "vae", out / "vae")
        self.vae = AutoencoderTiny.from_pretrained(out / "vae", torch_dtype=torch.float32).to(device)
        self.vae.requires_grad_(False).to(memory_format=torch.channels_last)
        torch.manual_seed(0)
        self.model = Model(self.tokenizer, side // 4).to(device)
        self.average = Model(self.tokenizer, side // 4).to(device).requires_grad_(False)
        if device.type == "cpu":  # SDPA's backward is slow there
            self.model.unet.set_attn_processor(AttnProcessor())
        self.model.unet.to(memory_format=torch.channels_last)
        if init:
            self.model.unet.load_state_dict(UNet2DConditionModel.from_pretrained(init / "unet").state_dict())
            self.model.text_encoder.load_state_dict(CLIPTextModel.from_pretrained(init / "text_encoder").state_dict())
        self.average.load_state_dict(self.model.state_dict())
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.alphas = build_scheduler().alphas_cumprod.to(device)
        self.checkpoint = out / "text_to_image.pt"
        self.first = self._resume()
        self.predict: Callable[..., torch.Tensor] = torch.compile(self.model) if fast else self.model

    def _resume(self) -> int:
        state = load_checkpoint(self.checkpoint)
        if not state:
            return 0
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Writes the checkpoint; `step` is the next one to do."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(), "step": step,
        }  # fmt: skip
        save_checkpoint(self.checkpoint, state)

    def loss(self, pixels: torch.Tensor, captions: list[str], generator: torch.Generator) -> torch.Tensor:
        """Mean squared error of v at random timesteps, some captions emptied for guidance."""
        pixels = pixels.to(self.device, memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            latents = self.vae.encode(pixels).latents.float()
        dropped = torch.rand(len(captions), generator=generator) < DROPOUT
        texts = ["" if drop else caption for caption, drop in zip(captions, dropped.tolist(), strict=True)]
        encoded = self.tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        timesteps = draw_timesteps(len(latents), generator).to(self.device)
        noise = torch.randn(latents.shape, generator=generator).to(self.device)
        signal = self.alphas[timesteps].sqrt()[:, None, None, None]
        spread = (1 - self.alphas[timesteps]).sqrt()[:, None, None, None]
        noisy, target = signal * latents + spread * noise, signal * noise - spread * latents
        with torch.autocast(self.device.type, torch.bfloat16):
            predicted = self.predict(noisy, timesteps, encoded.input_ids.to(self.device))
        return F.mse_loss(predicted.float(), target)

    def run(self) -> None:
        """Trains from where the checkpoint stands to the last step."""
        progress = Progress(self.steps, self.batch)
        scenes = scene_batches(self.first * self.batch, self.batch, self.side)
        for step, (pixels, captions) in zip(range(self.first, self.steps), scenes, strict=False):
            generator = torch.Generator().manual_seed(step)
            for group in self.optimiser.param_groups:
                group["lr"] = RATE * cosine_rate(step, self.steps, warmup=WARMUP, floor=0.02)
            loss = self.loss(pixels, captions, generator)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            update_average(self.average, self.model, step)
            progress.step(step, loss.item())
            if step % 250 == 249 or step == self.steps - 1:
                self.save(step + 1)
        export(self.average, self.tokenizer, self.vae, self.out / "model")


def export_checkpoint(out: Path, folder: Path, side: int) -> None:
    """Exports the averaged weights of a training that has not ended."""
    state = load_checkpoint(out / "text_to_image.pt")
    if state is None:
        raise SystemExit(f"no checkpoint in {out}: train first")
    tokenizer = tokenizer_of(out)
    model = Model(tokenizer, side // 4)
    model.load_state_dict(state["average"])
    export(model, tokenizer, AutoencoderTiny.from_pretrained(out / "vae"), folder)
    print(f"exported step {state['step']} to {folder}")


def sample_grid(folder: Path, prompts: list[str], path: Path) -> None:
    """Generates one picture a prompt (DDIM 25 steps, guidance 5) and writes them side by side."""
    from PIL import Image

    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    pictures = pipeline(prompts, num_inference_steps=25, guidance_scale=5.0, generator=generator).images
    sheet = Image.new("RGB", (8 * 130, -(-len(pictures) // 8) * 130))
    for number, picture in enumerate(pictures):
        sheet.paste(picture.resize((128, 128), Image.Resampling.NEAREST), (number % 8 * 130, number // 8 * 130))
    sheet.save(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sticker"))
    parser.add_argument("--samples", type=int, default=380_000, help="training samples in all; the learning rate ends there")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile: two minutes at the start, then 1.4 times as fast")
    parser.add_argument("--init", type=Path, help="a pipeline folder to start from")
    parser.add_argument("--export", type=Path, help="only export the checkpoint's averaged weights to this folder")
    parser.add_argument("--sheet", type=Path, help="only draw samples of the pipeline in --init to this picture")
    options = parser.parse_args()
    if options.sheet:
        from maskwright.datasets.scenes import benchmark

        captions = [scene.caption for scene in itertools.islice(benchmark(16), 16)]
        print("\n".join(captions))
        sample_grid(options.init or options.out / "model", captions, options.sheet)
    elif options.export:
        export_checkpoint(options.out, options.export, options.side)
    else:
        device = choose_device(options.device)
        trainer = Trainer(
            options.out, samples=options.samples, batch=options.batch, side=options.side, device=device, init=options.init,
            fast=options.compile,
        )  # fmt: skip
        trainer.run()


if __name__ == "__main__":
    main()
