"""Bad requests, bad pictures, bad names: every one gets an error of the one form, and none a 500, a trace or a file."""

import base64
import builtins
import gc
import io
import json
import os
import pathlib
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwright.serve.security import host_name
from tests.serving import code, png, running, upload
from tests.tiny import pixels

JSON_ROUTES = ("segment", "point", "regions", "discover")
FORM_ROUTES = ("/v1/segment", "/v1/regions", "/v1/discover")
TRICKS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x", "a\0b",
          "~/.ssh/id_rsa", "\\\\server\\share", "CON", "%00", "....//", "\ud800", "{{7*7}}", "'; DROP TABLE readings; --"]  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with running(max_pixels=4000, max_upload=50_000, max_labels=20) as started:
        yield started


@pytest.fixture(scope="module")
def reading(client: TestClient) -> str:
    return f"/v1/readings/{upload(client)}"


def post_bytes(client: TestClient, data: bytes, **headers: str) -> Any:
    return client.post("/v1/readings", content=data, headers={"content-type": "image/png", **headers})


def ask(client: TestClient, address: str, body: str | bytes) -> Any:
    return client.post(address, content=body, headers={"content-type": "application/json"})


def header_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


class TestPictures:
    @pytest.mark.parametrize(
        "data",
        [b"", b"x", b"not a picture", png()[:40], png()[:-30], png()[:8] + b"\0" * 60, b"GIF89a", b"\xff\xd8\xff\xe0", b"PK\3\4",
         b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.4", b"\0" * 500, b"RIFF\0\0\0\0WEBPVP8 ",
         b"II*\0\xff\xff\xff\xff", b"P6 9 9 255\n", b"https://example.org/dog.png", base64.b64encode(png())],
        ids=lambda data: repr(data[:12]),
    )  # fmt: skip
    def test_what_is_no_picture_is_refused(self, client: TestClient, data: bytes) -> None:
        assert code(post_bytes(client, data)) == (422, "bad_image")
        assert code(client.post("/v1/segment", files={"image": ("dog.png", data)}, data={"labels": "dog"})) == (422, "bad_image")

    def test_too_many_pixels_are_refused_from_the_header(self, client: TestClient) -> None:
        for width, height in ((60_000, 60_000), (2**31 - 1, 1), (4001, 1), (100, 41)):
            began = time.perf_counter()
            assert code(post_bytes(client, header_of(width, height))) == (413, "picture_too_large")
            assert time.perf_counter() - began < 1
        assert post_bytes(client, png(pixels(size=(40, 100)))).status_code == 201

    def test_what_unpacks_to_far_more_than_was_sent_is_refused(self, client: TestClient) -> None:
        large = np.zeros((3000, 3000), dtype=np.uint8)  # 9 megapixels in 9 kilobytes
        bomb = png(large)
        assert len(bomb) < 50_000 and code(post_bytes(client, bomb)) == (413, "picture_too_large")
        text = b"iTXt" + b"k\0\1\0\0\0" + zlib.compress(bytes(30_000_000), 9)  # and 30 megabytes of comment in 30 kilobytes
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        whole = png()
        answer = post_bytes(client, whole[:33] + chunk + whole[33:])
        assert answer.status_code == 201 or code(answer) == (422, "bad_image")

    def test_an_animation_gives_its_first_frame(self, client: TestClient) -> None:
        frames = [Image.fromarray(pixels(number)) for number in range(3)]
        stream = io.BytesIO()
        frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
        assert post_bytes(client, stream.getvalue()).status_code == 201


class TestSizes:
    def test_a_body_that_is_too_large_is_refused(self, client: TestClient, reading: str) -> None:
        for answer in (
            post_bytes(client, bytes(200_000)), client.post("/v1/readings", files={"image": bytes(200_000)}),
            client.post("/v1/readings", content=(bytes(1000) for _ in range(300)), headers={"content-type": "image/png"}),
            client.post("/v1/segment", files={"image": bytes(200_000)}, data={"labels": "dog"}),
            client.post("/v1/segment", files={"image": png()}, data={"labels": "dog" * 60_000}),
            ask(client, f"{reading}/segment", b" " * 1_100_000), client.post("/predict", content=bytes(300_000)),
        ):  # fmt: skip
            assert code(answer) == (413, "upload_too_large")

    def test_a_picture_over_the_limit_inside_a_form_that_is_not(self, client: TestClient) -> None:
        assert code(client.post("/v1/readings", files={"image": bytes(50_001)})) == (413, "upload_too_large")

    def test_an_announcement_is_believed_and_a_wrong_one_does_not_help(self, client: TestClient) -> None:
        assert code(post_bytes(client, b"x", **{"content-length": "9" * 15})) == (413, "upload_too_large")
        for length in ("-1", "1e3", "9" * 5000, "ten"):
            assert post_bytes(client, png(), **{"content-length": length}).status_code in (201, 400, 413, 422)

    def test_labels_are_counted_and_measured(self, client: TestClient, reading: str) -> None:
        def segment(**body: Any) -> Any:
            return client.post(f"{reading}/segment", json=body)

        assert code(segment(labels=[str(number) for number in range(21)])) == (413, "too_many_labels")
        assert code(segment(labels="|".join(map(str, range(21))))) == (413, "too_many_labels")
        assert code(segment(labels="dog", background="|".join(map(str, range(20))))) == (413, "too_many_labels")
        assert code(segment(labels="d" * 201)) == (422, "bad_labels")
        assert code(segment(labels="word " * 39)) == (422, "bad_labels") or segment(labels="word " * 39).status_code == 200
        assert code(segment(labels="x " * 99)) == (422, "bad_labels")  # more tokens than the model reads
        assert code(segment(labels="dog", background="x" * 5001)) == (422, "bad_request")
        assert code(client.get(f"{reading}/heat", params={"label": "|".join(map(str, range(21)))})) == (413, "too_many_labels")

    @pytest.mark.parametrize(
        "labels", ["", ",", "dog, dog", "dog,cat|dog", "a\x07b", "<|endoftext|>", "|", "dog|", "\u202edog", [], [""], ["a", "A"]]
    )
    def test_labels_that_cannot_be_used(self, client: TestClient, reading: str, labels: Any) -> None:
        for route in JSON_ROUTES:
            answer = client.post(f"{reading}/{route}", json={"labels": labels, **({"x": 0, "y": 0} if route == "point" else {})})
            assert code(answer) == (422, "bad_labels"), route


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        ["", "{", "null", "[]", "3", '"dog"', "{}", '{"labels": null}', '{"labels": 3}', '{"labels": {"a": 1}}', '{"labels": [["a"]]}',
         '{"labels": "dog", "methud": "x"}', '{"labels": "dog", "background": null}', '{"labels": "dog", "background": NaN}',
         '{"labels": "dog", "background": -Infinity}', '{"labels": "dog", "background": {}}', '{"labels": "dog", "format": "exe"}',
         '{"labels": "dog", "refine": 1}', '{"labels": "dog", "x": "a", "y": 0}', '{"labels": "dog", "x": -1, "y": 0}', "[" * 200_000,
         '{"a":' * 100_000, '{"labels": "dog", "x": 1' + "0" * 5000 + "}", "\xff\xfe", '{"labels": "dog", "regions": 0}', "NaN",
         '{"labels": "dog", "match": "perhaps"}', '{"labels": "dog", "method": 7}', '{"labels": "dog", "method": "' + "m" * 10_000 + '"}'],
        ids=lambda body: repr(body[:24]),
    )  # fmt: skip
    def test_json_that_cannot_be_used(self, client: TestClient, reading: str, body: str) -> None:
        status, name = code(ask(client, f"{reading}/point", body))
        assert status in (400, 422) and name == "bad_request"
        for route in JSON_ROUTES:
            answer = ask(client, f"{reading}/{route}", body)
            assert answer.status_code == 200 or code(answer)[0] in (400, 413, 422)

    @pytest.mark.parametrize("method", ["kmeans", "nothing", "__init__", "\ud800", "../daam", "x" * 100])
    def test_methods_that_are_not_there(self, client: TestClient, reading: str, method: str) -> None:
        for route in ("segment", "discover"):
            answer = ask(client, f"{reading}/{route}", json.dumps({"labels": "dog", "method": method}))
            assert code(answer)[0] == 422 and ("\ud800" in method or code(answer)[1] == "bad_settings")

    def test_a_body_of_another_kind(self, client: TestClient, reading: str) -> None:
        form = "multipart/form-data"
        for kind in ("text/plain", "application/json", "", "x", "image", form, f"{form}; boundary=" + "b" * 500):
            answer = client.post("/v1/readings", content=png(), headers={"content-type": kind})
            assert code(answer)[0] in (400, 415, 422)
        for kind in ("text/plain", "", "application/x-www-form-urlencoded"):  # which a page of another site could send without asking
            answer = client.post(f"{reading}/segment", content='{"labels": "dog"}', headers={"content-type": kind})
            assert code(answer) == (422, "bad_request")

    def test_forms_that_cannot_be_used(self, client: TestClient) -> None:
        for fields in ({}, {"labels": ""}, {"labels": "dog", "format": "exe"}, {"labels": "dog", "background": "nan"}):
            assert code(client.post("/v1/segment", files={"image": png()}, data=fields))[0] == 422
        for form in ({"picture": png()}, {"image": png(), "more": png()}):
            assert code(client.post("/v1/readings", files=form))[0] in (400, 422)
        for route in FORM_ROUTES:
            assert code(client.post(route, data={"image": "/etc/passwd", "labels": "dog"})) == (422, "bad_request")
            assert code(client.post(route)) == (422, "bad_request")
        for count in ("0", "1001", "many", "1e3", "oracle", "-4"):
            assert code(client.post("/v1/regions", files={"image": png()}, data={"regions": count})) == (422, "bad_request")


class TestPaths:
    def test_no_name_of_a_request_is_ever_opened(self, client: TestClient, reading: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every opening of a file while tricky names are sent is of a file that the server itself chose."""
        opened: list[str] = []

        def noting(function: Any) -> Any:
            def note(file: Any, *arguments: Any, **named: Any) -> Any:
                opened.append(str(file))
                return function(file, *arguments, **named)

            return note

        for place, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "stat"), (pathlib.Path, "open"), (Image, "open")):
            monkeypatch.setattr(place, name, noting(getattr(place, name)))
        for trick in TRICKS:
            text = trick.encode("utf-8", "replace").decode()
            client.get(f"/static/{quote(text)}")
            client.get(f"/v1/readings/{quote(text, safe='')}")
            client.delete(f"/v1/readings/{quote(text)}/../../x")
            assert client.post("/v1/readings", files={"image": (text, png())}).status_code == 201
            client.post("/v1/segment", files={"image": (text, png())}, data={"labels": text, "method": text})
            for field in ("labels", "method", "background", "refine", "format"):
                ask(client, f"{reading}/segment", json.dumps({"labels": "dog", field: trick}))
            client.get(f"{reading}/heat", params={"label": text})
            client.post("/v1/readings", content=text.encode(), headers={"content-type": "image/png"})
        monkeypatch.undo()
        bait = ("passwd", "ssh", "server", "CON", "file:", "127.0.0.1", "7*7", "DROP")
        assert not [name for name in opened if any(part in name for part in bait)]

    @pytest.mark.parametrize(
        "address", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/", "/static/%00", "/%2f", "/v1"]
    )
    def test_nothing_but_the_page_s_files_is_served(self, client: TestClient, address: str) -> None:
        assert code(client.get(address)) == (404, "not_found")

    @pytest.mark.parametrize("name", ["x", "..", "%2e%2e", "a" * 500, "%00", "é"])
    def test_wrong_ids(self, client: TestClient, name: str) -> None:
        for answer in (client.get(f"/v1/readings/{name}"), ask(client, f"/v1/readings/{name}/segment", '{"labels": "dog"}')):
            assert code(answer)[0] in (404, 405, 422)


class TestToken:
    def test_who_lacks_the_token_gets_nothing_but_health_and_docs(self) -> None:
        with running(token="s3cret") as client:
            for value in ("", "Bearer nope", "s3cret", "Bearer ", "Basic !!", "Bearer s3cret2", b"Bearer \xc3\xa9", "Basic czNjcmV0"):
                wrong = {"authorization": value}
                for answer in (
                    client.get("/v1/models", headers=wrong), client.get("/metrics", headers=wrong), client.get("/nowhere", headers=wrong),
                    client.post("/v1/segment", files={"image": png()}, data={"labels": "dog"}, headers=wrong),
                    client.post("/predict", json={}, headers=wrong), client.post("/static/../v1/readings", headers=wrong),
                ):  # fmt: skip
                    assert code(answer) == (401, "token_needed") and answer.headers["www-authenticate"].startswith("Bearer")
            for address in ("/health", "/docs", "/openapi.json"):
                assert client.get(address).status_code == 200
            basic = "Basic " + base64.b64encode(b"anyone:s3cret").decode()
            for right in ("Bearer s3cret", "bearer s3cret", basic):
                assert client.get("/v1/models", headers={"authorization": right}).status_code == 200
            assert upload(client, headers={"authorization": "Bearer s3cret"})


class TestNames:
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "0.0.0.0", "[::2]:80"])
    def test_a_name_that_was_bent_to_this_machine_is_refused(self, client: TestClient, host: str) -> None:
        assert code(client.get("/health", headers={"host": host})) == (400, "host_refused")

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "[::1]:8000"])
    def test_the_names_of_this_machine_are_answered(self, client: TestClient, host: str) -> None:
        assert client.get("/health", headers={"host": host}).status_code == 200

    def test_further_names_can_be_allowed_and_elsewhere_all_are(self) -> None:
        with running(hosts=("Masks.example",)) as client:
            assert client.get("/health", headers={"host": "masks.example:443"}).status_code == 200
        with running(host="0.0.0.0") as client:
            assert client.get("/health", headers={"host": "anything"}).status_code == 200

    def test_pages_of_other_sites_may_not_post(self, client: TestClient) -> None:
        for origin in ("http://evil.example", "null", "http://localhost:9999", "https://localhost.evil.example"):
            answer = client.post("/v1/readings", files={"image": png()}, headers={"origin": origin})
            assert code(answer) == (403, "origin_refused")
        assert upload(client, headers={"origin": "http://localhost"})
        answer = client.options("/v1/readings", headers={"origin": "http://evil.example", "access-control-request-method": "POST"})
        assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize(
        ("header", "name"), [("a.b:80", "a.b"), ("[::1]", "::1"), ("[::1]:80", "::1"), ("", ""), ("A", "a"), ("::1", "")]
    )
    def test_host_headers_are_taken_apart(self, header: str, name: str) -> None:
        assert host_name(header) == name


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(TRICKS)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4))
bodies = st.fixed_dictionaries(
    {}, optional={
        "labels": st.sampled_from(["dog", "dog, cat|owl", ["dog", "cat"]]) | values, "prompting": st.sampled_from(["joint"]) | values,
        "method": st.sampled_from(["daam", "kmeans", "maskdiffusion"]) | values, "background": st.floats(0, 1) | values,
        "refine": st.sampled_from(["guided", "pamr"]) | values, "x": st.integers(-2, 30) | values, "y": st.integers(-2, 30) | values,
        "regions": st.integers(-1, 5) | values, "match": st.booleans() | values, "box": values, "more": values,
        "format": st.sampled_from(["json", "labels", "overlay", "mask"]) | values,
    },
)  # fmt: skip
texts = st.text(max_size=40) | st.sampled_from(["dog", "0.5", "json", "true", "3"])
names = st.sampled_from("labels method background refine format regions match box prompting image other".split())
kinds = st.sampled_from(["multipart/form-data; boundary=x", "application/json", "image/png", "text/html"])
places = st.sampled_from(["/v1/readings", "/v1/segment", "/v1/discover", "/predict", "/setup", "/webhook", "/health"])
plenty = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def check(answer: Any) -> None:
    """No request makes the server fail, and every refusal has the one form."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        code(answer)


@plenty
@given(route=st.sampled_from(JSON_ROUTES), body=bodies)
def test_no_json_makes_the_server_fail(client: TestClient, reading: str, route: str, body: dict[str, Any]) -> None:
    check(ask(client, f"{reading}/{route}", json.dumps(body)))


@plenty
@given(route=st.sampled_from(FORM_ROUTES), fields=st.dictionaries(names, texts))
def test_no_form_makes_the_server_fail(client: TestClient, route: str, fields: dict[str, str]) -> None:
    sent = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}
    check(client.post(route, files={"image": png(pixels(size=(8, 8)))}, data=sent))


@plenty
@given(data=st.data())
def test_no_damaged_picture_makes_the_server_fail(client: TestClient, data: st.DataObject) -> None:
    whole = bytearray(png(kind=data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    check(post_bytes(client, bytes(whole[: data.draw(st.integers(0, len(whole)))])))


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # Starlette leaves the file of a form that breaks off to the collector
def test_no_bytes_make_the_server_fail(client: TestClient) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'

    @plenty
    @given(body=st.binary(max_size=300), kind=kinds, address=places)
    def send(body: bytes, kind: str, address: str) -> None:
        framed = head + body if kind.startswith("multipart") else body
        check(client.post(address, content=framed, headers={"content-type": kind}))

    send()
    gc.collect()


@plenty
@given(path=st.text(max_size=40), method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]))
def test_no_address_makes_the_server_fail(client: TestClient, path: str, method: str) -> None:
    answer = client.request(method, "/" + quote(path.encode("utf-8", "replace")).lstrip("/"))
    assert answer.status_code < 500
