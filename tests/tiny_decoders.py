"""Decoders that were never trained: random weights whose answers differ from pixel to pixel."""

from collections.abc import Sequence
from typing import Any

import torch

from maskwright.backbones.contract import Backbone
from maskwright.decoders.decoder import Decoder, new_network
from maskwright.decoders.features import describe_model, last_levels
from maskwright.decoders.settings import DecoderSettings
from maskwright.vocabulary import Vocabulary


def build_decoder(backbone: Backbone, *, labels: str | Sequence[str] = (), seed: int = 0, **settings: Any) -> Decoder:
    """A decoder of 8 channels for a model, with steep answers; labels make it a semantic one unless `task` says otherwise."""
    known = Vocabulary.parse(labels).labels if labels else ()
    chosen = DecoderSettings(**{"width": 8, "inversion": "none", "levels": 2, "task": "semantic" if labels else "saliency", **settings})
    model = describe_model(backbone, last_levels(backbone, chosen.levels))
    network = new_network(chosen, Decoder.channels_of(model, chosen), labels=known, seed=seed)
    with torch.no_grad():
        network.last.weight.mul_(20)
        network.last.bias.sub_(20 * network.last.weight.mean((1, 2, 3)))  # both sides of 0.5 occur
    return Decoder(chosen, known, network, model)
