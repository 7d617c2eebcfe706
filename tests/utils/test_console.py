"""Text from outside on the terminal: shown as it is, or as escapes; never as markup or as terminal controls."""

import ast
import io
import re
from pathlib import Path

import pytest
from rich.table import Table

from fastfcn.utils.console import SafeConsole, printable, styled
from tests.helpers.paths import ROOT

SOURCE = ROOT / "src" / "fastfcn"
MARKUP = re.compile(r"\[/?(bold|dim|red|green|yellow|cyan|on |rgb|link)|\[/\]")

AWKWARD = (
    "car [parked]", "road [/wet]", r"no\[/b]", "o[/5]", "[bold]x", "end\\", "[link=http://x]y[/link]", ":car:", "[[a]]",
    "{}", "{0}", "汽车", "a\u200db",
)  # fmt: skip


def shown(renderable: object, encoding: str = "utf-8", width: int = 200) -> str:
    """What a console with that encoding writes."""
    data = io.BytesIO()
    file = io.TextIOWrapper(data, encoding=encoding, newline="")
    SafeConsole(file=file, width=width).print(renderable, soft_wrap=not isinstance(renderable, Table))
    file.flush()
    return data.getvalue().decode(encoding)


def table(name: object) -> Table:
    table = Table(str(name), title=str(name), caption=str(name))
    table.add_row(name if isinstance(name, str) else str(name))
    return table


@pytest.mark.parametrize("name", AWKWARD)
def test_names_are_shown_as_they_are(name: str):
    assert shown(name) == f"{name}\n"
    assert shown(styled("[bold]{}[/] and {}", name, name)) == f"{name} and {name}\n"
    assert shown(table(name)).count(name) == 4


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x1b]0;title\x07b", r"a\x1b]0;title\x07b"),
        ("a\rb\x08", r"a\x0db\x08"),
        ("\x9b31m", r"\u009b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("stra\udcdfe", r"stra\xdfe"),
        ("\ud800", r"\ud800"),
        ("\u2028", r"\u2028"),
    ],
)
def test_controls_and_bytes_are_escaped(name: str, escaped: str):
    assert printable(name) == escaped
    assert shown(name) == f"{escaped}\n"
    assert shown(styled("{}", name)) == f"{escaped}\n"
    assert shown(table(name)).count(escaped) == 4
    assert "\x1b" not in shown(table(name))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_every_character_has_a_distinct_form_in_every_encoding(encoding: str):
    """No error, no lost characters, and different names stay different (symbols of tables excepted)."""
    characters = [chr(code) for code in (*range(0x20, 0x3000, 7), *range(0xD800, 0xE000, 101), 0x1F697, 0x10FFFF)]
    forms = [printable(character, encoding) for character in characters]
    for form in forms:
        form.encode(encoding)
    letters = [form for form, character in zip(forms, characters, strict=True) if character.isalpha()]
    assert len(set(letters)) == len(letters)
    for character in characters:
        shown(character, encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_boxes_and_bars_have_replacements(encoding: str):
    text = shown(table("■ ████ 汽车"), encoding)
    assert text.count(r"# #### \u6c7d\u8f66") == 4
    assert len({len(line) for line in text.splitlines()[1:-1]}) == 1  # columns are aligned


def test_values_may_be_styled_and_formatted():
    text = styled("[bold]{}[/] {:.1f}", styled("[red]{}[/]", "x[y]"), 1.26)
    assert text.plain == "x[y] 1.3"
    assert {str(span.style) for span in text.spans} == {"bold", "red"}
    with pytest.raises(ValueError, match="argument"):
        styled("{}", 1, 2)


def nodes(kind: type) -> list[tuple[Path, ast.AST]]:
    return [
        (path, node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kind)
    ]


def test_no_value_is_put_into_markup():
    """Markup is written only in literals for `styled` and `say`; nobody else parses markup or makes a console."""
    problems = []
    for path, node in nodes(ast.JoinedStr):
        parts = [part.value for part in node.values if isinstance(part, ast.Constant)]  # type: ignore[attr-defined]
        if any(MARKUP.search(str(part)) for part in parts):
            problems.append(f"{path}:{node.lineno}: f-string with markup")  # type: ignore[attr-defined]
    for path, node in nodes(ast.Call):
        assert isinstance(node, ast.Call)
        name = ast.unparse(node.func)
        imported = "from fastfcn.utils.console import" in path.read_text(encoding="utf-8")  # others have another `say`
        if name in ("styled", "say") and imported and not literal(node.args[0]) and path.name != "console.py":
            problems.append(f"{path}:{node.lineno}: {name} of a template that is not a literal")
        if path.name != "console.py" and name in ("Console", "Text.from_markup", "rich.print", "console.render_str"):
            problems.append(f"{path}:{node.lineno}: {name}")
    for path, node in nodes(ast.ImportFrom):
        if node.module == "rich.markup" or (node.module == "rich" and node.names[0].name == "print"):  # type: ignore[attr-defined]
            problems.append(f"{path}: imports {node.module}")  # type: ignore[attr-defined]
    assert problems == []


def literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.IfExp) and literal(node.body) and literal(node.orelse)
    )
