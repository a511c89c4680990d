"""The section on one data set under one protocol: its warnings, all metrics, and what papers say about the same set."""

from collections.abc import Sequence

from maskwright.evaluation.published import PublishedValue, published_values
from maskwright.evaluation.report.breakdown import show_classes, show_confusions, show_costs, show_failures, show_pictures
from maskwright.evaluation.report.comparisons import show_pairs, show_sweeps, show_thresholds
from maskwright.evaluation.report.gather import Column
from maskwright.evaluation.report.markup import Markup, element, join
from maskwright.evaluation.report.notices import notices
from maskwright.evaluation.report.tables import INTERVAL, Cell, Group, best_of, build_table, number_cell, text_cell
from maskwright.evaluation.titles import MetricTitle, find_title

PUBLISHED = "Published, not measured here"


def show_column(column: Column, anchor: str) -> Markup:
    """Everything about a column that there is something to say about.

    Args:
        column: what was measured.
        anchor: that links lead to.
    """
    protocol = (element("strong", f"Protocol {column.protocol_name}"), f": {column.protocol_words}.")
    return element(
        "section", element("h2", column.title, id=anchor), element("p", *protocol, class_="protocol"), _notices(column),
        _metrics(column), _published_elsewhere(column), show_pairs(column), show_sweeps(column), show_thresholds(column),
        show_classes(column), show_confusions(column), show_pictures(column), show_costs(column), show_failures(column),
        aria_labelledby=anchor,
    )  # fmt: skip


def comparable_values(column: Column) -> tuple[list[PublishedValue], list[PublishedValue]]:
    """Published values for the data set: those under the same protocol on all of the set, and the others."""
    values = published_values(column.dataset["name"], column.dataset["split"])
    whole = not column.dataset.get("shard") and column.dataset.get("limit") is None
    same = [value for value in values if whole and value.table.protocol == column.protocol_name]
    return same, [value for value in values if value not in same]


def published_rows(values: Sequence[PublishedValue], names: Sequence[str]) -> list[list[str | Cell]]:
    """A row for each published method that has a value for one of the metrics.

    Args:
        values: of one data set.
        names: of the metrics, one for each column.
    """
    rows: dict[tuple[str, str, str], dict[str, PublishedValue]] = {}
    for value in values:
        if value.column.name in names:
            rows.setdefault((value.table.name, value.row.method, value.row.note), {})[value.column.name] = value
    return [[_published_name(next(iter(found.values()))), *(published_cell(found.get(name)) for name in names)] for found in rows.values()]


def published_cell(value: PublishedValue | None) -> Cell:
    """A published value, marked as such in words."""
    if value is None:
        return Cell("", kind="number")
    below = element("span", f"published, {value.table.protocol}", class_="below")
    number = value.value if isinstance(value.value, float) else None
    return Cell(join((element("span", value.text, class_="value"), " ", below)), number, "number")


def heading(title: MetricTitle) -> str:
    """The heading of a metric's column, which says where less is better."""
    return title.heading if title.higher else f"{title.heading} (lower is better)"


def _published_name(value: PublishedValue) -> Cell:
    row = value.row
    return text_cell(row.method, f"{row.paper}{f'; {row.note}' if row.note else ''}")


def _notices(column: Column) -> Markup:
    found = notices(column)
    if not found:
        return Markup("")
    items = element("ul", *(element("li", text) for text in found))
    return element("div", element("h3", "Before you believe a number"), items, class_="notices")


def _metrics(column: Column) -> Markup:
    """Every metric of every method, and published rows under the same protocol."""
    names = column.metrics
    if not names:
        return element("p", "Nothing has been measured yet.")
    titles = {name: find_title(name) for name in names}
    best = {name: best_of((entry.value(name) for entry in column.entries), higher=titles[name].higher) for name in names}
    rows: list[list[str | Cell]] = []
    for entry in column.entries:
        cells = [
            number_cell(
                titles[name], entry.result["metrics"].get(name), below=column.protocol_name,
                best=best[name] is not None and entry.value(name) == best[name],
            )
            for name in names
        ]  # fmt: skip
        rows.append([text_cell(entry.title), *cells])
    groups = [Group(rows), Group(published_rows(comparable_values(column)[0], names), PUBLISHED, "published")]
    caption = f"All metrics on {column.title}. {INTERVAL} Bold is the best measured value; below each value stands its protocol."
    table = build_table(caption, ["Method", *(heading(titles[name]) for name in names)], groups, sortable=True)
    return join((element("h3", "All metrics"), table, _metric_notes(column)))


def _metric_notes(column: Column) -> Markup:
    """How each metric was taken, once where all methods agree."""
    notes = dict.fromkeys(
        (find_title(name).title, found["note"])
        for name in column.metrics
        for entry in column.entries
        if (found := entry.result["metrics"].get(name)) and found.get("note")
    )
    if not notes:
        return Markup("")
    items = (element("li", element("b", title), f": {note}") for title, note in notes)
    return element("details", element("summary", "How each metric was taken"), element("ul", *items))


def _published_elsewhere(column: Column) -> Markup:
    """Published values that may not stand in the same column as ours."""
    _, others = comparable_values(column)
    if not others:
        return Markup("")
    rows: list[list[str | Cell]] = [
        [
            text_cell(value.row.method, value.row.note), value.column.metric.heading, Cell(value.text, kind="number"),
            value.table.protocol or "no protocol of maskwright evaluate", value.row.paper,
        ]
        for value in others
    ]  # fmt: skip
    said = f"Values of papers for {column.dataset['name']} {column.dataset['split']}, under other protocols or on more of the set."
    table = build_table(said, ["Method", "Metric", "Value", "Protocol", "Paper"], [Group(rows, PUBLISHED, "published")], kind="texts")
    title = f"Published under other conditions, not to be compared with the values above ({len(rows)})"
    return element("details", element("summary", title), table)
