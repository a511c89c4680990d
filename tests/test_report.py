import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskwright.errors import SettingsError
from maskwright.evaluation.protocol import parse_protocol
from maskwright.evaluation.report import page
from maskwright.evaluation.report.breakdown import largest_confusions
from maskwright.evaluation.report.charts import Point, Series, draw_bar, draw_confusion, draw_lines
from maskwright.evaluation.report.gather import Column, ReportRun, arrange, find_sweeps, split_key
from maskwright.evaluation.report.markup import VOID, Markup, element, escape, label
from maskwright.evaluation.report.notices import notices
from maskwright.evaluation.report.page import render, write_report
from maskwright.evaluation.report.pictures import LONGEST, choose_pictures, embed, overlay_path, truth_path
from maskwright.evaluation.run_folder import RunFolder
from maskwright.evaluation.summary import summarise
from maskwright.evaluation.titles import TITLES, find_title
from tests.command_line import run, surroundings

__all__ = ["surroundings"]  # a fixture of every test here

NASTY = [
    '<script>alert("1")</script>', "a & b &amp; c", "it's \"quoted\"", "🐈‍⬛ cat", "\u202eevil", "\x00\x1b[31m", "\udcff", "</td></table>",
]  # fmt: skip
CLASSES = ["background", "dog", "cat", "grass"]
SEES_NOTHING = ("svg", "path", "rect", "circle", "line", "g")


def metric(value: float | None, reach: float = 0.02, note: str = "") -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - reach, value + reach)
    return {"value": value, "low": low, "high": high, "note": note}


def method(miou: float | None = 0.5, *, names: Sequence[str] = CLASSES, pictures: int = 12, **changes: Any) -> dict[str, Any]:
    """One method's part of a summary."""
    random = np.random.default_rng(len(names))
    counts = random.integers(0, 50, (len(names), len(names) + 1)) + 400 * np.eye(len(names), len(names) + 1, dtype=int)
    return {
        "metrics": {"miou": metric(miou), "pixel_accuracy": metric(0.8)},
        "headline": "miou",
        "evaluated": pictures,
        "classes": [{"name": name, "iou": 0.25 + 0.5 / (n + 1), "pixels": 100 * (n + 1)} for n, name in enumerate(names)],
        "pictures": [{"name": f"picture-{n:02d}", "value": n / pictures} for n in range(pictures)],
        "confusion": counts.tolist(),
        "failed": [],
        "seconds": 0.25,
        "peak_mb": 1234.5,
        "best_threshold": None,
        "thresholds": None,
        "settings": {"hops": 1, "fusion": [[8, 0.3], [4, 0.5]]},
        **changes,
    }


def summary(
    methods: Mapping[str, Any] | None = None, *, name: str = "voc2012", protocol: str = "maskwright", classes: Sequence[str] = CLASSES,
    pairs: Sequence[Mapping[str, Any]] = (), **dataset: Any,
) -> dict[str, Any]:  # fmt: skip
    """What `summarise` returns."""
    return {
        "methods": {"diffsegmenter": method(0.5), "maskdiffusion": method(0.6)} if methods is None else dict(methods),
        "pairs": list(pairs),
        "dataset": {
            "name": name, "split": "val", "kind": "classes", "classes": list(classes), "background": 0, "pictures": 12, "limit": None,
            "shard": None, **dataset,
        },
        "protocol": json.loads(json.dumps(parse_protocol(protocol).as_dict())),
        "versions": {"maskwright": "0.1.0", "torch": "2.13.0"},
        "model": {"name": "sd15", "source": "hub", "revision": "abc"},
        "seed": 0,
    }  # fmt: skip


def column(*summaries: Mapping[str, Any]) -> Column:
    (found,) = arrange([ReportRun(f"run {n}", content) for n, content in enumerate(summaries)])
    return found


def show(*summaries: Mapping[str, Any], overlays: Path | None = None) -> str:
    return render([ReportRun(f"run {n}", content, overlays) for n, content in enumerate(summaries)])


class Page(HTMLParser):
    """The elements of a page, after a check that every one of them is closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: list[tuple[str, tuple[str, ...]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((data, tuple(self.open)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def text(self) -> str:
        return "".join(data for data, inside in self.texts if "style" not in inside and "script" not in inside)


def rows(text: str) -> list[list[str]]:
    """The text of every cell of every row of every table."""
    found = re.findall(r"<tr[ >].*?</tr>", text, re.DOTALL)
    cells = [re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL) for row in found]
    return [[" ".join(Page(cell).text().split()) for cell in row] for row in cells]


def test_the_report_is_one_file_that_loads_nothing() -> None:
    text = show(summary())
    found = Page(text)
    for tag, attributes, _ in found.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not {"src", "srcset", "action", "background", "style", "onclick", "onerror"} & set(attributes) or tag == "img"
        assert (attributes.get("href") or "#").startswith("#")
        assert (attributes.get("src") or "data:").startswith("data:")
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|localStorage|\bimport\b", text)
    (policy,) = (meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy


def test_names_of_any_kind_are_shown_as_they_are_and_never_become_markup(tmp_path: Path) -> None:
    names = [*CLASSES[:1], *NASTY]
    failed = [{"picture": one, "reason": f"reason {one}"} for one in NASTY]
    own = method(names=names, failed=failed, settings={one: one for one in NASTY})
    own["pictures"] = [{"name": one, "value": 0.1 * n} for n, one in enumerate(NASTY)]
    pairs = [{"one": NASTY[0], "other": NASTY[1], "metric": NASTY[2], "difference": 0.1, "low": 0.0, "high": 0.2}]
    content = summary({one: own for one in NASTY}, classes=names, name=NASTY[0], pairs=pairs)
    content["versions"] = {NASTY[0]: NASTY[1]}
    content["protocol"] |= {"name": NASTY[0], "source": NASTY[7]}
    Image.new("RGB", (4, 4)).save(overlay_path(tmp_path, NASTY[7], NASTY[0]))
    path = write_report([ReportRun(one, content, tmp_path) for one in NASTY[:4]], tmp_path / "report.html", title=NASTY[0])
    found = Page(path.read_text(encoding="utf-8"))
    assert [attributes for attributes in found.all("script")] == [{}]
    shown = found.text()
    for one in (*NASTY[:5], NASTY[7]):
        assert one in shown
    assert "\\x00\\x1b[31m" in shown and "\\udcff" in shown and "\x00" not in shown
    assert found.all("img") and all(picture["alt"] for picture in found.all("img"))


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_escaped_text_reads_back_as_it_was(text: str) -> None:
    for markup in (element("p", text), label(text), element("p", "x", title=text)):
        assert isinstance(markup, Markup)
    assert Page(element("p", text)).text() == text == Page(label(text)).text()
    assert Page(element("p", title=text)).all("p") == [{"title": text}]
    assert escape(escape(text)) == escape(text)


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    runs = [ReportRun("one", summary()), ReportRun("two", summary(name="scenes", protocol="maskwright-present"))]
    assert render(runs) == render([ReportRun("one", summary()), runs[1]])
    assert write_report(runs, tmp_path / "a" / "r.html").read_bytes() == write_report(runs, tmp_path / "b.html").read_bytes()
    assert render(runs) != render(runs[::-1])


def test_the_page_can_be_read_by_everyone() -> None:
    pairs = [{"one": "diffsegmenter", "other": "maskdiffusion", "metric": "miou", "difference": -0.1, "low": -0.2, "high": 0.0}]
    text = show(summary(pairs=pairs), summary({"a[hops=1]": method(0.3), "a[hops=2]": method(0.4)}, name="scenes"))
    found = Page(text)
    assert found.all("html") == [{"lang": "en"}] and len(found.all("h1")) == len(found.all("title")) == 1
    levels = [int(tag[1]) for tag, _, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert text.count("<caption>") == len(found.all("table")) > 8
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in found.all("th"))
    assert all(chart.get("aria-hidden") == "true" or (chart.get("role") == "img" and chart.get("aria-label")) for chart in found.all("svg"))
    ids = [attributes["id"] for _, attributes, _ in found.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {(link["href"] or "").removeprefix("#") for link in found.all("a")} == set(ids)
    assert {attributes["aria-labelledby"] for attributes in found.all("section")} <= set(ids)
    boxes = [attributes for attributes in found.all("div") if attributes.get("class", "").startswith("scroll")]
    assert all(box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes)


def test_colours_have_enough_contrast_in_light_and_dark() -> None:
    style = (Path(page.__file__).parent / "page.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in style.split("@media", 2)[:2])
    assert light.keys() == dark.keys()
    for scheme in (light, dark):
        for front, backs in {
            "ink": ("paper", "card", "head", "note"), "faint": ("paper", "card", "head"), "link": ("paper", "card"),
            "published-ink": ("published",),
        }.items():  # fmt: skip
            assert all(contrast(scheme[front], scheme[back]) >= 4.5 for back in backs), front
        assert all(contrast(scheme[f"s{n}"], scheme["card"]) >= 3 for n in range(8))


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def test_every_value_stands_with_interval_and_protocol() -> None:
    found = rows(show(summary(), summary(protocol="labels=present,background=best")))
    first, second = "maskwright", "maskwright,labels=present,background=best"
    overview = found[:3]
    assert [f"protocol {name}" in " ".join(overview[0]) for name in (first, second)] == [True, True]
    assert overview[1] == ["diffsegmenter", f"50.0 [48.0, 52.0] {first}", f"50.0 [48.0, 52.0] {second}"]
    assert overview[2] == ["maskdiffusion", f"60.0 [58.0, 62.0] {first}", f"60.0 [58.0, 62.0] {second}"]


def test_published_rows_stand_beside_ours_only_under_the_same_protocol_on_the_whole_set() -> None:
    ours = {"diffsegmenter": method(metrics={"miou": metric(0.4), "miou_best_threshold": metric(0.45)})}
    text = show(summary(ours, protocol="paper:diffsegmenter"))
    overview = text[: text.index('id="set-1"')]
    assert "Published, not measured here" in overview
    line = next(row for row in rows(overview) if row[0].startswith("DiffSegmenter"))
    assert line[1:] == ["", "60.1 published, paper:diffsegmenter"] and "2309.02773" in line[0]
    assert not any(row[0].startswith("ReCo") for row in rows(overview))
    for other in (
        summary(ours), summary(ours, protocol="paper:diffsegmenter", limit=5), summary(ours, protocol="paper:diffsegmenter", shard=[1, 2]),
    ):  # fmt: skip
        text = show(other)
        assert "Published, not measured here" not in text[: text.index('id="set-1"')]
        folded = next(part for part in re.findall("<details>.*?</details>", text) if "Published under other conditions" in part)
        assert any(row[0] == "DiffSegmenter" and row[2:4] == ["60.1", "paper:diffsegmenter"] for row in rows(folded))
    assert "ublished under" not in show(summary(name="my photos"))


def test_a_reader_is_warned() -> None:
    assert notices(column(summary())) == []
    hard = method(failed=[{"picture": "a", "reason": "b"}, {"picture": "c", "reason": "d"}])
    told = " | ".join(notices(column(summary({"m": hard}, protocol="labels=present,background=best,resolution=64x64,average=pictures"))))
    for word in ("Oracle labels", "chosen on the ground truth", "2 of 12 pictures failed", "fixed grid", "mean over pictures"):
        assert word in told
    assert any("not finished, 12 of 20" in text for text in notices(column(summary(pictures=20))))
    assert not any("not finished" in text for text in notices(column(summary(pictures=37, shard=[3, 3]))))
    many = summary({f"m[hops={n}]": method() for n in range(9)}, pictures=20)
    assert [text for text in notices(column(many)) if "finished" in text] == ["9 methods: not finished, 12 of 20 pictures so far."]
    assert any("first 12 of 50" in text for text in notices(column(summary(pictures=50, limit=12))))
    assert any("Oracle number of regions" in text for text in notices(column(summary({"m": method(settings={"regions": "oracle"})}))))
    matched = method(metrics={"miou": metric(0.5, note="segments matched per picture, spare ones: wrong")})
    assert any("Hungarian" in text for text in notices(column(summary({"m": matched}))))
    newer = summary({"other": method()})
    newer["versions"] = {"torch": "3.0"}
    assert any("different versions" in text for text in notices(column(summary(), newer)))
    assert "2 of 12 pictures failed" in show(summary({"m": hard})) and ["a", "m", "b"] in rows(show(summary({"m": hard})))


def test_runs_of_the_same_pictures_and_protocol_share_a_column() -> None:
    one, two = summary({"diffsegmenter": method()}), summary({"maskdiffusion": method()})
    assert [entry.title for entry in column(one, two).entries] == ["diffsegmenter", "maskdiffusion"]
    again = summary({"diffsegmenter": method()})
    assert [entry.title for entry in column(one, again).entries] == ["diffsegmenter (run 0)", "diffsegmenter (run 1)"]
    again["model"] = {"name": "sd21"}
    assert [entry.title for entry in column(one, again).entries] == ["diffsegmenter (sd15)", "diffsegmenter (sd21)"]
    different = [summary(), summary(split="train"), summary(limit=3), summary(protocol="paper:diffseg"), summary(name="voc20")]
    assert len(arrange([ReportRun(str(n), content) for n, content in enumerate(different)])) == 5


def test_the_best_measured_value_is_bold_and_for_errors_the_smallest() -> None:
    methods = {name: method(metrics={"miou": metric(value), "mae": metric(value)}) for name, value in (("a", 0.2), ("b", 0.7), ("c", None))}
    text = show(summary(methods))
    bold = re.findall(r'<strong class="value">([^<]*)</strong>', text[text.index('id="set-1"') :])
    assert bold == ["0.200", "70.0"]
    assert any(row == ["c", "– maskwright", "– maskwright"] for row in rows(text))


def test_differences_are_shown_with_their_interval_and_whether_it_excludes_zero() -> None:
    pairs = [
        {"one": "a", "other": "b", "metric": "miou", "difference": 0.031, "low": 0.002, "high": 0.06},
        {"one": "a", "other": "c", "metric": "miou", "difference": -0.0301, "low": -0.07, "high": 0.01},
        {"one": "b", "other": "c", "metric": "miou", "difference": -0.00001, "low": None, "high": None},
    ]
    found = rows(show(summary(pairs=pairs)))
    assert ["a", "b", "+3.1 [+0.2, +6.0]", "", "yes"] in found
    assert ["a", "c", "−3.0 [−7.0, +1.0]", "", "no"] in found
    assert ["b", "c", "0.0", "", ""] in found


def test_bars_are_as_long_as_their_values() -> None:
    lengths = [Page(draw_bar(share)).all("rect")[1]["width"] for share in (0.0, 0.432, 1.0, 1.7, -1.0)]
    assert lengths == ["0", "43.2", "100", "100", "0"]


def test_the_heat_map_shows_shares_of_rows_right_apart_from_wrong() -> None:
    shares = [[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]]
    cells = Page(draw_confusion(["a", "b"], shares, said="said")).all("path")
    assert {(cell["class"], cell["d"]) for cell in cells} == {
        ("right l8", "M0 0h16v16h-16z"), ("right l5", "M16 16h16v16h-16z"),
        ("wrong l6", "M0 16h16v16h-16z"), ("wrong l5", "M32 16h16v16h-16z"),
    }  # fmt: skip
    many = [f"class {n}" for n in range(171)]
    drawn = draw_confusion(many, np.full((171, 172), 1 / 172).tolist(), said="said")
    assert not Page(drawn).all("text") and len(drawn) < 600_000


def test_the_largest_confusions_leave_out_what_is_right() -> None:
    assert largest_confusions([[90, 5, 7], [8, 90, 7]]) == [(1, 0, 8), (0, 2, 7), (1, 2, 7), (0, 1, 5)]
    assert largest_confusions([[90, 5, 7], [8, 90, 7]], most=1) == [(1, 0, 8)]
    names, counts = ["background", "dog", "cat"], [[90, 0, 0, 0], [0, 0, 0, 0], [30, 0, 60, 10]]
    found = rows(show(summary({"m": method(names=names, confusion=counts)}, classes=names)))
    listed = [row for row in found if row[0] == "cat" and len(row) == 4]
    assert listed == [["cat", "background", "30", "30.0"], ["cat", "no class", "10", "10.0"]]


def test_lines_go_up_with_the_values_and_stay_inside() -> None:
    series = [Series("a", [Point(0, 0.2, 0.1, 0.3), Point(1, 0.5), Point(2, 0.9, 0.85, 0.95)])]
    found = Page(draw_lines(series, ticks=["1", "10", "100"], axis="timestep", metric=find_title("miou")))
    dots = [(float(dot["cx"] or 0), float(dot["cy"] or 0)) for dot in found.all("circle")]
    assert dots == sorted(dots) and [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    assert np.allclose(np.diff([y for _, y in dots]) / np.diff([0.2, 0.5, 0.9]), (dots[2][1] - dots[0][1]) / 0.7, atol=0.1)
    assert all(0 < x < 440 and 0 < y < 270 for x, y in dots)
    assert "1 20.0, 10 50.0, 100 90.0" in (found.all("svg")[0]["aria-label"] or "")
    flat = draw_lines([Series("", [Point(0, 0.5)])], ticks=["x"], axis="a", metric=find_title("mae"))
    assert "nan" not in flat


def test_keys_are_read_as_method_and_swept_settings() -> None:
    assert split_key("diffsegmenter") == ("diffsegmenter", {})
    key = "diffsegmenter[timesteps=[50,100],prompting=joint,fusion=((8, 0.3), (4, 0.5))]"
    assert split_key(key) == ("diffsegmenter", {"timesteps": "[50,100]", "prompting": "joint", "fusion": "((8, 0.3), (4, 0.5))"})


def test_a_sweep_has_its_values_in_order_and_one_series_for_each_rest() -> None:
    values = {("100", "joint"): 0.3, ("5", "joint"): 0.2, ("50", "joint"): 0.4, ("100", "shared"): 0.1}
    methods = {f"m[timesteps={time},prompting={how}]": method(value) for (time, how), value in values.items()}
    found = column(summary({**methods, "plain": method()}))
    first, second = find_sweeps(found.entries)
    assert (first.setting, first.values, first.numeric) == ("timesteps", ("5", "50", "100"), True)
    assert {rest: list(own) for rest, own in first.series.items()} == {"prompting=joint": ["100", "5", "50"], "prompting=shared": ["100"]}
    assert (second.setting, second.numeric, len(second.series)) == ("prompting", False, 3)
    text = show(summary(methods))
    assert rows(text)[1] == ["m, settings swept", "10.0 to 40.0 4 settings, see there maskwright"]
    table = [row for row in rows(text) if row[0] in ("5", "50", "100")]
    assert [row[0] for row in table] == ["5", "50", "100"]
    assert table[0] == ["5", "20.0 [18.0, 22.0] maskwright", ""]


@given(st.lists(st.none() | st.floats(0, 1), max_size=40), st.integers(1, 5))
def test_best_middle_and_worst_are_different_pictures_in_order(values: list[float | None], each: int) -> None:
    pictures = [{"name": f"{n:03d}", "value": value} for n, value in enumerate(values)]
    chosen = choose_pictures(pictures, each=each)
    there = sorted((value for value in values if value is not None), reverse=True)
    assert len({one.name for one in chosen}) == len(chosen) == min(3 * each, len(there))
    assert [one.value for one in chosen] == sorted((one.value for one in chosen), reverse=True)
    groups = {name: [one.value for one in chosen if one.group == name] for name in ("best", "middle", "worst")}
    assert groups["best"] == there[:each]
    assert groups["worst"] == there[max(each, len(there) - each) :]
    if len(there) >= 3 * each and each % 2 == len(there) % 2:
        middle = (len(there) - each) // 2
        assert groups["middle"] == there[middle : middle + each]


def test_overlays_and_truth_are_inside_the_page_small_and_described(tmp_path: Path) -> None:
    name = "city/a b.ü"
    for path, size in ((overlay_path(tmp_path, name, "m[hops=2]"), (900, 450)), (truth_path(tmp_path, name), (20, 40))):
        assert path.parent == tmp_path
        Image.new("RGB", size, (10, 200, 30)).save(path)
    (tmp_path / "bad.m[hops=2].png").write_bytes(b"no picture")
    assert embed(tmp_path / "bad.m[hops=2].png") is None and embed(tmp_path / "none.png") is None
    own = method(pictures=0) | {"pictures": [{"name": name, "value": 0.5}, {"name": "bad", "value": 0.1}]}
    found = Page(show(summary({"m[hops=2]": own}), overlays=tmp_path))
    overlay, truth = found.all("img")
    assert overlay["alt"] == f"m[hops=2] on {name}, mIoU 50.0 %" and truth["alt"] == f"Ground truth of {name}"
    sizes = []
    for picture in (overlay, truth):
        data = (picture["src"] or "").removeprefix("data:image/jpeg;base64,")
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            sizes.append(image.size)
    assert sizes == [(LONGEST, LONGEST // 2), (20, 40)]
    assert "No overlay was kept." in found.text()
    own["failed"] = [{"picture": "bad", "reason": "unreadable"}]
    assert "This picture failed." in Page(show(summary({"m[hops=2]": own}), overlays=tmp_path)).text()


def test_as_many_pictures_are_shown_as_the_run_has_drawn(tmp_path: Path) -> None:
    own = method()
    for one in choose_pictures(own["pictures"], each=2):
        Image.new("RGB", (8, 8)).save(overlay_path(tmp_path, one.name, "m"))
    text = show(summary({"m": own}), overlays=tmp_path)
    assert len(Page(text).all("img")) == 6 and "No overlay" not in text
    assert show(summary({"m": own})).count("No overlay was kept.") == 9


def test_what_was_not_measured_is_told_and_nothing_breaks() -> None:
    empty = method(None, classes=[], pictures=0, confusion=None, seconds=None, peak_mb=None, thresholds=None, settings={})
    text = show(summary({"m": empty}), summary({"m": {**empty, "metrics": {}}}, name="other", kind="boxes", classes=[]))
    assert "Nothing has been measured yet." in text and "not finished, 0 of 12" in text
    assert not re.search(r"\bNone\b|\bnan\b", Page(text).text())
    with pytest.raises(SettingsError, match="one or more runs"):
        render([])
    with pytest.raises(SettingsError, match="different names"):
        render([ReportRun("a", summary()), ReportRun("a", summary())])


def test_thresholds_are_drawn_and_the_best_is_marked_as_chosen() -> None:
    own = method(best_threshold=0.4, thresholds={"0.3": 0.2, "0.4": 0.5, "0.5": None})
    text = Page(show(summary({"m": own}, protocol="background=best"))).text()
    assert "Best, chosen on the ground truth: m 0.4." in text


def test_metrics_are_written_in_their_units() -> None:
    assert TITLES["miou"].show(0.43251) == "43.3" and TITLES["mae"].show(0.04) == "0.040"
    assert TITLES["miou"].show(-0.1, signed=True) == "−10.0" and TITLES["miou"].show(0.1, signed=True) == "+10.0"
    assert TITLES["miou"].show(-0.00001, signed=True) == "0.0"
    assert TITLES["miou"].show(None) == TITLES["miou"].show(float("nan")) == "–"
    assert find_title("new_metric").heading == "new metric"


def evaluated(folder: Path, *, failed: str | None = None, seed: int = 0) -> RunFolder:
    """A folder as `maskwright evaluate` leaves it, of two methods on three pictures."""
    content = summary()
    methods = [{"key": key, "method": key, "settings": {"hops": 1}, "record": {}} for key in ("diffsegmenter", "maskdiffusion")]
    kept = {key: content[key] for key in ("protocol", "model", "versions")}
    made = RunFolder.start(folder, {"dataset": {**content["dataset"], "pictures": 3}, **kept, "methods": methods, "seed": seed})
    for number in range(3):
        made.append([
            {
                "picture": f"p{number}", "number": number, "method": one["key"], "failed": failed if number == 2 else None,
                "seconds": {"read": 0.1, "score": 0.1, "all": 0.2}, "peak_mb": 100.0,
                "statistics": {"confusion": {"-": [[0, 0, 50], [1, 1, 10 + 5 * number], [1, 2, 4], [2, 4, 3]]}},
            }
            for one in methods
        ])  # fmt: skip
    return made


def test_the_real_summary_of_a_run_becomes_a_report(tmp_path: Path) -> None:
    made = evaluated(tmp_path, failed="cannot be read")
    content = summarise(made.evaluation, made.lines)
    text = show(content)
    value = content["methods"]["diffsegmenter"]["metrics"]["miou"]
    expected = f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}] maskwright"
    assert any(row[:2] == ["diffsegmenter", expected] for row in rows(text))
    assert ["p2", "maskdiffusion", "cannot be read"] in rows(text)
    assert set(TITLES) >= set(content["methods"]["diffsegmenter"]["metrics"])


def test_the_command_writes_the_page_and_prints_where() -> None:
    evaluated(Path("runs/one"))
    evaluated(Path("more/one"), seed=1)
    assert run("report", "runs/one").stdout == "runs/one/report.html\n"
    assert run("report", "runs/one", "more/one", "--title", "<b>").stdout == "report.html\n"
    text = Path("report.html").read_text(encoding="utf-8")
    assert "<h1>&lt;b&gt;</h1>" in text and "diffsegmenter (runs/one)" in Page(text).text() and "seed" in Page(text).text()
    assert run("report", "runs/one", "--out", "deep/page.html").stdout == "deep/page.html\n"
    for arguments, words in (
        (["nowhere"], ["holds no evaluation", "--out"]), (["runs/one", "runs/one"], ["named twice"]),
        (["runs/one", "--out", "runs"], ["is a folder"]),
    ):  # fmt: skip
        (line,) = run("report", *arguments, code=1).stderr.splitlines()
        assert all(word in line for word in ["error:", *words])
