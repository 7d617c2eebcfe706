"""Draw the SVG figures of the documentation: python docs/figures.py."""

import ast
import json
import sys
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAPER, INK, QUIET, LINE = "#ffffff", "#1b2430", "#5b6877", "#c7d0da"
OURS, OURS_LIGHT, THEIRS, TINT = "#0f7c74", "#7cc4bb", "#b4bdc8", "#e5f3f1"

# The chart of the README: panels and bars, by their names in the file of results.
HEADS = {"psp": "PSPNet", "enc": "EncNet", "aspp": "DeepLabV3"}
PEERS = {
    "mmsegmentation": "mmsegmentation",
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "fastfcn": "fastfcn",
}

# What each folder is for, in the drawing of the layers.
PURPOSES = {
    "api": "Python API",
    "cli": "commands",
    "cli.tables": "tables for the terminal",
    "demo": "the offline demo",
    "client": "client of the service",
    "ray": "prediction on Ray",
    "training": "runs, optimizer, log",
    "evaluation": "scores, sliding window, analysis",
    "prediction": "load, images, videos",
    "build": "recipe → parts",
    "fast": "optimized networks",
    "kernels": "C++ and Triton",
    "ops": "operations with references",
    "utils": "files, progress, memory",
    "errors": "messages for users",
}


def text(x: float, y: float, words: str, size: int = 14, color: str = INK, anchor: str = "start", bold: bool = False):
    """A line of text with its baseline at `y`."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, fill: str = PAPER, stroke: str = LINE, radius: int = 6) -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" stroke="{stroke}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head at its end."""
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{QUIET}" fill="none" marker-end="url(#head)"/>'


def svg(width: int, height: int, title: str, parts: list[str]) -> str:
    """An SVG with a white background, readable on dark pages too."""
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{QUIET}"/></marker></defs>'
    )
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif" role="img">'
    )
    paper = f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>'
    return "\n".join([opening, f"<title>{escape(title)}</title>", head, paper, *parts, "</svg>", ""])


def network() -> str:
    """Backbone, JPU, head and upsampling, with the stride of each map."""
    parts = []
    stages = [("stem", "1/4", 190), ("stage 1", "1/4", 190), ("stage 2", "1/8", 150), ("stage 3", "1/16", 110),
              ("stage 4", "1/32", 80)]  # fmt: skip
    middle, x = 120, 30
    for number, (name, stride, height) in enumerate(stages):
        top = middle - height / 2
        parts.append(box(x, top, 70, height, TINT if number > 1 else PAPER))
        parts.append(text(x + 35, middle, name, 14, INK, "middle", True))
        parts.append(text(x + 35, middle + 20, stride, 13, QUIET, "middle"))
        if number:
            parts.append(arrow(x - 22, middle, x - 2, middle))
        if number > 1:  # to JPU, below the boxes
            down = 276 - 16 * (number - 2)
            parts.append(f'<path d="M{x + 35} {middle + height / 2}V{down}H458" stroke="{QUIET}" fill="none" '
                         'marker-end="url(#head)"/>')  # fmt: skip
        x += 94
    parts += [text(30, 320, "Backbone (any timm network, no dilation needed)", 13, QUIET)]
    for left, width, name, lines in (
        (460, 150, "JPU", ("3x3 to one width", "upsample and join", "dilations 1, 2, 4, 8")),
        (640, 130, "Context head", ("PSP, ASPP, Enc, ...", "logits at 1/8")),
        (800, 110, "Upsample", ("argmax", "labels at 1/1")),
    ):
        parts.append(box(left, 206, width, 96, TINT, OURS if name == "JPU" else LINE))
        parts.append(text(left + width / 2, 230, name, 15, INK, "middle", True))
        parts += [text(left + width / 2, 252 + 19 * n, line, 13, QUIET, "middle") for n, line in enumerate(lines)]
    parts += [arrow(610, 254, 638, 254), arrow(770, 254, 798, 254)]
    return svg(940, 340, "The network: backbone, JPU, context head, upsampling", parts)


def layers() -> str:
    """The table of tests/test_imports.py as rows; imports point down."""
    rows, parts, y = layer_table(), [], 20
    for names in rows:
        width = (860 - 10 * (len(names) - 1)) / len(names)
        for column, name in enumerate(names):
            x = 20 + column * (width + 10)
            purpose = PURPOSES.get(name, "") if width > 180 else ""
            parts.append(box(x, y, round(width, 1), 34, TINT))
            parts.append(
                text(round(x + width / 2, 1), y + 22, name + (f": {purpose}" if purpose else ""), 13, INK, "middle")
            )
        y += 44
    parts.append(f'<path d="M905 20V{y - 14}" stroke="{QUIET}" fill="none" marker-end="url(#head)"/>')
    parts.append(f'<g transform="translate(926 {y / 2}) rotate(90)">{text(0, 0, "imports", 13, QUIET, "middle")}</g>')
    return svg(940, y + 10, "Layers of the package: imports point down", parts)


def layer_table() -> list[tuple[str, ...]]:
    """LAYERS of tests/test_imports.py, without importing it."""
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS":
            return list(ast.literal_eval(node.value))
    raise SystemExit("tests/test_imports.py has no LAYERS")


def speed() -> str:
    """Images per second of one image at a time, 512x1024, CPU: three heads compared with other software."""
    record = json.loads((ROOT / "benchmarks" / "results" / "speed_cpu.json").read_text(encoding="utf-8"))
    rates = {(row["comparison"], row["variant"]): row["images_per_second"] for row in record["rows"]}
    most, parts, y = max(rates[f"{head}_19_512x1024", "fastfcn"] for head in HEADS), [], 62
    machine = record["machine"]
    parts.append(text(24, 34, "Images per second, 512x1024, ResNet-50, same weights", 17, INK, bold=True))
    for head, title in HEADS.items():
        y += 8
        bars = [(name, rates.get((f"{head}_19_512x1024", key)), key) for key, name in PEERS.items()]
        slowest = rates[f"{head}_19_512x1024", "mmsegmentation"]
        parts.append(text(24, y + 15, title, 14, INK, bold=True))
        for name, rate, key in bars:
            if rate is None:
                continue
            width = round(430 * rate / most, 1)
            parts += [text(244, y + 15, name, 13, INK if key == "fastfcn" else QUIET, "end"),
                      box(254, y, width, 20, OURS if key == "fastfcn" else THEIRS, "none", 3),
                      text(262 + width, y + 15, f"{rate:.2f}  ({rate / slowest:.1f}x)", 13, INK)]  # fmt: skip
            y += 26
        y += 4
    parts.append(text(24, y + 20, f"{machine['processor']}, {machine['threads']} threads, float32", 12, QUIET))
    return svg(800, y + 36, "Images per second compared with mmsegmentation, OpenVINO and ONNX Runtime", parts)


FIGURES = {"network.svg": network, "layers.svg": layers, "speed-512x1024.svg": speed}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")
    sys.stdout.write(f"Wrote {', '.join(FIGURES)}\n")
