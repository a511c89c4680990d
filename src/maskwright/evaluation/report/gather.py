"""Runs put side by side: a column for each data set and protocol, a row for each method, and what is swept."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskwright.errors import SettingsError
from maskwright.evaluation.protocol import Protocol
from maskwright.evaluation.titles import MetricTitle, find_title

SWEPT = re.compile(r"(?P<base>.*?)\[(?P<settings>.*)\]", re.DOTALL)  # diffsegmenter[timesteps=(1, 50),hops=2]
BETWEEN = re.compile(r"\]\[|,\s*(?=[A-Za-z_][\w.]*=)")


@dataclass(frozen=True, eq=False)
class ReportRun:
    """A run that a report shows.

    Attributes:
        name: what the report calls it, unique in the report.
        summary: what `summarise` returned.
        overlays: folder with its overlays; None without.
    """

    name: str
    summary: Mapping[str, Any]
    overlays: Path | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    """One method of a run.

    Attributes:
        key: of the method in its run.
        title: what the report calls it, unique in its column.
        result: its part of the summary.
        run: where it comes from.
    """

    key: str
    title: str
    result: Mapping[str, Any]
    run: ReportRun

    @property
    def base(self) -> str:
        """The method's name without what is swept."""
        return split_key(self.key)[0]

    @property
    def swept(self) -> bool:
        """Whether the key tells settings."""
        return bool(split_key(self.key)[1])

    def value(self, metric: str) -> float | None:
        """The value of a metric, None where it was not measured."""
        found = self.result["metrics"].get(metric)
        return None if found is None else found["value"]


@dataclass(frozen=True, eq=False)
class Column:
    """Runs that measured the same thing: the same pictures under the same protocol.

    Attributes:
        dataset, protocol: as in the summaries.
        runs: in the order given.
        entries: the methods of all of them.
    """

    dataset: Mapping[str, Any]
    protocol: Mapping[str, Any]
    runs: list[ReportRun] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Data set and split, and what part of it was measured."""
        parts = [f"{self.dataset['name']} {self.dataset['split']}"]
        if (limit := self.dataset.get("limit")) is not None:
            parts.append(f"first {limit} pictures")
        if shard := self.dataset.get("shard"):
            parts.append(f"shard {shard[0]} of {shard[1]}")
        return ", ".join(parts)

    @property
    def protocol_name(self) -> str:
        """What the protocol is called."""
        return str(self.protocol.get("name", "not named"))

    @property
    def protocol_words(self) -> str:
        """What the protocol does, in words; its fields where this version does not know them."""
        try:
            return Protocol.from_dict(dict(self.protocol)).describe().removeprefix(f"{self.protocol_name}: ")
        except (SettingsError, TypeError):
            return "; ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in self.protocol.items() if key != "name")

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, the main one first."""
        return list(dict.fromkeys(name for entry in self.entries for name in entry.result["metrics"]))

    @property
    def headline(self) -> str | None:
        """The main metric: the first one of the first method."""
        return next(iter(self.metrics), None)

    @property
    def headline_metric(self) -> MetricTitle:
        """How the main metric is shown."""
        return find_title(self.headline or "")

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the confusion matrix."""
        return [str(name) for name in self.dataset.get("classes") or ()]

    def ranked(self) -> list[Entry]:
        """The methods by the main metric, best first; those without a value last."""
        sign = -1 if self.headline_metric.higher else 1
        values = [entry.value(self.headline) if self.headline else None for entry in self.entries]
        order = sorted(range(len(values)), key=lambda place: (values[place] is None, sign * (values[place] or 0)))
        return [self.entries[place] for place in order]


@dataclass(frozen=True)
class Sweep:
    """One setting of a method tried at several values, everything else being equal within a series.

    Attributes:
        base: the method.
        setting: what was changed.
        values: as written, in the order in which they were tried; numbers in rising order.
        numeric: whether all of them are numbers, so that a line may join them.
        series: for each combination of the other settings, the entry at each value that was measured.
    """

    base: str
    setting: str
    values: tuple[str, ...]
    numeric: bool
    series: Mapping[str, Mapping[str, Entry]]


def arrange(runs: Sequence[ReportRun]) -> list[Column]:
    """Puts runs of the same pictures and protocol into one column, in the order in which they first appear."""
    columns: dict[str, Column] = {}
    for run in runs:
        dataset, protocol = run.summary["dataset"], run.summary["protocol"]
        same = {key: value for key, value in dataset.items() if key != "shard" or value}
        column = columns.setdefault(json.dumps([same, protocol], sort_keys=True, default=str), Column(dataset, protocol))
        column.runs.append(run)
    for column in columns.values():
        column.entries.extend(_entries(column.runs))
    return list(columns.values())


def split_key(key: str) -> tuple[str, dict[str, str]]:
    """Reads "diffsegmenter[hops=2,timesteps=(1, 50)]" as the method and what is swept, as written."""
    found = SWEPT.fullmatch(key)
    if found is None:
        return key, {}
    pairs = (part.partition("=") for part in BETWEEN.split(found["settings"]))
    return found["base"], {name.strip(): value.strip() for name, _, value in pairs}


def find_sweeps(entries: Iterable[Entry]) -> list[Sweep]:
    """The settings that differ between entries of one method, each with its series; a method without any is left out."""
    methods: dict[str, list[tuple[Entry, dict[str, str]]]] = {}
    for entry in entries:
        base, settings = split_key(entry.key)
        if settings:
            source = "" if entry.title == entry.key else entry.title.removeprefix(entry.key).strip()
            methods.setdefault(f"{base} {source}".strip(), []).append((entry, settings))
    sweeps = []
    for base, tried in methods.items():
        for setting in dict.fromkeys(name for _, settings in tried for name in settings):
            values = list(dict.fromkeys(settings[setting] for _, settings in tried if setting in settings))
            if len(values) > 1:
                sweeps.append(_sweep(base, setting, values, tried))
    return sweeps


def model_name(summary: Mapping[str, Any]) -> str:
    """What the model of a run is called."""
    model = summary.get("model")
    if isinstance(model, Mapping):
        return str(model.get("name") or model.get("source") or model.get("model") or "not named")
    return "not named" if model is None else str(model)


def _entries(runs: Sequence[ReportRun]) -> list[Entry]:
    """Methods of several runs; one that occurs twice is told apart by its model, and if that is the same by its run."""
    found = [(key, result, run) for run in runs for key, result in run.summary["methods"].items()]
    models = {model_name(run.summary) for run in runs}
    named = [f"{key} ({model_name(run.summary)})" if len(models) > 1 else key for key, _, run in found]
    titles = [f"{title} ({run.name})" if named.count(title) > 1 else title for title, (_, _, run) in zip(named, found, strict=True)]
    return [Entry(key, title, result, run) for title, (key, result, run) in zip(titles, found, strict=True)]


def _sweep(base: str, setting: str, values: list[str], tried: Sequence[tuple[Entry, dict[str, str]]]) -> Sweep:
    numbers = [_number(value) for value in values]
    numeric = None not in numbers
    if numeric:
        values = [value for _, value in sorted(zip(numbers, values, strict=True))]
    series: dict[str, dict[str, Entry]] = {}
    for entry, settings in tried:
        if setting in settings:
            rest = ", ".join(f"{name}={value}" for name, value in settings.items() if name != setting)
            series.setdefault(rest, {})[settings[setting]] = entry
    return Sweep(base, setting, tuple(values), numeric, series)


def _number(text: str) -> float | None:
    """A number, or the single number of a list such as "[50]" or "(50,)"."""
    try:
        return float(text.strip("[]()").rstrip(","))
    except ValueError:
        return None
