"""Methods against each other: paired differences, swept settings, background thresholds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maskwright.evaluation.report.charts import Point, Series, draw_interval, draw_lines
from maskwright.evaluation.report.gather import Column, Entry, Sweep, find_sweeps
from maskwright.evaluation.report.markup import Markup, element, join, label
from maskwright.evaluation.report.tables import INTERVAL, Cell, Group, build_table, number_cell
from maskwright.evaluation.titles import find_title

FEW_PAIRS = 40  # rows of differences up to which every metric is listed
MOST_PAIRS = 200  # rows of differences that are listed


def show_pairs(column: Column) -> Markup:
    """Differences between two methods on the same pictures, each metric on an axis of its own."""
    pairs = [pair for run in column.runs for pair in run.summary.get("pairs") or () if pair["difference"] is not None]
    if len(pairs) > FEW_PAIRS:
        pairs = [pair for pair in pairs if pair["metric"] == column.headline]
    left_out = len(pairs) - MOST_PAIRS
    metrics = dict.fromkeys(pair["metric"] for pair in pairs)
    groups = [_pair_group(name, [pair for pair in pairs[:MOST_PAIRS] if pair["metric"] == name]) for name in metrics]
    if not groups:
        return Markup("")
    caption = (
        f"Paired differences under protocol {column.protocol_name}. The first method minus the second on the same pictures, with the"
        " 95 % interval of the difference by bootstrap over pictures. Each metric has its own axis."
    )
    table = build_table(caption, ["Method", "minus", "Difference", "Interval around 0", "Excludes 0"], groups, tall=True)
    more = element("p", f"{left_out} more differences are not listed.") if left_out > 0 else ""
    return join((element("h3", "Differences between methods"), table, more))


def show_sweeps(column: Column) -> Markup:
    """A table and a chart of the main metric for each swept setting."""
    sweeps = find_sweeps(column.entries)
    if not sweeps or column.headline is None:
        return Markup("")
    shown = (_show_sweep(sweep, column, column.headline) for sweep in sweeps)
    return join((element("h3", "Swept settings"), element("div", *shown, class_="grid")))


def show_thresholds(column: Column) -> Markup:
    """Mean IoU over the background threshold, where several were tried on the ground truth."""
    tried: dict[Entry, Mapping[str, float | None]] = {
        entry: entry.result["thresholds"] for entry in column.entries if len(entry.result.get("thresholds") or ()) > 1
    }
    if not tried:
        return Markup("")
    ticks = sorted({key for thresholds in tried.values() for key in thresholds}, key=float)
    series = [
        Series(entry.title, [Point(ticks.index(key), value) for key, value in thresholds.items() if value is not None])
        for entry, thresholds in tried.items()
    ]
    if not any(line.points for line in series):
        return Markup("")
    chosen = {entry.title: entry.result.get("best_threshold") for entry in tried}
    best = ", ".join(f"{name} {threshold:g}" for name, threshold in chosen.items() if threshold is not None)
    said = f"Mean IoU of the set at each background threshold. Best, chosen on the ground truth: {best or 'none'}."
    chart = draw_lines(series, ticks=[f"{float(tick):g}" for tick in ticks], axis="background threshold", metric=find_title("miou"))
    figure = element("figure", chart, element("figcaption", said, f" Protocol {column.protocol_name}."))
    return join((element("h3", "Background threshold"), figure))


def _pair_group(name: str, pairs: Sequence[Mapping[str, Any]]) -> Group:
    title = find_title(name)
    numbers = (number for pair in pairs for number in (pair["difference"], pair["low"], pair["high"]) if number is not None)
    reach = max(map(abs, numbers), default=0.0)
    rows: list[list[str | Cell]] = []
    for pair in pairs:
        low, high = pair["low"], pair["high"]
        clear = "" if low is None or high is None else "yes" if low > 0 or high < 0 else "no"
        number = number_cell(title, {"value": pair["difference"], "low": low, "high": high}, signed=True)
        chart = draw_interval(pair["difference"], low, high, reach)
        rows.append([Cell(label(pair["one"])), Cell(label(pair["other"])), number, Cell(chart, kind="chart"), Cell(clear, kind="number")])
    return Group(rows, title.heading if title.higher else f"{title.heading} (lower is better)")


def _show_sweep(sweep: Sweep, column: Column, metric: str) -> Markup:
    title = column.headline_metric
    series = [Series(name, list(_points(sweep, entries, metric))) for name, entries in sweep.series.items()]
    rows: list[list[str | Cell]] = []
    for value in sweep.values:
        found = [entries[value].result["metrics"].get(metric) if value in entries else None for entries in sweep.series.values()]
        rows.append([value, *(number_cell(title, one, below=column.protocol_name) for one in found)])
    caption = f"{sweep.base}: {title.heading} for each {sweep.setting}. {INTERVAL}"
    table = build_table(caption, [sweep.setting, *(label(name or title.heading) for name in sweep.series)], [Group(rows)], sortable=True)
    if not any(line.points for line in series):
        return element("div", table)
    chart = draw_lines(series, ticks=sweep.values, axis=sweep.setting, metric=title, joined=sweep.numeric)
    said = (
        f"{sweep.base}: {title.heading} over {sweep.setting}, with 95 % intervals. The values stand evenly spaced. Protocol"
        f" {column.protocol_name}."
    )
    return element("div", element("figure", chart, element("figcaption", said)), table)


def _points(sweep: Sweep, entries: Mapping[str, Entry], metric: str) -> Iterator[Point]:
    """The measured values of one series, in the order of the axis."""
    for place, value in enumerate(sweep.values):
        found = entries[value].result["metrics"].get(metric) if value in entries else None
        if found is not None and found["value"] is not None:
            yield Point(place, found["value"], found["low"], found["high"])
