"""Terminal output of `fastfcn check`: the report on a folder, the comparison with a known dataset, applied fixes."""

import re
import shlex
from pathlib import Path

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from fastfcn.checking.bands import BandStatistics
from fastfcn.checking.check import FolderReport
from fastfcn.checking.consent import KINDS
from fastfcn.checking.fixing import CHANGES, FixedCopy
from fastfcn.checking.known_dataset import KnownDatasetReport
from fastfcn.checking.problem import Problem
from fastfcn.checking.statistics import ValueCount
from fastfcn.data.description import DatasetDescription
from fastfcn.utils.console import SafeConsole, styled, swatch

SHOWN = 5  # files listed per problem
MAX_ROWS = 40  # values listed in the table
STYLES = {"error": "bold red", "warning": "bold yellow"}


def show_folder_report(report: FolderReport, console: SafeConsole) -> None:
    """Print the layout, the mask values and the problems of a folder."""
    _print_layout(report, console)
    if report.values:
        console.print(_values_table(report))
    if report.bands:
        console.print(_bands_table(report.bands))
    for problem in report.problems:
        print_problem(problem, console)
    _print_summary(report, console)


def _print_layout(report: FolderReport, console: SafeConsole) -> None:
    layout, unsplit = report.layout, list(report.layout.splits) == ["all"]
    splits = "" if unsplit else f" ({', '.join(f'{name} {count}' for name, count in report.pairs_by_split.items())})"
    console.print_line(styled("[bold]{}[/]: {} pairs{}", report.root, report.pairs, splits))
    console.print_line(styled("  images  [cyan]{}[/]", " or ".join(layout.images[:3])))
    console.print_line(styled("  masks   [cyan]{}[/], {}", " or ".join(layout.labels[:3]), _mask_kind(report)))
    if layout.lists:
        console.print_line(styled("  splits  [cyan]{}[/]", layout.lists[0]))
    sizes = sorted(report.sizes.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{height} x {width} ({count})" for (height, width), count in sizes[:3])
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    console.print_line(f"  sizes   {listed}{more} (height x width)")
    if report.dataset.unlisted:
        console.print_line(styled("  [yellow]ignored[/] {} images that are in no split list", report.dataset.unlisted))
    if layout.catalog:
        console.print_line(styled("  layout and ids match the known dataset [cyan]{}[/]", layout.catalog))


def _mask_kind(report: FolderReport) -> str:
    if report.labels_kind == "color":
        return f"colors ({len(report.values)} found)"
    return "ids with a palette" if report.palette else "ids"


def _values_table(report: FolderReport) -> Table:
    splits = [] if list(report.layout.splits) == ["all"] else list(report.layout.splits)
    table = Table("value", "pixels", "images", *splits)
    total = max(1, sum(entry.pixels for entry in report.values))
    for entry in report.values[:MAX_ROWS]:
        counts = [str(entry.by_split[split]) if entry.by_split[split] else Text("0", "red") for split in splits]
        table.add_row(
            _value(report, entry), f"{entry.pixels / total:.2%}", f"{entry.images / report.pairs:.1%}", *counts
        )
    if len(report.values) > MAX_ROWS:
        table.add_row(f"and {len(report.values) - MAX_ROWS} more", "", "")
    return table


def _bands_table(bands: BandStatistics) -> Table:
    table = Table(f"band ({bands.description.dtype})", "lowest", "highest", "mean", "std", "missing")
    for entry in bands.counts[:MAX_ROWS]:
        numbers = (f"{value:.4g}" for value in (entry.low, entry.high, entry.mean, entry.std))
        table.add_row(entry.name, *numbers, f"{entry.missing:.2%}")
    if len(bands.counts) > MAX_ROWS:
        table.add_row(f"and {len(bands.counts) - MAX_ROWS} more", *[""] * 5)
    return table


def _value(report: FolderReport, entry: ValueCount) -> str | Text:
    """A value, with a swatch of its color if it has one."""
    if isinstance(entry.value, tuple):
        color, text = entry.value, str(list(entry.value))
    else:
        color, text = (report.palette or {}).get(entry.value), str(entry.value)
    return styled("{} {}", swatch(color), text) if color else text


def print_problem(problem: Problem, console: SafeConsole, files: int = SHOWN) -> None:
    """Print a problem with its first files and what to do about it."""
    severity = Text(f"{problem.severity}:", STYLES[problem.severity])
    console.print_line(styled("{} {} [dim]{}[/]", severity, problem.message, f"[{problem.kind}]"))
    for line in problem.files[:files]:
        console.print_line(f"  {line}")
    if len(problem.files) > files > 0:
        console.print_line(styled("  [dim]and {} more[/]", len(problem.files) - files))
    console.print_line(styled("  [green]{}[/]", problem.advice))


def _print_summary(report: FolderReport, console: SafeConsole) -> None:
    folder, warnings = shlex.quote(str(report.root)), len(report.problems) - len(report.errors)
    if not report.problems:
        console.print_line(styled("[bold green]No problems found in {}.[/]", report.root))
    else:
        style = "bold red" if report.errors else "bold yellow"
        console.print_line(Text(f"Errors: {len(report.errors)}, warnings: {warnings}.", style))
    if report.errors:
        console.print_line(styled("To write a corrected copy: [cyan]fastfcn check {} --fix OUT[/]", folder))
    console.print_line(_next_step(report.root))


def _next_step(root: Path) -> Text:
    """The next command: training if the folder has a recipe, else init."""
    folder, recipe = (shlex.quote(str(path)) for path in (root, root / "recipe.toml"))
    if (root / "recipe.toml").is_file():
        run = shlex.quote(f"runs/{root.resolve().name}")
        return styled("Next: [cyan]fastfcn train {} --data {} --out {}[/]", recipe, folder, run)
    return styled("Next: [cyan]fastfcn init {}[/] writes dataset.toml and a recipe for it.", folder)


def show_fixed_copy(
    copy: FixedCopy, before: FolderReport, after: FolderReport, out: Path, console: SafeConsole
) -> None:
    """Print the applied fixes, what was left as it is, and the problems that remain in the copy."""
    changes = copy.changes
    console.print_line(styled("[bold]{}[/]: {} pairs, {} changes", out, after.pairs, len(changes)))
    for change in changes[: 4 * SHOWN]:
        console.print_line(f"  {change.file}: {change.what}")
    if len(changes) > 4 * SHOWN:
        console.print_line(styled("  [dim]and {} more[/]", len(changes) - 4 * SHOWN))
    console.print_line(styled("All changes: [cyan]{}[/]", out / CHANGES))
    _print_consent(copy, before, console)
    if changes:
        console.print(_totals_table(copy, before, after))
    if after.problems:
        console.print_line("Problems that remain in the copy:")
    for problem in after.problems:
        print_problem(problem, console, files=2)
    if not after.problems:
        console.print_line(styled("[bold green]No problems found in the copy.[/]"))


def _print_consent(copy: FixedCopy, before: FolderReport, console: SafeConsole) -> None:
    """What changed areas, or would change them with consent."""
    if copy.areas:
        table = Table("file", "kind", "class or value", "pixels before", "pixels after")
        for area in copy.areas[: 4 * SHOWN]:
            table.add_row(area.file, area.kind, area.class_name, str(area.before), str(area.after))
        if len(copy.areas) > 4 * SHOWN:
            table.add_row(f"and {len(copy.areas) - 4 * SHOWN} more", "", "", "", "")
        console.print(table)
    for kind, count in sorted(copy.declined.items()):
        advice = f"{count} files. To {KINDS[kind]}: --accept {kind}"
        console.print_line(styled("[bold yellow]left as they are:[/] {}", advice))
    for note in copy.notes:
        console.print_line(styled("[bold yellow]note:[/] {}", note))


def _totals_table(copy: FixedCopy, before: FolderReport, after: FolderReport) -> Table:
    """Pixels of each class or value in the folder and in the copy."""
    table = Table("value", "in the copy", "class", "pixels before", "pixels after")
    old = {entry.value: entry.pixels for entry in before.values}
    new = {entry.value: entry.pixels for entry in after.values}
    rows = [(value, copy.renamed.get(value, value)) for value in old]
    rows += [(None, value) for value in new if value not in {target for _, target in rows}]
    for value, target in rows[:MAX_ROWS]:
        texts = ["" if entry is None else str(list(entry) if isinstance(entry, tuple) else entry)
                 for entry in (value, target)]  # fmt: skip
        name = before.names.get(value, "") if value is not None else ""
        table.add_row(*texts, name, f"{old.get(value, 0) if value is not None else 0}", f"{new.get(target, 0)}")
    return table


def layout_tree(description: DatasetDescription, root: str | Path) -> Tree:
    """The expected layout: the first pattern of images, masks and lists for each split."""
    tree = Tree(styled("[bold]{}[/]", root))
    nodes: dict[tuple[str, ...], Tree] = {(): tree}
    counts = {value: description.counts.get(name, ()) for name, value in description.splits.items()}
    for patterns, what in ((description.images, "images"), (description.labels, "masks"), (description.lists, "names")):
        for value in description.splits.values() if patterns else ():
            number = f"  {counts[value][0]} {what}" if counts[value] and "{split}" in patterns[0] else ""
            path = patterns[0].replace("{split}", value)
            parts = tuple(re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), path).split("/"))
            for depth in range(len(parts)):
                key = parts[: depth + 1]
                if key not in nodes:
                    last = number if depth + 1 == len(parts) else ""
                    nodes[key] = nodes[parts[:depth]].add(styled("{}[dim]{}[/]", parts[depth], last))
    return tree


def show_known_dataset_report(report: KnownDatasetReport, console: SafeConsole) -> None:
    """Print the source, the expected layout, the files found and the problems of a known dataset."""
    description = report.description
    console.print_line(styled("[bold]{}[/]", description.title))
    for line in filter(None, (description.get.strip(), description.license, description.home)):
        console.print_line(line)
    console.print(layout_tree(description, report.root))
    if any(split.images for split in report.splits):
        console.print(_splits_table(report))
    for problem in report.problems:
        print_problem(problem, console)
    complete = ", ".join(split.split for split in report.splits if split.images)
    if report.problems:
        console.print_line(styled("[bold red]Problems: {}.[/]", len(report.problems)))
    else:
        console.print_line(styled("[bold green]{}: no problems found[/] in {}.", description.name, complete))


def _splits_table(report: KnownDatasetReport) -> Table:
    table = Table("split", "images", "expected", "example", "height x width", "classes in it")
    for split in report.splits:
        example = split.example or {"image": "" if split.images else "missing", "size": [], "classes": ""}
        size = " x ".join(map(str, example["size"]))
        published = " or ".join(map(str, split.published))
        table.add_row(split.split, str(split.images), published, example["image"], size, str(example["classes"]))
    return table
