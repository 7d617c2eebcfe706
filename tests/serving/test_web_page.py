"""The web page in headless Chromium: results, by mouse and by keyboard, and errors."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastfcn.demo.streets import draw
from fastfcn.prediction.predictor import Predictor
from fastfcn.serving.settings import Settings
from tests.helpers.running_service import BlockedPredictor, RunningService, png, running

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@dataclass
class Visit:
    """A page in the browser, its console messages, and the requested URLs."""

    page: Any
    console: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, service: RunningService) -> None:
        self.page.goto(service.url)
        self.page.wait_for_selector("#legend li")

    def give(self, name: str, data: bytes, kind: str = "image/jpeg") -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def wait(self, selector: str) -> None:
        self.page.wait_for_selector(selector, timeout=300_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's test needs playwright")
    if not CHROMIUM:
        pytest.skip("there is no Chromium (set CHROMIUM to its path)")
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
    context.set_default_timeout(300_000)
    seen = Visit(context.new_page())
    seen.page.on("console", lambda line: seen.console.append(line.text) if line.type == "error" else None)
    seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    yield seen
    context.close()


@pytest.fixture
def photograph() -> bytes:
    """A photo if the folder of real data has one, else a synthetic street."""
    default = Path(__file__).parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("FASTFCN_SHARED", default)) / "samples"
    paths = sorted(folder.rglob("*.jpg")) if folder.is_dir() else []
    return paths[0].read_bytes() if paths else png(draw(3, (240, 320))[0], "JPEG")


def test_from_an_image_to_its_classes(service: RunningService, visit: Visit, photograph: bytes, tmp_path: Path):
    visit.open(service)
    assert "9 classes" in visit.text("#legend-title")
    visit.give("street.jpg", photograph)
    visit.wait("#sum:not([hidden])")
    shares = [float(text.split()[0]) for text in visit.page.locator("#legend .share").all_inner_texts()]
    assert len(shares) > 1
    assert round(sum(shares), 6) == 100
    assert visit.text("#sum-text") == "100.0 %"
    assert re.search(r"network \d", visit.text("#facts"))
    assert painted(visit) > 0.99  # the overlay covers the image

    first = visit.page.locator("#legend button").first
    first.click()
    visit.page.mouse.move(0, 0)
    visit.page.evaluate("document.activeElement.blur()")
    assert first.get_attribute("aria-pressed") == "false"
    assert painted(visit) == pytest.approx(1 - shares[0] / 100, abs=0.01)
    visit.page.locator("#all").click()

    visit.page.locator("#frame").hover()
    assert visit.text("#tip") in visit.page.locator("#legend .name").all_inner_texts()
    visit.page.locator("#frame").focus()
    visit.page.keyboard.press("ArrowRight")
    assert visit.text("#status") in visit.page.locator("#legend .name").all_inner_texts()

    visit.page.get_by_text("Side by side").click()
    visit.page.locator("#cut").focus()
    visit.page.keyboard.press("Home")
    assert visit.page.evaluate("getComputedStyle(document.getElementById('frame')).getPropertyValue('--cut')") == "0%"

    with visit.page.expect_download() as download:
        visit.page.locator("#save-labels").click()
    assert download.value.suggested_filename == "street-labels.png"
    download.value.save_as(tmp_path / "labels.png")
    labels = np.array(Image.open(tmp_path / "labels.png"))
    assert labels.ndim == 2
    counts = np.bincount(labels.ravel()) / labels.size
    assert 100 * counts.max() == pytest.approx(max(shares), abs=0.1)
    with visit.page.expect_download() as download:
        visit.page.locator("#save-overlay").click()
    download.value.save_as(tmp_path / "overlay.png")
    assert np.array(Image.open(tmp_path / "overlay.png")).shape[:2] == labels.shape

    assert visit.console == []
    assert all(url.startswith((service.url, "blob:")) for url in visit.asked)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 390  # nothing overflows on a phone


def painted(visit: Visit) -> float:
    """The fraction of the image that the overlay covers."""
    return visit.page.evaluate("""() => {
        const canvas = document.getElementById("classes");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, at) => at % 4 === 3 && value > 0).length / (data.length / 4);
    }""")


def test_an_example_a_pasted_and_a_dropped_image(service: RunningService, visit: Visit):
    visit.open(service)
    visit.page.locator("#examples button").nth(2).click()
    visit.wait("#sum:not([hidden])")
    assert "480 × 360" in visit.text("#facts")
    give = """([kind, name]) => {
        const canvas = new OffscreenCanvas(60, 40), data = new DataTransfer();
        canvas.getContext("2d").fillRect(0, 0, 60, 40);
        return canvas.convertToBlob().then((blob) => {
            data.items.add(new File([blob], "a.png", { type: "image/png" }));
            dispatchEvent(new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, { [name]: data }));
        });
    }"""
    for kind, name in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        visit.page.locator("#again").click()
        visit.page.evaluate(give, [kind, name])
        visit.page.locator("#facts", has_text="60 × 40").wait_for()
    assert visit.console == []


def test_a_large_image_is_shrunk_and_a_tiff_is_shown(service: RunningService, visit: Visit):
    visit.open(service)
    visit.give("large.png", png(np.zeros((600, 900, 3), np.uint8)), "image/png")
    visit.wait("#sum:not([hidden])")
    assert "reduced from 900 × 600" in visit.text("#facts")
    visit.page.locator("#again").click()
    visit.give("a.tiff", png(np.full((40, 60, 3), 200, np.uint8), "TIFF"), "image/tiff")
    visit.page.locator("#facts", has_text="60 × 40").wait_for()
    assert visit.console == []


@pytest.mark.parametrize(
    ("name", "data", "kind", "words"),
    [
        ("a.gif", b"GIF89a nonsense", "image/gif", ("Unsupported file type", "a GIF", "JPEG, PNG")),
        ("a.jpg", png(np.zeros((40, 40, 3), np.uint8), "JPEG")[:300], "image/jpeg", ("damaged", "cannot be decoded")),
        ("a.jpg", b"\xff" * 400_000, "image/jpeg", ("too large", "MiB", "smaller")),
    ],
)
def test_errors_are_shown_as_sentences(
    service: RunningService, visit: Visit, name: str, data: bytes, kind: str, words: tuple
):
    visit.open(service)
    visit.give(name, data, kind)
    visit.wait("#problem:not([hidden])")
    assert all(word in visit.text("#problem") for word in words)
    visit.page.locator("#dismiss").click()
    assert visit.page.locator("#start").is_visible()


def test_an_image_that_is_too_large_at_full_size(service: RunningService, visit: Visit):
    visit.open(service)
    visit.page.locator("#full").check()
    visit.give("large.png", png(np.zeros((600, 900, 3), np.uint8)), "image/png")
    visit.wait("#problem:not([hidden])")
    assert "900 × 600" in visit.text("#problem")


def test_busy_late_token_and_gone(predictor: Predictor, visit: Visit):
    blocked = BlockedPredictor(predictor.description)
    with running([blocked], Settings(token="s3cret", timeout=0.3, max_waiting=1), warm=False) as service:
        visit.page.goto(service.url)
        visit.wait("#token-form:not([hidden])")
        visit.page.locator("#token").fill("s3cret")
        visit.page.keyboard.press("Enter")
        visit.wait("#examples img")
        image = png(np.zeros((40, 40, 3), np.uint8))
        visit.give("a.png", image, "image/png")
        visit.wait("#problem:not([hidden])")
        assert "The request timed out" in visit.text("#problem")
        service.service.settings = replace(service.service.settings, timeout=300.0)
        service.service.batcher.reserve(1)
        visit.page.locator("#retry").click()
        visit.page.locator("#work-text", has_text="Busy. Retrying").wait_for()
        service.service.batcher.release(1)
        blocked.free.set()
        visit.wait("#sum:not([hidden])")
        assert visit.text("#legend .share") == "100.0 %"
    visit.page.locator("#again").click()
    visit.give("a.png", image, "image/png")
    visit.wait("#problem:not([hidden])")
    assert "The service does not respond" in visit.text("#problem")


def test_everything_that_is_touched_has_a_name(service: RunningService, visit: Visit):
    visit.open(service)
    visit.page.locator("#examples button").first.click()
    visit.wait("#sum:not([hidden])")
    nameless = visit.page.evaluate("""() => [...document.querySelectorAll("button, input, a, [tabindex]")]
        .filter((each) => !(each.getAttribute("aria-label") || each.textContent.trim() || each.labels?.length))
        .map((each) => each.outerHTML)""")
    assert nameless == []
