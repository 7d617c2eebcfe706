"""Letters in images: a font of the system that has them, or escapes and one warning; never a box."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from fastfcn.utils import fonts
from fastfcn.utils.fonts import drawable, missing_letters
from fastfcn.visualize import legend

NAMES = ("汽车", "道路", "مبنى", "한글", "é", "ß", "Ω", "🚗")
COLOR = (70, 130, 180)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What is found on this system is kept by the module."""
    for cached in (drawable, fonts._system_fonts):
        cached.cache_clear()
    fonts._warned.clear()
    yield
    for cached in (drawable, fonts._system_fonts):
        cached.cache_clear()


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A system whose only fonts are damaged, or have English letters only."""
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    data = ImageFont.load_default(15).font_bytes  # type: ignore[union-attr]
    (tmp_path / "English.ttf").write_bytes(data)
    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path, tmp_path / "nowhere"])
    return tmp_path


def test_english_needs_no_other_font(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fonts, "_system_fonts", lambda: pytest.fail("not needed"))
    for text in ("road", "traffic light", "a-b_c (1), 50 %", "~!@#$^&*[]{}|;:<>?/"):
        assert drawable(text, 15)[0] == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("汽车", "\\u6c7d\\u8f66"),
        ("road é", "road \\u00e9"),
        ("car 🚗", "car \\U0001f697"),
        ("two\nlines\tand \x1b[1m", "two lines and \\x1b[1m"),
        ("stra\udcdfe", "stra\\xdfe"),
        ("", ""),
    ],
)
def test_letters_that_no_font_has_are_escaped(text: str, expected: str, no_fonts: Path):
    assert drawable(text, 15)[0] == expected


def test_one_warning_names_the_first_text(no_fonts: Path, capsys: pytest.CaptureFixture[str]):
    for name in NAMES:
        drawable(name, 15)
    error = capsys.readouterr().err
    assert error.count("Warning") == 1
    assert "汽车" in error


def test_different_names_look_different(no_fonts: Path):
    images = [np.asarray(legend([name], [COLOR], width=300)).tobytes() for name in NAMES]
    assert len(set(images)) == len(NAMES)


def test_a_font_of_the_system_is_used_if_it_has_the_letters(capsys: pytest.CaptureFixture[str]):
    text, font = drawable("é", 15)
    if text != "é":
        pytest.skip("no font of this system has é")
    assert missing_letters("é", font) == set()
    assert missing_letters("é", ImageFont.load_default(15)) == {"é"}
    assert drawable("road", 15)[1].getname() == ImageFont.load_default(15).getname()  # type: ignore[union-attr]
    assert "Warning" not in capsys.readouterr().err
