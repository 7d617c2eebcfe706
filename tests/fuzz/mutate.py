"""Damaged copies of valid files: bytes for binary files, words and numbers for text files."""

import random
import re

EXTREMES = (
    b"\x00",
    b"\xff",
    b"\x80",
    b"\x7f",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x00\x01",
)
WORDS = (
    *("", "0", "-1", "1e30", "-1e-30", "nan", "inf", "-inf", "99999999999999999999", "4294967296", "true", "[]", "{}"),
    *('""', '"', "'", "\\", "[", "]", "{", "}", "[[", "{name}", "{split}", "{0}", "{name!x}", "{name:>9}", "*"),
    *("../..", "/", "\0", "\x1b[31m", "\u202e", "ß", "汽车", "\ufeff", "\r", "\n", "\t", "#", "=", ",", ";", "%s"),
    *("a" * 300, "[" * 200),
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` after one to four random changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(BINARY)(data, rng)
    return data


def damaged_text(data: bytes, rng: random.Random) -> bytes:
    """As `damaged`, but most changes replace whole words and lines."""
    if rng.random() < 0.2:
        return damaged(data, rng)
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = rng.choice(TEXT)(text, rng)
    encoding = rng.choice(("utf-8",) * 6 + ("utf-16", "utf-8-sig", "latin-1"))
    return text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    place = _place(data, rng)
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    place, value = _place(data, rng), rng.choice(EXTREMES)
    return data[:place] + value + data[place + len(value) :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _remove(data: bytes, rng: random.Random) -> bytes:
    place = _place(data, rng)
    return data[:place] + data[place + rng.choice((1, 2, 4, 64)) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = _place(data, rng)
    return data[:place] + rng.randbytes(rng.choice((1, 4, 64))) + data[place:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    place = _place(data, rng)
    return data[:place] + data[place : place + rng.choice((4, 64, 1024))] + data[place:]


def _zeros(data: bytes, rng: random.Random) -> bytes:
    place = _place(data, rng)
    return data[:place] + bytes(len(data) - place)


def _place(data: bytes, rng: random.Random) -> int:
    """Headers are where most can go wrong, so that half of the places are among the first 128 bytes."""
    near = min(len(data), 128) if rng.random() < 0.5 else len(data)
    return rng.randrange(max(near, 1))


def _word(text: str, rng: random.Random) -> str:
    matches = list(re.finditer(r"\w[\w.\-]*|\"[^\"]*\"", text)) or [re.match("", text)]
    match = rng.choice(matches)
    return text[: match.start()] + rng.choice(WORDS) + text[match.end() :] if match else text


def _number(text: str, rng: random.Random) -> str:
    matches = list(re.finditer(r"-?\d+(?:\.\d+)?", text))
    if not matches:
        return _word(text, rng)
    match = rng.choice(matches)
    values = ("0", "-1", "1e30", "nan", "0.5", "2147483648", "99999999999999999999", "-0.0", "inf", "300")
    return text[: match.start()] + rng.choice(values) + text[match.end() :]


def _line_twice(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    return "\n".join([*lines[:place], lines[place], *lines[place:]])


def _line_gone(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    lines.pop(rng.randrange(len(lines)))
    return "\n".join(lines)


def _lines_exchanged(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return "\n".join(lines)


BINARY = (_flip, _flip, _overwrite, _overwrite, _cut, _remove, _insert, _repeat, _zeros)
TEXT = (_word, _word, _number, _number, _line_twice, _line_gone, _lines_exchanged)
