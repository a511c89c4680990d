"""Every address of the interface, and the layers around them: what is asked, what is answered, what is counted."""

import asyncio
import io
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pycocotools import mask as coco_mask

from maskwright import __version__
from maskwright.backbones.loading import load_backbone
from maskwright.exports import to_coco, to_document
from maskwright.exports.palette import colour
from maskwright.methods import READ_ONCE
from maskwright.segmenter import Segmenter
from maskwright.serve.app import create_app
from maskwright.serve.results import heat_colours
from maskwright.serve.service import Service
from maskwright.serve.settings import ServeSettings
from tests.serving import code, make_service, png, running, tiny, upload
from tests.test_serve_service import Clock
from tests.tiny import Passes, pixels

# pycocotools 2.0.11 decodes with an array protocol older than NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
LABELS = "dog, cat|owl, grass"
PICTURE = pixels(2, size=(30, 21))


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def reading(client: TestClient) -> str:
    return f"/v1/readings/{upload(client, png(PICTURE))}"


def image(answer: Any) -> np.ndarray:
    """The picture of an answer."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    with Image.open(io.BytesIO(answer.content)) as opened:
        return np.asarray(opened)


def decoded(mask: dict[str, Any]) -> np.ndarray:
    """A run-length mask as pycocotools reads it."""
    return coco_mask.decode({**mask, "counts": mask["counts"].encode()}).astype(bool)


class TestReadings:
    def test_a_form_and_the_bytes_alone_are_read_alike(self, client: TestClient) -> None:
        answers = [
            client.post("/v1/readings", files={"image": ("../a/dog.webp", png(PICTURE), "text/html")}),
            client.post("/v1/readings?name=dog", content=png(PICTURE), headers={"content-type": "image/png"}),
            client.post("/v1/readings?name=dog.png", content=png(PICTURE), headers={"content-type": "application/octet-stream"}),
        ]
        for answer in answers:
            assert answer.status_code == 201
            body = answer.json()
            assert (body["name"], body["width"], body["height"]) == ("dog", 21, 30)
            assert 1700 < body["expires_in"] <= 1800 and body["expires"].endswith("Z")
            assert client.get(f"/v1/readings/{body['id']}").json()["id"] == body["id"]
        assert len({answer.json()["id"] for answer in answers}) == 3

    def test_a_dropped_reading_is_gone(self, client: TestClient) -> None:
        address = f"/v1/readings/{upload(client)}"
        assert client.delete(address).status_code == 204
        for answer in (client.get(address), client.delete(address), client.post(f"{address}/segment", json={"labels": "dog"})):
            assert code(answer) == (404, "reading_unknown")

    def test_a_reading_expires_unless_it_is_used(self) -> None:
        clock = Clock()
        with running(make_service(clock=clock, reading_ttl=60.0)) as client:
            used, idle = upload(client), upload(client)
            clock.now += 50
            assert client.get(f"/v1/readings/{used}").json()["expires_in"] == 60
            clock.now += 20
            assert client.post(f"/v1/readings/{used}/segment", json={"labels": "dog"}).status_code == 200
            assert code(client.get(f"/v1/readings/{idle}")) == (404, "reading_unknown")

    def test_readings_make_room_for_newer_ones(self) -> None:
        with running(cache_bytes=100_000) as client:
            names = [upload(client) for _ in range(8)]
            found = [client.get(f"/v1/readings/{name}").status_code for name in names]
        assert found[0] == 404 and found[-1] == 200

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
    def test_pictures_are_told_by_their_bytes(self, client: TestClient, kind: str) -> None:
        assert upload(client, png(PICTURE, kind=kind))


class TestSegment:
    def test_the_document_is_the_library_s_with_colours(self, client: TestClient, reading: str) -> None:
        body = client.post(f"{reading}/segment", json={"labels": LABELS}).json()
        expected = to_document(Segmenter(tiny(), "diffsegmenter", prompting="shared", batch=4).segment(PICTURE, LABELS))
        for part in (body, expected):
            del part["record"]["timings"], part["picture"]["name"], part["picture"]["source"]
        assert [label.pop("colour") for label in body["labels"]] == ["#" + bytes(colour(number)).hex() for number in (1, 2, 3)]
        assert [label["synonyms"] for label in body["labels"]] == [[], ["owl"], []]
        for mine, theirs in zip(body["labels"], expected["labels"], strict=True):
            assert (decoded(mine["segmentation"]) == decoded(theirs["segmentation"])).mean() > 0.99
            assert mine["area"] == decoded(mine["segmentation"]).sum()
        assert body["record"] == json.loads(json.dumps(expected["record"]))

    def test_labels_as_text_and_as_a_list_are_the_same(self, client: TestClient, reading: str) -> None:
        forms = (LABELS, ["dog", "cat|owl", "grass"])
        first, second = (client.post(f"{reading}/segment", json={"labels": labels}).json() for labels in forms)
        assert first["labels"] == second["labels"]

    def test_the_forms_agree(self, client: TestClient, reading: str) -> None:
        def ask(form: str) -> Any:
            return client.post(f"{reading}/segment", json={"labels": LABELS, "background": 0.6, "format": form})

        document, numbers, coco = ask("json").json(), image(ask("labels")), ask("coco").json()
        assert numbers.shape == (30, 21) and numbers.dtype == np.uint8
        for label in document["labels"]:
            assert np.array_equal(decoded(label["segmentation"]), numbers == label["number"])
        assert [one["segmentation"] for one in coco["annotations"]] == [one["segmentation"] for one in document["labels"] if one["area"]]
        assert image(ask("overlay")).shape[2] == 3
        assert set(coco) == set(to_coco(Segmenter(tiny()).segment(PICTURE, "dog")))

    def test_background_can_be_a_number_a_word_or_none(self, client: TestClient, reading: str) -> None:
        found = {
            str(background): client.post(f"{reading}/segment", json={"labels": LABELS, "background": background}).json()
            for background in ("auto", "none", 0.9, "0.9", "snow", "grass")
        }
        assert found["none"]["background"]["area"] == 0
        assert found["0.9"]["background"]["area"] > found["auto"]["background"]["area"] > 0
        assert found["snow"]["background"]["names"] == ["snow"] and len(found["snow"]["labels"]) == 3
        assert found["grass"]["background"]["names"] == ["grass"] and len(found["grass"]["labels"]) == 2

    def test_one_request_without_a_reading_says_the_same(self, client: TestClient, reading: str) -> None:
        fields = {"labels": LABELS, "background": "0.6", "refine": "guided", "method": "maskdiffusion"}
        alone = client.post("/v1/segment", files={"image": png(PICTURE)}, data=fields).json()
        stored = client.post(f"{reading}/segment", json={**fields, "background": 0.6}).json()
        assert alone["labels"] == stored["labels"] and alone["background"] == stored["background"]
        drawn = client.post("/v1/segment", files={"image": png(PICTURE)}, data={"labels": LABELS, "format": "labels"})
        assert image(drawn).shape == (30, 21)

    def test_a_word_that_a_closed_model_lacks_is_told_in_the_record(self) -> None:
        with running(make_service(load_backbone("sticker"), method="maskdiffusion")) as client:
            with Passes(client.app.state.service.engine.backbone.unet) as counted:  # type: ignore[attr-defined]
                address = f"/v1/readings/{upload(client)}/segment"
                assert client.post(address, json={"labels": "dog"}).json()["record"]["warnings"] == []
                (warning,) = client.post(address, json={"labels": "dog, saxophone"}).json()["record"]["warnings"]
            assert "saxophone" in warning and counted.count == 1


class TestPoint:
    def test_scores_of_all_labels_at_a_pixel(self, client: TestClient, reading: str) -> None:
        numbers = image(client.post(f"{reading}/segment", json={"labels": LABELS, "format": "labels"}))
        scores = Segmenter(tiny(), "diffsegmenter", prompting="shared").segment(PICTURE, LABELS).scores
        for x, y in ((0, 0), (20, 29), (7, 11)):
            body = client.post(f"{reading}/point", json={"labels": LABELS, "x": x, "y": y}).json()
            assert body["number"] == numbers[y, x]
            assert body["label"] == ((None, "dog", "cat", "grass")[body["number"]])
            np.testing.assert_allclose([one["score"] for one in body["scores"]], scores[:, y, x], atol=1e-5)
            assert body["confidence"] == pytest.approx(max(0.5, scores[:, y, x].max()), abs=1e-5)
            assert [(one["label"], one["number"]) for one in body["scores"]] == [("dog", 1), ("cat", 2), ("grass", 3)]

    @pytest.mark.parametrize(("x", "y"), [(21, 0), (0, 30), (10**6, 10**6)])
    def test_a_place_outside_is_refused(self, client: TestClient, reading: str, x: int, y: int) -> None:
        assert code(client.post(f"{reading}/point", json={"labels": "dog", "x": x, "y": y})) == (422, "bad_settings")

    def test_background_labels_have_number_0(self, client: TestClient, reading: str) -> None:
        body = client.post(f"{reading}/point", json={"labels": "dog", "background": "snow", "x": 1, "y": 2}).json()
        assert {one["label"]: one["number"] for one in body["scores"]} == {"snow": 0, "dog": 1}


class TestHeat:
    def test_grey_values_are_scores_between_the_told_ends(self, client: TestClient, reading: str) -> None:
        answer = client.get(f"{reading}/heat", params={"label": "cat|owl", "format": "grey", "method": "maskdiffusion"})
        scores = Segmenter(tiny(), "maskdiffusion", prompting="shared").segment(PICTURE, ["cat|owl"]).score("cat")
        low, high = (float(answer.headers[f"x-score-{end}"]) for end in ("low", "high"))
        np.testing.assert_allclose([low, high], [scores.min(), scores.max()], atol=1e-4)
        np.testing.assert_allclose(low + image(answer) / 255 * (high - low), scores, atol=(high - low) / 255)

    def test_colours_are_those_of_the_grey_values(self, client: TestClient, reading: str) -> None:
        grey = image(client.get(f"{reading}/heat", params={"label": "dog", "format": "grey"}))
        coloured = image(client.get(f"{reading}/heat", params={"label": "dog"}))
        assert np.array_equal(coloured, heat_colours((grey / 255).astype(np.float32)))
        assert np.array_equal(heat_colours(np.array([[0, 1]], dtype=np.float32))[0], [[0, 0, 4], [252, 253, 191]])
        lightness = heat_colours(np.linspace(0, 1, 256, dtype=np.float32)[None])[0] @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(lightness) >= 0).all()

    def test_a_veil_leaves_the_picture_where_the_score_is_lowest(self, client: TestClient, reading: str) -> None:
        grey = image(client.get(f"{reading}/heat", params={"label": "dog", "format": "grey"}))
        laid = image(client.get(f"{reading}/heat", params={"label": "dog", "format": "overlay"}))
        assert np.array_equal(laid[grey == 0], PICTURE[grey == 0]) and not np.array_equal(laid, PICTURE)


class TestRegionsAndDiscovery:
    def test_regions_by_number_and_by_name(self, client: TestClient, reading: str) -> None:
        plain = client.post(f"{reading}/regions", json={"method": "kmeans", "regions": 2}).json()
        assert [label["name"] for label in plain["labels"]] == ["region 1", "region 2"] and plain["background"]["area"] == 0
        named = client.post(f"{reading}/regions", json={"method": "kmeans", "regions": 2, "labels": "dog, cat"}).json()
        assert {label["name"].split()[0] for label in named["labels"]} <= {"dog", "cat"}
        assert [label["area"] for label in named["labels"]] == [label["area"] for label in plain["labels"]]

    def test_regions_in_one_request(self, client: TestClient, reading: str) -> None:
        stored = client.post(f"{reading}/regions", json={"method": "kmeans", "regions": 3}).json()
        alone = client.post("/v1/regions", files={"image": png(PICTURE)}, data={"method": "kmeans", "regions": "3"}).json()
        assert alone["labels"] == stored["labels"]
        assert client.post("/v1/regions", files={"image": png(PICTURE)}, data={"labels": "", "regions": "auto"}).status_code == 200

    def test_a_discovery_in_all_forms(self, client: TestClient, reading: str) -> None:
        def ask(**fields: Any) -> Any:
            return client.post(f"{reading}/discover", json={"labels": "dog", **fields})

        body, mask = ask().json(), image(ask(format="mask"))
        assert (body["words"], body["choice"]) == (["dog"], "given") and set(np.unique(mask)) <= {0, 255}
        assert np.array_equal(decoded(body["segmentation"]), mask == 255) and body["area"] == (mask == 255).sum()
        assert len(ask(format="coco").json()["annotations"]) <= 1
        assert image(ask(format="overlay")).shape == image(ask(format="overlay", box=True)).shape
        alone = client.post("/v1/discover", files={"image": png(PICTURE)}, data={"labels": "dog", "match": "false", "box": "true"}).json()
        assert alone["segmentation"] == body["segmentation"] and alone["box_drawn"] is True

    def test_without_words_the_model_s_own_are_looked_for(self, client: TestClient, reading: str) -> None:
        body = client.post(f"{reading}/discover", json={}).json()
        assert body["choice"] == "best match of the model's words" and body["words"][0] in ("dog", "cat")
        matched = client.post(f"{reading}/discover", json={"labels": "owl, snow", "match": True}).json()
        assert matched["words"][0] in ("owl", "snow")


class TestServer:
    def test_health_needs_nothing(self, client: TestClient) -> None:
        body = client.get("/health").json()
        assert body == {"status": "UP", "ok": True, "loaded": True, "model": "sticker", "version": __version__, "model_class": "maskwright"}

    def test_models_tell_methods_words_and_limits(self, client: TestClient) -> None:
        body = client.get("/v1/models").json()
        assert body["default"] == "diffsegmenter" and body["loaded"]["objects"] == ["dog", "cat|kitten"]
        assert [one["name"] for one in body["methods"]["segment"]] == list(READ_ONCE)
        settings = {one["name"]: one for kind in body["methods"].values() for one in kind}
        assert settings["maskdiffusion"]["settings"]["feature_factors"] == [2, 1] and settings["maskdiffusion"]["background"] is None
        assert settings["kmeans"]["model_version"] == f"kmeans@tiny@{__version__}"
        assert "sticker" in [one["name"] for one in body["catalogue"]] and body["limits"]["labels"] == 256

    def test_metrics_count_routes_batches_and_readings(self) -> None:
        with running() as client:
            address = f"/v1/readings/{upload(client)}"
            client.post(f"{address}/segment", json={"labels": "dog"})
            client.post(f"{address}/segment", json={})
            client.get("/no/such/../place")
            text = client.get("/metrics").text
        for line in (
            'maskwright_requests_total{code="201",method="POST",route="/v1/readings"} 1.0',
            'maskwright_requests_total{code="200",method="POST",route="/v1/readings/{id}/segment"} 1.0',
            'maskwright_requests_total{code="422",method="POST",route="/v1/readings/{id}/segment"} 1.0',
            'maskwright_requests_total{code="404",method="GET",route="other"} 1.0',
            'maskwright_batch_size_count{kind="read"} 1.0', 'maskwright_request_seconds_count{route="/v1/readings"} 1.0',
            "maskwright_readings 1.0", "maskwright_queue_length 0.0", "maskwright_in_progress 0.0",
        ):  # fmt: skip
            assert line in text.splitlines(), line
        assert float(text.partition("\nmaskwright_reading_bytes ")[2].splitlines()[0]) > PICTURE.nbytes

    def test_openapi_and_docs_describe_every_route_and_load_nothing_from_elsewhere(self, client: TestClient) -> None:
        described = client.get("/openapi.json").json()
        ours = [path for path in described["paths"] if path.startswith("/v1")]
        assert len(ours) == 11 and "/health" in described["paths"]
        example = described["components"]["schemas"]["SegmentRequest"]["properties"]["labels"]["examples"]
        assert example == ["dog, red apple, cat|kitten"]
        page = client.get("/docs").text
        assert all(path in page for path in ours)
        assert "://" not in page and "src=" not in page
        told = {name for text in re.findall(r"Errors: ([\d, ]+)", page) for name in text.split(", ")}
        assert told <= set(re.findall(r"<td>(\d{3})</td>", page))  # each of them is explained

    def test_the_model_is_loaded_when_none_is_given(self) -> None:
        settings = ServeSettings(model="sticker")
        with TestClient(create_app(settings), base_url="http://localhost") as client:
            assert client.get("/v1/models").json()["loaded"]["name"] == "sticker"
        service = Service(settings)
        client = TestClient(create_app(settings, service), base_url="http://localhost")  # not started
        assert client.get("/health").status_code == 503
        assert code(client.get("/v1/models")) == (503, "loading")


class TestLayers:
    def test_a_full_queue_refuses_with_a_time_to_come_back(self) -> None:
        service = make_service(queue=1)
        with running(service) as client:
            address, slot = f"/v1/readings/{upload(client)}", service.slot()
            for answer in (
                client.post("/v1/readings", content=png(), headers={"content-type": "image/png"}), client.get(f"{address}/heat?label=dog"),
                client.post(f"{address}/segment", json={"labels": "dog"}),
            ):  # fmt: skip
                assert code(answer) == (429, "busy") and int(answer.headers["retry-after"]) >= 1
            assert client.get("/health").status_code == 200 == client.get(address).status_code
            slot.close()
            assert client.post(f"{address}/segment", json={"labels": "dog"}).status_code == 200
            assert 'maskwright_refused_total{reason="busy"} 3.0' in client.get("/metrics").text

    def test_places_are_given_back_after_errors(self) -> None:
        with running(queue=1) as client:
            for _ in range(3):
                assert code(client.post("/v1/readings", content=b"x", headers={"content-type": "image/png"})) == (422, "bad_image")
            assert "maskwright_in_progress 0.0" in client.get("/metrics").text.splitlines()

    def test_what_takes_too_long_is_given_up(self) -> None:
        service = make_service(timeout=0.2)
        with running(service) as client:
            run, gate = service._run, threading.Event()
            assert service._batcher is not None
            service._batcher._run = lambda key, payloads: gate.wait(5) and run(key, payloads)
            began = time.monotonic()
            assert code(client.post("/v1/readings", content=png(), headers={"content-type": "image/png"})) == (504, "timeout")
            assert time.monotonic() - began < 2
            gate.set()
            service._batcher._run = run
            assert upload(client)

    def test_a_closing_server_refuses_new_requests_and_tells_so(self) -> None:
        service = make_service()
        with running(service) as client:
            address = f"/v1/readings/{upload(client)}"
            service.close()
            answer = client.post(f"{address}/segment", json={"labels": "dog"})
            assert code(answer) == (503, "shutting_down") and answer.headers["retry-after"]
            assert client.get("/health").status_code == 503

    def test_an_unforeseen_error_is_logged_with_its_trace_and_told_without(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = make_service()

        def fail(*_: object) -> None:
            raise RuntimeError("a secret of the server")

        with running(service) as client, caplog.at_level(logging.ERROR, "maskwright"):
            name = upload(client)
            monkeypatch.setattr(service.engine, "segment", fail)
            answer = client.post(f"/v1/readings/{name}/segment", json={"labels": "dog"})
        assert code(answer) == (500, "internal") and "secret" not in answer.text
        assert any("a secret of the server" in str(record.exc_info[1]) for record in caplog.records if record.exc_info)

    def test_addresses_and_methods_that_are_not_there(self, client: TestClient) -> None:
        assert code(client.get("/nowhere")) == (404, "not_found")
        answer = client.put("/v1/models")
        assert code(answer) == (405, "method_not_allowed") and answer.headers["allow"] == "GET"

    def test_every_answer_has_careful_headers(self, client: TestClient) -> None:
        for address in ("/health", "/docs", "/nowhere"):
            headers = client.get(address).headers
            assert headers["x-content-type-options"] == "nosniff" and "default-src 'self'" in headers["content-security-policy"]
            assert "access-control-allow-origin" not in headers


class TestConcurrency:
    def test_many_clients_at_once_get_their_own_answers(self) -> None:
        """Different pictures, words and forms from eight threads; each answer is the one that a client alone gets."""
        pictures = [pixels(number) for number in range(4)]
        words = ["dog, cat", "owl, grass", "tree|fire, dog", "red apple"]

        def ask(client: TestClient, number: int) -> Any:
            address = f"/v1/readings/{upload(client, png(pictures[number % 4]))}"
            found = [client.post(f"{address}/segment", json={"labels": text}).json()["labels"] for text in words]
            return [*found, client.post(f"{address}/regions", json={"method": "kmeans"}).json()["labels"]]

        with running(batching=False) as client:
            alone = [ask(client, number) for number in range(4)]
        results: dict[int, Any] = {}
        with running() as client:
            threads = [threading.Thread(target=lambda n=n: results.update({n: ask(client, n)})) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for number, found in results.items():
            for mine, theirs in zip(found, alone[number % 4], strict=True):
                assert [label["name"] for label in mine] == [label["name"] for label in theirs]
                areas = np.array([[label["area"] for label in labels] for labels in (mine, theirs)])
                assert np.abs(areas[0] - areas[1]).max() <= 6  # pixels at a draw may change sides between batches
        assert len(results) == 8


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=x"])
def test_an_upload_that_breaks_off_is_no_fault_of_the_server(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> list[dict[str, Any]]:
        messages = iter([{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}])
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        service = make_service()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/v1/readings",
            "raw_path": b"/v1/readings", "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", kind.encode()), (b"content-length", b"1000")],
        }  # fmt: skip
        await create_app(service.settings, service)(scope, receive, send)
        return sent

    sent = asyncio.run(ask())
    assert not sent or sent[0]["status"] == 400
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
