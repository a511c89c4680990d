"""The methods: one folder each, one line each in the list below."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from maskwright.errors import SettingsError

METHODS = {
    "diffsegmenter": ("maskwright.methods.diffsegmenter.method", "DiffSegmenter"),
    "maskdiffusion": ("maskwright.methods.maskdiffusion.method", "MaskDiffusion"),
}


def make_method(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """A method by name, with settings over its defaults.

    Raises:
        SettingsError: for an unknown method or setting, listing what there is.
    """
    if name not in METHODS:
        raise SettingsError(f"unknown method {name!r}: choose one of {', '.join(METHODS)}")
    module, attribute = METHODS[name]
    kind = getattr(importlib.import_module(module), attribute)
    known = {field.name for field in dataclasses.fields(kind)}
    settings = dict(settings or {})
    if unknown := sorted(set(settings) - known):
        raise SettingsError(f"{name} has no setting {', '.join(unknown)}: it has {', '.join(sorted(known))}")
    return kind(**{key: _as_tuples(value) for key, value in settings.items()})


def _as_tuples(value: Any) -> Any:
    """Lists, as data files hold them, to tuples, as frozen settings want them."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value
