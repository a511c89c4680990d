"""Which pictures an earlier run has done already."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.cli.sources import Source

if TYPE_CHECKING:
    from maskwright.segmenter import Segmenter
    from maskwright.vocabulary import Vocabulary

ENDINGS = (".labels.png", ".overlay.png", ".json")
DECISIVE = ("method", "settings", "model", "revision", "seed", "prompting", "background", "refine", "tile", "category_filter", "captioner")


def output_paths(folder: Path, name: str) -> tuple[Path, ...]:
    """The three files of a picture."""
    return tuple(folder / f"{name}{ending}" for ending in ENDINGS)


def read_done(folder: Path, source: Source) -> dict[str, Any] | None:
    """The JSON of a picture whose files are all there (the JSON is written last), else None."""
    *pictures, document = output_paths(folder, source.name)
    try:
        content = json.loads(document.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and all(path.is_file() for path in pictures) else None


def expected(segmenter: "Segmenter", vocabulary: "Vocabulary") -> dict[str, Any]:
    """What the JSON of a result of this run says, as far as it decides the result."""
    record = segmenter.record(vocabulary).as_dict()
    labels = [[label.name, list(label.synonyms)] for label in vocabulary.foreground]
    background = [label.name for label in vocabulary if label.background]
    return {"labels": labels, "background words": background, **{key: record[key] for key in DECISIVE}}


def differences(document: dict[str, Any], source: Source, wanted: dict[str, Any]) -> list[str]:
    """In what a stored result differs from what this run would give: names of settings, empty for a result to keep."""
    try:
        found = {
            "labels": [[label["name"], label["synonyms"]] for label in document["labels"]],
            "background words": document["background"]["names"],
            **{key: document["record"][key] for key in DECISIVE},
        }
        same_picture = os.path.abspath(document["picture"]["source"]) == os.path.abspath(source.path)
    except (KeyError, TypeError):
        return ["file format"]
    different = [key for key in wanted if found[key] != wanted[key]]
    return different if same_picture else ["picture", *different]
