"""The published tables of published.toml: values of papers, never measured here, and how this project would measure them."""

import functools
import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskwright.errors import SettingsError
from maskwright.evaluation.titles import MetricTitle, find_title


@dataclass(frozen=True)
class PublishedColumn:
    """What a column of a published table measures.

    Attributes:
        dataset: a name that `open_dataset` knows, or words for what it does not have.
        split: of the data set.
        name: of the metric.
    """

    dataset: str
    split: str
    name: str

    @property
    def metric(self) -> MetricTitle:
        """How the metric is shown."""
        return find_title(self.name)

    @property
    def title(self) -> str:
        """Data set and split."""
        return self.dataset if self.split == "-" else f"{self.dataset} {self.split}"


@dataclass(frozen=True)
class OwnRun:
    """How this project would measure a row.

    Attributes:
        method, model: as on the command line.
        settings: of the method, what differs from its defaults.
        options: further options of the command.
    """

    method: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table.

    Attributes:
        method: as its paper calls it.
        values: one for each column of its table, in the unit in which the metric is shown; text for what is no single number, "" for none.
        paper: where the row comes from.
        note: what else there is to know.
        run: how to measure it here; None where this project lacks the method.
        differs: what is not as in the paper when it is run so.
    """

    method: str
    values: tuple[float | str, ...]
    paper: str
    note: str = ""
    run: OwnRun | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedTable:
    """A published table.

    Attributes:
        name: what the command line calls it.
        title, paper, note: what it is about, whose it is, what one has to know.
        protocol: that scores as the table does; "" where `maskwright evaluate` cannot.
        columns: in order.
        rows: in order.
    """

    name: str
    title: str
    paper: str
    protocol: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]
    note: str = ""


@dataclass(frozen=True)
class PublishedValue:
    """One published number with everything that makes it mean something."""

    table: PublishedTable
    row: PublishedRow
    column: PublishedColumn
    value: float | str

    @property
    def text(self) -> str:
        """The value as its column shows it."""
        return show_published(self.value, self.column)


@functools.cache
def published_tables() -> dict[str, PublishedTable]:
    """All tables by name, in the order of the file."""
    content = tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))
    return {name: _table(name, table) for name, table in content.items()}


def find_table(name: str) -> PublishedTable:
    """The table of a name.

    Raises:
        SettingsError: there is none; the message lists what there is.
    """
    tables = published_tables()
    if name not in tables:
        raise SettingsError(f"there is no published table {name!r}: choose one of {', '.join(tables)}")
    return tables[name]


def published_values(dataset: str, split: str) -> list[PublishedValue]:
    """Every published value for a data set, in the order of the file."""
    return [
        PublishedValue(table, row, column, value)
        for table in published_tables().values()
        for row in table.rows
        for column, value in zip(table.columns, row.values, strict=True)
        if (column.dataset, column.split) == (dataset, split) and value != ""
    ]


def show_published(value: float | str, column: PublishedColumn) -> str:
    """A published value as text; "not published" where there is none."""
    if value == "":
        return "not published"
    return value if isinstance(value, str) else f"{value:.{column.metric.decimals}f}"


def commands(table: PublishedTable, row: PublishedRow) -> list[tuple[str, str, str]]:
    """What measures a row here: for each data set its name, its split and the exact command.

    A folder in capitals stands for where the data set lies. Empty where this project lacks the method or the data set.
    """
    if row.run is None or not table.protocol:
        return []
    measured = [
        (column.dataset, column.split)
        for column, value in zip(table.columns, row.values, strict=True)
        if value != "" or not any(row.values)
    ]
    return [(dataset, split, _command(table, row, row.run, dataset, split)) for dataset, split in dict.fromkeys(measured)]


def _command(table: PublishedTable, row: PublishedRow, run: OwnRun, dataset: str, split: str) -> str:
    folder = f"{dataset}:{dataset.upper().replace('-', '_')}_FOLDER"
    settings = [part for key, value in run.settings.items() for part in ("--set", f"{key}={_setting(value)}")]
    name = re.sub(r"[^a-z0-9]+", "-", row.method.lower()).strip("-")
    out = "-".join(dict.fromkeys((table.name, name, dataset)))
    words = ["maskwright", "evaluate", "--dataset", folder, "--split", split, "--method", run.method, "--model", run.model]
    return shlex.join([*words, "--protocol", table.protocol, *settings, *run.options, "--out", f"runs/{out}"])


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _table(name: str, content: Mapping[str, Any]) -> PublishedTable:
    columns = tuple(PublishedColumn(*(part.strip() for part in column.split("|"))) for column in content["columns"])
    rows = tuple(_row(row, content["paper"]) for row in content["rows"])
    return PublishedTable(name, content["title"], content["paper"], content.get("protocol", ""), columns, rows, content.get("note", ""))


def _row(content: Mapping[str, Any], paper: str) -> PublishedRow:
    run = content.get("run")
    return PublishedRow(
        method=content["method"], values=tuple(content["values"]), paper=content.get("paper", paper), note=content.get("note", ""),
        run=None if run is None else OwnRun(run["method"], run["model"], run.get("settings", {}), tuple(run.get("options", ()))),
        differs=tuple(content.get("differs", ())),
    )  # fmt: skip
