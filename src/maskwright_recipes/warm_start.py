"""Starts a model from another one: with fewer words, or of another size. What fits is copied, the rest stays as it was drawn."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from maskwright.errors import SettingsError
from maskwright_recipes.networks import Model, load_unet

TOKENS = "token_embedding.weight"
POSITIONS = "position_embedding.weight"


def copy_fitting(target: Mapping[str, torch.Tensor], source: Mapping[str, torch.Tensor]) -> int:
    """Copies tensors of the same name and shape; returns how many numbers were copied."""
    copied = 0
    with torch.no_grad():
        for name, tensor in target.items():
            given = source.get(name)
            if given is not None and given.shape == tensor.shape and tensor.is_floating_point():
                tensor.copy_(given)
                copied += tensor.numel()
    return copied


def copy_embeddings(
    target: torch.Tensor, source: torch.Tensor, *, tokens: Mapping[str, int], known: Mapping[str, int]
) -> int:  # fmt: skip
    """Copies the embedding of each token that both vocabularies have, by its text.

    Args:
        target: (tokens, width).
        source: (known, width) of the other model; nothing is copied from another width.
        tokens: text to row of `target`.
        known: text to row of `source`.

    Returns:
        How many numbers were copied.
    """
    if target.shape[1] != source.shape[1]:
        return 0
    shared = [text for text in tokens if text in known]
    with torch.no_grad():
        target[[tokens[text] for text in shared]] = source[[known[text] for text in shared]].to(target.dtype)
    return len(shared) * target.shape[1]


def copy_unet(target: Any, source: Any) -> int:
    """Copies what fits of one U-Net into another; returns how many numbers were copied.

    Resolutions are matched from the coarsest: with more of them, the new one is added at the fine end. Where that makes another
    input of the time embedding, its first layer is fitted to give what the source's gives.
    """
    deeper = len(target.config.block_out_channels) - len(source.config.block_out_channels)
    moved = {
        re.sub(r"^down_blocks\.(\d+)", lambda found: f"down_blocks.{int(found[1]) + deeper}", name): tensor
        for name, tensor in source.state_dict().items()
    }
    copied = copy_fitting(target.state_dict(), moved)
    own, other = target.time_embedding.linear_1, source.time_embedding.linear_1
    if own.out_features == other.out_features and own.in_features != other.in_features:
        copied += _fit_time(own, other, target.time_proj, source.time_proj)
    return copied


@torch.no_grad()
def _fit_time(own: Any, other: Any, own_waves: Any, other_waves: Any) -> int:
    """Least squares over all timesteps: own(own_waves(t)) is about other(other_waves(t)).

    Slow waves are nearly collinear: without a ridge the weights would reach millions and drown the training.
    """
    times = torch.arange(1000)
    inputs, wanted = own_waves(times).double(), other_waves(times).double() @ other.weight.double().T
    ridge, nothing = torch.eye(own.in_features).double(), torch.zeros(own.in_features, own.out_features).double()
    own.weight.copy_(torch.linalg.lstsq(torch.cat([inputs, ridge]), torch.cat([wanted, nothing])).solution.T)
    own.bias.copy_(other.bias)
    return int(own.weight.numel() + own.bias.numel())


def start_from(model: Model, tokenizer: CLIPTokenizer, folder: Path) -> float:
    """Starts a model from a pipeline folder.

    Args:
        model: changed in place.
        tokenizer: of this model.
        folder: with unet, text_encoder and tokenizer.

    Returns:
        The share of the model's numbers that were copied.

    Raises:
        SettingsError: a folder that holds no such pipeline.
    """
    try:
        unet, text = load_unet(folder), CLIPTextModel.from_pretrained(folder / "text_encoder")
        known = CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder} holds no pipeline to start from: name a folder with unet, text_encoder and tokenizer") from error
    own, other = model.text_encoder.state_dict(), text.state_dict()
    rows = [name for name in own if name.endswith((TOKENS, POSITIONS))]
    copied = copy_unet(model.unet, unet)
    copied += copy_fitting({name: tensor for name, tensor in own.items() if name not in rows}, other)
    for name in rows:
        if name not in other:
            continue
        if name.endswith(TOKENS):
            copied += copy_embeddings(own[name], other[name], tokens=tokenizer.get_vocab(), known=known)
        else:  # a longer or shorter prompt: position by position
            places = {str(place): place for place in range(len(own[name]))}
            copied += copy_embeddings(own[name], other[name], tokens=places, known={str(place): place for place in range(len(other[name]))})
    return copied / sum(parameter.numel() for parameter in model.parameters())
