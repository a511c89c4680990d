"""Runs commands in the test's own process, on the bundled model, which is loaded once."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from maskwright.backbones import catalog, loading
from maskwright.cli.main import app
from maskwright.datasets.scenes import render

ENDINGS = (".labels.png", ".overlay.png", ".json")
COMMAND = [sys.executable, "-m", "maskwright"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(catalog.__file__).parents[2])}
load_once = cache(loading.load_backbone)


@contextmanager
def restored() -> Iterator[None]:
    """A command changes the process that it runs in; here that is the test's own, which is put back."""
    logger = logging.getLogger("maskwright")
    environment, handlers, propagate = os.environ.copy(), logger.handlers[:], logger.propagate
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        logger.handlers[:], logger.propagate = handlers, propagate


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A folder of its own, and a model that is loaded once."""
    monkeypatch.setattr(loading, "load_backbone", load_once)
    monkeypatch.chdir(tmp_path)
    with restored():
        yield


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has to come before a model is loaded."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load_backbone", refuse)


def run(*args: str | Path, code: int = 0, stdin: bytes | None = None) -> Any:
    """What a command wrote, after a check of its exit code."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def refused(*args: str | Path, model_line: bool = False) -> str:
    """The one line that a command fails with."""
    result = run(*args, code=1)
    assert result.stdout == ""
    *others, line = result.stderr.splitlines()
    assert len(others) == model_line and line.startswith("error: ")
    assert "unexpected" not in line and len(line) < 400
    return line


def documents(result: Any) -> list[dict[str, Any]]:
    """The JSON objects that a command wrote, one a line."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def scene(path: Path, seed: int = 0, *, side: int = 64) -> Path:
    """A picture file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(seed, split="tuning", side=side).image).save(path)
    return path


def outputs(folder: Path) -> list[str]:
    """Names of all files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def three(*names: str) -> list[str]:
    """The files that pictures of these names give."""
    return sorted(f"{name}{ending}" for name in names for ending in ENDINGS)
