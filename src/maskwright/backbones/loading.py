"""Finds a model (catalogue name, local folder, hub cache, hub) and loads it as a frozen backbone."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.backbones.catalog import CatalogRow, catalog, find_row
from maskwright.errors import ModelError

if TYPE_CHECKING:
    from maskwright.backbones.unet import UNetBackbone

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
SIDECAR = "maskwright.json"  # optional, beside model_index.json: words, advice, settings that suit the model
SMALL_FILES = ["model_index.json", SIDECAR, "*/*.json", "*/*.txt"]


def load_backbone(
    model: Any = "sticker", *, device: str = "auto", dtype: str = "auto", offline: bool = False
) -> "UNetBackbone":
    """Loads a model.

    Args:
        model: catalogue name, hub id ("owner/name" or "owner/name@revision"), local folder in the hub's layout, or a live
            diffusers pipeline (which is read where and as it is).
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto", "float32", "float16", "bfloat16".
        offline: never touch the network.

    Raises:
        ModelError: with the next step to take.
    """
    if hasattr(model, "unet") and hasattr(model, "text_encoder"):
        return _from_pipeline(model)
    name = os.fspath(model)
    if Path(name).is_dir():
        return load_folder(Path(name), name=name, device=device, dtype=dtype)
    row, repository, revision = _identify(name)
    if row is not None and row.folder is not None:
        return load_folder(row.folder, name=row.name, row=row, device=device, dtype=dtype)
    folder = fetch(name, offline=offline)
    return load_folder(folder, name=name, row=row, source=repository, revision=revision or folder.name, device=device, dtype=dtype)


def _identify(name: str) -> tuple[CatalogRow | None, str, str]:
    """Catalogue row (if any), hub id and revision of a name."""
    if name in catalog():
        row = find_row(name)
        return row, row.repository, row.revision
    repository, _, revision = name.partition("@")
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")) or " " in repository:
        looks_like_path = "/" in name or name.startswith((".", "~"))
        if looks_like_path:
            choices = ", ".join(catalog())
            raise ModelError(f"no such model folder: {name}. Give a folder with model_index.json, a hub id or one of {choices}")
        find_row(name)
    return None, repository, revision


def fetch(name: str, *, offline: bool = False) -> Path:
    """Folder of a model in the hub's cache, downloaded first when it is not there and `offline` is not set.

    Raises:
        ModelError: when it is in neither, or needs an agreement.
    """
    row, repository, revision = _identify(name)
    if row is not None and row.folder is not None:
        return row.folder
    cached = _cached(repository, revision)
    if cached is not None:
        return cached
    if offline or os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True"):
        raise ModelError(
            f"{repository} is not in the local cache and --offline forbids fetching it: run `maskwright models fetch {name}` online"
        )
    return _download(repository, revision)


def _cached(repository: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except HFValidationError:
        raise ModelError(f"{repository!r} is not a hub id: it must look like owner/name") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None
    complete = all((folder / part).is_dir() for part in PARTS) and any((folder / "unet").glob("*.safetensors"))
    return folder if complete else None


def _download(repository: str, revision: str) -> Path:
    """Fetches the small files and one set of safetensors, the fp16 ones where there are such."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        files = [file.rfilename for file in HfApi().model_info(repository, revision=revision or None, timeout=10).siblings or []]
        weights = [file for part in ("unet", "vae", "text_encoder") for file in _weight_files(files, part)]
        if not weights:
            raise ModelError(f"{repository} has no safetensors in the diffusers layout: use another repository or convert it first")
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=[*SMALL_FILES, *weights]))
    except GatedRepoError:
        raise ModelError(f"{repository} is gated: accept its terms on the hub's page of the model, then run `hf auth login`") from None
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no model {repository} (or it is private): check the id, or run `hf auth login`") from None
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        if _is_network_error(error):
            raise ModelError(
                f"{repository} is not in the local cache and the hub cannot be reached: connect once and run `maskwright models fetch`, "
                "copy the model's folder here and give its path, or use --model sticker"
            ) from None
        raise ModelError(f"{repository} could not be fetched: {str(error).splitlines()[0]}") from None


def _is_network_error(error: Exception) -> bool:
    """Whether the hub was never reached: no HTTP answer came with the error."""
    return getattr(error, "response", None) is None


def _weight_files(files: list[str], part: str) -> list[str]:
    """One set of a component's safetensors: fp16 when there is one."""
    mine = [file for file in files if file.startswith(f"{part}/") and file.endswith(".safetensors")]
    half = [file for file in mine if ".fp16" in file]
    full = [file for file in mine if ".fp16" not in file and "non_ema" not in file]
    return half or full


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} lacks {path.name}: give a folder in the diffusers layout ({', '.join(PARTS)})") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): fetch the model again") from None
    return content


def load_folder(
    folder: Path, *, name: str, row: CatalogRow | None = None, source: str = "", revision: str = "", device: str = "auto",
    dtype: str = "auto",
) -> "UNetBackbone":  # fmt: skip
    """Loads a folder in the diffusers layout; see load_backbone for the arguments.

    Raises:
        ModelError: for a missing or unreadable part, or a kind of model that is not supported yet.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}: give a Stable Diffusion 1.x or 2.x folder in the diffusers layout")
    unet_class = _read_json(folder / "unet" / "config.json").get("_class_name")
    if unet_class != "UNet2DConditionModel" or (folder / "text_encoder_2").is_dir():
        raise ModelError(f"{folder} is not a Stable Diffusion 1.x or 2.x model: other families are not supported yet")
    try:
        parts = _load_parts(folder)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder} cannot be loaded ({str(error).splitlines()[0]}): fetch it again") from None
    from maskwright.backbones.devices import choose_device, choose_dtype
    from maskwright.backbones.unet import UNetBackbone

    target = choose_device(device)
    parameters = sum(p.numel() for p in parts["unet"].parameters())
    number = choose_dtype(dtype, target, parameters=parameters)
    for part in ("unet", "vae", "text_encoder"):
        parts[part].to(device=target, dtype=number)
    sidecar = _read_json(folder / SIDECAR) if (folder / SIDECAR).exists() else {}
    return UNetBackbone(
        **parts, name=name, source=source or (f"bundled:{row.bundled}" if row and row.bundled else str(folder)),
        revision=revision or sidecar.get("revision", ""), licence=row.licence if row else "", sidecar=sidecar,
    )  # fmt: skip


def _load_parts(folder: Path) -> dict[str, Any]:
    """The five components, in float32 on the CPU's memory map or as stored."""
    import diffusers
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers import logging as transformers_logging

    def variant(part: str) -> str | None:
        return "fp16" if any((folder / part).glob("*.fp16.safetensors")) else None

    vae_class = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}.get(
        _read_json(folder / "vae" / "config.json").get("_class_name", "")
    )
    if vae_class is None:
        raise ValueError("its autoencoder is neither AutoencoderKL nor AutoencoderTiny")
    scheduler_class = getattr(diffusers, _read_json(folder / "scheduler" / "scheduler_config.json").get("_class_name", ""), None)
    if scheduler_class is None:
        raise ValueError("its scheduler is unknown to diffusers")
    common: dict[str, Any] = {"torch_dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    diffusers.utils.logging.set_verbosity_error()
    try:
        text_encoder = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, variant=variant("text_encoder"), local_files_only=True
        )
        return {
            "unet": UNet2DConditionModel.from_pretrained(folder / "unet", variant=variant("unet"), **common),
            "vae": vae_class.from_pretrained(folder / "vae", variant=variant("vae"), **common),
            "text_encoder": text_encoder,
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            "scheduler": scheduler_class.from_pretrained(folder / "scheduler", local_files_only=True),
        }
    finally:
        transformers_logging.set_verbosity(level)
        diffusers.utils.logging.set_verbosity_warning()


def _from_pipeline(pipeline: Any) -> "UNetBackbone":
    """Wraps a live pipeline without moving or converting it."""
    from maskwright.backbones.unet import UNetBackbone

    if type(pipeline.unet).__name__ != "UNet2DConditionModel" or getattr(pipeline, "text_encoder_2", None) is not None:
        raise ModelError(f"{type(pipeline).__name__} is not a Stable Diffusion 1.x or 2.x pipeline: other families are not supported yet")
    source = str(getattr(pipeline.config, "_name_or_path", "") or type(pipeline).__name__)
    parts = {part: getattr(pipeline, part) for part in PARTS}
    return UNetBackbone(**parts, name=source, source=source, revision="", licence="", sidecar={})
