"""Reports in a real browser at phone and desktop width: complete, and without requests to anything else."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastfcn.data.description import load_description
from fastfcn.report.html import render
from tests.helpers.run_reports import HOSTILE, run_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'fastfcn[test]'")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Path]:
    """Two classes, 150, and two runs side by side."""
    folder = tmp_path_factory.mktemp("reports")
    runs = {
        "two": [run_report(folder, 2, "cracks")],
        "many": [run_report(folder, 150, "rooms")],
        "against": [
            run_report(folder, 12, "a-very-long-name_without_any_break_in_it"),
            run_report(folder, 12, "other", 1),
        ],
    }
    for name, shown in runs.items():
        (folder / f"{name}.html").write_text(render(shown, "Created by a test."), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in runs}


def opened(browser: Any, path: Path, width: int, scheme: str = "light") -> tuple[Any, list[str], list[str]]:
    """The page, its console messages, and the URLs it requested."""
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages, requests = [], []
    view.on("console", lambda message: messages.append(message.text))
    view.on("pageerror", lambda error: messages.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.goto(path.as_uri())
    return view, messages, requests


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["two", "many", "against"])
def test_the_page_is_complete_and_self_contained(browser, reports, name, width):
    view, messages, requests = opened(browser, reports[name], width, "dark" if width == 390 else "light")
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [reports[name].as_uri()]
    loaded = view.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) >= 3 * 4
    assert all(loaded)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.evaluate("document.body.scrollWidth") <= width
    titles = view.locator("h2").all_inner_texts()
    assert titles == ["Training", "Classes", "Confusion", "Calibration", "Errors", "Images", "Speed and memory",
                      "Recipe", "Environment"]  # fmt: skip
    # Nothing overflows the page outside of scrollable parts.
    outside = view.evaluate(
        "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll, nav, svg, dialog')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []
    view.close()


def test_tables_sort_images_enlarge_and_the_matrix_has_a_readout(browser, reports):
    view, messages, _ = opened(browser, reports["many"], 1280)
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => row.cells[1].dataset.v)"
    title = view.locator("table.sortable thead button").nth(1)
    assert title.inner_text() == "IoU"
    title.click()
    values = [float(value) if value else None for value in view.evaluate(column)]
    known = [value for value in values if value is not None]
    assert len(values) == 150
    assert known == sorted(known, reverse=True)
    assert values[len(known) :] == [None] * (150 - len(known))  # undefined values come last
    title.click()
    assert [float(value) for value in view.evaluate(column) if value] == sorted(known)
    view.locator(".views img").first.click()
    assert view.locator("dialog[open] img").count() == 1
    view.locator("dialog").click()
    view.locator(".map img").hover(position={"x": 1, "y": 1})
    assert view.locator(".readout").inner_text().startswith("wall predicted as wall: ")
    assert messages == []
    view.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_large_matrix_has_labels_that_can_be_read(browser, reports, width):
    """Each label is as high as its row, stays in view while the matrix is scrolled, and the cell tapped is marked."""
    view, messages, _ = opened(browser, reports["many"], width)
    rows, columns = (view.locator(f".map .{part} li") for part in ("rows", "columns"))
    assert (rows.count(), columns.count()) == (150, 150)
    assert rows.first.evaluate("label => parseFloat(getComputedStyle(label).fontSize)") >= 11
    view.locator(".large-matrix .scroll").evaluate("box => { box.scrollLeft = 900; box.scrollTop = 900; }")
    boxes = view.evaluate(
        "[...document.querySelectorAll('.map img, .map .rows li:nth-child(81), .map .columns li:nth-child(81),"
        " .large-matrix .scroll')].map(e => e.getBoundingClientRect()).map(b => [b.left, b.top, b.width, b.height])"
    )
    scroll, column, row, image = boxes
    cell = image[2] / 150
    assert cell >= 14
    assert row[1] == pytest.approx(image[1] + 80 * cell, abs=0.5)
    assert row[3] == pytest.approx(cell, abs=0.5)
    assert row[0] == pytest.approx(scroll[0], abs=1)
    assert column[0] == pytest.approx(image[0] + 80 * cell, abs=0.5)
    assert scroll[1] <= column[1] < scroll[1] + scroll[3]
    view.locator(".map img").evaluate(
        "image => image.dispatchEvent(new PointerEvent('pointerdown', {clientX: image.getBoundingClientRect().left"
        " + 80.5 * image.width / 150, clientY: image.getBoundingClientRect().top + 70.5 * image.width / 150}))"
    )
    names = [label.name for label in load_description("ade20k").classes]
    assert view.locator(".rows li.on").all_inner_texts() == [names[70]]
    assert view.locator(".columns li.on").all_inner_texts() == [names[80]]
    assert view.locator(".readout").inner_text().startswith(f"{names[70]} predicted as {names[80]}: ")
    assert messages == []
    view.close()


def test_class_names_are_escaped(browser, reports):
    view, messages, _ = opened(browser, reports["two"], 1280)
    assert HOSTILE in view.locator("table.sortable").inner_text()
    assert view.locator("script").count() == 1
    assert messages == []
    view.close()
