r"""Terminal output: the only place where text from outside (names, paths, messages) is prepared for the terminal.

Text is never read as markup, unless it is a literal passed to `styled` or `say`. Control characters, bytes that are not
UTF-8, and characters that the encoding of the terminal lacks are written as escapes, such as \x1b or \u6c7d: different
names stay different, and nothing is left out.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

PLACEHOLDER = re.compile(r"\{(?::([^{}]*))?\}")
REPLACEMENTS = {"■": "#", "█": "#", "…": "~", "•": "*", "·": ".", "━": "-", "─": "-", "╸": "-", "╺": "-"}
# Other controls: format characters that reorder text (bidirectional overrides) or are invisible, line separators, and
# surrogates.
_CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # needed in Persian, Indic scripts and emoji
_PLAIN = re.compile(r"[ -~\n\t]*")


def printable(text: object, encoding: str = "utf-8") -> str:
    """`str(text)` with escapes for control characters, except line breaks and tabs, and for what `encoding` lacks."""
    text = str(text)
    if _PLAIN.fullmatch(text):
        return text
    return "".join(_printable_character(character, encoding) for character in text)


def _printable_character(character: str, encoding: str) -> str:
    if character in "\n\t":
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8 (see os.fsdecode)
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) not in _CONTROLS or character in _JOINERS:
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            return REPLACEMENTS.get(character) or escaped(character)
        return character
    return escaped(character)


def escaped(character: str) -> str:
    r"""A character as an escape, such as \x1b or \u6c7d."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def styled(template: str, *values: object) -> Text:
    """Text from rich markup with placeholders, `{}` or `{:.2f}`, that `values` replace as plain text.

    `template` must be a literal. A value may be a `Text`, which keeps its style.
    """
    text, result, position = Text.from_markup(template, emoji=False), Text(), 0
    for match, value in zip(PLACEHOLDER.finditer(text.plain), values, strict=True):
        marker = text[match.start() : match.end()]
        filled = value.copy() if isinstance(value, Text) else Text(printable(format(value, match[1] or "")))
        for span in marker.spans:
            filled.stylize_before(span.style)
        result.append_text(text[position : match.start()]).append_text(filled)
        position = match.end()
    return result.append_text(text[position:])


def swatch(color: tuple[int, int, int] | list[int]) -> Text:
    """A square in an RGB color (0-255)."""
    red, green, blue = color
    return Text("■", Style.parse(f"rgb({red},{green},{blue})"))


class SafeConsole(Console):
    """A rich console that prints strings, also those in tables, without markup and with escapes (see `printable`)."""

    def __init__(self, **settings: Any):
        """`settings`: of `rich.console.Console`, such as file, stderr and width."""
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Overridden, so that columns are as wide as the escapes in them."""
        return super().render_str(printable(text, self.encoding), **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Overridden, so that nothing that reaches the terminal is left out, such as the columns of a progress bar."""
        for segment in super().render(renderable, options):
            if segment.control or _PLAIN.fullmatch(segment.text):
                yield segment
            else:
                yield Segment(printable(segment.text, self.encoding), segment.style)

    def print_line(self, text: str | Text) -> None:
        """Print a line without wrapping it, so that paths and commands can be copied."""
        self.print(text, soft_wrap=True)


out_console = SafeConsole()
error_console = SafeConsole(stderr=True)


def say(template: str, *values: object) -> None:
    """Print a line from a markup literal and values (see `styled`), without wrapping it."""
    out_console.print_line(styled(template, *values))


def say_plain(text: str) -> None:
    """Print text without markup, without wrapping it."""
    out_console.print_line(text)
