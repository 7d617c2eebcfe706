"""The verification of an exported file as a table."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastfcn.cli.tables.narrow_terminals import fit
from fastfcn.exporting.verification import SizeResult, Verification


def verification_table(verification: Verification, console: Console) -> Table:
    """One row per size; values out of tolerance are red. Narrow consoles leave out latencies."""
    title = f"{verification.title} compared with PyTorch, {verification.megabytes:.1f} MB"
    caption = "p50, p95: latency of one image; affected by other load on this machine"
    table = Table(title=title, title_justify="left", caption=caption)
    table.add_column("size", no_wrap=True)
    for name in ("logits difference", "equal labels", "p50", "p95", f"{verification.other} p50"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in verification.results:
        table.add_row(*_cells(result, verification.exact))
    return fit(table, console, optional=(4, 5, 3))


def _cells(result: SizeResult, exact: bool) -> list[str | Text]:
    size = f"{result.size[0]}x{result.size[1]}" + (f" x {result.batch}" if result.batch > 1 else "")
    if result.problem:
        return [Text(size, "red"), Text("the runtime failed", "red"), "", "", "", ""]
    color = "red" if result.failures(exact) else "green"
    return [
        size,
        Text(f"{result.difference:.1e}", color),
        Text(f"{result.agreement:.3%}", color),
        f"{result.p50_ms:.1f} ms",
        f"{result.p95_ms:.1f} ms",
        f"{result.other_p50_ms:.1f} ms",
    ]
