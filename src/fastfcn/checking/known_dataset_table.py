"""What `fastfcn check` found, on the screen: where the data comes from, what it must look like, what is wrong."""

import re
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from fastfcn.checking.known_dataset import Report
from fastfcn.data.description import DataSetDescription

SHOWN = 5  # files that are named before the rest is only counted


def layout_tree(about: DataSetDescription, root: str | Path) -> Tree:
    """What the folder must look like: the first pattern of images, masks and lists for each split."""
    tree = Tree(f"[bold]{escape(str(root))}[/]")
    nodes: dict[tuple[str, ...], Tree] = {(): tree}
    counts = {value: about.counts.get(name, ()) for name, value in about.splits.items()}
    for patterns, what in ((about.images, "images"), (about.labels, "masks"), (about.lists, "names")):
        for value in about.splits.values() if patterns else ():
            number = f"  [dim]{counts[value][0]} {what}[/]" if counts[value] and "{split}" in patterns[0] else ""
            named = patterns[0].replace("{split}", value)
            parts = tuple(re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), named).split("/"))
            for depth in range(len(parts)):
                key = parts[: depth + 1]
                if key not in nodes:
                    last = number if depth + 1 == len(parts) else ""
                    nodes[key] = nodes[parts[:depth]].add(escape(parts[depth]) + last)
    return tree


def show_report(report: Report, console: Console) -> None:
    """Print where the data comes from, what it must look like, what was found, and what is wrong."""
    about = report.description
    console.print(f"[bold]{escape(about.title)}[/]")
    for line in filter(None, (about.get.strip(), about.licence, about.home)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(layout_tree(about, report.root))
    if any(each.images for each in report.splits):
        console.print(_splits_table(report))
    for problem in report.problems:
        console.print(f"[bold red]{problem.kind}[/] {escape(problem.message)}", soft_wrap=True, highlight=False)
        more = [f"and {problem.count - SHOWN} more"] if problem.count > SHOWN else []
        for line in [*problem.files[:SHOWN], *more]:
            console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
        console.print(f"  [yellow]{escape(problem.advice)}[/]", soft_wrap=True, highlight=False)
    there = ", ".join(each.split for each in report.splits if each.images)
    good = f"[bold green]This is {about.name}.[/] Nothing is missing in {there}."
    console.print(f"[bold red]Problems: {len(report.problems)}.[/]" if report.problems else good, highlight=False)


def _splits_table(report: Report) -> Table:
    table = Table("split", "images", "published", "example", "height x width", "classes in it")
    for each in report.splits:
        seen = each.example or {"image": "" if each.images else "not there", "size": [], "classes": ""}
        size = " x ".join(map(str, seen["size"]))
        published = " or ".join(map(str, each.published))
        table.add_row(each.split, str(each.images), published, escape(seen["image"]), size, str(seen["classes"]))
    return table
