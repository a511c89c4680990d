"""`--method`, `--set` and `--sweep`: text to the methods that an evaluation compares, each with its settings and its key."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from maskwright.cli.settings import parse_settings
from maskwright.errors import SettingsError
from maskwright.methods import ALL_METHODS

if TYPE_CHECKING:
    from maskwright.evaluation.crews import Choice

MOST = 200  # methods that one sweep may make


@dataclass(frozen=True)
class _Setting:
    """KEY=VALUE or METHOD.KEY=VALUE of a command line."""

    method: str | None
    key: str
    value: str

    @classmethod
    def read(cls, option: str, text: str) -> "_Setting":
        """Raises SettingsError for a text without an equals sign."""
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise SettingsError(f"{option} {text!r} is not KEY=VALUE or METHOD.KEY=VALUE: write for instance {option} hops=2")
        method, dot, key = name.strip().partition(".")
        return cls(method, key, value.strip()) if dot else cls(None, method, value.strip())


def read_choices(methods: Sequence[str], settings: Sequence[str] = (), sweeps: Sequence[str] = ()) -> list["Choice"]:
    """The methods of an evaluation.

    Args:
        methods: names, several separated by commas.
        settings: "KEY=VALUE" for every method that has such a setting, "METHOD.KEY=VALUE" for one.
        sweeps: likewise, with several values, "timesteps=50,100,[50,100]": every combination becomes a method of its own, whose key
            tells its values, "diffsegmenter[timesteps=50]".

    Raises:
        SettingsError: an unknown method or setting, or a value of another type.
    """
    names = [name.strip() for text in methods for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ALL_METHODS:
            raise SettingsError(f"unknown method {name!r}: choose one or more of {', '.join(ALL_METHODS)}")
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"--method takes one or more different methods, not {', '.join(names) or 'none'}")
    known = {name: _setting_names(name) for name in names}
    fixed = [_Setting.read("--set", text) for text in settings]
    swept = [_Setting.read("--sweep", text) for text in sweeps]
    for one in (*fixed, *swept):
        _refuse_useless(one, known)
    if double := {(one.method, one.key) for one in swept} & {(one.method, one.key) for one in fixed}:
        raise SettingsError(f"{', '.join(sorted(key for _, key in double))} is given to --set and to --sweep: keep one of them")
    choices = [choice for name in names for choice in _combinations(name, known[name], fixed, swept)]
    if len(choices) > MOST:
        raise SettingsError(f"the sweep makes {len(choices)} methods, more than {MOST}: leave values out")
    return choices


def split_values(text: str) -> list[str]:
    """The values of a list, separated by commas outside of brackets: "1,[2,3]" is "1" and "[2,3]"."""
    values, depth = [""], 0
    for sign in text:
        depth += (sign in "[{(") - (sign in "]})")
        if sign == "," and depth == 0:
            values.append("")
        else:
            values[-1] += sign
    return [value.strip() for value in values]


def _combinations(name: str, known: frozenset[str], fixed: Sequence[_Setting], swept: Sequence[_Setting]) -> Iterator["Choice"]:
    """One method for each combination of the swept values that it has."""
    from maskwright.evaluation.crews import Choice
    from maskwright.methods import make_method

    own = [one for one in swept if _means(one, name, known)]
    pairs = [f"{one.key}={one.value}" for one in fixed if _means(one, name, known)]
    for values in product(*(split_values(one.value) for one in own)):
        chosen = [f"{one.key}={value}" for one, value in zip(own, values, strict=True)]
        settings = parse_settings(name, [*pairs, *chosen], among=ALL_METHODS)
        make_method(name, settings, among=ALL_METHODS)  # a wrong value is told before a model is loaded
        yield Choice(f"{name}[{','.join(chosen)}]" if chosen else name, name, settings)


def _setting_names(method: str) -> frozenset[str]:
    from maskwright.methods import make_method

    return frozenset(field.name for field in dataclasses.fields(make_method(method, among=ALL_METHODS)))


def _means(setting: _Setting, method: str, known: frozenset[str]) -> bool:
    """Whether a setting is one of this method's."""
    return setting.method == method or (setting.method is None and setting.key in known)


def _refuse_useless(setting: _Setting, known: dict[str, frozenset[str]]) -> None:
    """Raises SettingsError for a setting that no chosen method has."""
    if setting.method is not None and setting.method not in known:
        raise SettingsError(f"{setting.method}.{setting.key}: {setting.method!r} is not among the methods {', '.join(known)}")
    wanted = list(known) if setting.method is None else [setting.method]
    if not any(setting.key in known[name] for name in wanted):
        have = sorted(set().union(*(known[name] for name in wanted)))
        raise SettingsError(f"{', '.join(wanted)} has no setting {setting.key}: there are {', '.join(have)}")
