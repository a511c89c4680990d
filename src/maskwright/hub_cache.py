"""Files of the Hugging Face hub: from its cache on this machine, or downloaded into it."""

from collections.abc import Sequence
from pathlib import Path

from maskwright.errors import ModelError, brief


def find_snapshot(repository: str, *, wanted: Sequence[str], revision: str | None = None, local: bool) -> Path | None:
    """The folder of a repository's snapshot; None where there is none and, without `local`, the hub is out of reach.

    Args:
        repository: hub id.
        wanted: patterns of the files.
        revision: commit, tag or branch; None for the newest.
        local: take what the cache has, perhaps only a part, and never ask the network.

    Raises:
        ModelError: a name that is no hub id, or any other failure.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(wanted), local_files_only=local))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelError(f"'{repository}' is neither a folder nor a hub id ({brief(error)}): correct the name") from error
    except Exception as error:  # the hub's client has its own errors, httpx's and the operating system's
        deed = "read the hub's cache for" if local else "download"
        advice = "check the name and the connection, or give a local folder"
        raise ModelError(f"cannot {deed} {repository} ({brief(error)}): {advice}") from error
