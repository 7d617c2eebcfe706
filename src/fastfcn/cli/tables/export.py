"""The verification of an exported file as a table."""

from rich.table import Table

from fastfcn.exporting.verification import SizeResult, Verification


def verification_table(verification: Verification) -> Table:
    """One row per size; values out of tolerance are red."""
    title = f"{verification.title} compared with PyTorch, {verification.megabytes:.1f} MB"
    caption = "p50, p95: latency of one image; affected by other load on this machine"
    table = Table(title=title, title_justify="left", caption=caption)
    table.add_column("size", no_wrap=True)
    for name in ("logits difference", "equal labels", "p50", "p95", f"{verification.other} p50"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in verification.results:
        table.add_row(*_cells(result, verification.exact))
    return table


def _cells(result: SizeResult, exact: bool) -> list[str]:
    size = f"{result.size[0]}x{result.size[1]}" + (f" x {result.batch}" if result.batch > 1 else "")
    if result.problem:
        return [f"[red]{size}[/]", "[red]the runtime failed[/]", "", "", "", ""]
    color = "red" if result.failures(exact) else "green"
    return [
        size,
        f"[{color}]{result.difference:.1e}[/]",
        f"[{color}]{result.agreement:.3%}[/]",
        f"{result.p50_ms:.1f} ms",
        f"{result.p95_ms:.1f} ms",
        f"{result.other_p50_ms:.1f} ms",
    ]
