"""Brings hub models to a local folder: from the cache where they are complete, else over the network, asked once."""

from pathlib import Path

from maskwright.backbones.catalog import CatalogRow, catalog, find_row
from maskwright.errors import ModelError, brief

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTED = PARTS[:3]
SIDECAR = "maskwright.json"  # optional, beside model_index.json: words, advice, settings that suit the model
SMALL_FILES = ["model_index.json", SIDECAR, *(f"{part}/*.{kind}" for part in PARTS for kind in ("json", "txt"))]
PATIENCE = 10  # seconds that the hub has for its first answer


def identify(name: str) -> tuple[CatalogRow | None, str, str]:
    """Catalogue row (if any), hub id and revision of a name such as "sd15", "owner/name" or "owner/name@revision".

    Raises:
        ModelError: for anything else.
    """
    if name in catalog():
        row = find_row(name)
        return row, row.repository, row.revision
    repository, _, revision = name.partition("@")
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")) or " " in repository:
        if "/" in name or name.startswith((".", "~")):
            choices = ", ".join(catalog())
            raise ModelError(f"no such model folder: {name!r}. Give a folder with model_index.json, a hub id or one of {choices}")
        find_row(name)
    return None, repository, revision


def fetch(name: str, *, offline: bool = False) -> Path:
    """Folder of a model in the hub's cache, downloaded first when it is not there and `offline` is not set.

    Raises:
        ModelError: when it is in neither, or needs an agreement.
    """
    row, repository, revision = identify(name)
    if row is not None and row.folder is not None:
        return row.folder
    cached = _cached(repository, revision)
    if cached is not None:
        return cached
    from huggingface_hub import constants

    if offline or constants.HF_HUB_OFFLINE:
        raise ModelError(f"{repository} is not in the local cache and offline is on: run `maskwright models fetch {name}` while online")
    return _download(repository, revision, name)


def _cached(repository: str, revision: str) -> Path | None:
    """The snapshot in the cache, if it holds every part; never asks the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except HFValidationError:
        raise ModelError(f"{repository!r} is not a hub id: it must look like owner/name") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None
    complete = all((folder / part).is_dir() for part in PARTS)
    complete = complete and all(any((folder / part).glob("*.safetensors")) for part in WEIGHTED)
    return folder if complete else None


def _download(repository: str, revision: str, name: str) -> Path:
    """Fetches the small files and one set of safetensors, the fp16 ones where there are such."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        told = HfApi().model_info(repository, revision=revision or None, timeout=PATIENCE)
        chosen = weight_files([file.rfilename for file in told.siblings or []])
        if lacking := [part for part in WEIGHTED if not chosen[part]]:
            raise ModelError(
                f"{repository} has no safetensors in the diffusers layout for {', '.join(lacking)}: use another repository or convert it"
            )
        patterns = [*SMALL_FILES, *(file for files in chosen.values() for file in files)]
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
    except ModelError:
        raise
    except GatedRepoError:
        raise ModelError(f"{repository} is gated: accept its terms on the hub's page of the model, then run `hf auth login`") from None
    except RevisionNotFoundError:
        raise ModelError(f"{repository} has no revision {revision!r}: check the part after @, or leave it out") from None
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no model {repository} (or it is private): check the id, or run `hf auth login`") from None
    except Exception as error:  # the hub's client has its own errors, httpx's and the operating system's
        if getattr(error, "response", None) is not None:  # the hub did answer
            raise ModelError(f"{repository} could not be fetched: {brief(error)}") from error
        raise ModelError(
            f"{repository} is not in the local cache and the hub cannot be reached: connect once and run `maskwright models fetch "
            f"{name}`, copy the model's folder here and give its path, or use --model sticker"
        ) from error


def weight_files(files: list[str]) -> dict[str, list[str]]:
    """For each part with weights one set of its safetensors: fp16 where there is one, never the non-EMA ones."""
    return {part: _one_set([file for file in files if file.startswith(f"{part}/")]) for part in WEIGHTED}


def _one_set(files: list[str]) -> list[str]:
    files = [file for file in files if file.endswith(".safetensors") and "non_ema" not in file]
    half = [file for file in files if ".fp16" in file]
    return half or files
