"""Writes a trained model as a pipeline folder that diffusers loads."""

import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from transformers import CLIPTokenizer

from maskwright.backbones.hub import CLIP
from maskwright.errors import SettingsError
from maskwright.quiet import quiet
from maskwright_recipes.checkpoints import Checkpoint, load_checkpoint
from maskwright_recipes.networks import Model, Size, assemble_pipeline, load_autoencoder
from maskwright_recipes.sidecar import edit_json
from maskwright_recipes.tokenizer import save_tokenizer
from maskwright_recipes.warm_start import start_from

SHARD = "15MB"  # files of weights are no larger


def export_pipeline(model: Model, tokenizer: CLIPTokenizer, vae: Any, folder: Path, *, clip: Path | None = None) -> None:
    """Writes a StableDiffusionPipeline folder in fp16 safetensors, in place of one that is there; the weights are rounded to fp16.

    Args:
        model: U-Net and text encoder.
        tokenizer: of the text encoder.
        vae: the autoencoder.
        folder: to write.
        clip: folder of the CLIP that goes with it, copied where it exists.

    Raises:
        SettingsError: the folder holds something that is no pipeline.
    """
    if folder.exists() and not (folder / "model_index.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} holds something that is no model: name a new folder")
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with quiet(diffusers, transformers):
        pipeline = assemble_pipeline(model, tokenizer, vae)
        pipeline.to(torch.float16).save_pretrained(fresh, safe_serialization=True, max_shard_size=SHARD)
        model.float()
        vae.float()
    save_tokenizer(tokenizer, fresh / "tokenizer")
    # AutoencoderTiny saves a derived value and then warns of it, and diffusers the folder that it was loaded from; transformers
    # would load the text encoder in the format it is stored in, beside a U-Net in float32.
    edit_json(fresh / "vae" / "config.json", block_out_channels=None, _name_or_path=None)
    edit_json(fresh / "text_encoder" / "config.json", dtype="float32")
    if clip and clip.is_dir():
        shutil.copytree(clip, fresh / CLIP)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def export_checkpoint(out: Path, folder: Path, size: Size, side: int, *, blend: Path | None = None) -> int:
    """Exports the averaged weights of a training that may not have ended; returns the samples that it has seen.

    Args:
        out: folder of the training.
        folder: to write.
        size: of the networks.
        side: of the pictures.
        blend: folder of the training or model that this one went on from, or of a twin: the mean of both is exported, for trainings of
            one origin end on different sides of a better place (Wortsman et al. 2203.05482).

    Raises:
        SettingsError: no checkpoint, one of another size, or one of other words to blend with.
    """
    kept = _load_kept(out)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    weights = kept.average
    if blend is not None:
        other = _load_model(blend, size, side) if (blend / "model_index.json").is_file() else _load_kept(blend).average
        if CLIPTokenizer.from_pretrained(blend / "tokenizer").get_vocab() != tokenizer.get_vocab() or other.keys() != weights.keys():
            raise SettingsError(f"what is in {blend} is of other words or another size: blend trainings of one origin only")
        weights = {name: (tensor + other[name]) / 2 for name, tensor in weights.items()}
    model = Model(size, tokenizer, side)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SettingsError(f"the checkpoint in {out} is not of the size {size.name}: name its size with --size") from error
    export_pipeline(model, tokenizer, load_autoencoder(out), folder, clip=out / CLIP)
    return kept.samples


def _load_model(folder: Path, size: Size, side: int) -> dict[str, torch.Tensor]:
    """The weights of a pipeline folder under the names of a checkpoint; none where they are of another size."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = Model(size, tokenizer, side)
    return dict(model.state_dict()) if start_from(model, tokenizer, folder) == 1 else {}


def _load_kept(out: Path) -> Checkpoint:
    """The checkpoint of a training."""
    kept = load_checkpoint(out / "checkpoint")
    if kept is None:
        raise SettingsError(f"no checkpoint in {out}: train first")
    return kept
