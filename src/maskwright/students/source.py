"""Where a checkpoint to begin with comes from: a local folder, else the hub's cache, else the network."""

import contextlib
import json
from pathlib import Path
from typing import Any

from maskwright.errors import ModelError, brief
from maskwright.hub_cache import find_snapshot

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "*.safetensors"
WANTED = ["*.json", WEIGHTS]  # what is downloaded; pickled weights are never read
EXAMPLE = "owner/name"


def find_checkpoint(source: str, *, offline: bool = False) -> Path:
    """The folder of a checkpoint: `source` itself, or its snapshot in the hub's cache, downloaded if it must be.

    A complete snapshot in the cache is used as it is; the hub is not asked for a newer one.

    Args:
        source: a folder, or a hub id "owner/name" or "owner/name@revision".
        offline: never ask the network.

    Raises:
        ModelError: no such folder or id, not cached while offline, not to be downloaded, or without safetensors.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # names that no folder can have, homes that nobody has
        if (folder := Path(source).expanduser()).is_dir():
            return _checked(folder, source)
    repository, _, revision = source.partition("@")
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")) or " " in repository:
        raise ModelError(f"no folder {source!r}: give one with {CONFIG} and safetensors, or a hub id such as {EXAMPLE}")
    cached = find_snapshot(repository, wanted=WANTED, revision=revision or None, local=True)
    if cached and not _missing(cached):
        return cached
    from huggingface_hub import constants

    if offline or constants.HF_HUB_OFFLINE:
        held = "only in part in" if cached else "not in"
        advice = f"run `hf download {repository}` while online, or give a local folder"
        raise ModelError(f"{repository} is {held} the local cache and offline is on: {advice}")
    fetched = find_snapshot(repository, wanted=WANTED, revision=revision or None, local=False)
    if fetched is None:
        raise ModelError(f"cannot download {repository}: check the connection, or give a local folder")
    return _checked(fetched, source)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is no file.

    Raises:
        ModelError: a file that is none.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {str(path)!r} ({brief(error)}): restore the file") from error
    if not isinstance(found, dict):
        raise ModelError(f"{str(path)!r} holds no JSON object: restore the file")
    return found


def _missing(folder: Path) -> list[str]:
    return [name for name in (CONFIG, WEIGHTS) if not any(folder.glob(name))]


def _checked(folder: Path, source: str) -> Path:
    """The folder, when it may hold a checkpoint."""
    if missing := _missing(folder):
        raise ModelError(f"{source!r} lacks {' and '.join(missing)}: give a checkpoint in the layout of transformers, saved as safetensors")
    return folder
