"""The documentation site builds without warnings and contains every public name."""

import re
import subprocess
import sys

import pytest

import fastfcn
from tests.helpers.paths import ROOT

pytest.importorskip("sphinx", reason="the documentation needs: pip install '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(folder / "html")]
    built = subprocess.run([*command, "-d", str(folder / "doctrees")], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    return folder / "html"


def test_the_reference_has_every_public_name(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    documented = set(re.findall(r'<dt class="sig sig-object py" id="fastfcn\.(\w+)"', page))
    assert set(fastfcn.__all__) <= documented


def test_every_page_is_reachable_and_searchable(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert {page for page in pages if f'href="{page}.html"' not in index} == set()
    search = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(f'"{page}"' in search for page in pages)


def test_notebooks_are_pages(site):
    for path in (ROOT / "docs/notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / f"{path.stem}.html").exists()


def test_links_inside_the_site_lead_somewhere(site):
    for page in site.glob("**/*.html"):
        for target in re.findall(r'(?:href|src)="([^"#?:]+)["#?]', page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
