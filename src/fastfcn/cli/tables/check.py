"""Terminal output of `fastfcn check`: the report on a folder, the comparison with a known dataset, applied fixes."""

import re
import shlex
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from fastfcn.checking.check import FolderReport
from fastfcn.checking.consent import KINDS
from fastfcn.checking.fixing import CHANGES, FixedCopy
from fastfcn.checking.known_dataset import KnownDatasetReport
from fastfcn.checking.problem import Problem
from fastfcn.checking.statistics import ValueCount
from fastfcn.data.description import DatasetDescription

SHOWN = 5  # files listed per problem
MAX_ROWS = 40  # values listed in the table
STYLES = {"error": "bold red", "warning": "bold yellow"}


def show_folder_report(report: FolderReport, console: Console) -> None:
    """Print the layout, the mask values and the problems of a folder."""
    _print_layout(report, console)
    if report.values:
        console.print(_values_table(report))
    for problem in report.problems:
        print_problem(problem, console)
    _print_summary(report, console)


def _print_layout(report: FolderReport, console: Console) -> None:
    layout, unsplit = report.layout, list(report.layout.splits) == ["all"]
    splits = "" if unsplit else f" ({', '.join(f'{name} {count}' for name, count in report.pairs_by_split.items())})"
    _print(console, f"[bold]{escape(str(report.root))}[/]: {report.pairs} pairs{splits}")
    _print(console, f"  images  [cyan]{escape(' or '.join(layout.images[:3]))}[/]")
    _print(console, f"  masks   [cyan]{escape(' or '.join(layout.labels[:3]))}[/], {_mask_kind(report)}")
    if layout.lists:
        _print(console, f"  splits  [cyan]{escape(layout.lists[0])}[/]")
    sizes = sorted(report.sizes.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{height} x {width} ({count})" for (height, width), count in sizes[:3])
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    _print(console, f"  sizes   {listed}{more} (height x width)")
    if report.dataset.unlisted:
        _print(console, f"  [yellow]ignored[/] {report.dataset.unlisted} images that are in no split list")
    if layout.catalog:
        _print(console, f"  layout and ids match the known dataset [cyan]{layout.catalog}[/]")


def _mask_kind(report: FolderReport) -> str:
    if report.labels_kind == "color":
        return f"colors ({len(report.values)} found)"
    return "ids with a palette" if report.palette else "ids"


def _values_table(report: FolderReport) -> Table:
    splits = [] if list(report.layout.splits) == ["all"] else list(report.layout.splits)
    table = Table("value", "pixels", "images", *splits)
    total = max(1, sum(entry.pixels for entry in report.values))
    for entry in report.values[:MAX_ROWS]:
        counts = [f"{entry.by_split[split]}" if entry.by_split[split] else "[red]0[/]" for split in splits]
        table.add_row(
            _value(report, entry), f"{entry.pixels / total:.2%}", f"{entry.images / report.pairs:.1%}", *counts
        )
    if len(report.values) > MAX_ROWS:
        table.add_row(f"and {len(report.values) - MAX_ROWS} more", "", "")
    return table


def _value(report: FolderReport, entry: ValueCount) -> str:
    """A value, with a swatch of its color if it has one."""
    if isinstance(entry.value, tuple):
        color, text = entry.value, escape(str(list(entry.value)))
    else:
        color, text = (report.palette or {}).get(entry.value), str(entry.value)
    return f"[on rgb({color[0]},{color[1]},{color[2]})]  [/] {text}" if color else text


def print_problem(problem: Problem, console: Console, files: int = SHOWN) -> None:
    """Print a problem with its first files and what to do about it."""
    _print(
        console,
        f"[{STYLES[problem.severity]}]{problem.severity}:[/] {escape(problem.message)} [dim]\\[{problem.kind}][/]",
    )
    for line in problem.files[:files]:
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    if len(problem.files) > files > 0:
        _print(console, f"  [dim]and {len(problem.files) - files} more[/]")
    _print(console, f"  [green]{escape(problem.advice)}[/]")


def _print_summary(report: FolderReport, console: Console) -> None:
    folder, warnings = shlex.quote(str(report.root)), len(report.problems) - len(report.errors)
    if not report.problems:
        _print(console, f"[bold green]No problems found in {escape(str(report.root))}.[/]")
    else:
        style = "bold red" if report.errors else "bold yellow"
        _print(console, f"[{style}]Errors: {len(report.errors)}, warnings: {warnings}.[/]")
    if report.errors:
        _print(console, f"To write a corrected copy: [cyan]fastfcn check {escape(folder)} --fix OUT[/]")
    _print(console, f"Next: {_next_step(report.root)}")


def _next_step(root: Path) -> str:
    """The next command: training if the folder has a recipe, else init."""
    folder, recipe = (escape(shlex.quote(str(path))) for path in (root, root / "recipe.toml"))
    if (root / "recipe.toml").is_file():
        run = escape(shlex.quote(f"runs/{root.resolve().name}"))
        return f"[cyan]fastfcn train {recipe} --data {folder} --out {run}[/]"
    return f"[cyan]fastfcn init {folder}[/] writes dataset.toml and a recipe for it."


def show_fixed_copy(copy: FixedCopy, before: FolderReport, after: FolderReport, out: Path, console: Console) -> None:
    """Print the applied fixes, what was left as it is, and the problems that remain in the copy."""
    changes = copy.changes
    _print(console, f"[bold]{escape(str(out))}[/]: {after.pairs} pairs, {len(changes)} changes")
    for change in changes[: 4 * SHOWN]:
        console.print(f"  {change.file}: {change.what}", soft_wrap=True, highlight=False, markup=False)
    if len(changes) > 4 * SHOWN:
        _print(console, f"  [dim]and {len(changes) - 4 * SHOWN} more[/]")
    _print(console, f"All changes: [cyan]{escape(str(out / CHANGES))}[/]")
    _print_consent(copy, before, console)
    if changes:
        console.print(_totals_table(copy, before, after))
    if after.problems:
        _print(console, "Problems that remain in the copy:")
    for problem in after.problems:
        print_problem(problem, console, files=2)
    if not after.problems:
        _print(console, "[bold green]No problems found in the copy.[/]")


def _print_consent(copy: FixedCopy, before: FolderReport, console: Console) -> None:
    """What changed areas, or would change them with consent."""
    if copy.areas:
        table = Table("file", "kind", "class or value", "pixels before", "pixels after")
        for area in copy.areas[: 4 * SHOWN]:
            table.add_row(escape(area.file), area.kind, escape(area.class_name), str(area.before), str(area.after))
        if len(copy.areas) > 4 * SHOWN:
            table.add_row(f"and {len(copy.areas) - 4 * SHOWN} more", "", "", "", "")
        console.print(table)
    for kind, count in sorted(copy.declined.items()):
        _print(console, f"[bold yellow]left as they are:[/] {count} files. To {KINDS[kind]}: --accept {kind}")
    for note in copy.notes:
        _print(console, f"[bold yellow]note:[/] {escape(note)}")


def _totals_table(copy: FixedCopy, before: FolderReport, after: FolderReport) -> Table:
    """Pixels of each class or value in the folder and in the copy."""
    table = Table("value", "in the copy", "class", "pixels before", "pixels after")
    old = {entry.value: entry.pixels for entry in before.values}
    new = {entry.value: entry.pixels for entry in after.values}
    rows = [(value, copy.renamed.get(value, value)) for value in old]
    rows += [(None, value) for value in new if value not in {target for _, target in rows}]
    for value, target in rows[:MAX_ROWS]:
        texts = ["" if each is None else escape(str(list(each) if isinstance(each, tuple) else each))
                 for each in (value, target)]  # fmt: skip
        name = before.names.get(value, "") if value is not None else ""
        table.add_row(*texts, escape(name), f"{old.get(value, 0) if value is not None else 0}", f"{new.get(target, 0)}")
    return table


def _print(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)


def layout_tree(description: DatasetDescription, root: str | Path) -> Tree:
    """The expected layout: the first pattern of images, masks and lists for each split."""
    tree = Tree(f"[bold]{escape(str(root))}[/]")
    nodes: dict[tuple[str, ...], Tree] = {(): tree}
    counts = {value: description.counts.get(name, ()) for name, value in description.splits.items()}
    for patterns, what in ((description.images, "images"), (description.labels, "masks"), (description.lists, "names")):
        for value in description.splits.values() if patterns else ():
            number = f"  [dim]{counts[value][0]} {what}[/]" if counts[value] and "{split}" in patterns[0] else ""
            named = patterns[0].replace("{split}", value)
            parts = tuple(re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), named).split("/"))
            for depth in range(len(parts)):
                key = parts[: depth + 1]
                if key not in nodes:
                    last = number if depth + 1 == len(parts) else ""
                    nodes[key] = nodes[parts[:depth]].add(escape(parts[depth]) + last)
    return tree


def show_known_dataset_report(report: KnownDatasetReport, console: Console) -> None:
    """Print the source, the expected layout, the files found and the problems of a known dataset."""
    description = report.description
    console.print(f"[bold]{escape(description.title)}[/]")
    for line in filter(None, (description.get.strip(), description.license, description.home)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(layout_tree(description, report.root))
    if any(split.images for split in report.splits):
        console.print(_splits_table(report))
    for problem in report.problems:
        print_problem(problem, console)
    complete = ", ".join(split.split for split in report.splits if split.images)
    valid = f"[bold green]{description.name}: no problems found[/] in {complete}."
    console.print(f"[bold red]Problems: {len(report.problems)}.[/]" if report.problems else valid, highlight=False)


def _splits_table(report: KnownDatasetReport) -> Table:
    table = Table("split", "images", "expected", "example", "height x width", "classes in it")
    for split in report.splits:
        example = split.example or {"image": "" if split.images else "missing", "size": [], "classes": ""}
        size = " x ".join(map(str, example["size"]))
        published = " or ".join(map(str, split.published))
        table.add_row(
            split.split, str(split.images), published, escape(example["image"]), size, str(example["classes"])
        )
    return table
