"""Checkpoints as a folder of small files, so that a training goes on elsewhere.

`state.json` names the others: `average-*` are the averaged weights in fp16, the ones that are exported; `training-*` are the
trained weights and the optimiser's moments in fp32. With both a training goes on exactly; with the average alone, a third of
the bytes, it goes on from there with a new optimiser. No file is larger than 15 MB.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from maskwright.errors import SettingsError
from maskwright.exports.files import explained, replacing

SHARD = 15_000_000  # bytes of one file at most, but for a single larger tensor
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A training as it was kept.

    Attributes:
        step: the next one to do.
        samples: seen so far.
        average: averaged weights, fp32 again.
        training: trained weights and moments (`moments`); None where only the average was carried over.
    """

    step: int
    samples: int
    average: Tensors
    training: Tensors | None


def shards(tensors: Mapping[str, torch.Tensor], limit: int = SHARD) -> Iterable[Tensors]:
    """The tensors in their order, in groups of at most `limit` bytes."""
    group: Tensors = {}
    held = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if group and held + size > limit:
            yield group
            group, held = {}, 0
        group[name] = tensor
        held += size
    yield group


def save_checkpoint(folder: Path, *, step: int, samples: int, average: Tensors, training: Tensors) -> None:
    """Writes a checkpoint; the one before stays whole until the new one is.

    Raises:
        OutputError: it cannot be written.
    """
    average = {name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor for name, tensor in average.items()}
    mark = secrets.token_hex(3)
    with explained(folder, "choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        names: dict[str, list[str]] = {"average": [], "training": []}
        for kind, tensors in (("average", average), ("training", training)):
            for number, shard in enumerate(shards(tensors)):
                name = f"{kind}-{step:07d}-{mark}-{number}.safetensors"
                with replacing(folder / name) as file:
                    file.write(save({key: tensor.detach().cpu().contiguous() for key, tensor in shard.items()}))
                names[kind].append(name)
        with replacing(folder / "state.json") as file:
            file.write((json.dumps({"step": step, "samples": samples, **names}, indent=1) + "\n").encode())
        kept = {"state.json", *names["average"], *names["training"]}
        for old in folder.glob("*.safetensors"):
            if old.name not in kept:
                old.unlink()


def has_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a checkpoint."""
    return (folder / "state.json").is_file()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of a folder, or None where there is none.

    Raises:
        SettingsError: a folder without the average that it names.
    """
    if not has_checkpoint(folder):
        return None
    state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if missing := [name for name in state["average"] if not (folder / name).is_file()]:
        raise SettingsError(f"the checkpoint {folder} lacks {', '.join(missing)}: bring them, or remove the folder to start anew")
    average = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in _load(folder, state["average"]).items()}
    whole = all((folder / name).is_file() for name in state["training"])
    return Checkpoint(state["step"], state["samples"], average, _load(folder, state["training"]) if whole else None)


def _load(folder: Path, names: Iterable[str]) -> Tensors:
    return {key: tensor for name in names for key, tensor in load_file(folder / name).items()}


def moments(optimiser: torch.optim.AdamW, names: Iterable[str]) -> Tensors:
    """The optimiser's state as named tensors; `names` are those of its parameters, in their order."""
    state = optimiser.state_dict()["state"]
    return {f"{key} {name}": torch.as_tensor(value) for place, name in enumerate(names) for key, value in state.get(place, {}).items()}


def restore_moments(optimiser: torch.optim.AdamW, names: Iterable[str], tensors: Tensors) -> None:
    """Puts back what `moments` took, each in its parameter's memory format: the fused update goes by memory, not by index."""
    groups = optimiser.state_dict()["param_groups"]
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for place, (name, parameter) in enumerate(zip(names, parameters, strict=True)):
        own = {key: tensors[f"{key} {name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key} {name}" in tensors}
        if own:
            laid = {key: torch.empty_like(parameter, requires_grad=False).copy_(own[key]) for key in own if key != "step"}
            state[place] = {"step": own["step"], **laid}
    optimiser.load_state_dict({"state": state, "param_groups": groups})
