r"""Fonts for text in images: the one that Pillow brings, or a font of the system that has the letters.

Pillow's font has English letters only, and draws all others as the same box. Letters that no font has are written as
escapes, such as \u6c7d, with one warning, so that different names stay different.
"""

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import ImageFont

from fastfcn.utils.console import escaped, printable
from fastfcn.utils.progress import warn

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

NO_LETTER = "\U0010ffff"  # in no font, so it is drawn as the box for missing letters
ELLIPSIS = "…"  # of shortened names
SUFFIXES = (".ttf", ".otf", ".ttc")
PREFERRED = ("dejavusans.", "notosans", "arial", "segoeui", "helvetica", "hiragino", "msyh", "msgothic", "unifont")
STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "mono", "serif")
MAX_FONTS = 2000
INVISIBLE = ("Mn", "Me", "Cf", "Zs", "Zl", "Zp")  # Unicode categories without a shape of their own


@cache
def drawable(text: str, size: int) -> tuple[str, Font]:
    """`text` on one line, and a font of `size` pixels that has its letters; those that no font has are escaped."""
    text = " ".join(printable(text).split())
    font = ImageFont.load_default(size)
    missing = missing_letters(text, font)
    for path in _system_fonts() if missing else ():
        if (other := _load(path, size)) and len(fewer := missing_letters(text + ELLIPSIS, other)) < len(missing):
            font, missing = other, fewer
        if not missing:
            break
    if missing:
        _warn_once(text)
    return "".join(escaped(letter) if letter in missing else letter for letter in text), font


def missing_letters(text: str, font: Font) -> set[str]:
    """The letters of `text` that `font` draws as a box."""
    box = _shape(NO_LETTER, font)
    letters = {letter for letter in text if unicodedata.category(letter) not in INVISIBLE}
    return {letter for letter in letters if not letter.isascii() and _shape(letter, font) == box}


def font_folders() -> list[Path]:
    """Where this system keeps its fonts."""
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", home / "AppData/Local")
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts", Path(local) / "Microsoft/Windows/Fonts"]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    personal = os.environ.get("XDG_DATA_HOME") or home / ".local/share"
    return [Path(folder) / "fonts" for folder in (*shared.split(":"), personal)] + [home / ".fonts"]


@cache
def _system_fonts() -> list[Path]:
    """The fonts of the system, the most suitable first."""
    paths = [path for folder in font_folders() for path in _font_files(folder)]
    return sorted(paths, key=_suitability)[:MAX_FONTS]


def _font_files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):  # folders that cannot be read are left out
        yield from (Path(place) / name for name in names if name.lower().endswith(SUFFIXES))


def _suitability(path: Path) -> tuple[int, int, str]:
    name = path.name.lower()
    styled = sum(style in name for style in STYLES)
    return styled, -sum(name.startswith(start) for start in PREFERRED), str(path)


def _load(path: Path, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(path, size)
    except (OSError, ValueError):  # damaged, or of fixed sizes
        return None


def _shape(letter: str, font: Font) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)  # type: ignore[arg-type] # Pillow's core has no types


_warned: list[str] = []


def _warn_once(text: str) -> None:
    if not _warned:
        _warned.append(text)
        warn(
            f"No font of this system has the letters of {text!r}: images show them as escapes. Install a font that "
            "has them, such as Noto Sans."
        )
