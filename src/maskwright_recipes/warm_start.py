"""Starts a model from another one: with fewer words, or of another size. What fits is copied, the rest stays as it was drawn."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from maskwright.errors import SettingsError
from maskwright_recipes.networks import Model, build_scheduler, load_unet
from maskwright_recipes.timesteps import shift_timesteps

TOKENS = "token_embedding.weight"
POSITIONS = "position_embedding.weight"
POOLED_GAIN = 1.5  # averages of noisy latents hold less noise: by 1.15 to 1.85, as the timestep is


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

    Where the target has more resolutions, the new ones are added at the coarse end if the finest of both have the same widths, else at
    the fine end. New ones that are as wide as their neighbour begin by passing on what they are given, at half or twice its side; so the
    target does at once what the source did, on pictures of another size as far as the source's grid can show them. Where the input of the
    time embedding is another one, its first layer is fitted to give what the source's gives; where finer resolutions come with larger
    pictures, what it gives for pictures that are hidden as much. Without new resolutions a thing of some pixels stays as hard to see.
    """
    widths, given = tuple(target.config.block_out_channels), tuple(source.config.block_out_channels)
    more = len(widths) - len(given)
    coarser = more > 0 and widths[: len(given)] == given
    finer = more > 0 and not coarser
    part, shift = ("up", more) if coarser else ("down", more)
    moved = {
        re.sub(rf"^{part}_blocks\.(\d+)", lambda found: f"{part}_blocks.{int(found[1]) + shift}", name): tensor
        for name, tensor in source.state_dict().items()
    }
    if coarser:
        _pass_on(target, range(len(given), len(widths)), first=len(given) - 1, gain=1.0)
    elif finer and set(widths[:more]) == {given[0]}:
        _pass_on(target, range(more), first=0, gain=POOLED_GAIN)
    copied = copy_fitting(target.state_dict(), moved)
    own, other = target.time_embedding.linear_1, source.time_embedding.linear_1
    area = (target.config.sample_size / source.config.sample_size) ** 2 if finer else 1
    if own.out_features == other.out_features and (own.in_features != other.in_features or area != 1):
        times = shift_timesteps(build_scheduler().alphas_cumprod, 1 / area)
        copied += _fit_time(own, other, target.time_proj, source.time_proj(times))
    return copied


@torch.no_grad()
def _pass_on(unet: Any, levels: range, *, first: int, gain: float) -> None:
    """Makes new resolutions give on what they get, averaged over 2 x 2 places on the way down and repeated on the way up.

    Residual branches begin at zero; of the two things that are joined on the way up, the coarser one goes through.

    Args:
        unet: changed in place.
        levels: the new ones, the finest resolution being 0.
        first: the finest level below which the way down is new, too.
        gain: of the averages.
    """
    ups = len(unet.up_blocks)
    for level in levels:
        for block in (unet.down_blocks[level], unet.up_blocks[ups - 1 - level]):
            for resnet in block.resnets:
                _set(resnet.conv2, 0)
                if resnet.conv_shortcut is not None:
                    _set(resnet.conv_shortcut, 1)
            for attention in block.attentions:
                _set(attention.proj_out, 0)
    for level in range(first, first + len(levels)):
        down, up = unet.down_blocks[level].downsamplers[0].conv, unet.up_blocks[ups - 2 - level].upsamplers[0].conv
        _set(down, gain / 4, slice(1, 3))
        _set(up, 1, slice(1, 2))


def _set(layer: Any, value: float, places: slice = slice(None)) -> None:
    """Makes a layer give on its first channels times a value, of a kernel at these places only."""
    weight = layer.weight.zero_()
    weight[:, :, places, places] = value * torch.eye(*weight.shape[:2])[:, :, None, None]
    layer.bias.zero_()


@torch.no_grad()
def _fit_time(own: Any, other: Any, own_waves: Any, given: torch.Tensor) -> int:
    """Least squares over all timesteps t: own(own_waves(t)) is about other(given[t]).

    Slow waves are nearly collinear: without a ridge the weights would reach millions and drown the training.
    """
    inputs, wanted = own_waves(torch.arange(len(given))).double(), given.double() @ other.weight.double().T
    ridge, nothing = torch.eye(own.in_features).double(), torch.zeros(own.in_features, own.out_features).double()
    own.weight.copy_(torch.linalg.lstsq(torch.cat([inputs, ridge]), torch.cat([wanted, nothing])).solution.T)
    own.bias.copy_(other.bias)
    return int(own.weight.numel() + own.bias.numel())


def start_text_encoder(model: Any, tokenizer: CLIPTokenizer, folder: Path) -> int:
    """Copies what fits of a pipeline folder's text encoder: layers, embeddings of shared tokens, positions; returns how many numbers."""
    text, known = CLIPTextModel.from_pretrained(folder / "text_encoder"), CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab()
    own, other = model.state_dict(), text.state_dict()
    rows = [name for name in own if name.endswith((TOKENS, POSITIONS))]
    copied = copy_fitting({name: tensor for name, tensor in own.items() if name not in rows}, other)
    for name in rows:
        if name not in other:
            continue
        if name.endswith(TOKENS):
            copied += copy_embeddings(own[name], other[name], tokens=tokenizer.get_vocab(), known=known)
        else:  # a longer or shorter prompt: position by position
            places = {str(place): place for place in range(len(own[name]))}
            copied += copy_embeddings(own[name], other[name], tokens=places, known={str(place): place for place in range(len(other[name]))})
    return copied


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
        copied = copy_unet(model.unet, load_unet(folder)) + start_text_encoder(model.text_encoder, tokenizer, folder)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder} holds no pipeline to start from: name a folder with unet, text_encoder and tokenizer") from error
    return copied / sum(parameter.numel() for parameter in model.parameters())
