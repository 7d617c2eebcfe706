"""log.jsonl of a run: reading it whatever a crash of the machine left in it, and appending to it."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from fastfcn.utils.files import output_errors, write_text

LARGEST = 2**53  # step; larger integers are not exact in JSON
SCORES = ("miou", "mean_accuracy", "pixel_accuracy")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LogContent(NamedTuple):
    """The valid lines of a log, and the numbers (from 1) of the damaged ones."""

    lines: list[dict[str, Any]]
    damaged: list[int]


def read(path: Path) -> LogContent:
    """Read the log at `path`; it is empty if there is none.

    Each line is an object with `step` and numbers, or with `step` and `validation`; everything else is damaged. A last
    line without an end was cut off when the process was killed, and is left out without being called damaged.
    """
    if not path.exists():
        return LogContent([], [])
    content = LogContent([], [])
    for number, text in enumerate(path.read_bytes().removeprefix(BYTE_ORDER_MARK).split(b"\n")[:-1], start=1):
        line = _parse(text)
        if line is not None:
            content.lines.append(line)
        elif text.strip():
            content.damaged.append(number)
    return content


def append(path: Path, lines: list[dict]) -> None:
    """Append `lines` to the log. Raises OutputError."""
    with output_errors(path), path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def cut(path: Path, steps: int) -> str:
    """Drop the lines after step `steps`, which a resumed run repeats, and damaged ones; returns a warning, or "".

    The damaged log is kept as NAME.damaged.
    """
    content, warning = read(path), ""
    if content.damaged:
        backup = path.with_name(f"{path.name}.damaged")
        with output_errors(backup):
            shutil.copyfile(path, backup)
        warning = f"{damage(path, content.damaged)} The original is kept as {backup.name}."
    write_text(path, "".join(json.dumps(line) + "\n" for line in content.lines if line["step"] <= steps))
    return warning


def damage(path: Path, lines: list[int]) -> str:
    """A sentence on the damaged `lines` of the log."""
    shown = ", ".join(map(str, lines[:3])) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")
    return f"{path} is damaged; dropped line{'s' if len(lines) > 1 else ''} {shown}."


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not is_count(line.get("step")):
        return None
    if "validation" in line:
        return line if are_scores(line["validation"]) else None
    return line if all(_is_number(value) for value in line.values()) else None


def are_scores(value: Any) -> bool:
    """Whether `value` has the form of `evaluation.scores.as_json`."""
    if not isinstance(value, dict) or not isinstance(classes := value.get("classes", {}), dict):
        return False
    if not all(_is_percentage(value.get(name)) for name in SCORES):
        return False
    return all(
        isinstance(entry, dict)
        and all(name in entry and _is_percentage(entry[name]) for name in ("iou", "accuracy"))
        and is_count(entry.get("pixels", 0))
        for entry in classes.values()
    )


def is_count(value: Any) -> bool:
    """Whether `value` is a number of steps or pixels."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_percentage(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value <= 100)


def _is_number(value: Any) -> bool:
    """Gradient norms can be infinite or NaN."""
    return isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    )
