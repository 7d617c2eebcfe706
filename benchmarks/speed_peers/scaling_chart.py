"""docs/scaling.png: lines of time and memory over size, classes and batch, drawn from the result file of scaling.py."""

from collections.abc import Callable
from math import log
from pathlib import Path

from PIL import Image, ImageDraw

from fastfcn.utils.files import replace_file
from speed_peers.chart import INK, MARGIN, NAMES, OURS, PAPER, QUIET, TRACK, bold, font

PANEL_WIDTH, PANEL_HEIGHT, GAP, HEAD = 620, 330, 50, 100
LEFT, BOTTOM, TITLE = 86, 34, 40  # pixels around the area of the lines
COLORS = {"fastfcn": OURS, "openvino": "#c77d2b", "onnxruntime": "#5b74b8"}
BASE = {"side": 512, "classes": 19, "batch": 1, "threads": 2}  # of all rows but for the quantity of a panel

Value = Callable[[dict], float]
Panel = tuple[str, str, Value]  # title, quantity of the horizontal axis, value

PANELS: tuple[Panel, ...] = (
    ("Milliseconds per megapixel, by side of the image", "side", lambda row: row["ms_per_image"] / megapixels(row)),
    ("Peak memory in MiB per megapixel, by side of the image", "side", lambda row: row["memory_mib"] / megapixels(row)),
    ("Milliseconds per image of 512x512, by number of classes", "classes", lambda row: row["ms_per_image"]),
    ("Milliseconds per image of 512x512, by images in a batch", "batch", lambda row: row["ms_per_image"]),
)


def draw(record: dict, path: Path) -> None:
    """Draw the rows of a record and write the image to `path`."""
    size = (2 * MARGIN + 2 * PANEL_WIDTH + GAP, 2 * MARGIN + HEAD + 2 * PANEL_HEIGHT + GAP)
    chart = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(chart)
    bold(pen, (MARGIN, MARGIN - 6), "How time and memory grow", 34)
    machine = record["machine"]
    pen.text((MARGIN, MARGIN + 40), f"{record['recipe']}, {machine['processor']}, 2 threads", QUIET, font(19))
    draw_legend(pen, [name for name in COLORS if any(row["program"] == name for row in record["rows"])])
    for index, panel in enumerate(PANELS):
        left = MARGIN + index % 2 * (PANEL_WIDTH + GAP)
        draw_panel(pen, panel, record["rows"], left, MARGIN + HEAD + index // 2 * (PANEL_HEIGHT + GAP))
    with replace_file(path) as temporary:
        chart.quantize(64, dither=Image.Dither.NONE).save(temporary, optimize=True)


def megapixels(row: dict) -> float:
    return row["side"] ** 2 / 1e6


def line_of(rows: list[dict], program: str, quantity: str, value: Value) -> list[tuple[float, float]]:
    """The points of a line, in order: rows of a program that differ from BASE in one quantity only."""
    fixed = {name: number for name, number in BASE.items() if name != quantity} | {"program": program}
    own = [row for row in rows if "skipped" not in row and all(row[name] == fixed[name] for name in fixed)]
    return sorted((row[quantity], value(row)) for row in own)


def draw_legend(pen: ImageDraw.ImageDraw, programs: list[str]) -> None:
    left = MARGIN
    for program in programs:
        middle = MARGIN + 80
        pen.rectangle((left, middle - 3, left + 28, middle + 3), COLORS[program])
        pen.text((left + 38, middle), NAMES[program], INK, font(19), "lm")
        left += 70 + round(pen.textlength(NAMES[program], font(19)))


def draw_panel(pen: ImageDraw.ImageDraw, panel: Panel, rows: list[dict], left: int, top: int) -> None:
    title, quantity, value = panel
    bold(pen, (left, top), title, 19)
    lines = {program: line_of(rows, program, quantity, value) for program in COLORS}
    numbers = sorted({x for line in lines.values() for x, _ in line})
    if not numbers:
        return
    highest = max(y for line in lines.values() for _, y in line)
    right, bottom = left + PANEL_WIDTH - 20, top + PANEL_HEIGHT - BOTTOM
    span = log(numbers[-1] / numbers[0]) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = log(x / numbers[0]) / span
        return left + LEFT + across * (right - left - LEFT), bottom - y / highest * (bottom - top - TITLE)

    for y in (0, highest / 2, highest):
        pen.line((left + LEFT, place(numbers[0], y)[1], right, place(numbers[0], y)[1]), TRACK, 2)
        pen.text((left + LEFT - 12, place(numbers[0], y)[1]), f"{y:.3g}", QUIET, font(16), "rm")
    for x in numbers:
        pen.text((place(x, 0)[0], bottom + 10), f"{x:g}", QUIET, font(16), "mt")
    for program, line in lines.items():
        corners = [place(x, y) for x, y in line]
        pen.line(corners, COLORS[program], 4, joint="curve")
        for x, y in corners:
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), COLORS[program])
