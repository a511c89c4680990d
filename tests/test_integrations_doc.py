"""docs/integrations.md says what works: its Python runs, its configuration is read, its options exist."""

import ast
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from maskwright.cli.serve import serve
from maskwright.serve.label_config import read_config

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
FOREIGN = {"fiftyone", "supervision"}  # what a user may not have


def packages(code: str) -> set[str]:
    """Top-level packages that a block imports."""
    nodes = list(ast.walk(ast.parse(code)))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    named = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in plain | named}


@pytest.mark.filterwarnings(
    "ignore:OpenCV .* is not installed:UserWarning",
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",  # pycocotools 2.0.11
)
def test_the_blocks_of_python_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in PYTHON:
        missing = {name for name in packages(code) if find_spec(name) is None}
        assert missing <= FOREIGN
        if not missing:
            exec(compile(code, "docs/integrations.md", "exec"), names)
    assert (names["mask"] == names["result"].mask("dog")).all()  # type: ignore[attr-defined]
    assert names["names"] == {1: "dog", 2: "red apple", 3: "sea", 4: "boat"}
    assert (tmp_path / "exported" / "data" / "dog-and-apple.png").is_file()
    assert names["first"].any()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.startswith("dog 0.")


def test_blocks_have_few_lines() -> None:
    assert len(PYTHON) >= 6
    assert all(len(code.strip().splitlines()) <= 5 for code in PYTHON)


def test_the_configuration_is_read_as_described() -> None:
    (question,) = read_config(next(code for kind, code in BLOCKS if kind == "xml"))
    found = [(answer.label.texts, answer.written, answer.control) for answer in question.answers]
    assert found == [(("dog",), "dog", "brush"), (("grass", "lawn"), "g", "brush"), (("red apple",), "red apple", "outline")]
    assert question.background == "0.3"


def test_the_options_of_serve_exist() -> None:
    section = TEXT[TEXT.index("## Label Studio") : TEXT.index("## supervision")]
    options = set(re.findall(r"--([a-z][a-z-]+)", section)) - {"network", "name"}  # docker's
    assert {"port", "label-studio-url", "label-studio-token", "timeout", "token"} <= options
    assert {option.replace("-", "_") for option in options} <= set(inspect.signature(serve).parameters)
