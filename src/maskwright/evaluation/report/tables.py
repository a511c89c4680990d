"""Tables of a page: a caption, headings that belong to their cells, groups of rows, and cells that can be sorted."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskwright.evaluation.report.markup import Markup, element, join, label
from maskwright.evaluation.titles import MetricTitle

INTERVAL = "Square brackets hold the 95 % interval, by bootstrap over pictures."
LONGEST = 300  # characters of a setting


@dataclass(frozen=True)
class Cell:
    """A cell that is more than its text.

    Attributes:
        content: text or markup.
        sort: what a sorted column goes by; None for the text.
        kind: names of classes in page.css.
    """

    content: str
    sort: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under a heading of their own, "" for none. The first cell of a row is its heading."""

    rows: Sequence[Sequence[str | Cell]]
    title: str = ""
    kind: str = ""


def build_table(
    caption: str, head: Sequence[str], groups: Sequence[Group], *, kind: str = "", sortable: bool = False, filtered: str = "",
    tall: bool = False,
) -> Markup:  # fmt: skip
    """A table in a box that scrolls by itself where the page is too narrow.

    Args:
        caption: what the table says; read first by screen readers.
        head: headings of the columns.
        groups: of rows.
        kind: names of classes in page.css.
        sortable: let the script sort rows within their groups.
        filtered: what a field to filter rows by is called; "" for no field.
        tall: scroll also downwards when the table is long.
    """
    numbers = [any(_is_number(row[place]) for group in groups for row in group.rows) for place in range(len(head))]
    headings = (element("th", title, scope="col", class_="number" if right else None) for title, right in zip(head, numbers, strict=True))
    bodies = (_body(group, len(head)) for group in groups if group.rows)
    table = element(
        "table", element("caption", element("span", caption)), element("thead", element("tr", *headings)), *bodies,
        class_=" ".join(filter(None, (kind, "sortable" if sortable else ""))) or None, data_filter=filtered or None,
    )  # fmt: skip
    box = "scroll tall" if tall else "scroll"
    return element("div", table, class_=box, role="region", tabindex=0, aria_label=caption.partition(".")[0])


def number_cell(
    metric: MetricTitle, found: Mapping[str, Any] | None, *, below: str = "", best: bool = False, signed: bool = False
) -> Cell:  # fmt: skip
    """A metric's value with its interval, and below it what it was measured under.

    Args:
        metric: how it is shown.
        found: value, low and high; None where the method was not measured.
        below: the protocol.
        best: mark the best value of a column.
        signed: write a plus before gains.
    """
    if found is None:
        return Cell("", kind="number")
    value, low, high = (metric.show(found[name], signed=signed) for name in ("value", "low", "high"))
    parts: list[str] = [element("strong" if best else "span", value, class_="value")]
    if found["low"] is not None and found["high"] is not None:
        parts += [" ", element("span", f"[{low}, {high}]", class_="interval")]
    if below:
        parts += [" ", element("span", below, class_="below")]
    return Cell(join(parts), found["value"], "number")


def text_cell(text: str, below: str = "") -> Cell:
    """A name that somebody chose, and a smaller remark below it."""
    return Cell(join((label(text), " ", element("span", below, class_="below")) if below else (label(text),)))


def best_of(values: Iterable[float | None], *, higher: bool) -> float | None:
    """The best of the values, None where there are fewer than two to choose from."""
    there = [value for value in values if value is not None]
    return (max if higher else min)(there) if len(there) > 1 else None


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as pairs of a dotted name and a text."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs += flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            pairs.append((f"{prefix}{key}", text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"))
    return pairs


def _body(group: Group, columns: int) -> Markup:
    rows = [_row(row) for row in group.rows]
    if group.title:
        rows.insert(0, element("tr", element("th", group.title, scope="rowgroup", colspan=columns), class_="group"))
    return element("tbody", *rows, class_=group.kind or None)


def _is_number(cell: str | Cell) -> bool:
    return isinstance(cell, Cell) and cell.kind == "number"


def _row(row: Sequence[str | Cell]) -> Markup:
    first, *rest = (cell if isinstance(cell, Cell) else Cell(cell) for cell in row)
    cells = [element("th", first.content, scope="row", class_=first.kind or None)]
    cells += [element("td", cell.content, class_=cell.kind or None, data_sort=_sort(cell.sort)) for cell in rest]
    return element("tr", *cells)


def _sort(value: float | None) -> str | None:
    return None if value is None else repr(float(value))
