"""docs/speed.png: bars of images per second, one panel per comparison, drawn from the result file."""

from math import floor
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fastfcn.utils.files import replace_file

COLUMNS, PANEL_WIDTH, MARGIN, GAP = 2, 780, 40, 36
TITLE_HEIGHT, PANEL_TITLE, LINE, BAR = 104, 46, 34, 22
LABEL_WIDTH, VALUE_WIDTH = 236, 150
PAPER, INK, QUIET, TRACK = "#ffffff", "#1b2430", "#687586", "#f1f4f7"
OURS, OURS_PLAIN, THEIRS = "#0f7c74", "#7cc4bb", "#b4bdc8"
HEADS = {"psp": "PSPNet", "enc": "EncNet", "aspp": "DeepLabV3"}
NAMES = {
    "mmsegmentation": "mmsegmentation",
    "compiled": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "fastfcn_plain": "fastfcn, no compiler",
    "fastfcn": "fastfcn",
    "mmsegmentation_dilated": "mmsegmentation, dilated",
    "fastfcn_dilated": "fastfcn, dilated",
    "torchvision": "torchvision DeepLabV3",
    "r50_enc_dilated": "EncNet, dilated",
    "r101_enc_dilated": "EncNet, dilated",
    "r50_enc_jpu": "EncNet on JPU",
    "r101_enc_jpu": "EncNet on JPU",
    "r50_dilated": "EncNet, dilated",
    "r50_jpu_l": "EncNet on jpu_l",
    "r50_jpu_m": "EncNet on jpu_m",
    "r50_jpu_s": "EncNet on jpu_s",
}

LARGE = "1024x2048"

Panel = tuple[str, list[dict]]  # title, rows


def draw(record: dict, path: Path) -> None:
    """Draw all inference comparisons in the record and write the image to `path`."""
    panels = chosen_panels(record["rows"])
    if not panels:
        raise SystemExit("The result file has no comparison to draw.")
    lines = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    heights = [max(panel_height(panel) for panel in line) for line in lines]
    width = 2 * MARGIN + COLUMNS * PANEL_WIDTH + (COLUMNS - 1) * GAP
    height = MARGIN + TITLE_HEIGHT + sum(heights) + GAP * (len(lines) - 1) + MARGIN
    chart = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(chart)
    heading(pen, record)
    top = MARGIN + TITLE_HEIGHT
    for line, line_height in zip(lines, heights, strict=True):
        for column, panel in enumerate(line):
            draw_panel(pen, panel, MARGIN + column * (PANEL_WIDTH + GAP), top)
        top += line_height + GAP
    with replace_file(path) as temporary:
        chart.quantize(64, dither=Image.Dither.NONE).save(temporary, optimize=True)


def chosen_panels(rows: list[dict]) -> list[Panel]:
    """19 classes on the left, 150 on the right, then large images, then the families."""
    by_comparison: dict[str, list[dict]] = {}
    for row in rows:
        if "failed" not in row and "batch" not in row and row["variant"] in NAMES:
            by_comparison.setdefault(row["comparison"], []).append(row)
    order = sorted(by_comparison, key=panel_order)
    return [(title(name), sorted(by_comparison[name], key=speed)) for name in order if len(by_comparison[name]) > 1]


def panel_order(comparison: str) -> tuple:
    """Sort key of the panels."""
    kind, _, size = comparison.rpartition("_")
    head, _, rest = kind.partition("_")
    if head not in HEADS:
        return 2, head, int(rest[1:])
    return size == LARGE, list(HEADS).index(head), int(rest)


def speed(row: dict) -> float:
    return row["images_per_second"]


def title(comparison: str) -> str:
    kind, _, size = comparison.rpartition("_")
    head, _, rest = kind.partition("_")
    if head not in HEADS:
        return f"fastfcn alone, {head} family, ResNet-{rest[1:]}, {size}"
    return f"{HEADS[head]}, ResNet-50, {rest} classes, {size}"


def panel_height(panel: Panel) -> int:
    return PANEL_TITLE + LINE * len(panel[1])


def heading(pen: ImageDraw.ImageDraw, record: dict) -> None:
    machine, versions = record["machine"], record["versions"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads, float32"
    bold(pen, (MARGIN, MARGIN - 6), "Images per second, from image to segmentation map", 34)
    equal = min((row["agreement"] for row in record["rows"] if "agreement" in row), default=0.0)
    agreement = (
        f"same weights in each panel with mmsegmentation, at least {floor(1e5 * equal) / 1e3:.3f} % of the labels equal"
    )
    parts = [where, f"torch {versions['torch']}", *([agreement] if equal else [])]
    pen.text((MARGIN, MARGIN + 42), "  ·  ".join(parts), QUIET, font(19))


def draw_panel(pen: ImageDraw.ImageDraw, panel: Panel, left: int, top: int) -> None:
    name, rows = panel
    bold(pen, (left, top), name, 23)
    most, first = max(map(speed, rows)), baseline(rows)
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    for index, row in enumerate(rows):
        middle = top + PANEL_TITLE + LINE * index + LINE // 2
        ours = row["variant"].startswith(("fastfcn", "r50", "r101"))
        pen.text((left + LABEL_WIDTH - 12, middle), NAMES[row["variant"]], INK if ours else QUIET, font(19), "rm")
        start, length = left + LABEL_WIDTH, max(round(room * speed(row) / most), 2)
        pen.rectangle((start, middle - BAR // 2, start + room, middle + BAR // 2), TRACK)
        pen.rectangle((start, middle - BAR // 2, start + length, middle + BAR // 2), color(row["variant"]))
        value, ratio = f"{speed(row):.3g}", f"{speed(row) / speed(first):.1f}x"
        pen.text((start + room + 66, middle), value, INK, font(19), "rm")
        pen.text((start + room + VALUE_WIDTH - 4, middle), ratio, QUIET, font(19), "rm")


def baseline(rows: list[dict]) -> dict:
    """The row ratios are relative to: mmsegmentation with JPU, or the slowest of a family."""
    return next((row for row in rows if row["variant"] == "mmsegmentation"), rows[0])


def color(variant: str) -> str:
    if not variant.startswith(("fastfcn", "r50", "r101")):
        return THEIRS
    return OURS_PLAIN if variant.endswith(("_plain", "_dilated")) else OURS


def bold(pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int) -> None:
    """Draw bold text: Pillow's default font has no bold style, so its outlines are drawn too."""
    pen.text(corner, text, INK, font(size), stroke_width=0.5, stroke_fill=INK)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
