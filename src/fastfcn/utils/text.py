"""Reading text files that users write: any byte order mark, UTF-8 or UTF-16, Windows or Unix line ends."""

import codecs
import re
from pathlib import Path

from fastfcn.errors import DataError

MAX_BYTES = 64 * 2**20  # lists of millions of names are smaller; a larger file is something else
BLANKS = re.compile(r"^[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+$")  # copied from web pages, some without width
MARKS = {  # longer marks first: that of UTF-32-LE begins like that of UTF-16-LE
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: str | Path, errors: str = "strict") -> str:
    r"""The text of a file, line ends as "\n". Raises DataError that names the file.

    UTF-8, with or without a byte order mark; UTF-16 and UTF-32 with one (Windows PowerShell and Excel write these).
    Text in an older encoding, such as Latin-1, is refused, because letters would be guessed. `errors` =
    "surrogateescape" keeps its bytes, as `os.fsdecode` does, for file names and for `decode_legacy`.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(f"{path} is not a regular file.", "Name a text file.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES // 2**20} MiB, too large for a text file.")
    return decode(data, path, errors)


def decode(data: bytes, name: str | Path, errors: str = "strict") -> str:
    """As `read_text`, from bytes; `name` is what errors call them."""
    encoding = next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), None)
    if encoding is None and b"\0" in data[:256]:
        raise DataError(f"{name} is not a text file, or UTF-16 without a byte order mark.", "Save it as UTF-8.")
    if encoding and encoding != "utf-8-sig":
        errors = "strict"  # bytes cannot be kept in place of 16-bit characters
    try:
        text = data.decode(encoding or "utf-8", errors)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        kind = (encoding or "utf-8").removesuffix("-sig").upper()
        raise DataError(f"{name} is not {kind} text: line {line} has an invalid byte.", "Save it as UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_legacy(text: str) -> str:
    """Text that was read with `errors` = "surrogateescape", with lines that are not UTF-8 read as Windows-1252.

    That is Latin-1 with more letters; text without such bytes is returned as it is.
    """
    return "\n".join(_legacy_line(line) for line in text.split("\n")) if has_raw_bytes(text) else text


def has_raw_bytes(text: str) -> bool:
    """Whether `text` was read with `errors` = "surrogateescape" and is not UTF-8."""
    return any("\udc80" <= character <= "\udcff" for character in text)


def _legacy_line(line: str) -> str:
    if not has_raw_bytes(line):
        return line
    data = line.encode("utf-8", "surrogateescape")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:  # five bytes have no meaning there
        return data.decode("latin-1")


def read_lines(path: str | Path, errors: str = "strict") -> list[str]:
    """Lines without surrounding white space and invisible characters, empty ones left out. Raises DataError."""
    lines = (BLANKS.sub("", line) for line in read_text(path, errors).split("\n"))
    return [line for line in lines if line]


def is_line(text: str) -> bool:
    """Whether `read_lines` returns `text` unchanged if it is a line of the file."""
    return bool(text) and BLANKS.sub("", text) == text and not re.search(r"[\r\n]", text)
