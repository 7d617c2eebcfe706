"""Images of segmentation maps: colors, overlays, legends and contact sheets."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastfcn.utils.fonts import ELLIPSIS, Font, drawable

Color = tuple[int, int, int]

INK, QUIET, PAPER, IGNORED = (30, 34, 40), (112, 118, 126), (255, 255, 255), (0, 0, 0)
TEXT, SWATCH, ROW, MARGIN, GAP = 15, 16, 25, 18, 10  # pixels
MAX_NAME_WIDTH = 240  # pixels, of a class name in a legend


def colorize(label: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """Color the segmentation map `label` (H, W): RGB uint8 (H, W, 3).

    `colors[i]` is the color of class i; labels from `len(colors)` on, such as 255, are black.
    """
    table = np.array([*colors, IGNORED], np.uint8)
    return table[np.minimum(label, len(colors))]


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    colors: Sequence[Color],
    opacity: float = 0.5,
    leave_out: Collection[int] = (),
    outline: bool = False,
) -> np.ndarray:
    """Blend the segmentation map `label` (H, W) over the RGB `image` (H, W, 3): uint8 (H, W, 3).

    `opacity`: of the colors, 0 to 1. Light lines separate the classes; pixels without a class are darkened. The classes
    in `leave_out` show the image. `outline` draws only the edges of the areas, in their colors. Raises ValueError if
    the sizes differ.
    """
    if image.shape[:2] != label.shape:
        raise ValueError(f"image {image.shape[:2]} and label {label.shape} differ in size")
    shown, thickness = ~np.isin(label, list(leave_out)), line_width(label)
    areas = np.where(shown, label.astype(np.int64), -1) if len(leave_out) else label
    if outline:
        return outlined(image, label, areas, colors)
    mixed = image * np.float32(1 - opacity) + colorize(label, colors) * np.float32(opacity)
    mixed[~shown] = image[~shown]
    line = borders(areas, thickness)
    mixed[line] += (255 - mixed[line]) * np.float32(0.55 * min(1.0, 2 * opacity))
    return np.rint(mixed).astype(np.uint8)


def outlined(image: np.ndarray, label: np.ndarray, areas: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """The image with the edges of `areas` (H, W) in the colors of `label`; areas of -1 have none."""
    edge, thickness = np.zeros(label.shape, bool), 2 * line_width(label)
    for step in range(1, thickness + 1):  # inside of the area, on all four sides
        down, right = areas[:-step] != areas[step:], areas[:, :-step] != areas[:, step:]
        edge[:-step] |= down
        edge[step:] |= down
        edge[:, :-step] |= right
        edge[:, step:] |= right
    edge &= areas != -1
    drawn = image.copy()
    drawn[edge] = colorize(label[edge], colors)
    return drawn


def line_width(label: np.ndarray) -> int:
    """The thickness in pixels of lines on an image of the size of `label`."""
    return max(1, round(max(label.shape) / 900))


def borders(label: np.ndarray, thickness: int = 1) -> np.ndarray:
    """Mask (bool, (H, W)) of pixels whose class differs from that of the next pixel to the right or below.

    With a `thickness` of n, the next n pixels are compared.
    """
    line = np.zeros(label.shape, bool)
    for step in range(1, thickness + 1):
        line[:-step] |= label[:-step] != label[step:]
        line[:, :-step] |= label[:, :-step] != label[:, step:]
    return line


def palette_image(ids: np.ndarray, colors: Mapping[int, Color]) -> Image.Image:
    """An image that stores `ids` (H, W), uint8, as palette indices and shows `colors`, by id; others are black."""
    palette = np.zeros((256, 3), np.uint8)
    for number, color in colors.items():
        palette[number] = color
    image = Image.fromarray(ids)
    image.putpalette(palette.tobytes())
    return image


def legend(
    names: Sequence[str],
    colors: Sequence[Color],
    shares: Mapping[str, float] | None = None,
    width: int | None = None,
) -> Image.Image:
    """A table of colors and class names, in as many columns as fit into `width` pixels (default: about square).

    With `shares` (name -> 0 to 1), only the classes in it are listed, the largest first, with percentages.
    """
    entries = list(zip(names, colors, strict=True))
    if shares is not None:
        entries = sorted((entry for entry in entries if entry[0] in shares), key=lambda entry: -shares[entry[0]])
    drawables = [drawable(name, TEXT) for name, _ in entries]
    labels, font = [_shortened(*entry) for entry in drawables], ImageFont.load_default(TEXT)
    percents = ["" if shares is None else _percent(shares[name]) for name, _ in entries]
    widths = (own.getlength(text) for text, (_, own) in zip(labels, drawables, strict=True))
    name_width = math.ceil(max(widths, default=0))
    cell = SWATCH + GAP + name_width + (0 if shares is None else 62) + 2 * GAP
    columns, rows = _grid(len(entries), cell, width)
    size = (width or columns * cell - 2 * GAP + 2 * MARGIN, rows * ROW + 2 * MARGIN - (ROW - SWATCH))
    image = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(image)
    for index, (_, color) in enumerate(entries):
        left, top = MARGIN + index // rows * cell, MARGIN + index % rows * ROW
        box = (left, top, left + SWATCH, top + SWATCH)
        pen.rounded_rectangle(box, 4, fill=color, outline=_edge(color))
        text, middle = left + SWATCH + GAP, top + SWATCH / 2
        pen.text((text, middle), labels[index], INK, drawables[index][1], "lm")
        pen.text((left + cell - 2 * GAP, middle), percents[index], QUIET, font, "rm")
    return image


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    captions: Sequence[str] = (),
    headline: str = "",
    footer: Image.Image | None = None,
    cell_width: int = 384,
) -> Image.Image:
    """A grid of images, RGB uint8 (H, W, 3) each, resized to `cell_width` pixels, with `titles` above the columns.

    `captions`: below the rows; `headline`: at the top; `footer`: an image at the bottom, such as a legend.
    """
    cells = [[_resized(image, cell_width) for image in row] for row in rows]
    large, font = ImageFont.load_default(24), ImageFont.load_default(TEXT)
    head, caption = MARGIN + (44 if headline else 0), 38 if captions else GAP
    heights = [max(cell.height for cell in row) + caption for row in cells]
    width = 2 * MARGIN + len(titles) * (cell_width + GAP) - GAP
    footer_height = footer.height if footer else MARGIN - GAP
    sheet = Image.new("RGB", (width, head + ROW + sum(heights) + footer_height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), headline, INK, large)
    for column, title in enumerate(titles):
        pen.text((MARGIN + column * (cell_width + GAP), head), title, QUIET, font)
    top = head + ROW
    for index, row in enumerate(cells):
        for column, cell in enumerate(row):
            sheet.paste(cell, (MARGIN + column * (cell_width + GAP), top))
        if captions:
            pen.text((MARGIN, top + heights[index] - caption + 6), captions[index], INK, font)
        top += heights[index]
    if footer:
        sheet.paste(footer, (0, top))
    return sheet


def _resized(image: np.ndarray, width: int) -> Image.Image:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)


def _grid(count: int, cell: int, width: int | None) -> tuple[int, int]:
    """(columns, rows) for `count` cells: within `width`, or about a fifth wider than high."""
    if width:
        columns = max(1, (width - 2 * MARGIN + 2 * GAP) // cell)
    else:
        columns = max(1, round(math.sqrt(1.2 * count * ROW / cell)))
    rows = max(1, math.ceil(count / min(columns, max(count, 1))))
    return max(1, math.ceil(count / rows)), rows


def _shortened(name: str, font: Font) -> str:
    if font.getlength(name) <= MAX_NAME_WIDTH:
        return name
    while font.getlength(name + ELLIPSIS) > MAX_NAME_WIDTH:
        name = name[:-1]
    return name.rstrip() + ELLIPSIS


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _edge(color: Color) -> Color:
    """A darker outline, so that pale swatches are visible on white."""
    return color[0] * 3 // 4, color[1] * 3 // 4, color[2] * 3 // 4
