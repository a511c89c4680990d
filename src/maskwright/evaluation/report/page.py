"""The whole report: overview, a section for each data set, settings and versions, as one HTML file that needs nothing else."""

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from maskwright import __version__
from maskwright.errors import OutputError, SettingsError
from maskwright.evaluation.report.gather import Column, ReportRun, arrange, model_name
from maskwright.evaluation.report.markup import Markup, element, label
from maskwright.evaluation.report.overview import show_overview
from maskwright.evaluation.report.sections import show_column
from maskwright.evaluation.report.tables import Cell, Group, build_table, flatten
from maskwright.exports.files import replacing

TITLE = "maskwright evaluation report"
HERE = Path(__file__).parent


def write_report(runs: Sequence[ReportRun], path: str | Path, *, title: str = TITLE) -> Path:
    """Writes the report of runs; a file of this name is replaced.

    Args:
        runs: at least one.
        path: of the file, which appears whole or not at all.
        title: of the page.

    Raises:
        SettingsError: no runs, or two of one name.
        OutputError: the file cannot be written.
    """
    content, path = render(runs, title=title).encode("utf-8"), Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r} ({error.strerror or error}): choose another file with --out") from error
    return path


def render(runs: Sequence[ReportRun], *, title: str = TITLE) -> str:
    """The report as HTML. The same runs give the same text; there is no date in it.

    Raises:
        SettingsError: no runs, or two of one name.
    """
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"a report needs one or more runs of different names, not {', '.join(names) or 'none'}")
    columns = arrange(runs)
    anchors = [f"set-{place}" for place in range(1, len(columns) + 1)]
    body = element(
        "body", _header(title, runs, columns, anchors),
        element(
            "main", show_overview(columns), *(show_column(column, anchor) for column, anchor in zip(columns, anchors, strict=True)),
            _settings(runs),
        ),
        element("footer", element("p", f"Made by maskwright {__version__}. Published values are from papers, not measured here.")),
        element("script", _script()),
    )  # fmt: skip
    return f"<!DOCTYPE html>\n{element('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Markup:
    """Nothing is loaded from anywhere: the policy allows this file's own style, script and pictures, and forbids all else."""
    policy = f"default-src 'none'; style-src '{_digest(_style())}'; script-src '{_digest(_script())}'; img-src data:"
    return element(
        "head", element("meta", charset="utf-8"), element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"), element("title", title), element("style", _style()),
    )  # fmt: skip


def _header(title: str, runs: Sequence[ReportRun], columns: Sequence[Column], anchors: Sequence[str]) -> Markup:
    methods = len({entry.base for column in columns for entry in column.entries})
    lead = f"{_count(methods, 'method')}, {_count(len(columns), 'combination')} of data set and protocol, {_count(len(runs), 'run')}."
    sets = [f"{column.title} ({column.protocol_name})" for column in columns]
    links = dict(zip(("overview", *anchors, "settings"), ("Overview", *sets, "Settings and versions"), strict=True))
    items = (element("li", element("a", label(text), href=f"#{anchor}")) for anchor, text in links.items())
    nav = element("nav", element("ul", *items), aria_label="Sections")
    return element("header", element("h1", title), element("p", lead, class_="lead"), nav, class_="top")


def _settings(runs: Sequence[ReportRun]) -> Markup:
    """Everything that made the numbers, folded."""
    folded = [element("details", element("summary", "Run ", label(run.name)), *_run_tables(run)) for run in runs]
    return element("section", element("h2", "Settings and versions", id="settings"), *folded, aria_labelledby="settings")


def _run_tables(run: ReportRun) -> list[Markup]:
    summary = run.summary
    model = summary.get("model")
    facts = {
        "model": model if isinstance(model, dict) else model_name(summary), "seed": summary.get("seed"), "protocol": summary["protocol"],
        "dataset": {key: value for key, value in summary["dataset"].items() if key != "classes"}, "versions": summary.get("versions") or {},
    }  # fmt: skip
    tables = [_pairs_table(f"Run {run.name}.", {key: value for key, value in facts.items() if value is not None})]
    for key, result in summary["methods"].items():
        if settings := result.get("settings"):
            tables.append(_pairs_table(f"Settings of {key}.", settings))
    return tables


def _pairs_table(caption: str, values: dict[str, object]) -> Markup:
    rows: list[list[str | Cell]] = [[Cell(label(key)), text] for key, text in flatten(values)]
    return build_table(caption, ["Setting", "Value"], [Group(rows)], kind="settings")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


@functools.cache
def _style() -> Markup:
    return Markup((HERE / "page.css").read_text(encoding="utf-8"))


@functools.cache
def _script() -> Markup:
    return Markup((HERE / "page.js").read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
