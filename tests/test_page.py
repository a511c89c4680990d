"""The page, driven in a headless Chromium against a real server with the bundled model."""

import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageStat
from pycocotools import mask as coco_mask

pytest.importorskip("selenium", reason="selenium drives the browser")
pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from maskwright.backbones.loading import load_backbone
from maskwright.segmenter import Segmenter
from maskwright.serve.app import PAGE
from maskwright.serve.engine import Engine
from maskwright.serve.service import Service
from maskwright.serve.settings import ServeSettings
from tests.browsing import CHROMIUM, DRIVER, Browser, browsing, serving

needs_browser = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver on this machine")
# pycocotools 2.0.11 decodes with an array protocol older than NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
EXAMPLES = Path(__file__).parent.parent / "examples"
FIRST = ("dog", "red apple", "grass")  # what the page asks of the first example
DOG, APPLE = (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)
SOON = 0.3  # seconds from the last key to the masks


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(ServeSettings(), Engine(load_backbone("sticker")))


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with serving(service) as url:
        yield url


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Browser]:
    """The page with its first example; afterwards, nobody complained and no other host was asked."""
    chromium.open(address)
    chromium.found(*FIRST)
    yield chromium
    assert chromium.errors() == []
    assert {url for url in chromium.requests(address) if not url.startswith((address, "blob:", "data:"))} == set()


def passes(service: Service) -> float:
    """How many passes the model made so far."""
    return sum(float(count) for count in re.findall(r"^maskwright_pass_seconds_count\S* (\S+)$", service.metrics.text().decode(), re.M))


@needs_browser
class TestWords:
    def test_the_first_visit_shows_an_example_with_its_masks(self, page: Browser) -> None:
        assert re.fullmatch(r"Found: dog \d+ %, red apple \d+ %, grass \d+ %\.", page.text("status"))
        assert page.find("layer").get_attribute("aria-label") == page.text("status")
        assert page.shows(DOG) and page.shows(APPLE)

    def test_a_picture_is_uploaded_and_asked(self, page: Browser, service: Service) -> None:
        page.find("file").send_keys(str(EXAMPLES / "at-sea.png"))
        page.wait(lambda: page.find("picture").get_attribute("alt") == "The picture at-sea", "waited for the picture")
        page.type("whale, sailboat|boat, water")
        page.found("whale", "sailboat", "water")
        for prompting in ("shared", "joint"):
            page.choose("prompting", prompting)
            page.wait(lambda: not page.find("stage").get_attribute("aria-busy"), "waited for the answer")
            segmenter = Segmenter(service.engine.backbone, service.settings.method, prompting=prompting)
            truth = segmenter.segment(EXAMPLES / "at-sea.png", ["whale", "sailboat|boat", "water"])
            expected = {region.name: (f"{100 * region.share:.0f} %", f"{region.score:.2f}") for region in truth.regions}
            page.wait(lambda expected=expected: page.rows() == expected, f"waited for {expected}")

    def test_a_picture_is_dropped_or_pasted(self, page: Browser) -> None:
        for name, kind in (("one", "DragEvent('drop', {dataTransfer"), ("two", "ClipboardEvent('paste', {clipboardData")):
            script = f"""const transfer = new DataTransfer();
                const picture = await (await fetch("/static/examples/at-sea.webp")).blob();
                transfer.items.add(new File([picture], "{name}.webp", {{ type: "image/webp" }}));
                document.body.dispatchEvent(new {kind}: transfer, bubbles: true, cancelable: true}}))"""
            page.run(f"(async () => {{ {script} }})()")
            page.wait(lambda name=name: page.find("picture").get_attribute("alt") == f"The picture {name}", "waited for the picture")
            page.found(*FIRST)

    def test_a_new_word_shows_within_three_tenths_of_a_second(self, page: Browser) -> None:
        for text in ("dog, lawn", "dog, grass", "red apple, lawn"):
            page.type(text)
            page.found(*text.split(", "))
            time.sleep(0.1)  # until it is painted
        times = page.run("return performance.getEntriesByType('measure').map((entry) => entry.duration / 1000)")
        print("question to masks in seconds:", [round(one, 3) for one in times])
        assert min(times[1:]) < SOON

    def test_masks_stay_until_the_newest_answer_comes_and_stale_answers_are_dropped(self, page: Browser) -> None:
        page.run("""const real = window.fetch;
            window.fetch = async (path, options) => {
              const late = options?.body?.includes?.("lawn");
              if (late) window.held = true;
              const answer = await real(path, late ? { ...options, signal: undefined } : options);
              if (late) { await new Promise((go) => setTimeout(go, 400)); window.held = false; }
              return answer;
            }""")
        page.type("dog, lawn")
        page.wait(lambda: page.run("return window.held"), "waited for the first question")
        assert tuple(page.rows()) == FIRST and page.shows(DOG)
        page.type("dog, sand")
        page.found("dog", "sand")
        page.wait(lambda: page.run("return window.held === false"), "waited for the late answer")
        assert tuple(page.rows()) == ("dog", "sand")

    def test_a_word_that_the_model_does_not_know_is_told_and_others_are_suggested(self, page: Browser) -> None:
        page.type("dog, zebra")
        page.found("dog", "zebra")
        assert page.text("warning").startswith("sticker does not know zebra.")
        page.type("dog, whe")
        page.type("dog, wha")
        assert page.run("return [...document.getElementById('suggestions').options].map((option) => option.value)") == ["dog, whale"]
        page.type("dog, grass")
        page.find("known").find_element(By.TAG_NAME, "summary").click()
        page.find("known-words").find_element(By.XPATH, "button[text()='red apple']").click()
        page.found("dog", "grass", "red apple")
        assert not page.find("warning").is_displayed()

    def test_a_label_is_switched_off_and_opacity_is_the_slider_s(self, page: Browser) -> None:
        page.slide("opacity", 100)
        assert (*DOG, 255) in page.colours() and page.text("opacity-value") == "100 %"
        page.find("show-1").click()
        seen = page.colours()
        assert (*DOG, 255) not in seen and (*APPLE, 255) in seen
        page.type("grass, dog")  # which has another number and colour now, and is still switched off
        page.found("grass", "dog")
        assert page.find("show-1").is_selected() and not page.find("show-2").is_selected()

    def test_threshold_background_edges_and_methods_that_read_before_need_no_pass(self, page: Browser, service: Service) -> None:
        score = page.rows()["red apple"][1]
        page.choose("method", "diffsegmenter")
        page.wait(lambda: page.rows()["red apple"][1] != score, "waited for the other method")
        before = passes(service)
        page.choose("background", "threshold")
        page.slide("threshold", 0.9)
        share = page.wait(lambda: (match := re.search(r"background (\d+) %", page.text("status"))) and int(match[1]), "waited for it")
        page.slide("threshold", 0.2)
        page.wait(lambda: f"background {share} %" not in page.text("status"), "waited for the threshold")
        page.choose("background", "word")
        page.type("night", "background-word")
        page.wait(lambda: "background" in page.text("status"), "waited for the background word")
        page.choose("background", "auto")
        page.choose("method", service.settings.method)
        page.wait(lambda: page.rows()["red apple"][1] == score, "waited for the first method")
        page.choose("refine", "guided")
        page.wait(lambda: page.rows()["red apple"][1] != score, "waited for edges")
        assert passes(service) == before


@needs_browser
class TestOtherQuestions:
    def test_regions_need_no_words_and_take_names_from_them(self, page: Browser) -> None:
        page.mode("regions")
        page.found("region 1", "region 2", "region 3")
        page.choose("count", "2")
        page.found("region 1", "region 2")
        page.type("dog, grass")
        page.found("grass", "dog")
        page.mode("segment")
        page.found(*FIRST)

    def test_the_object_is_found_without_a_word_and_with_its_box(self, page: Browser) -> None:
        page.mode("discover")
        page.found("dog")
        assert page.text("status").endswith("Words: best match of the model's words.")
        assert not any(colour == (255, 255, 255, 255) for colour in page.colours())
        page.find("box").click()
        assert (255, 255, 255, 255) in page.colours()

    def test_a_word_has_a_heat_map_with_its_scale(self, page: Browser) -> None:
        page.find("heat-1").click()
        page.wait(lambda: page.text("scale-title") == "Heat map of dog", "waited for the heat map")
        assert 0 <= float(page.text("scale-low")) < float(page.text("scale-high")) <= 1
        assert page.find("heat-1").get_attribute("aria-pressed") == "true" and len(page.colours()) > 100
        ramp = page.run("return [...document.getElementById('ramp').getContext('2d').getImageData(0, 0, 64, 1).data]")
        light = np.array(ramp, dtype=float).reshape(64, 4)[:, :3] @ (0.3, 0.59, 0.11)
        assert (np.diff(light) >= 0).all() and light[0] < 30 and light[-1] > 220
        page.find("heat-1").click()
        assert not page.find("scale").is_displayed() and page.shows(DOG)

    def test_a_point_tells_its_label_and_every_score(self, page: Browser) -> None:
        ActionChains(page.driver).move_to_element(page.find("layer")).perform()
        page.wait(lambda: page.text("readout").count("0.") == len(FIRST), "waited for the scores")
        assert page.text("tag") == "dog" and re.match(r"dog \d+, \d+\s*dog 0\.\d\d", page.text("readout"))
        time.sleep(0.3)  # in which the readout, as it grows, must not start another question
        assert page.text("readout").count("0.") == len(FIRST)
        ActionChains(page.driver).move_to_element(page.find("words")).perform()
        assert page.text("readout") == "" and page.find("keys").is_displayed()

    def test_results_are_downloaded_in_every_form(self, page: Browser) -> None:
        for button in page.find("downloads").find_elements(By.TAG_NAME, "button"):
            button.click()
        document, coco = json.loads(page.saved("dog-and-apple.json")), json.loads(page.saved("dog-and-apple.coco.json"))
        assert tuple(label["name"] for label in document["labels"]) == FIRST
        assert len(coco["annotations"]) == len(FIRST)
        with Image.open(io.BytesIO(page.saved("dog-and-apple.labels.png"))) as labels:
            assert labels.size == (512, 512)
            areas = np.bincount(np.asarray(labels).ravel(), minlength=4)
        assert areas.tolist() == [0, *(label["area"] for label in document["labels"])]
        with Image.open(io.BytesIO(page.saved("dog-and-apple.overlay.png"))) as overlay:
            assert overlay.width == 640


@needs_browser
class TestTrouble:
    def test_a_reading_that_expired_is_uploaded_again_unnoticed(self, page: Browser, service: Service) -> None:
        service.readings.clear()
        page.type("dog, lawn")
        page.found("dog", "lawn")
        assert page.text("status").startswith("Found") and len(service.readings) == 1
        assert [error for error in page.errors() if "404" not in error] == []

    def test_a_busy_server_is_asked_again_and_the_page_says_so(self, page: Browser, service: Service) -> None:
        with ExitStack() as slots:
            for _ in range(service.settings.queue):
                slots.enter_context(service.slot())
            page.type("dog, lawn")
            page.wait(lambda: page.text("status") == "The server is busy. Asking again in 1 s.", "waited for the note")
            assert tuple(page.rows()) == FIRST
        page.found("dog", "lawn")
        assert [error for error in page.errors() if "429" not in error] == []

    def test_a_file_that_is_no_picture_leaves_everything_as_it_was(self, page: Browser, tmp_path: Path) -> None:
        (tmp_path / "broken.png").write_text("no picture")
        page.find("file").send_keys(str(tmp_path / "broken.png"))
        page.wait(lambda: page.find("status").get_attribute("data-kind") == "error", "waited for the error")
        assert tuple(page.rows()) == FIRST
        page.type("dog, lawn")
        page.found("dog", "lawn")
        assert [error for error in page.errors() if "422" not in error] == []

    def test_a_token_is_asked_for_and_kept_as_long_as_the_tab(self, chromium: Browser, service: Service) -> None:
        with serving(Service(ServeSettings(token="let-me-in"), service.engine)) as url:
            chromium.open(url)
            for attempt, hint in (("wrong", "Whoever started it knows"), ("let-me-in", "The server refused that token.")):
                chromium.wait(lambda hint=hint: chromium.find("token-hint").text.startswith(hint), "waited for the dialog")
                chromium.find("token").send_keys(attempt, Keys.ENTER)
            chromium.found(*FIRST)
            chromium.open(url)
            chromium.found(*FIRST)
            assert not chromium.find("token-dialog").is_displayed()
        assert [error for error in chromium.errors() if "401" not in error] == []


@needs_browser
class TestForEverybody:
    def test_everything_works_by_keyboard_and_the_focus_is_seen(self, page: Browser) -> None:
        def press(*keys: str, held: str = "") -> str:
            chain = ActionChains(page.driver).key_down(held) if held else ActionChains(page.driver)
            (chain.send_keys(*keys).key_up(held) if held else chain.send_keys(*keys)).perform()
            return str(page.run("const at = document.activeElement; return at.id || at.value || at.textContent.trim()"))

        stops = [press(Keys.TAB) for _ in range(24)]
        expected = ["choose", "segment", "words", "stage", "show-1", "heat-1", "show-2", "opacity", "method", "prompting", "refine"]
        assert [stop for stop in stops if stop in expected] == expected and stops[-1].startswith("COCO")
        page.run("document.getElementById('choose').focus()")
        while press(Keys.TAB) != "words":
            seen = "const at = document.activeElement, seen = at.matches('[type=radio]') ? at.nextElementSibling : at;"
            assert page.run(f"{seen} return getComputedStyle(seen).outlineStyle") == "solid"
        press("a", held=Keys.CONTROL)
        press("dog, lawn")
        page.found("dog", "lawn")
        while press(Keys.TAB) != "stage":
            pass
        press(Keys.ARROW_RIGHT)
        press(Keys.ARROW_RIGHT, held=Keys.SHIFT)
        press(Keys.ARROW_DOWN, Keys.ENTER)
        page.wait(lambda: "306, 261" in page.text("readout") and "dog 0." in page.text("readout"), "waited for the scores")
        press(Keys.ESCAPE)
        assert page.text("readout") == ""
        assert press(Keys.TAB) == "show-1"
        press(Keys.SPACE)
        assert not page.find("show-1").is_selected()
        assert press(Keys.TAB) == "heat-1"
        press(Keys.SPACE)
        page.wait(lambda: page.text("scale-title") == "Heat map of dog", "waited for the heat map")
        assert page.run("return document.activeElement.id") == "heat-1"

    def test_every_control_has_a_name_and_text_is_read_easily_in_light_and_dark(self, page: Browser) -> None:
        page.find("known").find_element(By.TAG_NAME, "summary").click()
        page.type("dog, zebra")
        page.found("dog", "zebra")
        ActionChains(page.driver).move_to_element(page.find("layer")).perform()
        named = page.names()
        assert len(named) > 60 and [role for role, name in named if not name.strip()] == []
        assert ("checkbox", "dog") in named and ("button", "Heat map of zebra") in named and ("slider", "Opacity") in named
        for scheme in ("light", "dark"):
            page.look(1280, 900, scheme=scheme)
            assert page.faint(4.5) == [], scheme

    def test_a_phone_needs_no_scrolling_sideways(self, page: Browser) -> None:
        page.look(390, 844)
        page.find("known").find_element(By.TAG_NAME, "summary").click()
        page.find("heat-1").click()
        page.wait(lambda: page.find("scale").is_displayed(), "waited for the heat map")
        for mode, first in (("segment", "dog"), ("regions", "region 1"), ("discover", "dog")):
            page.mode(mode)
            page.wait(lambda first=first: next(iter(page.rows()), "") == first, f"waited for {first}")
            assert page.run("return document.documentElement.scrollWidth") == 390, mode
        box = page.find("frame").rect
        assert 340 < box["width"] <= 390 and box["height"] == pytest.approx(box["width"], abs=1)


@needs_browser
def test_run_lengths_are_decoded_as_pycocotools_encodes_them(page: Browser) -> None:
    generator = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 5), (40, 300), (900, 31)):
        numbers = (generator.random((height, width)) * 3).astype(np.uint8)
        numbers[:, width // 2 :] = numbers[0, 0]  # long runs, too
        masks = [coco_mask.encode(np.asfortranarray(numbers == number))["counts"].decode() for number in (1, 2)]
        labels = [{"number": number, "segmentation": {"counts": counts}} for number, counts in zip((1, 2), masks, strict=True)]
        script = """const [labels, width, height, done] = arguments;
            import("/static/masks.js").then(({ labelMap }) => done([...labelMap(labels, width, height)]))"""
        assert page.driver.execute_async_script(script, labels, width, height) == numbers.ravel().tolist()


@pytest.mark.parametrize("name", ["dog-and-apple", "at-sea"])
def test_the_examples_of_the_page_are_those_of_the_project(name: str) -> None:
    with Image.open(PAGE / "examples" / f"{name}.webp") as small, Image.open(EXAMPLES / f"{name}.png") as original:
        difference = ImageStat.Stat(ImageChops.difference(small.convert("RGB"), original.convert("RGB")))
    assert max(difference.mean) < 6


def test_the_page_is_whole_and_holds_nothing_that_its_policy_forbids() -> None:
    html = (PAGE / "index.html").read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|https?://", html)
    assert not re.search(r"<script(?![^>]*\ssrc=)", html)
    for name in re.findall(r'(?:src|href)="static/([^"]+)"', html):
        assert (PAGE / name).is_file(), name
    for module in PAGE.glob("*.js"):
        text = module.read_text("utf-8")
        assert "http" not in text.replace("https://www.w3.org", "") and "eval(" not in text and "innerHTML" not in text, module
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert (PAGE / name).is_file(), (module, name)
