"""The begin token of the labels' prompts, asked for in three ways: alone, against a word, and in a word's whole prompt."""

import torch
from torch import Tensor

from maskwright.readings.attention import CrossAttention
from maskwright.readings.keys import TextKeys


def begin_logits(attention: CrossAttention, begin: Tensor) -> list[Tensor]:
    """The logits q k / sqrt d of one token, mean over heads and samples, for each layer: (pictures, 1, h, w) float32.

    Args:
        attention: over the layers.
        begin: (width,), the token's embedding.
    """
    logits = []
    for layer in attention.layers:
        flat = torch.matmul(layer.query.float(), layer.keys(begin[None])).mean(1)  # rows tokens 1
        mean = torch.unflatten(flat, 0, (-1, attention.repeats)).mean(1)  # pictures tokens 1
        logits.append(torch.unflatten(mean.transpose(1, 2), -1, layer.grid))
    return logits


def begin_keys(keys: TextKeys) -> TextKeys:
    """Keys whose maps are the attention on the begin token of each label's own prompts."""
    columns = tuple(tuple(((name[0][0], 0),) for name in label) for label in keys.columns)
    return TextKeys(keys.embeddings, keys.log_weight, columns)


def duel_keys(keys: TextKeys) -> TextKeys:
    """Keys under which each name competes with nothing but the begin token: one text a name, "begin, tokens of the name"."""
    names = [(row, name) for row, label in enumerate(keys.columns) for name in label]
    most = max(len(name) for _, name in names)
    texts = torch.tensor([[name[0][0]] + [(name[n] if n < len(name) else name[0])[0] for n in range(most)] for _, name in names])
    places = torch.tensor([[0] + [(name[n] if n < len(name) else name[0])[1] for n in range(most)] for _, name in names])
    weight = torch.tensor([[0.0] + [0.0 if n < len(name) else -torch.inf for n in range(most)] for _, name in names])
    columns: list[list[tuple[tuple[int, int], ...]]] = [[] for _ in keys.columns]
    for text, (row, name) in enumerate(names):
        columns[row].append(tuple((text, 1 + n) for n in range(len(name))))
    device = keys.embeddings.device
    own = keys.embeddings[texts.to(device), places.to(device)]  # names 1+most width
    return TextKeys(own, weight, tuple(tuple(label) for label in columns), shared=1)
