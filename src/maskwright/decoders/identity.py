"""Which decoder it is: opened for the task at hand, and told apart from another by its weights."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from maskwright.decoders.decoder import Decoder
from maskwright.decoders.settings import Task
from maskwright.errors import SettingsError

OTHERWISE: dict[Task, str] = {  # by the task that a decoder has: what to do with it
    "saliency": "finds what stands out, not classes: use it with discover, or train one with --task semantic",
    "semantic": "finds classes, not what stands out: use it with segment, or train one with --task saliency",
}


def open_decoder(decoder: Decoder | str | Path, *, task: Task) -> Decoder:
    """A decoder, loaded unless it is.

    Args:
        decoder: folder of `maskwright train`, "bundled", or a loaded decoder.
        task: that it must be trained for.

    Raises:
        ModelError: a decoder that cannot be loaded.
        SettingsError: one of another task.
    """
    opened = decoder if isinstance(decoder, Decoder) else Decoder.load(decoder)
    if opened.settings.task != task:
        name = "this decoder" if isinstance(decoder, Decoder) else f"the decoder {str(decoder)!r}"
        raise SettingsError(f"{name} {OTHERWISE[opened.settings.task]}")
    return opened


def identify(decoder: Decoder) -> dict[str, Any]:
    """The settings of a decoder and a digest of its labels and weights; wherever it lies, the same decoder has the same identity."""
    hashed = hashlib.sha256(json.dumps([list(label.texts) for label in decoder.labels]).encode())
    for name, tensor in sorted(decoder.network.state_dict().items()):
        hashed.update(f"{name}{tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return {**dataclasses.asdict(decoder.settings), "digest": hashed.hexdigest()[:16]}
