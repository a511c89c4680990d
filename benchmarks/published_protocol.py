"""DiffSegmenter's pass as its authors run it, for comparison: empty and prompted half together, attention as explicit arrays, all kept."""

from typing import Any

import torch
from torch import Tensor

from maskwright.backbones.unet import UNetBackbone


class StoringProcessor:
    """Plain attention that keeps the probabilities of the conditional half."""

    def __init__(self, store: list[Tensor]) -> None:
        self.store = store

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        """The layer's output."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(layer(x)) for layer, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        probability = attn.get_attention_scores(query, key)  # batch*heads tokens keys
        self.store.append(probability[len(probability) // 2 :])
        output = attn.batch_to_head_dim(torch.bmm(probability, value))
        result: Tensor = attn.to_out[1](attn.to_out[0](output))
        return result


@torch.inference_mode()
def published_pass(backbone: UNetBackbone, latents: Tensor, condition: Tensor) -> Tensor:
    """One label: a pass over both halves, then the explicit mean of the finest self-attention times one map."""
    store: list[Tensor] = []
    before = dict(backbone.unet.attn_processors)
    backbone.unet.set_attn_processor(StoringProcessor(store))
    try:
        text = torch.cat([backbone.text.encode([""]).embeddings, condition]).to(latents)
        backbone.unet(latents.repeat(2, 1, 1, 1), torch.tensor([100]), encoder_hidden_states=text)
    finally:
        backbone.unet.set_attn_processor(before)
    finest = max(array.shape[1] for array in store)
    selves = torch.cat([array for array in store if array.shape[1:] == (finest, finest)])  # 40 4096 4096
    crosses = torch.cat([array[..., 4:5] for array in store if array.shape[1] == finest and array.shape[2] != finest])
    return selves.float().mean(0) @ crosses.float().mean(0)
