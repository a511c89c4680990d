"""Labels as keys: the text embeddings that stored queries are asked for, and which tokens stand for which label."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Token = tuple[int, int]  # (text, position)


@dataclass(frozen=True, eq=False)
class TextKeys:
    """Texts that compete inside themselves, and the labels' tokens in them.

    Attributes:
        embeddings: (texts, length, width), as the U-Net's cross-attention gets them.
        log_weight: (texts, length) float32 on the CPU, added to the logits of each token: 0 for a plain token, log n for one that
            stands for n tokens, -inf for none.
        columns: for each label its names (the word itself, then its synonyms), each the tokens that make its map.
        shared: the first so many tokens are the same in every text (a causal text encoder sees only what stands before),
            so that their part of each softmax is computed once. No label may have its tokens among them.
        names: the texts of `columns`, for methods that write prompts of their own.
    """

    embeddings: Tensor
    log_weight: Tensor
    columns: tuple[tuple[tuple[Token, ...], ...], ...]
    shared: int = 0
    names: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        """Number of labels."""
        return len(self.columns)

    def label(self, index: int) -> "TextKeys":
        """The keys of one label: its own texts and nothing else."""
        used = sorted({text for name in self.columns[index] for text, _ in name})
        where = {text: number for number, text in enumerate(used)}
        names = tuple(tuple((where[text], position) for text, position in name) for name in self.columns[index])
        return TextKeys(self.embeddings[used], self.log_weight[used], (names,), self.shared, self.names[index : index + 1])

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """The n distinct tokens that labels use, sorted by text, then position."""
        return tuple(sorted({token for label in self.columns for name in label for token in name}))

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """For each label the places of its tokens in `tokens`."""
        where = {token: place for place, token in enumerate(self.tokens)}
        return tuple(tuple(sorted({where[token] for name in label for token in name})) for label in self.columns)

    @cached_property
    def own(self) -> "OwnTokens":
        """What each text does not share with the others."""
        return own_tokens(self)

    @cached_property
    def weights(self) -> Tensor:
        """(labels, n) float32 shares of the tokens; a label's sum to 1, equally for its names, and inside a name for its tokens."""
        where = {token: place for place, token in enumerate(self.tokens)}
        shares = [[0.0] * len(self.tokens) for _ in self.columns]
        for row, label in zip(shares, self.columns, strict=True):
            for name in label:
                for token in name:
                    row[where[token]] += 1 / (len(label) * len(name))
        return torch.tensor(shares, dtype=torch.float32, device=self.embeddings.device)


@dataclass(frozen=True, eq=False)
class OwnTokens:
    """The tokens of each text that it does not share with the others, without those of no weight.

    Attributes:
        embeddings: (most, texts, width), texts with fewer tokens padded.
        log_weight: (most, texts) float32, -inf for padding.
        places: for each of `TextKeys.tokens` its (row, text) here.
    """

    embeddings: Tensor
    log_weight: Tensor
    places: tuple[tuple[int, int], ...]


def own_tokens(keys: TextKeys) -> OwnTokens:
    """Gathers the own tokens of every text, in order."""
    dead = (keys.log_weight == -torch.inf).tolist()
    alive = [[place for place in range(keys.shared, len(row)) if not row[place]] for row in dead]
    most = max(len(row) for row in alive)
    index = torch.tensor([row + [0] * (most - len(row)) for row in alive]).T  # most texts
    padding = torch.tensor([[n >= len(row) for row in alive] for n in range(most)])
    text = torch.arange(len(alive)).expand_as(index)
    log_weight = keys.log_weight[text, index].masked_fill(padding, -torch.inf)  # small, and on the CPU like its indices
    places = tuple((alive[text].index(place), text) for text, place in keys.tokens)
    device = keys.embeddings.device
    return OwnTokens(keys.embeddings[text.to(device), index.to(device)], log_weight.to(device), places)


def merge_padding(embeddings: Tensor, ends: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Replaces the padding after each text's end token by one token that stands for all of it.

    CLIP pads with dozens of tokens whose keys nearly agree; their mean, counted as often as there are of them, keeps
    their part of every softmax at a fraction of the cost.

    Args:
        embeddings: (texts, length, width).
        ends: position of each text's first end token.

    Returns:
        (texts, longest + 2, width) embeddings and (texts, longest + 2) float32 log weights, longest being the last end.
    """
    texts, length, _ = embeddings.shape
    longest = max(ends)
    end = torch.tensor(ends, device=embeddings.device)
    padding = torch.arange(length, device=embeddings.device) > end[:, None]  # texts length
    count = padding.sum(1)
    mean = (embeddings.float() * padding[..., None]).sum(1, keepdim=True) / count.clamp(min=1)[:, None, None]
    kept = torch.cat([embeddings[:, : longest + 1], mean.to(embeddings.dtype)], 1)
    log_weight = torch.zeros(texts, longest + 2)
    for row, last in enumerate(ends):
        log_weight[row, last + 1 : longest + 1] = -torch.inf
        log_weight[row, -1] = math.log(length - 1 - last) if last < length - 1 else -torch.inf  # a text may fill its length
    return kept, log_weight
