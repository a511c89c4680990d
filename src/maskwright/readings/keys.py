"""Labels as keys: the text embeddings that stored queries are asked for, and which tokens stand for which label."""

from dataclasses import dataclass

import torch
from torch import Tensor

Token = tuple[int, int]  # (text, position)


@dataclass(frozen=True, eq=False)
class TextKeys:
    """Texts that compete inside themselves, and the labels' tokens in them.

    Attributes:
        embeddings: (texts, length, width), as the U-Net's cross-attention gets them.
        log_weight: (texts, length) float32, added to the logits of each token: 0 for a plain token, log n for one that
            stands for n tokens, -inf for none.
        columns: for each label its names (the word itself, then its synonyms), each the tokens it is made of.
    """

    embeddings: Tensor
    log_weight: Tensor
    columns: tuple[tuple[tuple[Token, ...], ...], ...]

    def __len__(self) -> int:
        """Number of labels."""
        return len(self.columns)

    def label(self, index: int) -> "TextKeys":
        """The keys of one label: its own texts and nothing else."""
        used = sorted({text for name in self.columns[index] for text, _ in name})
        where = {text: number for number, text in enumerate(used)}
        names = tuple(tuple((where[text], position) for text, position in name) for name in self.columns[index])
        return TextKeys(self.embeddings[used], self.log_weight[used], (names,))

    def tokens(self) -> tuple[Tensor, Tensor]:
        """The distinct tokens that labels use, (n, 2) int64 of (text, position), and (labels, n) float32 weights.

        A label's weights sum to 1: equal shares for its names, and inside a name for its tokens.
        """
        distinct = sorted({token for label in self.columns for name in label for token in name})
        where = {token: number for number, token in enumerate(distinct)}
        weights = torch.zeros(len(self.columns), len(distinct))
        for row, label in enumerate(self.columns):
            for name in label:
                for token in name:
                    weights[row, where[token]] += 1 / (len(label) * len(name))
        return torch.tensor(distinct, dtype=torch.int64).reshape(-1, 2), weights


def merge_padding(embeddings: Tensor, end: Tensor, *, longest: int) -> tuple[Tensor, Tensor]:
    """Replaces the padding after each text's end token by one token that stands for all of it.

    CLIP pads with dozens of tokens whose keys nearly agree; their mean, counted as often as there are of them, keeps
    their part of every softmax at a fraction of the cost.

    Args:
        embeddings: (texts, length, width).
        end: (texts,) int64, position of each text's first end token.
        longest: the largest entry of `end`.

    Returns:
        (texts, longest + 2, width) embeddings and (texts, longest + 2) log weights.
    """
    texts, length, _ = embeddings.shape
    position = torch.arange(length, device=embeddings.device)
    padding = position > end[:, None]  # texts length
    count = padding.sum(1)
    mean = (embeddings * padding[..., None]).sum(1, keepdim=True) / count.clamp(min=1)[:, None, None]
    kept = torch.cat([embeddings[:, : longest + 1], mean.to(embeddings.dtype)], 1)
    log_weight = torch.zeros(texts, longest + 2, device=embeddings.device)
    log_weight[:, : longest + 1].masked_fill_(padding[:, : longest + 1], -torch.inf)
    log_weight[:, -1] = count.float().log()  # -inf where a text fills its length
    return kept, log_weight
