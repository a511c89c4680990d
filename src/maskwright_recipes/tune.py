"""Measures settings of a method on the tuning split of a scene set, every combination of the values given."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from maskwright.backbones.loading import load_backbone
from maskwright.errors import SettingsError
from maskwright.evaluation.scenes import run_benchmark
from maskwright.segmenter import Segmenter


@dataclass(frozen=True)
class Row:
    """What a combination reached: mean IoU with the caption's words, with all words competing."""

    settings: dict[str, Any]
    given: float
    competing: float


def parse_tries(tries: Sequence[str]) -> dict[str, list[Any]]:
    """Entries such as "hops=[0,1]" as lists of values by key.

    Raises:
        SettingsError: an entry that is none.
    """
    values: dict[str, list[Any]] = {}
    for entry in tries:
        key, equals, listed = entry.partition("=")
        try:
            values[key] = json.loads(listed)
        except ValueError:
            values[key] = []
        if not equals or not isinstance(values[key], list) or not values[key]:
            raise SettingsError(f"--try {entry!r} is no list of values: write for instance --try 'hops=[0,1]'")
    return values


def measure(
    model: str, method: str, tries: dict[str, list[Any]], *, words: str | Path = "scenes", limit: int = 60, split: str = "tuning",
    refine: Literal["none", "guided", "pamr"] = "none",
) -> Iterator[Row]:  # fmt: skip
    """Measures every combination, one after the other, on the first `limit` scenes of a split; `refine` as for `Segmenter`."""
    backbone = load_backbone(model)
    for combination in itertools.product(*tries.values()):
        settings = dict(zip(tries, combination, strict=True))
        segmenter = Segmenter(backbone, method, settings=settings, refine=refine, background="none")
        given = run_benchmark(segmenter, limit=limit, split=split, labels="caption", scenes=words).miou
        competing = run_benchmark(segmenter, limit=limit, split=split, labels="all", scenes=words).miou
        yield Row(settings, given, competing)
