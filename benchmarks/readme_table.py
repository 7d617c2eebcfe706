"""Write the tables of README.md and docs/camvid.md from recipes and results: python benchmarks/readme_table.py."""

import json
from pathlib import Path

from fastfcn import recipe
from fastfcn.recipe import Recipe

ROOT = Path(__file__).parents[1]
CAMVID = ROOT / "benchmarks" / "results" / "camvid_r50_psp"
HEADS = {"psp": "PSPNet", "aspp": "DeepLabV3", "enc": "EncNet"}
DATA = {"cityscapes": "Cityscapes", "ade20k": "ADE20K"}


def published_table() -> str:
    """All recipes with published scores: by data set, JPU first. What was not published stays empty."""
    known = [one for one in map(recipe.load, recipe.names()) if one.published and one.published.miou]
    known.sort(key=lambda one: (one.data.dataset != "cityscapes", one.neck.kind, one.head.kind, one.optim.batch))
    head = "| data | head | | batch | steps | mIoU | ms+flip | memory GB | images/s | recipe |"
    return "\n".join([head, "|---|---|---|--:|--:|--:|--:|--:|--:|---|", *map(published_row, known)])


def published_row(one: Recipe) -> str:
    """The line of one recipe."""
    published = one.published
    assert published
    figures = (published.miou, published.miou_tta, published.memory_gb, published.fps)
    cells = [
        DATA[one.data.dataset],
        HEADS[one.head.kind],
        "JPU" if one.neck.kind == "jpu" else "dilated",
        str(one.optim.batch),
        f"{one.optim.steps // 1000}k",
        *("" if value is None else f"{value:.2f}" for value in figures),
        f"`{one.name}`",
    ]
    return "| " + " | ".join(cells) + " |"


def camvid_table() -> str:
    """Scores of each class of CamVid's val split."""
    scores = json.loads((CAMVID / "scores.json").read_text())
    pixels = sum(each["pixels"] for each in scores["classes"].values())
    lines = ["| class | IoU | accuracy | share of val |", "|---|--:|--:|--:|"]
    for name, each in scores["classes"].items():
        lines.append(f"| {name} | {each['iou']:.2f} | {each['accuracy']:.2f} | {each['pixels'] / pixels:.2%} |")
    means = f"| **mean** | **{scores['miou']:.2f}** | **{scores['mean_accuracy']:.2f}** | |"
    return "\n".join([*lines, means, "", f"Pixel accuracy {scores['pixel_accuracy']:.2f}."])


def with_table(text: str, table: str) -> str:
    """`text` of a document with `table` between its marks."""
    start, end = "<!-- table: python benchmarks/readme_table.py -->", "<!-- end of table -->"
    before, rest = text.split(start)
    return f"{before}{start}\n{table}\n{end}{rest.split(end)[1]}"


TABLES = {ROOT / "README.md": published_table, ROOT / "docs" / "camvid.md": camvid_table}

if __name__ == "__main__":
    for document, table in TABLES.items():
        document.write_text(with_table(document.read_text(encoding="utf-8"), table()), encoding="utf-8")
