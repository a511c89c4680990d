"""Whose folder it is: nothing's yet, a data set to go on with, another run's at this moment, or somebody else's."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskwright.errors import OutputError, SettingsError
from maskwright.exports.locking import lock
from maskwright.record import told_differences
from maskwright.vocabulary import Vocabulary

SETTINGS, LOG = "synthesis.json", "pairs.jsonl"
FORMAT = "maskwright pairs 1"
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")  # as `replacing` names what it has not put in place yet


def describe(settings: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of synthesis.json, as it reads after it was written."""
    content = {
        "format": FORMAT,
        "labels": [[label.name, *label.synonyms] for label in vocabulary.foreground],
        "background": [list(label.texts) for label in vocabulary if label.background],
        "settings": settings,
    }
    described: dict[str, Any] = json.loads(to_json(content))
    return described


def to_json(content: Mapping[str, Any]) -> bytes:
    """Strict JSON (no NaN) in UTF-8, ending in a line break."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    return text.encode("utf-8", "backslashreplace")


def is_begun(folder: Path, wanted: Mapping[str, Any], *, resume: bool) -> bool:
    """Whether the folder holds the data set that is wanted; False where there is nothing yet. Changes nothing.

    Args:
        folder: need not be there.
        wanted: what `describe` gives for this run.
        resume: whether a data set that is there may be continued.

    Raises:
        OutputError: other files are there, or a data set and `resume` is off, or one without its pairs.jsonl.
        SettingsError: the data set was made with other settings; the message names them.
    """
    shown = repr(str(folder))
    if not os.path.lexists(folder):
        return False
    try:  # lstat: a link that points nowhere is a file that is there
        sizes = {path.name: path.lstat().st_size for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name)}
    except OSError as error:
        raise OutputError(f"cannot use {shown} ({error.strerror}): choose another folder with --out") from error
    if not sizes or sizes == {LOG: 0}:  # the second where a run was killed before it wrote its settings
        return False
    found = _read_settings(folder)
    if not found:
        raise OutputError(f"{shown} is not empty and holds no data set to go on with: choose an empty or new folder with --out")
    if not resume:
        raise OutputError(f"{shown} holds a data set already: go on with it by --resume, or choose another folder with --out")
    if LOG not in sizes:
        raise OutputError(f"{LOG} is missing in {shown}: put it back, or choose another folder with --out")
    if different := _differences(found, wanted):
        raise SettingsError(f"{shown} was made with other settings ({different}): repeat them, or choose another folder with --out")
    return True


def open_locked(folder: Path) -> int:
    """The file descriptor of pairs.jsonl, made if need be; the system ends the lock with the process, however it ends.

    Raises:
        OutputError: another run holds the lock.
    """
    log = os.open(folder / LOG, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        lock(log, folder)
    except OutputError:
        os.close(log)
        raise
    return log


def _read_settings(folder: Path) -> dict[str, Any]:
    """The content of synthesis.json, empty where it is missing or not ours."""
    try:
        found = json.loads((folder / SETTINGS).read_bytes())
    except (OSError, ValueError):
        return {}
    known = isinstance(found, dict) and found.get("format") == FORMAT and {"settings", "labels", "background"} <= found.keys()
    return found if known else {}


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs in words; empty where nothing does."""
    old, new = ({**content["settings"], **{key: content[key] for key in ("labels", "background")}} for content in (found, wanted))
    return told_differences(old, new)
