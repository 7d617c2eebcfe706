"""Tables in documents, between two marks of which the first names the script that makes them."""

END = "<!-- end of table -->"


def opening(script: str) -> str:
    """The mark before the tables of `script`, the command without its options."""
    return f"<!-- table: {script} -->"


def with_tables(text: str, script: str, tables: str) -> str:
    """`text` of a document with `tables` between the marks of `script`."""
    before, rest = text.split(opening(script))
    return f"{before}{opening(script)}\n{tables}\n{END}{rest.split(END, 1)[1]}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table of text, its first column on the left and the others on the right."""
    lines = (header, ["---"] + ["--:"] * (len(header) - 1), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
