"""Which pictures an earlier run has done already."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.cli.sources import Source
from maskwright.errors import OutputError
from maskwright.methods import DISCOVERY_METHODS, METHODS, REGION_METHODS

if TYPE_CHECKING:
    from maskwright.record import Record
    from maskwright.vocabulary import Vocabulary

COMMANDS: tuple[frozenset[str], ...] = (  # methods whose results one command writes
    frozenset({*METHODS, "diffusionseg-semantic"}), frozenset(REGION_METHODS), frozenset({*DISCOVERY_METHODS, "diffusionseg"}),
)  # fmt: skip
DECISIVE = (
    "method", "settings", "model", "revision", "seed", "prompting", "background", "refine", "tile", "flip", "category_filter", "captioner"
)  # fmt: skip


def output_paths(folder: Path, name: str, kinds: Sequence[str]) -> tuple[Path, ...]:
    """The files of a picture: "labels" is NAME.labels.png, "json" is NAME.json."""
    return tuple(folder / f"{name}{'.json' if kind == 'json' else f'.{kind}.png'}" for kind in kinds)


def read_done(paths: Sequence[Path]) -> dict[str, Any] | None:
    """The JSON of a picture whose files are all there (the JSON is written last), else None."""
    *pictures, document = paths
    try:
        content = json.loads(document.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and all(path.is_file() for path in pictures) else None


def expected(record: "Record", *, vocabulary: "Vocabulary | None" = None, named: bool = False) -> dict[str, Any]:
    """What the JSON of a result of this run says, as far as it decides the result.

    Args:
        record: how this run makes its results.
        vocabulary: of the labels that compete, None where there are none.
        named: whether it matters how words came to what was found.
    """
    content = record.as_dict()
    wanted = {key: content[key] for key in (*DECISIVE, *(("naming",) if named else ()))}
    if vocabulary is None:
        return wanted
    labels = [[label.name, list(label.synonyms)] for label in vocabulary.foreground]
    return {"labels": labels, "background words": [label.name for label in vocabulary if label.background], **wanted}


def differences(document: Mapping[str, Any], written: Path, source: Source, wanted: Mapping[str, Any]) -> list[str]:
    """In what a stored result differs from what this run would give: names of settings, empty for a result to keep.

    Args:
        document: the result's JSON.
        written: its file; a picture that was changed after it is another picture.
        source: the picture.
        wanted: what `expected` gives for this run.
    """
    try:
        different = [key for key, value in wanted.items() if _find(document, key) != value]
        same_picture = os.path.abspath(document["picture"]["source"]) == os.path.abspath(source.path) and not _is_newer(source, written)
    except (KeyError, TypeError):
        return ["file format"]
    return different if same_picture else ["picture", *different]


def _is_newer(source: Source, result: Path) -> bool:
    """Whether the picture's file was changed after its result was written."""
    try:
        return source.path.stat().st_mtime_ns > result.stat().st_mtime_ns
    except OSError:
        return False


def refuse_other_command(wanted: Mapping[str, Any], sources: Sequence[Source], folder: Path) -> None:
    """Keeps the commands from writing over each other's results, which have the same names.

    Args:
        wanted: what `expected` gives for this run.
        sources: the pictures to come.
        folder: of the results.

    Raises:
        OutputError: the folder holds another command's result for one of them.
    """
    for source in sources:
        document = read_done([path := folder / f"{source.name}.json"])
        record = None if document is None else document.get("record")
        method = record.get("method") if isinstance(record, dict) else None
        other = any(method in command and wanted["method"] not in command for command in COMMANDS)
        if other:
            raise OutputError(f"{str(path)!r} is of {method}, which another command made: choose another folder with --out")


def _find(document: Mapping[str, Any], key: str) -> Any:
    """The part of a stored result that `expected` calls so."""
    if key == "labels":
        return [[label["name"], label["synonyms"]] for label in document["labels"]]
    if key == "background words":
        return document["background"]["names"]
    record = document["record"]
    if key == "flip":
        return record.get(key, False)  # results from before there was a choice say nothing of it
    return record[key] if key in record else document[key]
