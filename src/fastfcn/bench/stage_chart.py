"""What `fastfcn profile` measured as a picture: bars of the stages, JPU above its dilated twin."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fastfcn.bench.profile import network_kinds, stage_order, stage_title
from fastfcn.bench.record import machine_name
from fastfcn.bench.stages import CLASS_MAP, HEAD, IMAGE, NECK, STEM
from fastfcn.errors import OutputError
from fastfcn.utils.files import replace_file
from fastfcn.visualize import GAP, INK, MARGIN, PAPER, QUIET, Color, legend

WIDTH, LEFT, RIGHT = 1100, 86, 96  # pixels: of the picture, and left and right of the bars
BAR, PANEL_HEAD, PANEL_GAP, INSIDE = 40, 30, 22, 3  # heights; and room on both sides of a figure within a bar
PALE = (226, 229, 233)  # of the line that bars stand on

OTHERS: dict[str, Color] = {
    IMAGE: (196, 200, 206),
    STEM: (206, 220, 236),
    NECK: (238, 142, 58),
    HEAD: (76, 166, 112),
    CLASS_MAP: (150, 112, 190),
}
BACKBONE_ENDS: tuple[Color, Color] = ((166, 198, 230), (36, 84, 142))  # its first stage and its last

Panel = tuple[str, Callable[[dict], float]]
PANELS: tuple[Panel, ...] = (
    ("Milliseconds", lambda one: one["ms"]),
    ("GFLOP (2 per multiply-add)", lambda one: one["gflops"]),
    ("MiB of weights, and of what the stages hand on", lambda one: one["weights_mib"] + one["output_mib"]),
)


def stage_chart(record: dict) -> Image.Image:
    """Time, arithmetic and memory of a record of `fastfcn profile`, each a bar for each network on one scale."""
    colors = stage_colors(stage_order(record))
    names = [stage_title(stage, record["networks"][0]) for stage in colors]
    foot = legend(names, list(colors.values()), width=WIDTH)
    bars = len(record["networks"])
    panel = PANEL_HEAD + bars * (BAR + GAP) + PANEL_GAP
    head = 2 * MARGIN + 24 + 22 * bars
    picture = Image.new("RGB", (WIDTH, head + len(PANELS) * panel + foot.height), PAPER)
    pen = ImageDraw.Draw(picture)
    _headline(pen, record)
    for index, one in enumerate(PANELS):
        _draw_panel(pen, record, one, colors, head + index * panel)
    picture.paste(foot, (0, picture.height - foot.height))
    return picture


def save_stage_chart(record: dict, path: Path | None) -> None:
    """Draw a record into `path`, if there is one, in the format that its ending says; raises OutputError."""
    if path:
        with replace_file(path) as temporary:
            stage_chart(record).save(temporary)


def check_suffix(path: Path) -> None:
    """Raise OutputError where no picture can be written to a file of that ending."""
    Image.init()  # else the table of endings is empty
    if path.suffix.lower() not in Image.registered_extensions():
        raise OutputError(f"{path} does not end as a picture's name does.", "Name it FILE.png.")


def stage_colors(stages: list[str]) -> dict[str, Color]:
    """A colour for each stage: the backbone's from pale to dark blue."""
    within = [stage for stage in stages if stage not in OTHERS]
    first, last = BACKBONE_ENDS
    ramp = {}
    for index, stage in enumerate(within):
        share = index / max(len(within) - 1, 1)
        red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, last, strict=True))
        ramp[stage] = (red, green, blue)
    return {stage: OTHERS.get(stage) or ramp[stage] for stage in stages}


def _headline(pen: ImageDraw.ImageDraw, record: dict) -> None:
    height, width = record["size"]
    title = f"Stage by stage: {height}x{width}, {record['precision']}"
    pen.text((MARGIN, MARGIN), title, INK, ImageFont.load_default(22))
    names = [f"{kind}: {one['name']}" for kind, one in zip(network_kinds(record), record["networks"], strict=True)]
    names[0] += f"   on {machine_name(record)}"
    for index, name in enumerate(names):
        pen.text((MARGIN, MARGIN + 34 + 22 * index), name, QUIET, ImageFont.load_default(15))


def _draw_panel(pen: ImageDraw.ImageDraw, record: dict, panel: Panel, colors: dict[str, Color], top: int) -> None:
    """One figure: its title, and a bar for each network, the longest as long as there is room."""
    title, figure = panel
    pen.text((MARGIN, top), title, INK, ImageFont.load_default(17))
    totals = [sum(map(figure, network["stages"])) for network in record["networks"]]
    scale = (WIDTH - LEFT - RIGHT) / (max(totals) or 1.0)
    small = ImageFont.load_default(15)
    for index, (network, kind, total) in enumerate(zip(record["networks"], network_kinds(record), totals, strict=True)):
        y = top + PANEL_HEAD + index * (BAR + GAP)
        pen.text((LEFT - GAP, y + BAR / 2), kind, INK, small, "rm")
        end = _draw_bar(pen, network["stages"], figure, colors, (y, scale))
        pen.text((end + GAP, y + BAR / 2), written(total), INK, ImageFont.load_default(17), "lm")
    bottom = top + PANEL_HEAD + len(totals) * (BAR + GAP) - GAP
    pen.line((LEFT - 2, top + PANEL_HEAD - 4, LEFT - 2, bottom + 4), PALE, 1)


def _draw_bar(
    pen: ImageDraw.ImageDraw, stages: list[dict], figure: Callable[[dict], float], colors: dict[str, Color],
    place: tuple[int, float],
) -> float:  # fmt: skip
    """A bar of `place` (top, pixels to a unit); a stage has its figure in it where there is room. Returns its end."""
    y, scale = place
    font, left = ImageFont.load_default(14), float(LEFT)
    for one in stages:
        color, right = colors[one["stage"]], left + figure(one) * scale
        if round(right) > round(left):
            pen.rectangle((round(left), y, round(right) - 1, y + BAR), fill=color)
            pen.line((round(right) - 1, y, round(right) - 1, y + BAR), PAPER, 1)  # parts it from the next
        text = written(figure(one))
        if font.getlength(text) + 2 * INSIDE <= right - left:
            pen.text(((left + right) / 2, y + BAR / 2), text, _readable_on(color), font, "mm")
        left = right
    return left


def written(value: float) -> str:
    """A figure in three digits or whole."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _readable_on(color: Color) -> Color:
    brightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return INK if brightness > 140 else PAPER
