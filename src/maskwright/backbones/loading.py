"""Finds a model (catalogue name, local folder, hub cache, hub) and loads it as a frozen backbone."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.backbones.catalog import CatalogRow, catalog
from maskwright.backbones.hub import CLIP, PARTS, WEIGHTED, identify, is_half, weight_set
from maskwright.backbones.hub import SIDECAR as SIDECAR
from maskwright.backbones.hub import fetch as fetch
from maskwright.errors import MaskwrightError, ModelError, brief
from maskwright.quiet import quiet

if TYPE_CHECKING:
    from maskwright.backbones.unet import UNetBackbone


def load_backbone(model: Any = "sticker", *, device: str = "auto", dtype: str = "auto", offline: bool = False) -> "UNetBackbone":
    """Loads a model.

    Args:
        model: catalogue name, local folder in the hub's layout, hub id ("owner/name" or "owner/name@revision"), or a live
            diffusers pipeline, which is read where and as it is: device, dtype and its own settings stay.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto", "float32", "float16", "bfloat16". Where weights lie in fp16 and in full, float32 takes the full ones; from the
            hub only if it is asked for by name, for they are twice the download.
        offline: never touch the network.

    Raises:
        ModelError: with the next step to take.
        SettingsError: a device or dtype that cannot be used.
    """
    if hasattr(model, "unet") and hasattr(model, "text_encoder"):
        return _from_pipeline(model)
    if not isinstance(model, str | os.PathLike):
        raise ModelError(f"a {type(model).__name__} is no model: give a name, a folder, a hub id or a Stable Diffusion pipeline")
    name = str(os.fspath(model))
    folder = Path(name).expanduser()
    if name not in catalog() and folder.is_dir():
        return load_folder(folder, name=name, device=device, dtype=dtype)
    row, repository, revision = identify(name)
    folder = fetch(name, offline=offline, full=dtype == "float32")
    if row is not None and row.folder is not None:
        return load_folder(folder, name=name, row=row, device=device, dtype=dtype)
    return load_folder(folder, name=name, row=row, source=repository, revision=revision or folder.name, device=device, dtype=dtype)


def load_folder(
    folder: Path, *, name: str, row: CatalogRow | None = None, source: str = "", revision: str = "", device: str = "auto",
    dtype: str = "auto",
) -> "UNetBackbone":  # fmt: skip
    """Loads a folder in the diffusers layout; see load_backbone for the arguments.

    Raises:
        ModelError: for a missing or unreadable part, or a kind of model that is not supported yet.
        SettingsError: a device or dtype that cannot be used.
    """
    if missing := [part for part in PARTS if not (folder / part).is_dir()]:
        raise ModelError(f"{folder} lacks {', '.join(missing)}: give a Stable Diffusion 1.x or 2.x folder in the diffusers layout")
    unet_class = _read_json(folder / "unet" / "config.json").get("_class_name")
    if unet_class != "UNet2DConditionModel" or (folder / "text_encoder_2").is_dir():
        raise ModelError(f"{folder} is not a Stable Diffusion 1.x or 2.x model: other families are not supported yet")
    if pickled := [part for part in WEIGHTED if not any((folder / part).glob("*.safetensors"))]:
        raise ModelError(f"{folder} holds no safetensors for {', '.join(pickled)}: fetch it again, or convert it (pickles are never read)")
    sidecar = _read_json(folder / SIDECAR) if (folder / SIDECAR).exists() else {}
    if row is not None:
        sidecar = {**sidecar, "synthesis": {**row.synthesis, **sidecar.get("synthesis", {})}}
    import diffusers
    import torch
    import transformers

    from maskwright.backbones.devices import choose_device, choose_dtype, choose_layout
    from maskwright.backbones.unet import UNetBackbone

    target = choose_device(device)
    with quiet(diffusers, transformers):
        try:
            number = choose_dtype(dtype, target, parameters=_count_parameters(folder / "unet"))
            parts = _load_parts(folder, full=number == torch.float32)
        except MaskwrightError:
            raise
        except Exception as error:  # whatever a damaged file makes of itself in one of four libraries
            raise ModelError(f"{folder} cannot be loaded ({brief(error)}): fetch it again") from error
        for part in WEIGHTED:
            parts[part].to(device=target, dtype=number).requires_grad_(False).eval()
            parts[part].to(memory_format=choose_layout(target))
    return UNetBackbone(
        **parts, name=name, source=source or (f"bundled:{row.bundled}" if row and row.bundled else str(folder)),
        revision=revision or str(sidecar.get("revision", "")), licence=row.licence if row else "", sidecar=sidecar,
        clip=str(folder / CLIP) if (folder / CLIP).is_dir() else "",
    )  # fmt: skip


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} lacks {path.name}: give a folder in the diffusers layout ({', '.join(PARTS)})") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({brief(error)}): fetch the model again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} cannot be read (it is no JSON object): fetch the model again")
    return content


def _count_parameters(folder: Path) -> int:
    """Parameters of one network, by its files' headers: which of its files are loaded depends on them."""
    from safetensors import safe_open

    total = 0
    for file in weight_set([path.name for path in folder.iterdir()], full=False):
        with safe_open(folder / file, framework="pt") as weights:
            total += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())
    return total


def _load_parts(folder: Path, *, full: bool) -> dict[str, Any]:
    """The five components, the weights in float32 on the CPU. The classes are named here: no code comes with weights."""
    import diffusers
    from transformers import CLIPTextModel, CLIPTokenizer

    vae_class = _read_json(folder / "vae" / "config.json").get("_class_name")
    if vae_class not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ModelError(f"{folder} has the autoencoder {vae_class}, which is neither AutoencoderKL nor AutoencoderTiny: use another model")
    scheduler_class = str(_read_json(folder / "scheduler" / "scheduler_config.json").get("_class_name"))
    if not scheduler_class.endswith("Scheduler") or not hasattr(diffusers, scheduler_class):
        raise ModelError(f"{folder} has the scheduler {scheduler_class}, which diffusers does not know: use another model")
    return {
        "unet": _load_weights(diffusers.UNet2DConditionModel, folder / "unet", full=full),
        "vae": _load_weights(getattr(diffusers, vae_class), folder / "vae", full=full),
        "text_encoder": _load_weights(CLIPTextModel, folder / "text_encoder", full=full),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        "scheduler": getattr(diffusers, scheduler_class).from_pretrained(folder / "scheduler", local_files_only=True),
    }


def _load_weights(kind: Any, folder: Path, *, full: bool) -> Any:
    """One network from its safetensors, of which `weight_set` says which.

    Raises:
        ModelError: for missing weights, which both libraries would fill with random numbers.
    """
    import torch

    half = any(is_half(file) for file in weight_set([path.name for path in folder.iterdir()], full=full))
    model, report = kind.from_pretrained(
        folder, dtype=torch.float32, variant="fp16" if half else None, use_safetensors=True, local_files_only=True,
        output_loading_info=True,
    )  # fmt: skip
    if absent := sorted(report["missing_keys"]):
        raise ModelError(f"{folder} lacks {len(absent)} weights, the first is {absent[0]}: fetch it again")
    return model


def _from_pipeline(pipeline: Any) -> "UNetBackbone":
    """Wraps a live pipeline without moving, converting or changing it."""
    from maskwright.backbones.unet import UNetBackbone

    kind = type(pipeline).__name__
    if type(pipeline.unet).__name__ != "UNet2DConditionModel" or getattr(pipeline, "text_encoder_2", None) is not None:
        raise ModelError(f"{kind} is not a Stable Diffusion 1.x or 2.x pipeline: other families are not supported yet")
    parts = {part: getattr(pipeline, part) for part in PARTS}
    if any(hasattr(parts[part], "_hf_hook") for part in WEIGHTED):
        raise ModelError("this pipeline moves its parts between devices: make it without CPU offload, or give its folder instead")
    if any(parts[part].training for part in WEIGHTED):
        raise ModelError("a part of this pipeline is in training mode: call eval() on its unet, vae and text_encoder first")
    source = str(getattr(pipeline.config, "_name_or_path", "") or kind)
    return UNetBackbone(**parts, name=source, source=source, revision="", licence="", sidecar={})
