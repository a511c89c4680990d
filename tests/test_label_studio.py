"""Label Studio's protocol against the official reading of configurations and the official check of predictions."""

import base64
import socket
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw
from scipy import ndimage

from maskwright.backbones.loading import load_backbone
from maskwright.errors import MaskwrightError, SettingsError, VocabularyError
from maskwright.images import Picture
from maskwright.record import Record
from maskwright.segmentation import Segmentation
from maskwright.segmenter import Segmenter
from maskwright.serve.brush_rle import decode_brush
from maskwright.serve.label_config import DEEPEST, LONGEST, read_config
from maskwright.serve.label_studio_results import read_prompts, write_results
from maskwright.vocabulary import Vocabulary
from tests.serving import code, make_service, png, running
from tests.tiny import pixels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own deprecated calls
    from label_studio_sdk.converter import brush
    from label_studio_sdk.label_interface import LabelInterface

CONFIG = """<View>
  <Image name="image" value="$picture" zoom="true"/>
  <BrushLabels name="brush" toName="image">
    <Label value="dog" background="#FF0000" hint="a pet"/><View><Label value="Green" alias="g" predicted_values="grass,lawn"/></View>
  </BrushLabels>
  <PolygonLabels name="outline" toName="image"><Label value="cat"/><Label value="dog"/></PolygonLabels>
  <RectangleLabels name="box" toName="image"><Label value="tree &amp; bush"/></RectangleLabels>
  <RectangleLabels name="smart" toName="image" smart="true"><Label value="sky"/></RectangleLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="dog"/></KeyPointLabels>
  <Choices name="choice" toName="image"><Choice value="good"/></Choices>
</View>"""
BRUSH = '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">{}</BrushLabels></View>'
DOG = BRUSH.format('<Label value="dog"/>')


def result(labels: np.ndarray, words: str, *, background: str | None = None) -> Segmentation:
    labels = np.asarray(labels, dtype=np.uint16)
    confidence = np.random.default_rng(0).random(labels.shape, dtype=np.float32) * 2 - 0.5
    picture = Picture(np.zeros((*labels.shape, 3), dtype=np.uint8), "dog", "upload")
    vocabulary = Vocabulary.parse(words, background=background)
    return Segmentation(picture, vocabulary, labels, confidence, Record(method="test", model="none"), lambda _: confidence)


def blobs(seed: int, size: tuple[int, int] = (90, 130)) -> np.ndarray:
    """Smooth pieces without holes."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(size), 9)
    return np.asarray(ndimage.binary_fill_holes(noise > noise.std()))


def fill(regions: list[dict[str, Any]], size: tuple[int, int], fine: int = 8) -> np.ndarray:
    """Polygons as a page would fill them."""
    sheet = Image.new("L", (size[1] * fine, size[0] * fine))
    for region in regions:
        corners = np.array(region["value"]["points"]) / 100 * (size[1], size[0]) * fine
        ImageDraw.Draw(sheet).polygon([tuple(corner) for corner in corners], fill=255)
    return np.asarray(sheet.reduce(fine)) > 127


class TestConfiguration:
    def test_labels_names_and_fields_are_those_that_the_sdk_reads(self) -> None:
        (question,) = read_config(CONFIG)
        official = LabelInterface(CONFIG)
        official.validate()
        assert (question.name, question.field) == ("image", official.get_object("image").value_name)
        for name, skipped in (("brush", set()), ("outline", {"dog"}), ("box", set())):  # dog is answered by the brush
            control = official.get_control(name)
            found = [answer for answer in question.answers if answer.control == name]
            assert {answer.written for answer in found} == set(control.labels) - skipped
            assert {answer.kind for answer in found} == {control.tag.lower()}
            assert control.to_name == [question.name]
        assert [label.texts for label in question.vocabulary] == [("dog",), ("grass", "lawn"), ("cat",), ("tree & bush",)]
        assert question.background == "auto"

    def test_controls_can_be_left_out_and_say_what_background_is(self) -> None:
        config = CONFIG.replace('"brush"', '"brush" model_skip="true"').replace('"outline"', '"outline" model_background="0.3"')
        (question,) = read_config(config)
        found = [(answer.written, answer.control) for answer in question.answers]
        assert found == [("cat", "outline"), ("dog", "outline"), ("tree & bush", "box")]
        assert question.background == "0.3"

    def test_two_pictures_are_two_questions(self) -> None:
        parts = [f'<Image name="{n}" value="${n}x"/><BrushLabels name="b{n}" toName="{n}"><Label value="dog"/></BrushLabels>' for n in "pq"]
        found = [(question.name, question.field, question.answers[0].control) for question in read_config(f"<View>{''.join(parts)}</View>")]
        assert found == [("p", "px", "bp"), ("q", "qx", "bq")]

    @pytest.mark.parametrize(
        ("config", "error", "words"),
        [
            ("", SettingsError, "no valid XML"), ("<View>", SettingsError, "no valid XML"), ("\udcff", SettingsError, "no valid XML"),
            ("<View/>", SettingsError, "asks for no mask"), (BRUSH.format(""), SettingsError, "asks for no mask"),
            (DOG.replace('toName="i"', 'toName="j"'), SettingsError, "asks for no mask"),
            ('<!DOCTYPE v [<!ENTITY a "dog">]>' + DOG.replace("dog", "&a;"), SettingsError, "document type"),
            ("<View>" * (DEEPEST + 1), SettingsError, "deep"), (" " * (LONGEST + 1), SettingsError, "shorten"),
            (BRUSH.format('<Label value="a|b"/>'), VocabularyError, "predicted_values"),
            (BRUSH.format('<Label value="dog"/><Label value="Dog" alias="2"/>'), VocabularyError, "its own words"),
            (BRUSH.format('<Label value="dog"/><Label value="pet" predicted_values="cat,dog"/>'), VocabularyError, "keep one"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_asked_is_told(self, config: str, error: type[MaskwrightError], words: str) -> None:
        with pytest.raises(error, match=words):
            read_config(config)

    def test_an_entity_bomb_is_refused_at_once(self) -> None:
        entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
        began = time.process_time()
        with pytest.raises(SettingsError, match="document type"):
            read_config(f'<!DOCTYPE v [<!ENTITY e0 "dog">{entities}]>' + DOG.replace("dog", "&e9;"))
        assert time.process_time() - began < 0.1


class TestResults:
    def test_the_sdk_finds_nothing_wrong_with_a_prediction(self) -> None:
        labels = np.zeros((90, 130), dtype=int)
        for number in (1, 2, 3, 4):
            labels[blobs(number)] = number
        seg = result(labels, "dog, grass|lawn, cat, tree & bush")
        regions, scores = write_results(seg, read_config(CONFIG)[0])
        official = LabelInterface(CONFIG)
        prediction = {"result": regions, "score": sum(scores) / len(scores), "model_version": "test"}
        assert official.validate_prediction(prediction, return_errors=True) == []
        assert official.validate_prediction({"result": [{**regions[0], "value": {"brushlabels": ["sky"]}}]}, return_errors=True)
        assert {region["from_name"] for region in regions} == {"brush", "outline", "box"}
        assert len({region["id"] for region in regions}) == len(regions)
        assert all(0 <= score <= 1 for score in scores)
        brushed = [{**region, **region["value"]} for region in regions]  # as the converter lays them out
        decoded = brush.decode_from_annotation("brush", brushed)
        assert sorted(decoded) == ["brush-dog-0", "brush-g-0"]
        for name, number in (("brush-dog-0", 1), ("brush-g-0", 2)):
            np.testing.assert_array_equal(decoded[name] > 0, labels == number)

    @pytest.mark.parametrize("seed", range(6))
    def test_filled_polygons_are_the_mask(self, seed: int) -> None:
        mask = blobs(seed)
        config = DOG.replace("BrushLabels", "PolygonLabels")
        regions, _ = write_results(result(mask, "dog"), read_config(config)[0])
        filled = fill(regions, mask.shape)
        assert (filled & mask).sum() / (filled | mask).sum() > 0.95
        assert len(regions) > 1 or ndimage.label(mask)[1] == 1

    def test_rectangles_hold_one_piece_each(self) -> None:
        mask = np.zeros((50, 200), dtype=int)
        mask[10:30, 20:60], mask[40:50, 150:200] = 1, 1
        config = DOG.replace("BrushLabels", "RectangleLabels")
        boxes = [region["value"] for region in write_results(result(mask, "dog"), read_config(config)[0])[0]]
        assert [[box[side] for side in ("x", "y", "width", "height")] for box in boxes] == [[10, 20, 20, 40], [75, 80, 25, 20]]

    def test_labels_without_pixels_and_background_words_give_nothing(self) -> None:
        (question,) = read_config(BRUSH.format('<Label value="wall"/><Label value="cat"/><Label value="dog"/>'))
        regions, scores = write_results(result(np.full((4, 4), 2), "wall, cat, dog", background="wall"), question)
        assert [region["value"]["brushlabels"] for region in regions] == [["dog"]] and len(scores) == 1

    def test_a_point_chooses_a_piece_and_a_rectangle_what_is_inside(self) -> None:
        labels = np.zeros((20, 40), dtype=int)
        labels[2:8, 2:8], labels[10:18, 20:38] = 1, 1

        def chosen(kind: str, **value: Any) -> np.ndarray:
            prompts = read_prompts({"result": [{"type": kind, "value": {kind: ["dog"], **value}}]})
            regions, _ = write_results(result(labels, "dog"), read_config(DOG)[0], prompts=prompts)
            return decode_brush(regions[0]["value"]["rle"], (20, 40)) if regions else np.zeros((20, 40), dtype=bool)

        np.testing.assert_array_equal(chosen("keypointlabels", x=10, y=20, width=0.3), (labels == 1) & (np.arange(40) < 10))
        np.testing.assert_array_equal(chosen("rectanglelabels", x=50, y=50, width=25, height=50)[:, 20:30], labels[:, 20:30] == 1)
        assert not chosen("rectanglelabels", x=50, y=50, width=25, height=50)[:, 30:].any()
        assert not chosen("keypointlabels", x=0, y=100).any()

    @pytest.mark.parametrize("context", [None, 3, {}, {"result": 1}, {"result": [1, {}, {"value": {"keypointlabels": ["dog"], "x": "1"}}]}])
    def test_a_context_without_prompts_has_none(self, context: object) -> None:
        assert read_prompts(context) == ()


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with running(max_upload=200_000) as client:
        yield client


class TestProtocol:
    def test_setup_names_the_model_and_warns_of_a_configuration_that_asks_for_nothing(self, client: TestClient) -> None:
        body = {"project": "1.170", "schema": DOG, "hostname": "http://evil", "access_token": "x", "extra_params": None}
        assert client.post("/setup", json=body).json() == {"model_version": make_service().model_version()}
        assert "asks for no mask" in client.post("/setup", json={**body, "schema": "<View/>"}).json()["warning"]
        assert client.post("/setup", json={}).status_code == 200

    def test_webhook_and_health(self, client: TestClient) -> None:
        assert client.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": {"id": 1}}).json()["status"] == "ignored"
        assert client.get("/health").json()["status"] == "UP"

    def test_each_task_has_an_answer_and_each_wrong_one_its_own_error(self, client: TestClient) -> None:
        wrong: list[Any] = [
            5, None, {}, {"data": []}, {"data": {}}, {"data": {"image": 3}}, *({"data": {"image": source}} for source in (
                "", "/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/latest", "/data/upload/1/a.png", "s3://bucket/a.png", "http://[",
                "data:image/png;base64,####", "data:image/png", uri(b"no picture"), uri(png()[:60]),
            )),
        ]  # fmt: skip
        tasks = [{"id": 1, "data": {"image": uri(png())}}, *wrong, {"id": 2, "data": {"image": uri(png(pixels(1, size=(20, 30))))}}]
        answer = client.post("/predict", json={"tasks": tasks, "label_config": DOG, "project": "1.170", "params": {"login": None}})
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert ["result" in one for one in results] == [True, *(False for _ in wrong), True]
        for one in results[1:-1]:
            assert one["error"]["code"] == "bad_image" and ":" in one["error"]["message"], one
        assert {one["model_version"] for one in results} == {answer.json()["model_version"]} == {make_service().model_version()}
        for one in (results[0], results[-1]):
            assert LabelInterface(DOG).validate_prediction(one, return_errors=True) == []

    def test_a_wrong_configuration_is_every_tasks_error_and_an_interactive_answer_still_has_a_result(self, client: TestClient) -> None:
        task = {"id": 1, "data": {"image": uri(png())}}
        results = client.post("/predict", json={"tasks": [task, task], "label_config": "<View/>"}).json()["results"]
        assert [one["error"]["code"] for one in results] == ["bad_settings"] * 2 and not any("result" in one for one in results)
        body = {"tasks": [{}], "label_config": DOG, "params": {"context": {"result": []}}}
        (one,) = client.post("/predict", json=body).json()["results"]
        assert one["result"] == [] and one["error"]["code"] == "bad_image"

    def test_too_many_labels_are_every_tasks_error(self, client: TestClient) -> None:
        config = BRUSH.format("".join(f'<Label value="thing {n}"/>' for n in range(257)))
        (one,) = client.post("/predict", json={"tasks": [{"data": {"image": uri(png())}}], "label_config": config}).json()["results"]
        assert one["error"]["code"] == "too_many_labels"

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/predict", b"{"), ("/predict", b"[]"), ("/predict", b"{}"), ("/predict", b'{"tasks": 1, "label_config": "<View/>"}'),
            ("/predict", b'{"tasks": [], "label_config": null}'), ("/webhook", b"[]"), ("/webhook", b"\xff"), ("/setup", b"3"),
        ],
    )  # fmt: skip
    def test_what_is_no_request_is_refused(self, client: TestClient, path: str, body: bytes) -> None:
        assert code(client.post(path, content=body, headers={"Content-Type": "application/json"}))[0] in (400, 422)

    def test_what_is_not_done_in_time_is_told_task_by_task(self) -> None:
        tasks: list[Any] = [{"id": number, "data": {"image": "/data/upload/1/a.png"}} for number in range(24)]
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with running(timeout=1.0, label_studio_url=address) as client:
                first = {"id": 1, "data": {"image": uri(png())}}
                client.post("/predict", json={"tasks": [first], "label_config": DOG})  # a process's first pass is slow
                answer = client.post("/predict", json={"tasks": [first, *tasks], "label_config": DOG})
        done, *late = answer.json()["results"]
        assert answer.status_code == 200 and "result" in done and len(late) == 24
        assert {one["error"]["code"] for one in late} == {"bad_image", "timeout"}  # no answer from the host, and no time to ask it

    def test_label_studio_shows_the_token_as_a_password(self) -> None:
        with running(token="secret") as client:
            assert code(client.post("/setup", json={"schema": DOG})) == (401, "token_needed")
            assert client.post("/setup", json={"schema": DOG}, auth=("anybody", "secret")).status_code == 200

    def test_the_bundled_model_marks_what_the_segmenter_marks(self) -> None:
        backbone = load_backbone("sticker")
        with Image.open("examples/dog-and-apple.png") as picture:
            example = np.asarray(picture.convert("RGB"))
        config = BRUSH.format('<Label value="Hund" predicted_values="dog"/><Label value="red apple"/><Label value="grass" alias="g"/>')
        with running(make_service(backbone, method="maskdiffusion")) as client:
            body = {"tasks": [{"id": 7, "data": {"image": uri(png(example))}}], "label_config": config}
            (one,) = client.post("/predict", json=body).json()["results"]
        expected = Segmenter(backbone, "maskdiffusion", prompting="shared").segment(example, ["dog", "red apple", "grass"])
        assert LabelInterface(config).validate_prediction(one, return_errors=True) == []
        found = {region["value"]["brushlabels"][0]: decode_brush(region["value"]["rle"], example.shape[:2]) for region in one["result"]}
        assert sorted(found) == ["Hund", "g", "red apple"]
        for written, name in (("Hund", "dog"), ("red apple", "red apple"), ("g", "grass")):
            mask = expected.mask(name)
            assert (found[written] & mask).sum() / (found[written] | mask).sum() > 0.99
