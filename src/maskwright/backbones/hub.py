"""Brings hub models to a local folder: from the cache where they are complete, else over the network, asked once."""

from pathlib import Path

from maskwright.backbones.catalog import CatalogRow, catalog, find_row
from maskwright.errors import ModelError, brief

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTED = PARTS[:3]
CLIP = "clip"  # optional: the CLIP that knows the model's words, for the category filter
SIDECAR = "maskwright.json"  # optional, beside model_index.json: words, advice, settings that suit the model
SMALL_FILES = ["model_index.json", SIDECAR, *(f"{part}/*.{kind}" for part in PARTS for kind in ("json", "txt")),
               *(f"{CLIP}/*.{kind}" for kind in ("json", "txt", "safetensors"))]  # fmt: skip
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


def fetch(name: str, *, offline: bool = False, full: bool = False) -> Path:
    """Folder of a model in the hub's cache, downloaded first when it is not there and `offline` is not set.

    Args:
        name: as for `identify`.
        offline: never touch the network.
        full: weights in full precision where the hub has them, twice the download; a cached model in fp16 alone is then taken only if
            the hub cannot be asked.

    Raises:
        ModelError: when it is in neither, needs an agreement, or is of a family that is not supported.
    """
    row, repository, revision = identify(name)
    if row is not None and row.folder is not None:
        return row.folder
    cached = _cached(repository, revision)
    if cached is not None and not (full and _is_rounded(cached)):
        return cached
    from huggingface_hub import constants

    if offline or constants.HF_HUB_OFFLINE:
        if cached is not None:
            return cached
        raise ModelError(f"{repository} is not in the local cache and offline is on: run `maskwright models fetch {name}` while online")
    try:
        return _download(repository, revision, name, full=full)
    except ModelError:
        if cached is None:
            raise
        return cached  # rounded, but there


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


def _is_rounded(folder: Path) -> bool:
    """Whether a part of a model is there in fp16 alone."""
    sets = (weight_set([path.name for path in (folder / part).iterdir()], full=True) for part in WEIGHTED)
    return any(is_half(file) for files in sets for file in files)


def _download(repository: str, revision: str, name: str, *, full: bool) -> Path:
    """Fetches the small files and one set of safetensors; what cannot be read is refused before any of them."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        told = HfApi().model_info(repository, revision=revision or None, timeout=PATIENCE)
        listed = [file.rfilename for file in told.siblings or []]
        if any(file.startswith("text_encoder_2/") for file in listed):
            raise ModelError(f"{repository} has a second text encoder, so it is not of SD 1.x or 2.x: other families are not supported yet")
        chosen = weight_files(listed, full=full)
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


def weight_files(files: list[str], *, full: bool = False) -> dict[str, list[str]]:
    """For each part with weights one set of its safetensors, as `weight_set` chooses it."""
    return {part: weight_set([file for file in files if file.startswith(f"{part}/")], full=full) for part in WEIGHTED}


def weight_set(files: list[str], *, full: bool) -> list[str]:
    """One set of a part's safetensors: the fp16 ones where there are such, with `full` only where there are no others.

    The non-EMA ones are never among them.
    """
    files = [file for file in files if file.endswith(".safetensors") and "non_ema" not in file]
    half, whole = [file for file in files if is_half(file)], [file for file in files if not is_half(file)]
    return (whole or half) if full else (half or whole)


def is_half(file: str) -> bool:
    """Whether a file of weights is rounded to fp16, by its name."""
    return ".fp16" in file
