"""`--set KEY=VALUE`: text to the values that a method's settings take, checked against their types."""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from maskwright.errors import SettingsError
from maskwright.methods import METHODS, Methods

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "none"}


def parse_settings(method: str, pairs: Sequence[str], *, among: Methods = METHODS) -> dict[str, Any]:
    """Reads the settings of a method.

    Args:
        method: its name.
        pairs: "hops=2", "timesteps=50,100", "fusion=[[8, 0.5], [4, 0.5]]", "template=a photo of a {}": values are JSON, lists may
            lack their brackets and texts their quotes.
        among: the kind of method.

    Raises:
        SettingsError: no KEY=VALUE, an unknown setting, or a value of another type.
    """
    from maskwright.methods import make_method

    texts: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {pair!r} is not KEY=VALUE: write for instance --set template='a {{}}'")
        if key.strip() in texts:
            raise SettingsError(f"--set {key.strip()} is given twice: keep one of them")
        texts[key.strip()] = text.strip()
    defaults = make_method(method, among=among)
    if unknown := set(texts) - {field.name for field in dataclasses.fields(defaults)}:
        make_method(method, dict.fromkeys(unknown), among=among)  # refuses them, and lists what there is
    hints = get_type_hints(type(defaults))
    return {key: _read(f"{method}: {key}", text, hints[key]) for key, text in texts.items()}


def _read(name: str, text: str, hint: Any) -> Any:
    """The first reading of a text that the type accepts."""
    for value in _readings(text):
        try:
            return _fit(value, hint)
        except ValueError:
            continue
    raise SettingsError(f"{name} takes {_describe(hint)}, not {text!r}")


def _readings(text: str) -> Iterator[Any]:
    """A text as JSON, as a list without brackets, as nothing, and as it stands."""
    for candidate in (text, f"[{text}]"):
        try:
            yield json.loads(candidate)
        except ValueError:
            continue
    if text.lower() == "none":
        yield None
    yield text


def _fit(value: Any, hint: Any) -> Any:
    """The value as the annotated type; ValueError where it is none."""
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _check(value, value in options)
    if origin in (Union, UnionType):
        return _fit_any(value, options)
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        kinds = [options[0]] * len(items) if options[-1] is Ellipsis else list(options)
        _check(items, 0 < len(items) == len(kinds))
        return tuple(_fit(item, kind) for item, kind in zip(items, kinds, strict=True))
    if hint is float:
        _check(value, isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
        return float(value)
    return _check(value, type(value) is hint)


def _fit_any(value: Any, options: Sequence[Any]) -> Any:
    for option in options:
        try:
            return _fit(value, option)
        except ValueError:
            continue
    raise ValueError


def _check(value: Any, fits: bool) -> Any:
    if not fits:
        raise ValueError
    return value


def _describe(hint: Any) -> str:
    """A type in a user's words."""
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, options))
    if origin in (Union, UnionType):
        return " or ".join(map(_describe, options))
    if origin is tuple and options[-1] is Ellipsis:
        return f"a list, each of it {_describe(options[0])}"
    if origin is tuple:
        return f"[{', '.join(map(_describe, options))}]"
    return KINDS.get(hint, "another kind of value")
