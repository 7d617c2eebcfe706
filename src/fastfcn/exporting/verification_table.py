"""A proof as a table for a terminal."""

from rich.table import Table

from fastfcn.exporting.verification import Proof, SizeResult


def proof_table(proof: Proof) -> Table:
    """One line for each size; what is out of tolerance is red."""
    title = f"{proof.title} beside the network, {proof.megabytes:.1f} MB"
    table = Table(title=title, title_justify="left", caption="times: of one image, on this machine as busy as it is")
    table.add_column("size", no_wrap=True)
    for name in ("logits differ", "equal", "p50", "p95", f"{proof.other}'s"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in proof.results:
        table.add_row(*_cells(result, proof.exact))
    return table


def _cells(result: SizeResult, exact: bool) -> list[str]:
    size = f"{result.size[0]}x{result.size[1]}" + (f" x {result.batch}" if result.batch > 1 else "")
    if result.problem:
        return [f"[red]{size}[/]", "[red]refused by its runtime[/]", "", "", "", ""]
    color = "red" if result.failures(exact) else "green"
    return [
        size,
        f"[{color}]{result.difference:.1e}[/]",
        f"[{color}]{result.agreement:.3%}[/]",
        f"{result.p50_ms:.1f} ms",
        f"{result.p95_ms:.1f} ms",
        f"{result.other_p50_ms:.1f} ms",
    ]
