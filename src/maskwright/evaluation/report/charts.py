"""Charts as inline SVG. They scale with the page, take their colours from page.css and say in words what they show."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from maskwright.evaluation.report.markup import Markup, element, escape, join
from maskwright.evaluation.titles import MetricTitle

SERIES = 8  # colours of page.css, after which they begin again
LEVELS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # shares from which the heat map takes the next shade
DOTTED = 20  # points of a line that get a mark; of more, evenly chosen ones do
NAMED = 60  # classes up to which the heat map names its rows and columns
WIDTH, HEIGHT = 440, 270  # of a line chart, in its own units, at which letters have 12 of them
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 40  # margins of its plot
SPAN = 180  # width of an interval's chart


@dataclass(frozen=True)
class Point:
    """A measured value at the position `place` of an axis, with its interval where there is one."""

    place: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points that are told apart from others by colour and mark; joined by a line where the axis has an order."""

    name: str
    points: Sequence[Point]


def draw_bar(share: float, place: int = 0) -> Markup:
    """A bar as long as `share` (0..1) of the space it gets; the number stands beside it, so it is silent to screen readers."""
    width = 100 * min(max(share, 0.0), 1.0)
    bars = (_svg("rect", class_="track", width=100, height=8), _svg("rect", class_=f"s{place % SERIES}", width=width, height=8))
    return _svg("svg", *bars, class_="bar", viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true", focusable="false")


def draw_interval(value: float, low: float | None, high: float | None, reach: float) -> Markup:
    """A value with its interval on an axis from -reach to reach with a line at 0; silent, as its numbers stand beside it."""

    def across(number: float) -> float:
        return round(SPAN / 2 + number / reach * (SPAN / 2 - 6), 2) if reach else SPAN / 2

    parts = [_svg("line", class_="axis", x1=SPAN / 2, x2=SPAN / 2, y1=0, y2=18)]
    if low is not None and high is not None:
        parts.append(_svg("line", class_="whisker", x1=across(low), x2=across(high), y1=9, y2=9))
    parts.append(_svg("circle", class_="dot s0", cx=across(value), cy=9, r=4.5))
    return _svg("svg", *parts, class_="interval-chart", viewBox=f"0 0 {SPAN} 18", width=SPAN, height=18, aria_hidden="true")


def draw_lines(series: Sequence[Series], *, ticks: Sequence[str], axis: str, metric: MetricTitle, joined: bool = True) -> Markup:
    """Values over the evenly spaced places of an axis, with intervals.

    Args:
        series: at least one point among them.
        ticks: what the places of the axis are called, in order.
        axis: what the axis is.
        metric: what is measured; decides the unit of the other axis.
        joined: draw lines between the points of a series.
    """
    values = [number for line in series for point in line.points for number in (point.value, point.low, point.high) if number is not None]
    scale = _nice_scale(min(values), max(values))
    frame = _Frame(len(ticks), scale[0], scale[-1])
    marks = [_line(line, place, len(series), frame, joined) for place, line in enumerate(series)]
    said = f"{metric.title} over {axis}: " + "; ".join(f"{line.name or metric.title} {_say(line.points, ticks, metric)}" for line in series)
    parts = (*_grid(scale, frame, metric), *_ticks(ticks, frame, axis), *marks)
    chart = _svg("svg", *parts, class_="lines", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=said)
    return join((chart, draw_legend([line.name for line in series]))) if len(series) > 1 else chart


def draw_legend(names: Sequence[str]) -> Markup:
    """Which colour and mark is which."""
    entries = (
        element("li", _svg("svg", _mark(8, 8, place), viewBox="0 0 16 16", width=16, height=16, aria_hidden="true"), " ", name)
        for place, name in enumerate(names)
    )
    return element("ul", *entries, class_="legend")


def draw_confusion(names: Sequence[str], shares: Sequence[Sequence[float]], *, said: str) -> Markup:
    """The rows of a confusion matrix as shares of the true class: blue what is right, orange what is wrong.

    Args:
        names: of the rows, and of the columns before the last, which is what got no class.
        shares: (classes, classes + 1), 0..1.
        said: what it shows, for those who do not see it.
    """
    count, named = len(names), len(names) <= NAMED
    side = 16 if count <= 30 else 12 if named else max(3, 540 // count)
    margin = 8 + (min(150, 6 * max(map(len, [*names, "no class"]), default=0)) if named else 10)
    size = (margin + (count + 1) * side + 4, margin + count * side + 4)
    shades: dict[str, list[str]] = {}
    for row, line in enumerate(shares):
        for column, share in enumerate(line):
            if level := bisect_right(LEVELS, share):
                kind = "right" if row == column else "wrong"
                shades.setdefault(f"{kind} l{level}", []).append(f"M{column * side} {row * side}h{side}v{side}h-{side}z")
    cells = [_svg("path", class_=kind, d="".join(steps)) for kind, steps in sorted(shades.items())]
    paper = _svg("rect", class_="paper", width=(count + 1) * side, height=count * side)
    words = _heat_names([*names, "no class"], side, margin) if named else ()
    plot = _svg("g", paper, *cells, transform=f"translate({margin} {margin})")
    return _svg(
        "svg", *words, plot, class_="confusion", viewBox=f"0 0 {size[0]} {size[1]}", width=size[0], height=size[1],
        role="img", aria_label=said,
    )  # fmt: skip


@dataclass(frozen=True)
class _Frame:
    """Where places and values of a line chart are drawn."""

    places: int
    lowest: float
    highest: float

    def across(self, place: float) -> float:
        room = WIDTH - LEFT - RIGHT
        return round(LEFT + room * (place + 0.5) / self.places, 2)

    def up(self, value: float) -> float:
        room = HEIGHT - TOP - BOTTOM
        return round(TOP + room * (self.highest - value) / (self.highest - self.lowest), 2)


def _nice_scale(lowest: float, highest: float) -> list[float]:
    """Four to nine round numbers that enclose the values."""
    spread = highest - lowest or abs(highest) or 1.0
    power = 10 ** math.floor(math.log10(spread / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= spread / 5)
    first, last = math.floor(lowest / step), math.ceil(highest / step)
    return [step * place for place in range(first, max(last, first + 1) + 1)]


def _grid(scale: Sequence[float], frame: _Frame, metric: MetricTitle) -> Iterable[Markup]:
    step = scale[1] - scale[0]
    shown = MetricTitle(metric.title, metric.percent, max(0, -math.floor(math.log10(step * (100 if metric.percent else 1)) + 1e-9)))
    for value in scale:
        height = frame.up(value)
        yield _svg("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=height, y2=height)
        yield _svg("text", shown.show(value), x=LEFT - 6, y=height + 4, text_anchor="end")


def _ticks(ticks: Sequence[str], frame: _Frame, axis: str) -> Iterable[Markup]:
    longest = max(map(len, ticks))
    every = math.ceil(len(ticks) * 7 * (longest + 1) / (WIDTH - LEFT - RIGHT)) or 1
    for place in range(0, len(ticks), every):
        yield _svg("text", _shorten(ticks[place], 24), x=frame.across(place), y=HEIGHT - BOTTOM + 16, text_anchor="middle")
    yield _svg("text", axis, class_="axis-name", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle")


def _line(line: Series, place: int, lines: int, frame: _Frame, joined: bool) -> Markup:
    """One series; the intervals of several stand side by side."""
    shift = 0.0 if joined and lines == 1 else (place - (lines - 1) / 2) * min(0.5 / lines, 0.12)
    spots = [(frame.across(point.place + shift), frame.up(point.value), point) for point in line.points]
    parts = []
    if joined and len(spots) > 1:
        way = "M" + "L".join(f"{x:g} {y:g}" for x, y, _ in spots)
        parts.append(_svg("path", class_=f"line s{place % SERIES}", d=way))
    for x, y, point in spots[:: math.ceil(len(spots) / DOTTED) if joined else 1]:
        if point.low is not None and point.high is not None:
            parts.append(_svg("line", class_=f"whisker s{place % SERIES}", x1=x, x2=x, y1=frame.up(point.low), y2=frame.up(point.high)))
        parts.append(_mark(x, y, place))
    return _svg("g", *parts)


def _mark(x: float, y: float, place: int) -> Markup:
    """Circle, square, diamond or triangle: colours are not told apart by everyone."""
    kind = f"dot s{place % SERIES}"
    if place % 4 == 0:
        return _svg("circle", class_=kind, cx=x, cy=y, r=4)
    shape = {1: "M-3.6-3.6h7.2v7.2h-7.2z", 2: "M0-5L5 0L0 5L-5 0z", 3: "M0-4.6L4.6 4L-4.6 4z"}[place % 4]
    return _svg("path", class_=kind, d=shape, transform=f"translate({x:g} {y:g})")


def _heat_names(names: Sequence[str], side: int, margin: int) -> Iterable[Markup]:
    for place, name in enumerate(names):
        text, middle = _shorten(name, 24), margin + (place + 0.5) * side
        if place < len(names) - 1:
            yield _svg("text", text, x=margin - 5, y=middle + 3.5, text_anchor="end")
        yield _svg("text", text, transform=f"translate({middle + 3.5:g} {margin - 5}) rotate(-90)")


def _say(points: Sequence[Point], ticks: Sequence[str], metric: MetricTitle) -> str:
    return ", ".join(f"{ticks[point.place]} {metric.show(point.value)}" for point in points)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _svg(name: str, /, *children: str, **attributes: str | int | float | bool | None) -> Markup:
    return element(name, *(escape(child) for child in children), **attributes)
