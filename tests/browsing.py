"""A real server on a free port, and a headless Chromium that looks at its page."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from selenium import webdriver
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from maskwright.serve.app import create_app
from maskwright.serve.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--window-size=1280,900",
)  # fmt: skip
CONTRASTS = """
const [least] = arguments, low = [];
const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = ([red, green, blue]) => [red, green, blue].map((value) => value / 255)
  .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
  .reduce((sum, value, channel) => sum + value * [0.2126, 0.7152, 0.0722][channel], 0);
const ground = (element) => {
  for (let place = element; place; place = place.parentElement) {
    const colour = parse(getComputedStyle(place).backgroundColor);
    if ((colour[3] ?? 1) === 1) return colour;
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, datalist")) continue;
  const levels = [parse(getComputedStyle(element).color), ground(element)].map(light).sort((one, other) => other - one);
  const ratio = (levels[0] + 0.05) / (levels[1] + 0.05);
  if (ratio < least) low.push([walker.currentNode.data.trim(), ratio]);
}
return low;
"""
PATIENCE = 15.0  # seconds that a page may take for anything, on a machine with other things to do
STOPS = ("application", "button", "checkbox", "combobox", "dialog", "img", "image", "link", "radio", "slider", "table", "textbox")


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """The address of a server that runs in a thread of this process."""
    config = uvicorn.Config(create_app(service.settings, service), log_level="error", ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def browsing(folder: Path) -> Iterator["Browser"]:
    """A browser whose profile and downloads are in a folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*QUIET, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(str(DRIVER)))
    try:
        yield Browser(driver, folder / "downloads")
    finally:
        driver.quit()


class Browser:
    """What a person does with the page, and what they see.

    Args:
        driver: of a started browser.
        downloads: where files are saved.
    """

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads
        downloads.mkdir()
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def open(self, address: str) -> None:
        """Opens the page in a fresh tab's state, at 1280 pixels in light colours."""
        self.look(1280, 900)
        self.driver.get(address)

    def look(self, width: int, height: int, *, scheme: str = "light") -> None:
        """Changes the size of the window and the colours that are preferred; nothing is animated."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.command("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in wishes.items()])

    def command(self, name: str, **arguments: Any) -> Any:
        """One of Chromium's own commands."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, name: str) -> WebElement:
        """The element with an id."""
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        """What is written in the element with an id."""
        return str(self.run("return document.getElementById(arguments[0]).textContent.trim()", name))

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """What a condition returns as soon as that is something."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except (StaleElementReferenceException, JavascriptException):
                pass  # the page is changing just now
            time.sleep(0.03)
        raise AssertionError(f"{what}: the status is {self.text('status')!r}, found are {self.rows()}")

    def type(self, text: str, name: str = "words") -> None:
        """Types into a field, key by key, in place of what is there."""
        self.run("const field = arguments[0]; field.focus(); field.select()", self.find(name))
        self.find(name).send_keys(text)

    def choose(self, name: str, value: str) -> None:
        """Takes one of a list."""
        script = "const [list, value] = arguments; list.value = value; list.dispatchEvent(new Event('change', {bubbles: true}))"
        self.run(script, self.find(name), value)

    def slide(self, name: str, value: float) -> None:
        """Moves a slider."""
        script = "const [slider, value] = arguments; slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true}))"
        self.run(script, self.find(name), value)

    def mode(self, name: str) -> None:
        """Goes to a mode."""
        self.driver.find_element(By.CSS_SELECTOR, f"#modes label:has([value={name}])").click()

    def rows(self) -> dict[str, tuple[str, str]]:
        """Share and score of each label in the legend."""
        script = """return [...document.querySelectorAll("#rows tr")].map((row) =>
            [row.querySelector("label > span:not(.swatch)").textContent, row.cells[1].textContent, row.cells[2].textContent])"""
        return {name: (share, score) for name, share, score in self.run(script)}

    def found(self, *names: str) -> dict[str, tuple[str, str]]:
        """The legend as soon as it lists these names."""
        return dict(self.wait(lambda: self.rows() if tuple(self.rows()) == names else None, f"waited for {names}"))

    def colours(self) -> dict[tuple[int, ...], int]:
        """How often each RGBA value occurs in the layer over the picture."""
        script = """const layer = document.getElementById("layer"), counts = {};
            const pixels = new Uint32Array(layer.getContext("2d").getImageData(0, 0, layer.width, layer.height).data.buffer);
            for (const pixel of pixels) counts[pixel] = (counts[pixel] ?? 0) + 1;
            return counts"""
        return {tuple(int(pixel).to_bytes(4, "little")): count for pixel, count in self.run(script).items()}

    def shows(self, colour: tuple[int, int, int]) -> bool:
        """Whether the layer has a colour, as exact as a translucent pixel holds it."""
        return any(max(abs(one - other) for one, other in zip(colour, seen, strict=False)) < 4 for seen in self.colours())

    def names(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader stops at, as Chromium computes them."""
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        told = [(node.get("role", {}).get("value"), node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
        return [(role, name) for role, name in told if role and role.lower() in STOPS]

    def faint(self, least: float) -> list[tuple[str, float]]:
        """Texts that differ from their ground by less than a contrast ratio (WCAG 2.2, 1.4.3), and by how much they do."""
        return [(str(text), float(ratio)) for text, ratio in self.run(CONTRASTS, least)]

    def errors(self) -> list[str]:
        """What the console complained of since the last call; that `colours` reads pixels back is not the page's doing."""
        return [message for message in map(str, self._log("browser")) if "willReadFrequently" not in message]

    def requests(self, page: str) -> set[str]:
        """Addresses that a page asked for since the last call."""
        found = set()
        for text in self._log("performance"):
            message = json.loads(text)["message"]
            if message["method"] == "Network.requestWillBeSent" and message["params"]["documentURL"].startswith(page):
                found.add(message["params"]["request"]["url"])
        return found

    def _log(self, kind: str) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log(kind)]  # type: ignore[no-untyped-call]

    def saved(self, name: str) -> bytes:
        """A file that was downloaded."""
        path = self.downloads / name
        self.wait(lambda: path.exists() and path.stat().st_size, f"waited for {name}")
        return path.read_bytes()
