"""`maskwright report`: one HTML file about one or more evaluations."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.guard import guarded
from maskwright.errors import OutputError

if TYPE_CHECKING:
    from maskwright.evaluation.report.gather import ReportRun

NAME = "report.html"


@guarded
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of `maskwright evaluate --out`.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The page.", show_default=f"{NAME}, in DIR if there is one only"),
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Of the page.")] = "maskwright evaluation report",
) -> None:  # fmt: skip
    """Put evaluations side by side in one HTML file.

    The file holds everything it needs, also the pictures; nothing in it is loaded from elsewhere.
    """
    path = out or (folders[0] / NAME if len(folders) == 1 else Path(NAME))
    if path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder: name a file, for instance --out {path / NAME}")
    runs = read_runs(folders)
    from maskwright.evaluation.report.page import write_report

    print(write_report(runs, path, title=title))


def read_runs(folders: Sequence[Path]) -> "list[ReportRun]":
    """The summaries of evaluations; each run is called by the shortest end of its path that no other run has.

    Raises:
        OutputError: a folder that holds no evaluation, or one that is named twice.
    """
    from maskwright.evaluation.report.gather import ReportRun
    from maskwright.evaluation.report.pictures import FOLDER
    from maskwright.evaluation.run_folder import read_folder
    from maskwright.evaluation.summary import summarise

    runs = []
    for path, name in zip(folders, _names(folders), strict=True):
        folder = read_folder(path)
        overlays = path / FOLDER
        summary = {**summarise(folder.evaluation, folder.lines), "seed": folder.evaluation.get("seed")}
        runs.append(ReportRun(name, summary, overlays if overlays.is_dir() else None))
    return runs


def _names(folders: Sequence[Path]) -> list[str]:
    """The last folder of each path, with those above it where that is needed to tell them apart."""
    paths = [path.resolve() for path in folders]
    if len(set(paths)) < len(paths):
        double = next(path for path in paths if paths.count(path) > 1)
        raise OutputError(f"{str(double)!r} is named twice: name each folder once")
    depth = 1
    while len(set(ends := ["/".join(path.parts[-depth:]) for path in paths])) < len(paths):
        depth += 1
    return ends
