"""Suggesting the known name that is closest to a misspelled one."""

import re
from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "known word"?`, or an empty string if no known word is close.

    Case does not matter, and spaces and hyphens count as underscores.
    """
    by_form = {_form(name): name for name in known}
    close = get_close_matches(_form(word), by_form, n=1)
    return f'; did you mean "{by_form[close[0]]}"?' if close else ""


def _form(word: str) -> str:
    return re.sub(r"[\s-]", "_", word.lower())
