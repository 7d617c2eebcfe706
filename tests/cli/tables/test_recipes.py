"""Tables of recipes on the terminal."""

import io
import re
from itertools import groupby

import pytest

from fastfcn import recipes
from fastfcn.cli.tables.recipes import recipe_table, show_differences, show_recipe, show_recipes
from fastfcn.utils.console import SafeConsole

PSP = "fastfcn_r50_psp_cityscapes_80k_b8"


def printed(show, *things, width: int = 100, terminal: bool = False) -> str:
    file = io.StringIO()
    show(*things, SafeConsole(file=file, width=width, force_terminal=terminal))
    return file.getvalue()


def row_of(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
    return line.split()


def test_the_table_has_every_recipe_and_its_figures():
    text = printed(show_recipes)
    for name in recipes.names():
        assert row_of(text, name)[0] == name
    assert row_of(text, PSP) == [PSP, "psp", "cityscapes", "512x1024", "8", "80000", "79.26", "80.86"]
    assert row_of(text, "fastfcn_r50_enc_ade20k_160k_b16")[-3:] == ["160000", "42.50", "44.21"]
    assert row_of(text, "demo")[:3] == ["demo", "psp", "streets"]


@pytest.mark.parametrize(("width", "columns"), [(120, 8), (110, 8), (109, 6), (80, 6)])
def test_nothing_is_cut_off_on_a_terminal(width: int, columns: int):
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(show_recipes, width=width, terminal=True))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert len(row_of(text, PSP)) == columns
    assert row_of(text, PSP)[-2:] == ["79.26", "80.86"]


def test_a_pipe_gets_the_complete_table():
    assert printed(show_recipes, width=80) == printed(show_recipes, width=100)


def test_what_was_not_published_stays_empty():
    table = recipe_table()
    cells = {column.header: list(column.cells) for column in table.columns}
    figures = dict(zip(cells["Recipe"], zip(cells["mIoU"], cells["ms+flip"], strict=True), strict=True))
    assert figures["demo"] == ("", "")
    assert figures[PSP] == ("79.26", "80.86")


def test_recipes_with_jpu_come_before_their_dilated_counterparts():
    names = list(recipe_table().columns[0].cells)
    assert names.index("fastfcn_r50_psp_camvid") < names.index("dilated_r18_psp_camvid")
    datasets = list(recipe_table().columns[2].cells)
    assert [dataset for dataset, _ in groupby(datasets)] == [
        "ade20k",
        "camvid",
        "cityscapes",
        "pascal_context_59",
        "streets",
    ]


def test_a_recipe_in_a_pipe_is_its_text():
    marked = recipes.load(PSP, ["optim.lr=0.02"])
    assert printed(show_recipe, marked, width=40) == marked.text


def test_a_recipe_on_a_terminal_is_its_text_in_color():
    marked = recipes.load(PSP, ["optim.lr=0.02"])
    text = printed(show_recipe, marked, width=40, terminal=True)
    assert "\x1b[" in text
    assert re.sub(r"\x1b\[[0-9;]*m", "", text) == marked.text


def test_differences_stand_side_by_side():
    first = recipes.load(PSP)
    text = printed(show_differences, first, recipes.load("dilated_r50_psp_cityscapes_80k_b8"))
    assert text.split()[:3] == ["Key", PSP, "dilated_r50_psp_cityscapes_80k_b8"]
    assert re.search(r"backbone\.strides +\[1, 2, 2, 2\] +\[1, 2, 1, 1\]", text)
    assert re.search(r'neck\.kind +"jpu" +"none"', text)
    assert re.search(r"neck\.width +512 *\n", text)
    assert "weights" not in text
    assert "summary" not in text


def test_equal_recipes_are_reported_as_equal():
    assert (
        printed(show_differences, recipes.load(PSP), recipes.load(PSP)).strip()
        == f"{PSP} and {PSP} have the same settings."
    )
