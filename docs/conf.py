"""Sphinx: sphinx-build -W --keep-going -b html docs docs/_build"""

import json
import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT / "src"))

import fastfcn  # noqa: E402

project = "fastfcn"
author = copyright = "The fastfcn developers"
version = release = fastfcn.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
default_role = "literal"  # docstrings write names between single backticks
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
add_module_names = False
html_theme = "furo"
html_title = f"fastfcn {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0f7c74", "color-brand-content": "#0f7c74"},
    "dark_css_variables": {"color-brand-primary": "#7cc4bb", "color-brand-content": "#7cc4bb"},
}

# Pages whose text is kept elsewhere in the repository. The files of that name in docs link to it.
ELSEWHERE = {
    "benchmarks": "benchmarks/README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "fidelity": "benchmarks/parity/README.md",
    "kernels": "src/fastfcn/kernels/README.md",
}
PAGES = {(ROOT / path).resolve(): page for page, path in ELSEWHERE.items()}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def read_source(app, page: str, source: list[str]) -> None:
    """Take pages that are kept elsewhere from there, turn notebooks into Markdown, and adapt links."""
    path = Path(app.env.doc2path(page))
    if page in ELSEWHERE and (ROOT / ELSEWHERE[page]).exists():
        path = ROOT / ELSEWHERE[page]
        source[0] = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        source[0] = notebook_text(json.loads(source[0]), path.name)
    here = Path(app.env.doc2path(page)).parent
    source[0] = LINK.sub(lambda link: local_link(link, path.parent, here), source[0])


def notebook_text(notebook: dict, name: str) -> str:
    """The cells of a notebook, code in fences."""
    cells = []
    for cell in notebook["cells"]:
        content = "".join(cell["source"])
        if cell["cell_type"] == "code":
            language = "bash" if content.startswith("!") else "python"
            content = f"```{language}\n{content.removeprefix('!')}\n```"
        cells.append(content)
    return "\n\n".join([*cells, f"Download this page as a notebook: {{download}}`{name} <{name}>`."])


def local_link(link: re.Match, source: Path, here: Path) -> str:
    """A link as the page in `here` needs it; files that the site does not have become text."""
    image, label, target, anchor = link[1], link[2], link[3], link[4] or ""
    if "://" in target or target.startswith("mailto:"):
        return link[0]
    path = (source / target).resolve()
    if path in PAGES:
        path = DOCS / f"{PAGES[path]}.md"
    if image or (path.is_relative_to(DOCS) and path.is_file()):
        return f"{image}[{label}]({os.path.relpath(path, here).replace(os.sep, '/')}{anchor})"
    return label if "`" in label else f"{label} (`{path.relative_to(ROOT).as_posix()}`)"


def mark_code(app, what, name, obj, options, lines: list[str]) -> None:
    """Make indented examples in docstrings literal blocks, which reStructuredText would take for quotations."""
    marked: list[str] = []
    for number, line in enumerate(lines):
        before = next((text for text in reversed(lines[: max(number - 1, 0)]) if text.strip()), None)
        if before is not None and line.strip() and not lines[number - 1].strip() and indent(line) >= indent(before) + 4:
            marked += [" " * indent(before) + "::", ""]
        marked.append(line)
    lines[:] = marked


def indent(line: str) -> int:
    """Number of leading spaces."""
    return len(line) - len(line.lstrip())


def setup(app) -> None:
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", mark_code, priority=400)  # before napoleon
