"""`maskwright reproduce`: what papers have published, and the commands that measure the same here."""

from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.guard import guarded, say

if TYPE_CHECKING:
    from maskwright.evaluation.published import PublishedRow, PublishedTable


@guarded
def reproduce(
    table: Annotated[str, typer.Argument(metavar="[list|TABLE]", help="A published table; `list` names them.")] = "list",
) -> None:
    """Print a published table: its values, and the exact command that measures each row here.

    Nothing is run. Replace the folder in capitals by the one that holds the data set.
    """
    if table == "list":
        _list_tables()
        return
    from maskwright.evaluation.published import find_table

    for line in describe_table(find_table(table)):
        print(line)


def describe_table(table: "PublishedTable") -> list[str]:
    """The lines that a terminal shows of a published table."""
    from maskwright.evaluation.protocol import parse_protocol

    lines = [f"{table.name}: {table.title}", f"paper: {table.paper}"]
    if table.protocol:
        lines.append(f"protocol {parse_protocol(table.protocol).describe()}")
    if table.note:
        lines.append(f"note: {table.note}")
    lines.append("All values are published ones; none of them was measured here.")
    for row in table.rows:
        lines += ["", *_describe_row(table, row)]
    return lines


def _describe_row(table: "PublishedTable", row: "PublishedRow") -> list[str]:
    from maskwright.evaluation.published import commands, show_published

    source = "" if row.paper == table.paper else row.paper
    remarks = "; ".join(part for part in (source, row.note) if part)
    lines = [f"{row.method}{f' ({remarks})' if remarks else ''}"]
    for column, value in zip(table.columns, row.values, strict=True):
        if value != "" or not any(row.values):
            lines.append(f"  {column.title}, {column.metric.heading}: {show_published(value, column)}")
    own = commands(table, row)
    if not own:
        why = "maskwright does not have this method" if row.run is None else "maskwright evaluate has no such data set"
        return [*lines, f"  no command: {why}"]
    lines += [f"  {command}" for _, _, command in own]
    return lines + ([f"  differs from the paper: {text}" for text in row.differs] or ["  differs from the paper: nothing that is known"])


def _list_tables() -> None:
    from rich.console import Console
    from rich.table import Table

    from maskwright.evaluation.published import published_tables

    listed = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    listed.add_column("table", no_wrap=True)
    listed.add_column("about")
    listed.add_column("paper")
    for table in published_tables().values():
        listed.add_row(table.name, table.title, table.paper)
    Console(highlight=False, markup=False).print(listed)
    say("`maskwright reproduce TABLE` prints its values and the commands that measure the same here.")
