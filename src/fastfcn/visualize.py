"""Pictures of class maps: colours, overlays, legends and contact sheets. Pure functions, white background."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

INK, QUIET, PAPER, IGNORED = (30, 34, 40), (112, 118, 126), (255, 255, 255), (0, 0, 0)
TEXT, SWATCH, ROW, MARGIN, GAP = 15, 16, 25, 18, 10  # pixels
LONGEST = 240  # pixels of a class name in a legend


def colorize(label: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """Return the class map `label` (H, W) in its colours, RGB uint8 (H, W, 3).

    `colors[i]` is that of class i. What has no class, 255 and everything from `len(colors)` on, is black.
    """
    table = np.array([*colors, IGNORED], np.uint8)
    return table[np.minimum(label, len(colors))]


def overlay(image: np.ndarray, label: np.ndarray, colors: Sequence[Color], opacity: float = 0.5) -> np.ndarray:
    """Lay the class map `label` (H, W) over the RGB `image` (H, W, 3): uint8 (H, W, 3).

    `opacity` (0-1) is that of the colours; light lines part the classes. Ignored pixels keep their image,
    darkened. Raises ValueError where the sizes differ.
    """
    if image.shape[:2] != label.shape:
        raise ValueError(f"image {image.shape[:2]} and label {label.shape} differ in size")
    mixed = image * np.float32(1 - opacity) + colorize(label, colors) * np.float32(opacity)
    line = borders(label, thickness=max(1, round(max(label.shape) / 900)))
    mixed[line] += (255 - mixed[line]) * np.float32(0.55 * min(1.0, 2 * opacity))
    return np.rint(mixed).astype(np.uint8)


def borders(label: np.ndarray, thickness: int = 1) -> np.ndarray:
    """Return where (bool, (H, W)) a pixel's class is not that of its neighbour to the right or below.

    A `thickness` of 2 compares with the second neighbours as well, and so on.
    """
    line = np.zeros(label.shape, bool)
    for step in range(1, thickness + 1):
        line[:-step] |= label[:-step] != label[step:]
        line[:, :-step] |= label[:, :-step] != label[:, step:]
    return line


def palette_image(ids: np.ndarray, colors: Mapping[int, Color]) -> Image.Image:
    """Return the map `ids` (H, W), uint8, as a picture that stores the numbers and shows `colors` (by id).

    Numbers without a colour are shown black.
    """
    palette = np.zeros((256, 3), np.uint8)
    for number, color in colors.items():
        palette[number] = color
    picture = Image.fromarray(ids)
    picture.putpalette(palette.tobytes())
    return picture


def legend(
    names: Sequence[str],
    colors: Sequence[Color],
    shares: Mapping[str, float] | None = None,
    width: int | None = None,
) -> Image.Image:
    """Return a table of colour and name, in as many columns as `width` pixels hold or as look well.

    With `shares` (name -> 0-1) only the classes named there are listed, the largest first, each with its part
    in percent.
    """
    entries = list(zip(names, colors, strict=True))
    if shares is not None:
        entries = sorted((each for each in entries if each[0] in shares), key=lambda each: -shares[each[0]])
    font = ImageFont.load_default(TEXT)
    labels = [_shortened(name, font) for name, _ in entries]
    percents = ["" if shares is None else _percent(shares[name]) for name, _ in entries]
    name_width = math.ceil(max((font.getlength(text) for text in labels), default=0))
    cell = SWATCH + GAP + name_width + (0 if shares is None else 62) + 2 * GAP
    columns, rows = _grid(len(entries), cell, width)
    size = (width or columns * cell - 2 * GAP + 2 * MARGIN, rows * ROW + 2 * MARGIN - (ROW - SWATCH))
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    for index, (_, color) in enumerate(entries):
        left, top = MARGIN + index // rows * cell, MARGIN + index % rows * ROW
        box = (left, top, left + SWATCH, top + SWATCH)
        pen.rounded_rectangle(box, 4, fill=color, outline=_edge(color))
        text, middle = left + SWATCH + GAP, top + SWATCH / 2
        pen.text((text, middle), labels[index], INK, font, "lm")
        pen.text((left + cell - 2 * GAP, middle), percents[index], QUIET, font, "rm")
    return picture


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    captions: Sequence[str] = (),
    headline: str = "",
    footer: Image.Image | None = None,
    cell_width: int = 384,
) -> Image.Image:
    """Return rows of pictures, RGB uint8 (H, W, 3) each, made `cell_width` pixels wide, below `titles`.

    `captions` are written below the rows, `headline` above everything, `footer` (a legend) at the bottom.
    """
    cells = [[_fitted(picture, cell_width) for picture in row] for row in rows]
    large, font = ImageFont.load_default(24), ImageFont.load_default(TEXT)
    head, caption = MARGIN + (44 if headline else 0), 38 if captions else GAP
    heights = [max(cell.height for cell in row) + caption for row in cells]
    width = 2 * MARGIN + len(titles) * (cell_width + GAP) - GAP
    foot = footer.height if footer else MARGIN - GAP
    sheet = Image.new("RGB", (width, head + ROW + sum(heights) + foot), PAPER)
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


def _fitted(picture: np.ndarray, width: int) -> Image.Image:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)


def _grid(count: int, cell: int, width: int | None) -> tuple[int, int]:
    """Return (columns, rows) for `count` cells: within `width`, or about a fifth wider than high."""
    if width:
        columns = max(1, (width - 2 * MARGIN + 2 * GAP) // cell)
    else:
        columns = max(1, round(math.sqrt(1.2 * count * ROW / cell)))
    rows = max(1, math.ceil(count / min(columns, max(count, 1))))
    return max(1, math.ceil(count / rows)), rows


def _shortened(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(name) <= LONGEST:
        return name
    while font.getlength(name + "…") > LONGEST:
        name = name[:-1]
    return name.rstrip() + "…"


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _edge(color: Color) -> Color:
    """Return a darker outline, so that pale swatches stand out from the paper."""
    return color[0] * 3 // 4, color[1] * 3 // 4, color[2] * 3 // 4
