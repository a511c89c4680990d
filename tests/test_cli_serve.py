"""`maskwright serve`: what it refuses in one line before a model is loaded, and a whole life of it as a process."""

import importlib.util
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from maskwright.cli import serve as command
from maskwright.serve.settings import ServeSettings
from tests.command_line import COMMAND, ENVIRONMENT, no_model, refused, run, surroundings
from tests.serving import png

__all__ = ["no_model", "surroundings"]  # fixtures


@pytest.mark.usefixtures("no_model")
class TestRefusals:
    @pytest.mark.parametrize(
        ("option", "value", "named"),
        [("--port", "70000", "--port"), ("--max-upload", "20 bananas", "--max-upload"), ("--cache", "0", "--cache"),
         ("--workers", "0", "--workers"), ("--queue", "-1", "--queue"), ("--timeout", "0", "--timeout"), ("--keep", "-1", "--keep"),
         ("--token", "two words", "--token"), ("--method", "kmeans", "method"), ("--model", "no-such-model", "no-such-model"),
         ("--host", "256.256.256.256", "--host"), ("--batch", "many", "--batch"), ("--max-pixels", "0", "--max-pixels")],
    )  # fmt: skip
    def test_values_that_cannot_be_used(self, option: str, value: str, named: str) -> None:
        assert named in refused("serve", "--port", "0", option, value)

    def test_a_port_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            line = refused("serve", "--port", str(taken.getsockname()[1]))
        assert "Address already in use" in line and "--port" in line

    def test_an_empty_token_is_not_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MASKWRIGHT_TOKEN", "")
        assert "MASKWRIGHT_TOKEN is empty" in refused("serve", "--port", "0")

    def test_a_missing_package_is_named_with_its_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else found(name))
        assert 'pip install "maskwright[serve]"' in refused("serve", "--port", "0")


def test_options_and_settings_have_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ServeSettings] = []

    def stop(settings: ServeSettings) -> None:
        seen.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("maskwright.serve.running.listen", stop)
    monkeypatch.delenv("MASKWRIGHT_TOKEN", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    run("serve", code=130)
    assert seen == [ServeSettings()]


@contextmanager
def served(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process, and its address as it printed it."""
    command = [*COMMAND, "serve", "--port", "0", "--offline", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def post(address: str, data: bytes, kind: str, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(address, data, {"Content-Type": kind, **headers})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, json.loads(answer.read())


def wait_for(address: str, line: str, headers: dict[str, str]) -> None:
    """Returns when the server's metrics hold a line."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with urllib.request.urlopen(urllib.request.Request(f"{address}/metrics", headers=headers), timeout=30) as answer:
            if line in answer.read().decode().splitlines():
                return
        time.sleep(0.02)
    raise AssertionError(f"the metrics never held {line!r}")


def test_a_server_answers_and_finishes_what_is_in_progress_when_it_is_told_to_end() -> None:
    with served("--token", "s3cret") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(f"{address}/v1/readings", png(), "image/png")
        assert caught.value.code == 401
        caught.value.close()
        key = {"Authorization": "Bearer s3cret"}
        _, reading = post(f"{address}/v1/readings", png(), "image/png", **key)
        question = {"labels": "dog, grass", "refine": "pamr"}
        status, found = post(f"{address}/v1/readings/{reading['id']}/segment", json.dumps(question).encode(), "application/json", **key)
        assert status == 200 and [label["name"] for label in found["labels"]] == ["dog", "grass"]
        host, _, port = address.removeprefix("http://").partition(":")
        picture = png()
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            head = f"POST /v1/readings HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer s3cret\r\nContent-Type: image/png\r\n"
            slow.sendall(f"{head}Content-Length: {len(picture)}\r\n\r\n".encode() + picture[:50])
            wait_for(address, "maskwright_in_progress 1.0", key)
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            slow.sendall(picture[50:])
            assert slow.recv(1000).startswith(b"HTTP/1.1 201 ")
        assert process.wait(20) == -signal.SIGTERM
        errors = process.stderr.read()
    assert "Traceback" not in errors and "/docs" in errors
