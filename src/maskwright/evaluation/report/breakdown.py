"""What a method's main number is made of: classes, confusions, pictures, time and memory, failures."""

from collections.abc import Iterator, Sequence

from maskwright.evaluation.report.charts import draw_bar, draw_confusion
from maskwright.evaluation.report.gather import Column, Entry
from maskwright.evaluation.report.markup import Markup, element, join, label
from maskwright.evaluation.report.pictures import Shown, choose_pictures, embed, overlay_path, truth_path
from maskwright.evaluation.report.tables import Cell, Group, build_table
from maskwright.evaluation.titles import MetricTitle, of_a_picture

SIDE_BY_SIDE = 4  # methods whose classes stand beside each other
EACH = 3  # pictures of each group
DRAWN = 6  # methods whose confusions and pictures are shown
CONFUSIONS = 12  # that are listed
FAILURES = 50  # that are listed
GROUPS = {"best": "Best", "middle": "Middle", "worst": "Worst"}
IOU = MetricTitle("IoU")


def show_classes(column: Column) -> Markup:
    """A bar for each class and method; the best few methods where there are many."""
    entries = [entry for entry in column.ranked() if entry.result.get("classes")][:SIDE_BY_SIDE]
    if not entries:
        return Markup("")
    entries = [entry for entry in column.entries if entry in entries]
    pixels = {row["name"]: row["pixels"] for row in entries[0].result["classes"]}
    ious = [{row["name"]: row["iou"] for row in entry.result["classes"]} for entry in entries]
    total = sum(pixels.values())
    rows: list[list[str | Cell]] = []
    for name, count in pixels.items():
        if count or any(own.get(name) is not None for own in ious):
            share = Cell(IOU.show(count / total if total else None), float(count), "number")
            rows.append([text_cell_of(name), share, *(_bar_cell(own.get(name), place) for place, own in enumerate(ious))])
    left = f" The best {len(entries)} of {len(column.entries)} methods." if len(entries) < len(column.entries) else ""
    caption = (
        f"IoU of each class in %, protocol {column.protocol_name}. Classes that are neither in the pictures nor predicted are left"
        f" out.{left}"
    )
    head = ["Class", "Share of pixels, %", *(label(entry.title) for entry in entries)]
    table = build_table(caption, head, [Group(rows)], kind="bars", sortable=True, filtered="Find a class", tall=True)
    return join((element("h3", "Classes"), table))


def show_confusions(column: Column) -> Markup:
    """Heat map and largest confusions of the best methods, the first one open."""
    entries = [entry for entry in column.ranked() if entry.result.get("confusion") and column.classes][:DRAWN]
    folded = [
        element("details", element("summary", label(entry.title)), _confusion(entry, column), open=place == 0)
        for place, entry in enumerate(entries)
    ]
    return join((element("h3", "Confusions"), *folded)) if folded else Markup("")


def show_pictures(column: Column) -> Markup:
    """The best, middle and worst pictures of the best methods, the first one open."""
    title = of_a_picture(str(column.dataset.get("kind")))
    folded = []
    for place, entry in enumerate(column.ranked()[:DRAWN]):
        if chosen := _choose(entry):
            groups = [_picture_group(group, [one for one in chosen if one.group == group], entry, title) for group in GROUPS]
            folded.append(element("details", element("summary", label(entry.title)), *groups, open=place == 0))
    if not folded:
        return Markup("")
    said = f"By the {title.title} of each picture alone, protocol {column.protocol_name}. Pictures that failed are among the worst."
    return join((element("h3", "Best, middle and worst pictures"), element("p", said), *folded))


def show_costs(column: Column) -> Markup:
    """Seconds per picture and peak memory; part of no metric."""
    slowest = max((entry.result.get("seconds") or 0.0 for entry in column.entries), default=0.0)
    rows: list[list[str | Cell]] = []
    for entry in column.entries:
        seconds, memory = entry.result.get("seconds"), entry.result.get("peak_mb")
        bar = join((draw_bar(seconds / slowest), " ", f"{seconds:.3g}")) if seconds is not None and slowest else "–"
        rows.append([
            text_cell_of(entry.title), Cell(bar, seconds, "bar-cell"),
            Cell("–" if memory is None else f"{memory:,.0f}".replace(",", " "), memory, "number"),
        ])  # fmt: skip
    caption = (
        "Time and memory. Median seconds per picture over all steps, and the largest peak memory. They depend on the machine and are"
        " part of no metric."
    )
    table = build_table(caption, ["Method", "Seconds", "Peak memory, MB"], [Group(rows)], sortable=True)
    return join((element("h3", "Speed and memory"), table))


def show_failures(column: Column) -> Markup:
    """The pictures that failed, with reasons."""
    failed = [(entry, one) for entry in column.entries for one in entry.result.get("failed") or ()]
    if not failed:
        return Markup("")
    rows: list[list[str | Cell]] = [
        [text_cell_of(one["picture"]), text_cell_of(entry.title), text_cell_of(one["reason"])] for entry, one in failed[:FAILURES]
    ]
    caption = "Pictures that failed. Each counts as wrong in every metric."
    table = build_table(caption, ["Picture", "Method", "Reason"], [Group(rows)], kind="texts")
    more = element("p", f"{len(failed) - FAILURES} more failures are not listed.") if len(failed) > FAILURES else ""
    return join((element("h3", "Failed pictures"), table, more))


def text_cell_of(text: str) -> Cell:
    """A name that somebody chose."""
    return Cell(label(text))


def largest_confusions(counts: Sequence[Sequence[int]], *, most: int = CONFUSIONS) -> list[tuple[int, int, int]]:
    """(true class, predicted class, pixels) of the most pixels that went wrong, largest first; the last column is no class."""
    wrong = [(row, column, count) for row, line in enumerate(counts) for column, count in enumerate(line) if row != column and count]
    return sorted(wrong, key=lambda one: (-one[2], one[0], one[1]))[:most]


def _bar_cell(iou: float | None, place: int) -> Cell:
    if iou is None:
        return Cell("–", kind="bar-cell")
    return Cell(join((draw_bar(iou, place), " ", IOU.show(iou))), iou, "bar-cell")


def _occurring(names: Sequence[str], counts: Sequence[Sequence[int]]) -> tuple[list[str], list[list[int]]]:
    """Only the classes that are true or predicted somewhere; the last column, no class, stays."""
    kept = [place for place in range(len(names)) if any(counts[place]) or any(line[place] for line in counts)]
    return [names[place] for place in kept], [[counts[row][column] for column in (*kept, len(names))] for row in kept]


def _confusion(entry: Entry, column: Column) -> Markup:
    names, counts = _occurring(column.classes, entry.result["confusion"])
    sums = [sum(line) for line in counts]
    shares = [[count / total if total else 0.0 for count in line] for line, total in zip(counts, sums, strict=True)]
    called = [*names, "no class"]
    largest = largest_confusions(counts)
    rows: list[list[str | Cell]] = [
        [text_cell_of(names[true]), text_cell_of(called[found]), Cell(f"{count:,}".replace(",", " "), float(count), "number"),
         Cell(IOU.show(count / sums[true]), count / sums[true], "number")]
        for true, found, count in largest
    ]  # fmt: skip
    said = f"Confusion of {entry.title}: rows are true classes, columns predicted ones."
    if largest:
        said += f" Most often {names[largest[0][0]]} was taken for {called[largest[0][1]]}."
    hint = (
        "Rows are true classes, columns what they were taken for. Blue is right, orange wrong, the stronger the larger the share of"
        f" the row. Protocol {column.protocol_name}."
    )
    chart = draw_confusion(names, shares, said=said)
    box = element("div", chart, class_="scroll", tabindex=0, role="region", aria_label=f"Confusion of {entry.title}")
    figure = element("figure", box, element("figcaption", hint))
    if not rows:
        return figure
    head = ["True class", "Taken for", "Pixels", "Share of the class, %"]
    return join((figure, build_table(f"Largest confusions of {entry.title}.", head, [Group(rows)], sortable=True)))


def _choose(entry: Entry) -> list[Shown]:
    """As many pictures of each group as the run has drawn; where it has drawn none, as if it had drawn all."""
    failed = _failed_names(entry)
    for each in range(EACH, 0, -1):
        chosen = choose_pictures(entry.result["pictures"], each=each)
        if entry.run.overlays is None or all(
            one.name in failed or overlay_path(entry.run.overlays, one.name, entry.key).exists() for one in chosen
        ):
            return chosen
    return choose_pictures(entry.result["pictures"], each=EACH)


def _failed_names(entry: Entry) -> set[str]:
    return {one["picture"] for one in entry.result.get("failed") or ()}


def _picture_group(group: str, chosen: Sequence[Shown], entry: Entry, title: MetricTitle) -> Markup:
    if not chosen:
        return Markup("")
    figures = (_figure(one, entry, title) for one in chosen)
    return element("div", element("h4", GROUPS[group]), element("div", *figures, class_="pictures"))


def _figure(one: Shown, entry: Entry, title: MetricTitle) -> Markup:
    """What the method made of a picture beside the truth."""
    value = f"{title.title} {title.show(one.value)}{' %' if title.percent else ''}"
    images = list(_images(one, entry, value))
    missing = "This picture failed." if one.name in _failed_names(entry) else "No overlay was kept."
    body = element("div", *images, class_="pair") if images else element("p", missing, class_="missing")
    return element("figure", body, element("figcaption", label(one.name), ": ", value))


def _images(one: Shown, entry: Entry, value: str) -> Iterator[Markup]:
    if entry.run.overlays is None:
        return
    for path, alt in (
        (overlay_path(entry.run.overlays, one.name, entry.key), f"{entry.title} on {one.name}, {value}"),
        (truth_path(entry.run.overlays, one.name), f"Ground truth of {one.name}"),
    ):
        if (source := embed(path)) is not None:
            yield element("img", src=source, alt=alt)
