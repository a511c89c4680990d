"""The recipe runs, resumes, and makes what diffusers loads; on a few steps of the real networks."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def test_every_known_word_is_one_token_and_others_fall_back_to_pieces():
    from recipes.tokenizer import build_tokenizer, known_words

    tokenizer = build_tokenizer()
    assert all(len(tokenizer(word, add_special_tokens=False).input_ids) == 1 for word in known_words())
    assert len(tokenizer("zebra", add_special_tokens=False).input_ids) > 1
    assert tokenizer.decode(tokenizer("a red apple", add_special_tokens=False).input_ids).strip() == "a red apple"


def test_every_process_learns_the_same_tokenizer():
    """A network is bound to the numbers of its tokens: ties between merges must not depend on hash seeds or threads."""
    code = "from recipes.tokenizer import *; print(learn_merges(known_words()))"
    printed = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed,
                       "PYTHONPATH": f"src{os.pathsep}."}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(printed) == 1 and len(next(iter(printed))) > 1000


def test_training_resumes_where_it_stopped_and_exports_a_pipeline(tmp_path):
    from diffusers import StableDiffusionPipeline

    from recipes.autoencoder import train
    from recipes.text_to_image import Trainer

    cpu = torch.device("cpu")
    train(tmp_path, steps=3, batch=2, side=32, device=cpu)

    def trainer(samples):
        return Trainer(tmp_path, samples=samples, batch=2, side=32, device=cpu, init=None, fast=False)

    whole = trainer(8)
    whole.checkpoint = tmp_path / "whole.pt"
    whole.run()
    stopped = trainer(8)
    stopped.steps = 2
    for_rate = stopped.run  # two of four steps; the learning rate belongs to four
    for_rate()
    resumed = trainer(8)
    assert resumed.first == 2
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model", safety_checker=None)
    assert pipeline.unet.config.cross_attention_dim == 128
    image = pipeline("a dog on grass", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images[0]
    assert image.shape == (32, 32, 3) and np.isfinite(image).all()


def test_training_goes_on_from_a_landed_model_with_its_tokenizer(tmp_path):
    from maskwright.backbones.catalog import find_row
    from recipes.text_to_image import Trainer

    landed = find_row("sticker").folder
    cpu = torch.device("cpu")
    trainer = Trainer(tmp_path, samples=4, batch=2, side=64, device=cpu, init=landed, fast=False)
    assert trainer.tokenizer.get_vocab() == json.loads((landed / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    stored = load_file(landed / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, stored[name].float()) for name, value in trainer.model.unet.state_dict().items())
    assert (tmp_path / "vae").is_dir() and (tmp_path / "tokenizer").is_dir()


def test_normalised_latents_have_mean_zero_and_deviation_one():
    from recipes.autoencoder import build_autoencoder, held_out, normalise_latents

    torch.manual_seed(0)
    model = build_autoencoder()
    pictures = held_out(40, 32, "tuning")
    normalise_latents(model, pictures)
    latents = model.encode(pictures).latents
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)


def test_the_bundled_model_is_what_the_recipe_exports():
    from maskwright.backbones.catalog import find_row
    from recipes.tokenizer import CLIPTokenizer, known_words

    folder = find_row("sticker").folder
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size <= 40_000_000
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pt"))
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    assert all(len(tokenizer(word, add_special_tokens=False).input_ids) == 1 for word in known_words())
    assert json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8")) == tokenizer.get_vocab()


def test_the_bundled_model_loads_in_diffusers():
    from diffusers import StableDiffusionPipeline

    from maskwright.backbones.catalog import find_row

    pipeline = StableDiffusionPipeline.from_pretrained(find_row("sticker").folder, safety_checker=None)
    image = pipeline("a dog on grass", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images[0]
    assert image.shape == (64, 64, 3) and np.isfinite(image).all()
