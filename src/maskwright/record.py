"""How a result was made: everything that is needed to make it again."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

SHORT = 60  # characters of a setting that an error message quotes


@dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """What made a result.

    Attributes:
        method: name of the method.
        settings: the method's settings, by name.
        model: model id or folder.
        revision: commit of the model, None for a folder.
        device: "cpu", "cuda", ...
        dtype: "float32", "bfloat16", ...
        seed: the seed of the noise.
        prompting: how labels became prompts.
        background: threshold, background word, or None.
        refine: name of the refiner.
        tile: tiling, or "none".
        flip: whether the picture was read in a mirror as well.
        category_filter: settings of the category filter, None for none.
        captioner: the model that continued the prompts, None for none.
        naming: how words came to regions that were found without them, or to what was discovered; None where labels compete.
        versions: package versions by name.
        timings: seconds by stage.
        warnings: what the user was told.
    """

    method: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0
    prompting: str | None = None
    background: str | float | None = None
    refine: str = "none"
    tile: str = "none"
    flip: bool = False
    category_filter: Mapping[str, Any] | None = None
    captioner: str | None = None
    naming: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values, in the order above."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


def plain(value: Any) -> Any:
    """A JSON value that says the same; what JSON has no form for (infinity, paths, dtypes) becomes its text."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value, key=str)]
    return str(value)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def told_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Names of the settings that differ, with both values where they are short; empty where none does.

    Args:
        old: plain JSON values, nested or not.
        new: the same.
    """
    before, after, shown = flat(old), flat(new), []
    for key in dict.fromkeys((*after, *before)):
        if before.get(key) != after.get(key):
            texts = [json.dumps(values.get(key), ensure_ascii=False) for values in (before, after)]
            shown.append(f"{key} {texts[0]}, not {texts[1]}" if max(map(len, texts)) <= SHORT else key)
    return "; ".join(shown)
