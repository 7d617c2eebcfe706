"""The table of `fastfcn reproduce`: published and measured mIoU."""

from rich.table import Table
from rich.text import Text

from fastfcn.reproduce.verdict import FIGURES, percent


def verdict_table(verdict: dict) -> Table:
    """One row per figure: published, measured, difference, verdict."""
    data = verdict["data"]
    title = f"{verdict['recipe']} on {data['dataset']} {data['split']}, {data['images']} images"
    table = Table(title=title, title_justify="left", caption=f"tolerance {verdict['tolerance']:g}")
    for name in ("mIoU", "published", "measured", "difference", "verdict"):
        table.add_column(name, justify="left" if name in ("mIoU", "verdict") else "right")
    for name, figure in verdict["figures"].items():
        color = {"holds": "bold green", "differs": "bold red"}.get(figure["verdict"], "dim")
        difference = "" if figure["difference"] is None else f"{figure['difference']:+.2f}"
        result = Text(figure["verdict"] or "not published", color)
        table.add_row(FIGURES[name], percent(figure["published"]), percent(figure["measured"]), difference, result)
    return table
