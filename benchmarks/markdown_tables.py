"""Generated tables in documents, between two markers; the first names the script that writes them."""

END = "<!-- end of table -->"


def marker(script: str) -> str:
    """The marker before the tables of `script`, a command without options."""
    return f"<!-- table: {script} -->"


def with_tables(text: str, script: str, tables: str) -> str:
    """`text` of a document with `tables` between the markers of `script`."""
    before, rest = text.split(marker(script))
    return f"{before}{marker(script)}\n{tables}\n{END}{rest.split(END, 1)[1]}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right-aligned."""
    lines = (header, ["---"] + ["--:"] * (len(header) - 1), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
