"""Teaches cross-attention which of some words a picture shows; where each is, nobody says.

Beside the noise that it has to predict, a U-Net is asked a list of words of which some are in the picture and some are not, as a text of
its own that nothing is drawn from: every place of the picture shall attend to words that are there, and each of these words shall find
some places. What is learned are pictures and their words, as a CLIP learns them, so no mask takes part. It is the weak supervision of
multiple-instance learning (Pathak et al. 1412.7144; Pinheiro and Collobert 1411.6228, which pool scores over places), laid on attention.
That alone lets words spill over the edges of their things, for a ground is there as well; so near places of like colour shall also agree
(the gated CRF loss of Obukhov et al. 1906.04651).
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from transformers import CLIPTokenizer

from maskwright.datasets.captions import choose_name
from maskwright.datasets.keyword_captions import JOINERS, draw_absent
from maskwright.datasets.word_list import Words

MOST_WORDS = 16  # asked for at a time
RESOLUTIONS = 2  # the finest ones learn
FILLED = 0.6  # of the square around it, that a thing fills; or little less, where others hide it
BEGINNINGS = ("a photograph of a ", "a photograph of ", "a picture of ", "")  # as methods ask
REACH = 3  # places; how far apart two of like colour shall agree
NEAR, LIKE = 2.0, 0.1  # deviations of what counts as near, in places, and as of like colour, of -1..1
EDGES = 4.0  # weight of their agreement
TAUGHT = 2.0  # weight of what a teacher finds
EPS = 1e-6


class Asked(NamedTuple):
    """Words asked of n pictures.

    Attributes:
        tokens: (n, length) int64, of a prompt for each picture.
        owners: (n, MOST_WORDS, length), 1 where a token belongs to a word; zeros beyond the words asked.
        shown: (n, MOST_WORDS) 1 for words that the picture shows.
    """

    tokens: Tensor
    owners: Tensor
    shown: Tensor

    def to(self, device: torch.device) -> "Asked":
        """On a device."""
        return Asked(*(part.to(device) for part in self))


class Overheard:
    """A processor that hands on the queries of cross-attention and leaves the rest to another one.

    Queries are projected twice, which a compiler sees.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, heard: list[Any] | None = None,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        """As of any processor; `heard` gets (layer, query (n, tokens, width)) of cross-attention."""
        if heard is not None and encoder_hidden_states is not None:
            heard.append((attn, attn.to_q(hidden_states)))
        return self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


def overhear(unet: nn.Module) -> None:
    """Lets every attention layer of a U-Net hand on its queries when `heard` is among its `cross_attention_kwargs`."""
    for module in unet.modules():
        if isinstance(module, Attention):
            module.set_processor(Overheard(module.processor))  # type: ignore[arg-type]


def ask(shown: Sequence[Sequence[int]], words: Words, tokenizer: CLIPTokenizer, rng: np.random.Generator, *, length: int) -> Asked:
    """Writes a list of words for each picture: those it shows and up to eleven others, in any order.

    Args:
        shown: for each picture the positions in `words.all` of what it shows, each once.
        words: of the list.
        tokenizer: of the model.
        rng: chooses words and order.
        length: tokens of a prompt.
    """
    rows = [_ask_one(places, words, tokenizer, rng, length) for places in shown]
    return Asked(*(torch.stack(part) for part in zip(*rows, strict=True)))


def _ask_one(places: Sequence[int], words: Words, tokenizer: CLIPTokenizer, rng: np.random.Generator, length: int) -> tuple[Tensor, ...]:
    absent = draw_absent(places, words, rng)
    chosen = [*places, *absent[: int(rng.integers(1, len(absent) + 1))]] if absent else places
    joiner = _tokens(JOINERS[int(rng.integers(len(JOINERS)))], tokenizer)
    ids = [tokenizer.bos_token_id, *_tokens(BEGINNINGS[int(rng.integers(len(BEGINNINGS)))], tokenizer)]
    names = [_tokens(choose_name(words.all[place], rng), tokenizer) for place in chosen]
    kept, left = [], length - 1 - len(ids)  # those that are there come first, so that none of them is lost
    for number, name in enumerate(names[:MOST_WORDS]):
        left -= len(name) + len(joiner)
        if left < 0:
            break
        kept.append(number)
    owners, present = torch.zeros(MOST_WORDS, length), torch.zeros(MOST_WORDS)
    for row, number in enumerate(rng.permutation(kept).tolist()):
        if row:
            ids += joiner
        owners[row, len(ids) : len(ids) + len(names[number])] = 1
        present[row] = number < len(places)
        ids += names[number]
    ids += [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (length - 1 - len(ids))
    return torch.tensor(ids), owners, present


@functools.lru_cache(maxsize=4096)
def _tokens(text: str, tokenizer: CLIPTokenizer) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def least_share(scale: tuple[float, float]) -> float:
    """The part of a picture that each thing in it holds at least, of `SceneStyle.scale`."""
    return FILLED * scale[0] ** 2


def word_shares(heard: Sequence[tuple[Any, Tensor]], states: Tensor, owners: Tensor) -> list[Tensor]:
    """Of the attention that the words asked get, the part of each: (n, places, words) for each layer of the finest resolutions.

    Args:
        heard: layers and their queries, as `Overheard` hands them on.
        states: (n, length, width) embeddings of the prompts.
        owners: as in `Asked`.
    """
    finest = sorted({query.shape[1] for _, query in heard}, reverse=True)[:RESOLUTIONS]
    return [_shares(layer, query, states, owners) for layer, query in heard if query.shape[1] in finest]


def word_loss(
    layers: Sequence[Tensor], shown: Tensor, weight: Tensor, *, pictures: Tensor, least: float, target: Tensor | None = None
) -> Tensor:  # fmt: skip
    """How far attention is from words that are there and from the edges of what can be seen, mean over layers and pictures.

    Args:
        layers: shares, as `word_shares` gives them.
        shown: as in `Asked`.
        weight: (n,) of the pictures: little where noise hides what is there.
        pictures: (n, 3, H, W) in -1..1; each layer's places are a square grid of them.
        least: the part of the places that each word which is there has to find.
        target: (n, words, side, side) what a teacher finds (self_teaching.py), whose edges are then those that count.
    """
    losses = []
    for shares in layers:
        presence = _presence_loss(shares, shown, least)
        if target is None:
            colours = F.adaptive_avg_pool2d(pictures, math.isqrt(shares.shape[1]))
            losses.append(presence + EDGES * edge_loss(shares, colours))
        else:
            losses.append(presence + TAUGHT * taught_loss(shares, target))
    return (torch.stack(losses).mean(0) * weight).sum() / weight.sum()


def taught_loss(shares: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of shares (n, places, words) to what a teacher finds, (n, words, side, side): (n,), mean over places."""
    wanted = F.adaptive_avg_pool2d(target, math.isqrt(shares.shape[1])).flatten(2).transpose(1, 2)
    return -(wanted * (shares + EPS).log()).sum(-1).mean(1)


def _shares(layer: Any, query: Tensor, states: Tensor, owners: Tensor) -> Tensor:
    query, key = (torch.unflatten(part, -1, (layer.heads, -1)).transpose(1, 2) for part in (query, layer.to_k(states)))
    attention = (torch.matmul(query, key.transpose(-1, -2)).float() * layer.scale).softmax(-1).mean(1)  # n places length
    mass = torch.matmul(attention, owners.transpose(1, 2).float())  # n places words
    return mass / mass.sum(-1, keepdim=True).clamp(min=EPS)


def _presence_loss(shares: Tensor, shown: Tensor, least: float) -> Tensor:
    """(n,): minus the logarithms of what words that are there get, of each place, and of each word where it gets most."""
    places = -((shares * shown[:, None]).sum(-1) + EPS).log().mean(1)
    most = shares.topk(max(1, round(least * shares.shape[1])), dim=1).values.mean(1)  # n words
    words = (-(most + EPS).log() * shown).sum(1) / shown.sum(1).clamp(min=1)  # a short prompt may have no room for any
    return places + words


def edge_loss(shares: Tensor, colours: Tensor) -> Tensor:
    """How much near places of like colour disagree, (n,) in 0..1: 0 where each such pair gives all to one word.

    Args:
        shares: (n, places, words), summing to 1 over words.
        colours: (n, 3, side, side) of the places.
    """
    height, width = colours.shape[-2:]
    maps = torch.unflatten(shares.transpose(1, 2), -1, (height, width))
    apart = together = shares.new_zeros(len(shares))
    for down in range(min(REACH, height - 1) + 1):
        for right in range(-min(REACH, width - 1), min(REACH, width - 1) + 1):
            if (down, right) <= (0, 0):
                continue  # each pair once
            here = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
            there = (slice(down, height), slice(max(0, right), width - max(0, -right)))
            difference = (colours[:, :, *here] - colours[:, :, *there]).square().sum(1)
            like = (-(down**2 + right**2) / (2 * NEAR**2) - difference / (2 * LIKE**2)).exp()
            apart = apart + (like * (1 - (maps[:, :, *here] * maps[:, :, *there]).sum(1))).sum((1, 2))
            together = together + like.sum((1, 2))
    return apart / together.clamp(min=EPS)
