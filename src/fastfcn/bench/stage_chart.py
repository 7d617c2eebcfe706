"""The chart of `fastfcn profile`: stacked bars of the stages, JPU above its dilated baseline."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fastfcn.bench.profile import network_kinds, stage_order, stage_title
from fastfcn.bench.record import machine_name
from fastfcn.bench.stages import HEAD, IMAGE, LABELS, NECK, STEM
from fastfcn.errors import OutputError
from fastfcn.utils.files import replace_file
from fastfcn.utils.fonts import drawable
from fastfcn.visualize import GAP, INK, MARGIN, PAPER, QUIET, Color, legend

WIDTH, LEFT, RIGHT = 1100, 86, 96  # pixels: chart, left and right margin
BAR, PANEL_HEAD, PANEL_GAP, INSIDE = 40, 30, 22, 3  # pixels: heights, and padding around a number in a bar
PALE = (226, 229, 233)  # axis

OTHERS: dict[str, Color] = {
    IMAGE: (196, 200, 206),
    STEM: (206, 220, 236),
    NECK: (238, 142, 58),
    HEAD: (76, 166, 112),
    LABELS: (150, 112, 190),
}
BACKBONE_RANGE: tuple[Color, Color] = ((166, 198, 230), (36, 84, 142))  # its first stage and its last

Panel = tuple[str, Callable[[dict], float]]
PANELS: tuple[Panel, ...] = (
    ("Milliseconds", lambda stage: stage["ms"]),
    ("GFLOPs (2 per multiply-add)", lambda stage: stage["gflops"]),
    ("MiB of weights and stage outputs", lambda stage: stage["weights_mib"] + stage["output_mib"]),
)


def stage_chart(record: dict) -> Image.Image:
    """Time, FLOPs and memory in a record of `fastfcn profile`: one bar per network in each of three panels."""
    colors = stage_colors(stage_order(record))
    names = [stage_title(stage, record["networks"][0]) for stage in colors]
    footer = legend(names, list(colors.values()), width=WIDTH)
    bars = len(record["networks"])
    panel_height = PANEL_HEAD + bars * (BAR + GAP) + PANEL_GAP
    head = 2 * MARGIN + 24 + 22 * bars
    chart = Image.new("RGB", (WIDTH, head + len(PANELS) * panel_height + footer.height), PAPER)
    pen = ImageDraw.Draw(chart)
    _headline(pen, record)
    for index, panel in enumerate(PANELS):
        _draw_panel(pen, record, panel, colors, head + index * panel_height)
    chart.paste(footer, (0, chart.height - footer.height))
    return chart


def save_stage_chart(record: dict, path: Path | None) -> None:
    """Write the chart of a record to `path`, unless it is None, in the format of its suffix. Raises OutputError."""
    if path:
        with replace_file(path) as temporary:
            stage_chart(record).save(temporary)


def check_suffix(path: Path) -> None:
    """Raise OutputError if no image format has the suffix of `path`."""
    Image.init()  # registers the formats
    if path.suffix.lower() not in Image.registered_extensions():
        raise OutputError(f"{path} has no suffix of an image format.", "Name it FILE.png.")


def stage_colors(stages: list[str]) -> dict[str, Color]:
    """A color for each stage; those of the backbone range from pale to dark blue."""
    backbone = [stage for stage in stages if stage not in OTHERS]
    first, last = BACKBONE_RANGE
    ramp = {}
    for index, stage in enumerate(backbone):
        share = index / max(len(backbone) - 1, 1)
        red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, last, strict=True))
        ramp[stage] = (red, green, blue)
    return {stage: OTHERS.get(stage) or ramp[stage] for stage in stages}


def _headline(pen: ImageDraw.ImageDraw, record: dict) -> None:
    height, width = record["size"]
    title = f"Stage by stage: {height}x{width}, {record['precision']}"
    pen.text((MARGIN, MARGIN), title, INK, ImageFont.load_default(22))
    names = [
        f"{kind}: {network['name']}" for kind, network in zip(network_kinds(record), record["networks"], strict=True)
    ]
    names[0] += f"   on {machine_name(record)}"
    for index, name in enumerate(names):
        text, font = drawable(name, 15)
        pen.text((MARGIN, MARGIN + 34 + 22 * index), text, QUIET, font)


def _draw_panel(pen: ImageDraw.ImageDraw, record: dict, panel: Panel, colors: dict[str, Color], top: int) -> None:
    """One quantity: its title, and a bar for each network, scaled so that the longest fills the width."""
    title, value = panel
    pen.text((MARGIN, top), title, INK, ImageFont.load_default(17))
    totals = [sum(map(value, network["stages"])) for network in record["networks"]]
    scale = (WIDTH - LEFT - RIGHT) / (max(totals) or 1.0)
    small = ImageFont.load_default(15)
    for index, (network, kind, total) in enumerate(zip(record["networks"], network_kinds(record), totals, strict=True)):
        y = top + PANEL_HEAD + index * (BAR + GAP)
        pen.text((LEFT - GAP, y + BAR / 2), kind, INK, small, "rm")
        end = _draw_bar(pen, network["stages"], value, colors, (y, scale))
        pen.text((end + GAP, y + BAR / 2), format_number(total), INK, ImageFont.load_default(17), "lm")
    bottom = top + PANEL_HEAD + len(totals) * (BAR + GAP) - GAP
    pen.line((LEFT - 2, top + PANEL_HEAD - 4, LEFT - 2, bottom + 4), PALE, 1)


def _draw_bar(
    pen: ImageDraw.ImageDraw, stages: list[dict], value: Callable[[dict], float], colors: dict[str, Color],
    position: tuple[int, float],
) -> float:  # fmt: skip
    """Draw a bar at `position` (top, pixels per unit), with numbers where they fit; returns its right end."""
    y, scale = position
    font, left = ImageFont.load_default(14), float(LEFT)
    for stage in stages:
        color, right = colors[stage["stage"]], left + value(stage) * scale
        if round(right) > round(left):
            pen.rectangle((round(left), y, round(right) - 1, y + BAR), fill=color)
            pen.line((round(right) - 1, y, round(right) - 1, y + BAR), PAPER, 1)  # separates it from the next
        text = format_number(value(stage))
        if font.getlength(text) + 2 * INSIDE <= right - left:
            pen.text(((left + right) / 2, y + BAR / 2), text, _text_color(color), font, "mm")
        left = right
    return left


def format_number(value: float) -> str:
    """Three significant digits, or a whole number from 100 on."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _text_color(color: Color) -> Color:
    brightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return INK if brightness > 140 else PAPER
