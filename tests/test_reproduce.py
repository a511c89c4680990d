import re
import shlex

import pytest
import typer
from typer.main import get_command

from maskwright.backbones.catalog import catalog
from maskwright.cli.choices import read_choices
from maskwright.cli.engine import FILTERS
from maskwright.cli.main import app
from maskwright.datasets.registry import DATASETS
from maskwright.errors import SettingsError
from maskwright.evaluation.protocol import parse_protocol
from maskwright.evaluation.published import PublishedTable, commands, find_table, published_tables, published_values, show_published
from maskwright.evaluation.titles import TITLES
from tests.command_line import run, surroundings

__all__ = ["surroundings"]  # a fixture of every test here

COMMANDS = [command for table in published_tables().values() for row in table.rows for _, _, command in commands(table, row)]


@pytest.mark.parametrize("table", published_tables().values(), ids=lambda table: table.name)
def test_every_published_value_has_a_column_of_a_known_metric_and_a_source(table: PublishedTable) -> None:
    assert table.title and table.paper and table.rows
    if table.protocol:
        assert parse_protocol(table.protocol).name == table.protocol
    for column in table.columns:
        assert column.name in TITLES
        assert column.dataset not in DATASETS or column.split in DATASETS[column.dataset].splits
    for row in table.rows:
        assert row.method and row.paper and len(row.values) == len(table.columns)
        assert (row.run is None) == (not row.differs)
        for column, value in zip(table.columns, row.values, strict=True):
            if isinstance(value, float | int):
                assert isinstance(value, float) and 0 < value < (100 if column.metric.percent else 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_typed(command: str) -> None:
    words = shlex.split(command)
    assert words[:2] == ["maskwright", "evaluate"]
    evaluate = get_command(app).commands["evaluate"]  # type: ignore[attr-defined]
    given = evaluate.make_context("evaluate", words[2:]).params
    dataset, _, folder = given["dataset"].partition(":")
    assert folder == dataset.upper().replace("-", "_") + "_FOLDER"
    assert given["split"] in DATASETS[dataset].splits and given["model"] in catalog()
    (choice,) = read_choices(given["method"], given["settings"] or ())
    assert choice.key == choice.method
    protocol = parse_protocol(given["protocol"])
    assert given["category_filter"] in FILTERS
    assert (given["category_filter"] != "none") == (protocol.labels == "filtered")  # as `maskwright evaluate` demands
    assert given["out"] is not None


def test_every_row_of_a_method_that_we_have_has_a_command_for_each_of_its_sets() -> None:
    table = find_table("diffsegmenter")
    assert [(dataset, split) for dataset, split, _ in commands(table, table.rows[0])] == [
        ("voc2012", "val"), ("context60", "val"), ("coco-object", "val"),
    ]  # fmt: skip
    first, second = (commands(find_table("diffseg"), row) for row in find_table("diffseg").rows)
    assert [dataset for dataset, _, _ in first] == ["coco-stuff27"] and "threshold=1.1" in first[0][2]
    assert [dataset for dataset, _, _ in second] == ["cityscapes27"] and "threshold=0.9" in second[0][2]
    outs = [re.findall("--out (.*)", command)[0] for command in COMMANDS]
    assert len(set(outs)) == len(outs), "two commands would write into one folder"


def test_values_are_those_of_the_papers() -> None:
    def values(table: str, method: str) -> list[str]:
        found = find_table(table)
        row = next(row for row in found.rows if row.method == method)
        return [show_published(value, column) for value, column in zip(row.values, found.columns, strict=True)]

    assert values("diffsegmenter", "DiffSegmenter") == ["60.1", "27.5", "37.9"]
    assert values("diffsegmenter", "FreeSeg-Diff") == ["53.3", "not published", "31.1"]
    assert values("diffcut", "DiffCut") == ["62.0", "46.1", "28.4"]
    assert values("diffsegmenter-given", "DiffSegmenter") == ["66.4", "40.0", "45.9", "24.2", "12.4"]
    assert values("diffusionseg-saliency", "TokenCut")[:3] == ["0.803", "0.712", "0.918"]
    assert values("diffusionseg-boxes", "LOST") == ["61.9", "64.0", "50.7"]
    assert values("maskdiffusion", "MaskDiffusion") == ["+10.5 over GEM"]


def test_values_are_found_by_data_set() -> None:
    found = published_values("coco-stuff27", "val")
    assert {(one.table.name, one.row.method, one.column.name, one.text) for one in found} >= {
        ("diffseg", "DiffSeg", "pixel_accuracy", "72.5"), ("diffcut", "DiffCut", "miou", "46.1"),
        ("maskdiffusion-unsupervised", "Unsupervised MaskDiffusion", "miou", "+14.8 over DiffSeg"),
    }  # fmt: skip
    assert published_values("coco-stuff27", "train") == published_values("my pictures", "all") == []


def test_the_list_names_every_table() -> None:
    for arguments in ([], ["list"]):
        text = run("reproduce", *arguments).stdout
        assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")] == ["table", *published_tables()]


@pytest.mark.parametrize("name", published_tables())
def test_a_table_is_printed_with_values_commands_and_differences(name: str) -> None:
    table, text = find_table(name), run("reproduce", name).stdout
    assert "All values are published ones; none of them was measured here." in text
    assert not table.protocol or f"protocol {table.protocol}: " in text
    lines = text.splitlines()
    for row in table.rows:
        assert any(line.startswith(row.method) for line in lines)
        for column, value in zip(table.columns, row.values, strict=True):
            assert value == "" or f"  {column.title}, {column.metric.heading}: {show_published(value, column)}" in lines
        assert all(f"  {command}" in lines for _, _, command in commands(table, row))
        assert all(f"  differs from the paper: {text}" in lines for text in row.differs)
    assert text.count("no command: ") == sum(not commands(table, row) for row in table.rows)


def test_an_unknown_table_is_refused_with_the_choices() -> None:
    with pytest.raises(SettingsError, match="choose one of diffsegmenter"):
        find_table("nonsense")
    assert "choose one of diffsegmenter" in run("reproduce", "nonsense", code=1).stderr


def test_help_tells_what_the_commands_do() -> None:
    assert isinstance(app, typer.Typer)
    for command in ("report", "reproduce"):
        assert command in run("--help").stdout and "--help" in run(command, "--help").stdout
