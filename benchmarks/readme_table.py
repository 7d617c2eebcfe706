"""Write the README's table from the recipes: python benchmarks/readme_table.py."""

from pathlib import Path

from fastfcn import recipe
from fastfcn.recipe import Recipe

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- table: python benchmarks/readme_table.py -->", "<!-- end of table -->"
HEADS = {"psp": "PSPNet", "aspp": "DeepLabV3", "enc": "EncNet"}
TITLE = "| data | head | | batch | steps | mIoU | ms+flip | memory GB | images/s | recipe |"


def row(one: Recipe) -> str:
    """The recipe's line; what was not published stays empty."""
    published = one.published
    assert published
    figures = (published.miou, published.miou_tta, published.memory_gb, published.fps)
    cells = [
        {"cityscapes": "Cityscapes", "ade20k": "ADE20K"}[one.data.dataset],
        HEADS[one.head.kind],
        "JPU" if one.neck.kind == "jpu" else "dilated",
        str(one.optim.batch),
        f"{one.optim.steps // 1000}k",
        *("" if value is None else f"{value:.2f}" for value in figures),
        f"`{one.name}`",
    ]
    return "| " + " | ".join(cells) + " |"


def table() -> str:
    """All recipes with published scores: by data set, JPU first."""
    known = [one for one in map(recipe.load, recipe.names()) if one.published and one.published.miou]
    known.sort(
        key=lambda one: (
            one.data.dataset != "cityscapes",
            one.neck.kind,
            one.head.kind,
            one.optim.batch,
            one.optim.steps,
        )
    )
    return "\n".join([TITLE, "|---|---|---|--:|--:|--:|--:|--:|--:|---|", *map(row, known)])


def with_table(text: str) -> str:
    """`text` of the README with the table between its marks."""
    before, rest = text.split(START)
    return f"{before}{START}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
