"""A training's state in one safetensors file: what is trained, AdamW's moments, and where it stood. Written whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from maskwright.datasets.masks import quote
from maskwright.errors import OutputError, SettingsError, brief
from maskwright.exports.files import explained, replacing
from maskwright.record import told_differences

CHECKPOINT = "checkpoint.safetensors"
FORMAT = "maskwright training 1"
KEY = "maskwright"  # of the metadata that is ours


def save_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, head: Mapping[str, Any]) -> None:
    """Puts a checkpoint in place of the one before, on the disk when this returns.

    Args:
        path: of the file.
        module: what is trained; its parameters and buffers are stored as they are.
        optimizer: over the module's parameters, in their order.
        head: plain JSON values that say what is trained, how, and where it stands.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    for place, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": torch.as_tensor(value) for name, value in values.items()}
    # A clone each: safetensors refuses tensors that share memory or do not lie in rows.
    whole = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    content = save(whole, {KEY: json.dumps({"format": FORMAT, **head}, allow_nan=False)})
    with explained(path.parent, "choose another folder with --out"), replacing(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_head(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` was told as `head`, without reading tensors.

    Raises:
        OutputError: a file that is no checkpoint, or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            head: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
        if head.pop("format") == FORMAT:
            return head
        reason = "another form"
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = brief(error)
    raise OutputError(f"{quote(path)} is no checkpoint of this version ({reason}): choose another folder with --out")


def load_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Brings module and optimizer to the stored state.

    Args:
        path: of the file.
        module: with the stored one's parameters and buffers, on any device.
        optimizer: over its parameters, in the stored one's order.

    Returns:
        The head, as `read_head` gives it.

    Raises:
        OutputError: a file that is no checkpoint, or one of another network.
    """
    head = read_head(path)
    state: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():
            kind, _, name = key.partition(".")
            if kind == "module":
                state[name] = file.get_tensor(key)
            else:
                place, _, what = name.partition(".")
                moments.setdefault(int(place), {})[what] = file.get_tensor(key)
    try:
        module.load_state_dict(state)
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError) as error:
        raise OutputError(f"{quote(path)} is of another network ({brief(error)}): choose another folder with --out") from error
    return head


def refuse_differences(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raises SettingsError, which names what differs and both values where they are short, unless both say the same.

    Args:
        found: what decided the earlier training, plain JSON values, nested or not.
        wanted: what decides this one.
        folder: the training's, for the message.
    """
    if different := told_differences(found, json.loads(json.dumps(wanted))):
        raise SettingsError(f"{quote(folder)} is trained with other settings ({different}): repeat them, or choose another one by --out")
