"""Text files in several encodings, and what is refused."""

from pathlib import Path

import pytest

from fastfcn.errors import DataError
from fastfcn.utils.text import decode_legacy, has_raw_bytes, is_line, read_lines, read_text

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str):
    path = tmp_path / "classes.txt"
    path.write_bytes(end.join(["background", "  Straße ", "", "汽车"]).encode(encoding))
    assert read_lines(path) == ["background", "Straße", "汽车"]


def test_invisible_characters_around_lines_are_dropped(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\ufeff a\u00a0\u200b\n\u200b\nb\u2060 c\u3000\n", encoding="utf-8")
    assert read_lines(tmp_path / "a.txt") == ["a", "b\u2060 c"]


@pytest.mark.parametrize("text", ["a", "a b", " a", "a\u200b", "a\nb", "a\r", "a\u2028b", "", "\u00e4#,;"])
def test_lines_are_texts_that_are_read_as_they_are(tmp_path: Path, text: str):
    (tmp_path / "list").write_text(f"{text}\n", encoding="utf-8", newline="")
    assert is_line(text) == (read_lines(tmp_path / "list") == [text])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_refused(tmp_path: Path, encoding: str):
    (tmp_path / "a.txt").write_bytes("one\ntwo".encode(encoding))
    with pytest.raises(DataError, match=r"a\.txt is not a text file, or UTF-16"):
        read_text(tmp_path / "a.txt")


def test_other_encodings_are_refused_with_the_line(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("one\nStraße".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8 text: line 2"):
        read_text(tmp_path / "a.txt")


def test_invalid_utf_16_is_named_as_such(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfea")
    for errors in ("strict", "surrogateescape"):
        with pytest.raises(DataError, match=r"a\.txt is not UTF-16 text: line 1"):
            read_text(tmp_path / "a.txt", errors)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_lines_in_an_older_encoding_are_decoded(tmp_path: Path, encoding: str):
    lines = ["Straße".encode(encoding), "汽车 é".encode(), b"plain"]
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    text = read_text(tmp_path / "a.txt", "surrogateescape")
    assert has_raw_bytes(text)
    assert decode_legacy(text) == "Straße\n汽车 é\nplain"
    assert not has_raw_bytes(decode_legacy(text))


def test_every_byte_is_decoded():
    text = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    assert len(decode_legacy(text.replace("\n", ""))) == 254


def test_missing_files_and_folders_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"Cannot read .*none\.txt: no such file"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(DataError, match="is a directory"):
        read_text(tmp_path)
