"""The first table: methods by data sets, the main number of each with its interval and protocol, published rows below."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskwright.evaluation.report.gather import Column, Entry
from maskwright.evaluation.report.markup import Markup, element, join
from maskwright.evaluation.report.sections import PUBLISHED, comparable_values, heading, published_cell
from maskwright.evaluation.report.tables import INTERVAL, Cell, Group, best_of, build_table, number_cell, text_cell
from maskwright.evaluation.titles import find_title

CHOSEN = "_best_threshold"  # ends the name of a metric whose threshold was chosen on the ground truth


@dataclass(frozen=True)
class _Place:
    """One column of the overview: what was measured, by which metric."""

    column: Column
    metric: str

    @property
    def heading(self) -> Markup:
        title = heading(find_title(self.metric))
        chosen = " chosen on the ground truth" if self.metric.endswith(CHOSEN) else ""
        lines = (self.column.title, f"{title}{chosen}", f"protocol {self.column.protocol_name}")
        return join((element("span", text, class_="line-of-heading") for text in lines), " ")

    @property
    def best(self) -> float | None:
        values = (entry.value(self.metric) for entry in self.column.entries if not entry.swept)
        return best_of(values, higher=find_title(self.metric).higher)


def show_overview(columns: Sequence[Column]) -> Markup:
    """A row for each method, a column for each data set, protocol and main metric."""
    places = [_Place(column, metric) for column in columns for metric in _main_metrics(column)]
    groups = [Group(_measured(columns, places)), Group(_published(places), PUBLISHED, "published")]
    caption = (
        f"Methods and data sets. {INTERVAL} Below each value stands its protocol; values of different columns were not taken in the"
        " same way. Bold is the best measured value of a column."
    )
    table = build_table(caption, ["Method", *(place.heading for place in places)], groups, sortable=True)
    return element("section", element("h2", "Overview", id="overview"), table, aria_labelledby="overview")


def _main_metrics(column: Column) -> list[str]:
    """The main metric, and where a threshold was chosen on the ground truth also that value."""
    return [name for name in column.metrics if name in (column.headline, f"{column.headline}{CHOSEN}")]


def _measured(columns: Sequence[Column], places: Sequence[_Place]) -> list[list[str | Cell]]:
    """One row for each title of a method, in the order of the runs; all settings of a sweep share one."""
    rows: dict[str, dict[Column, list[Entry]]] = {}
    for column in columns:
        for entry in column.entries:
            title = f"{entry.base}, settings swept" if entry.swept else entry.title
            rows.setdefault(title, {}).setdefault(column, []).append(entry)
    return [[text_cell(title), *(_cell(place, own.get(place.column, ())) for place in places)] for title, own in rows.items()]


def _cell(place: _Place, entries: Sequence[Entry]) -> Cell:
    """The value of a single entry, the range of several."""
    title, below = find_title(place.metric), place.column.protocol_name
    if len(entries) == 1:
        found = entries[0].result["metrics"].get(place.metric)
        return number_cell(title, found, below=below, best=found is not None and found["value"] == place.best is not None)
    values = sorted(value for entry in entries if (value := entry.value(place.metric)) is not None)
    if not values:
        return Cell("", kind="number")
    shown = element("span", f"{title.show(values[0])} to {title.show(values[-1])}", class_="value")
    remark = element("span", f"{len(values)} settings, see there", class_="interval")
    return Cell(join((shown, " ", remark, " ", element("span", below, class_="below"))), kind="number")


def _published(places: Sequence[_Place]) -> list[list[str | Cell]]:
    """One row for each published method with a value that was taken as a column's."""
    rows: dict[tuple[str, str, str], list[Cell]] = {}
    for number, place in enumerate(places):
        for value in comparable_values(place.column)[0]:
            if value.column.name == place.metric:
                key = (value.row.method, value.row.paper, value.row.note)
                rows.setdefault(key, [published_cell(None)] * len(places))[number] = published_cell(value)
    return [[text_cell(method, f"{paper}; {note}" if note else paper), *cells] for (method, paper, note), cells in rows.items()]
