"""Self-attention that also yields its mean matrix, computed row block by row block.

The softmax over a few query rows stays in the processor's cache, and both the layer's output and the mean over heads
come from it; on a CPU this costs no more than the fused attention it stands in for (docs/performance.md).
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from maskwright.errors import ModelError

SumOf = Callable[[int, int, torch.device], Tensor]
Upcast = Literal["nothing", "softmax", "logits"]  # what a layer computes in float32 whatever its own format; "logits": both
ROWS_ON_CPU = 64
ROWS_ON_GPU = 1024


def upcast_of(attention: Any) -> Upcast:
    """What a diffusers layer asks to be computed in float32 (`upcast_attention`, `upcast_softmax`), because half precision overflows."""
    if getattr(attention, "upcast_attention", False):
        return "logits"
    return "softmax" if getattr(attention, "upcast_softmax", False) else "nothing"


def fold_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, total: Tensor, weight: float, upcast: Upcast = "nothing"
) -> Tensor:
    """softmax(q k^T scale) v for one row of the batch; adds `weight` x the mean matrix over heads to `total`.

    Logits and probabilities are rounded to the number format in which queries and keys are stored (bfloat16 has three digits), unless
    `upcast` says otherwise. The mean over heads is summed in float32. For the product with the values probabilities have their format.

    Args:
        query: (heads, tokens, dim).
        key: likewise.
        value: likewise; its width may differ.
        scale: usually dim ** -0.5.
        total: (tokens, tokens) float32, changed in place.
        weight: factor of what is added.
        upcast: "softmax" keeps probabilities in float32, from rounded logits; "logits" computes both in float32, more slowly where
            queries and keys are of 16 bits.

    Returns:
        (heads, tokens, dim), as scaled_dot_product_attention gives.
    """
    heads, tokens, _ = query.shape
    block = ROWS_ON_CPU if query.device.type == "cpu" else ROWS_ON_GPU
    output = torch.empty_like(value)
    if upcast == "logits":
        query, key = query.float(), key.float()
    wide = None if upcast == "nothing" else torch.float32
    transposed = key.transpose(1, 2)  # heads dim tokens
    query = query * scale
    for first in range(0, tokens, block):
        rows = slice(first, first + block)
        attention = torch.bmm(query[:, rows], transposed).softmax(-1, dtype=wide)  # heads rows tokens
        output[:, rows] = torch.bmm(attention.to(value.dtype), value)
        total[rows].add_(attention.sum(0, dtype=torch.float32), alpha=weight / heads)
    return output


class FoldingProcessor:
    """A diffusers attention processor that adds the mean attention of its layer to a sum.

    It computes in the layer's own number format, with logits and softmax in float32 where the layer asks for that (see `fold_attention`).

    Args:
        attention: the layer; used to refuse layers whose arithmetic is not the plain one, and to learn what is upcast.
        sum_of: for (pictures, tokens, device) the sum to add to, (pictures, tokens, tokens) float32: one for all layers of a grid,
            because clearing 64 MB anew for every layer costs time.
        done: called when the layer's mean over heads and over each picture's rows has been added.
        rows_per_picture: consecutive rows of the batch that belong to one picture.
    """

    def __init__(self, attention: Any, sum_of: SumOf, done: Callable[[], None], rows_per_picture: int) -> None:
        unusual = [name for name in ("spatial_norm", "group_norm", "norm_q", "norm_k") if getattr(attention, name, None) is not None]
        if unusual:
            raise ModelError(f"a self-attention layer with {', '.join(unusual)} cannot be folded: use an SD 1.x or 2.x model")
        self.sum_of, self.done, self.rows_per_picture, self.upcast = sum_of, done, rows_per_picture, upcast_of(attention)

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The layer's output, (rows, tokens, channels)."""
        if attention_mask is not None or encoder_hidden_states is not None:
            raise ModelError("masked self-attention cannot be folded: read the model without an attention mask")
        residual = hidden_states
        query, key, value = (
            torch.unflatten(projection(hidden_states), -1, (attn.heads, -1)).transpose(1, 2).contiguous()
            for projection in (attn.to_q, attn.to_k, attn.to_v)
        )  # rows heads tokens dim
        rows, _, tokens, _ = query.shape
        totals = self.sum_of(rows // self.rows_per_picture, tokens, query.device)
        mixed = torch.stack([
            fold_attention(
                query[row], key[row], value[row], attn.scale,
                total=totals[row // self.rows_per_picture], weight=1 / self.rows_per_picture, upcast=self.upcast,
            )
            for row in range(rows)
        ])  # fmt: skip
        self.done()
        output = attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))
        if attn.residual_connection:
            output = output + residual
        scaled: Tensor = output / attn.rescale_output_factor
        return scaled
