"""Where the pictures of tasks are fetched from: one host, a few of its addresses, and nowhere else."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maskwright.errors import ImageError, SettingsError
from maskwright.serve.label_studio_pictures import LabelStudioPictures

Answer = Callable[[BaseHTTPRequestHandler], None]


def send(status: int = 200, body: bytes = b"picture", **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


class Host:
    """A host on this machine that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.answer: Answer = send()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append((self.command, self.path, self.headers.get("Authorization")))
                host.answer(self)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                host.asked.append((self.command, self.path, self.rfile.read(length).decode()))
                send(200, json.dumps({"access": f"short-{len(host.asked)}"}).encode())(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("/data/upload/1/ab-dog.jpg", "/data/upload/1/ab-dog.jpg"),
        ("upload/1/dog.jpg", "/data/upload/1/dog.jpg"),
        ("/data/upload/1/two words ä.jpg", "/data/upload/1/two%20words%20%C3%A4.jpg"),
        ("/data/upload/1/two%20words.jpg", "/data/upload/1/two%20words.jpg"),
        ("/data/local-files/?d=pets/dog.jpg", "/data/local-files/?d=pets/dog.jpg"),
        ("/storage-data/uploaded/?filepath=upload/1/dog.jpg", "/storage-data/uploaded/?filepath=upload/1/dog.jpg"),
        ("/tasks/7/resolve/?fileuri=czM6Ly9h", "/tasks/7/resolve/?fileuri=czM6Ly9h"),
        ("s3://bucket/dog.jpg", "/tasks/7/resolve/?fileuri=czM6Ly9idWNrZXQvZG9nLmpwZw=="),
        ("{url}/data/upload/1/dog.jpg", "/data/upload/1/dog.jpg"),
    ],
)
def test_what_label_studio_serves_is_fetched_with_the_token(host: Host, source: str, path: str) -> None:
    pictures = LabelStudioPictures(host.url, "secret")
    assert pictures.read(source.format(url=host.url), task=7) == b"picture"
    assert host.asked == [("GET", path, "Token secret")]


def test_label_studio_may_live_under_a_path(host: Host) -> None:
    pictures = LabelStudioPictures(f"{host.url}/studio/")
    pictures.read("/data/upload/1/a.jpg")
    pictures.read(f"{host.url}/studio/data/upload/1/a.jpg")
    assert host.asked == [("GET", "/studio/data/upload/1/a.jpg", None)] * 2


@pytest.mark.parametrize(
    "source",
    [
        "", "/", "/etc/passwd", "dog.jpg", "../../etc/passwd", "file:///etc/passwd", "ftp://a/data/upload/1/a", "/api/users", "/logout",
        "/data/../api/users", "/data/upload/../../api/users", "/data/upload/%2e%2e/%2e%2e/api/users", "/data/upload/..\\..\\api",
        "//evil/data/upload/1/a", "http://evil/data/upload/1/a.jpg", "http://127.0.0.1:1/data/upload/1/a.jpg", "https://{host}/data/upload/1/a",
        "http://user@evil/data/upload/a", "http://{host}@evil/data/upload/1/a", "http://{host}.evil/data/upload/1/a", "http://[", "http://{host}:x/data/upload/1",
        "tasks/1;/resolve/", "http://{host}/api/users", "gopher://{host}/data/upload/1/a", "javascript:alert(1)",
        "/data/upload/1/\ud800.jpg",
    ],
)  # fmt: skip
def test_everything_else_is_refused_without_a_word_to_anyone(host: Host, source: str) -> None:
    with pytest.raises(ImageError):
        LabelStudioPictures(host.url, "secret").read(source.replace("{host}", host.url.removeprefix("http://")), task=7)
    assert host.asked == []


@pytest.mark.parametrize("task", [None, "", "7/../8", "x", -1])
def test_cloud_storage_needs_a_tasks_id(host: Host, task: Any) -> None:
    with pytest.raises(ImageError, match="task's id"):
        LabelStudioPictures(host.url).read("gs://bucket/a.jpg", task=task)
    assert host.asked == []


def test_without_an_address_only_data_is_read() -> None:
    pictures = LabelStudioPictures(limit=10)
    assert pictures.read("data:image/png;base64,YWJj") == pictures.read("DATA:,ab%63") == pictures.read("data:;base64,YWJ%6A") == b"abc"
    with pytest.raises(ImageError, match="--label-studio-url"):
        pictures.read("/data/upload/1/a.jpg")
    for source in ("data:image/png;base64,YWJ", "data:image/png;base64,Ä", "data:image/png", "data:,12345678901", "data:," + "a" * 31):
        with pytest.raises(ImageError, match=r"data: URI|more than 10 bytes"):
            pictures.read(source)


def test_a_personal_token_is_exchanged_once_for_a_short_one(host: Host) -> None:
    pictures = LabelStudioPictures(host.url, "aa.bb.cc")
    pictures.read("/data/upload/1/a.jpg")
    pictures.read("/data/upload/1/b.jpg")
    assert host.asked == [
        ("POST", "/api/token/refresh/", '{"refresh": "aa.bb.cc"}'),
        ("GET", "/data/upload/1/a.jpg", "Bearer short-1"), ("GET", "/data/upload/1/b.jpg", "Bearer short-1"),
    ]  # fmt: skip
    assert "aa.bb.cc" not in repr(pictures)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (send(303, Location="http://169.254.169.254/"), "redirects"), (send(302, Location="/api/users"), "redirects"),
        (send(401), "--label-studio-token"), (send(404), "answers 404"), (send(500), "answers 500"),
        (send(200, b"x" * 2000), "more than 1000 bytes"), (lambda request: request.wfile.write(b"what?\r\n\r\n"), "does not answer"),
        (lambda request: None, "does not answer"),
    ],
)  # fmt: skip
def test_answers_that_are_no_picture_are_told(host: Host, answer: Answer, words: str) -> None:
    host.answer = answer
    with pytest.raises(ImageError, match=words):
        LabelStudioPictures(host.url, limit=1000).read("/data/upload/1/a.jpg")
    assert len(host.asked) == 1


def test_a_host_that_drips_is_left_in_time(host: Host) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                request.wfile.write(b"x")
                time.sleep(0.05)

    host.answer = drip
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"more than 0\.3 s"):
        LabelStudioPictures(host.url, timeout=0.3).read("/data/upload/1/a.jpg")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("url", ["", "localhost:8080", "file:///", "ftp://a", "http://", "http://a:b", "http://[", "http://u:p@a", "http://a/?b"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="Label Studio"):
        LabelStudioPictures(url)
