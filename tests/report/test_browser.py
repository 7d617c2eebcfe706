"""Reports in a real browser, at the width of a telephone and of a desk: all there, nothing from elsewhere."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastfcn.report.page import page
from tests.helpers.accounts import HOSTILE, account

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
    accounts = {
        "two": [account(folder, 2, "cracks")],
        "many": [account(folder, 150, "rooms")],
        "against": [
            account(folder, 12, "a-very-long-name_without_any_break_in_it"),
            account(folder, 12, "other", 1),
        ],
    }
    for name, each in accounts.items():
        (folder / f"{name}.html").write_text(page(each, "Made by a test."), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in accounts}


def opened(browser: Any, path: Path, width: int, scheme: str = "light") -> tuple[Any, list[str], list[str]]:
    """The page, what it said on the console, and what it asked for."""
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("request", lambda request: asked.append(request.url))
    view.goto(path.as_uri())
    return view, said, asked


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["two", "many", "against"])
def test_it_is_whole_and_keeps_to_itself(browser, reports, name, width):
    view, said, asked = opened(browser, reports[name], width, "dark" if width == 390 else "light")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [reports[name].as_uri()]
    pictures = view.evaluate("[...document.images].map(each => each.complete && each.naturalWidth > 0)")
    assert len(pictures) >= 3 * 4
    assert all(pictures)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.evaluate("document.body.scrollWidth") <= width
    titles = view.locator("h2").all_inner_texts()
    assert titles == ["Training", "Classes", "Confusion", "Calibration", "Errors", "Images", "Speed and memory",
                      "Recipe", "Environment"]  # fmt: skip
    # Nothing hangs out of the page that is not inside a part that scrolls.
    outside = view.evaluate(
        "[...document.querySelectorAll('main *, header *')].filter(each => !each.closest('.scroll, nav, svg, dialog')"
        " && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"
    )
    assert outside == []
    view.close()


def test_tables_sort_pictures_open_and_the_matrix_reads_out(browser, reports):
    view, said, _ = opened(browser, reports["many"], 1280)
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map(each => each.cells[1].dataset.v)"
    title = view.locator("table.sortable thead button").nth(1)
    assert title.inner_text() == "IoU"
    title.click()
    values = [float(each) if each else None for each in view.evaluate(column)]
    known = [each for each in values if each is not None]
    assert len(values) == 150
    assert known == sorted(known, reverse=True)
    assert values[len(known) :] == [None] * (150 - len(known))  # what has no figure comes last
    title.click()
    assert [float(each) for each in view.evaluate(column) if each] == sorted(known)
    view.locator(".views img").first.click()
    assert view.locator("dialog[open] img").count() == 1
    view.locator("dialog").click()
    view.locator(".map img").hover(position={"x": 1, "y": 1})
    assert view.locator(".readout").inner_text().startswith("wall is called wall in")
    assert said == []
    view.close()


def test_names_are_text(browser, reports):
    view, said, _ = opened(browser, reports["two"], 1280)
    assert HOSTILE in view.locator("table.sortable").inner_text()
    assert view.locator("script").count() == 1
    assert said == []
    view.close()
