"""What the data doctor found, for a person: what is there, what is wrong, what to do next."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastfcn.checking.fixing import CHANGES, Change
from fastfcn.checking.problem import Problem
from fastfcn.checking.survey import Survey
from fastfcn.checking.values import ValueCount

SHOWN = 5  # files that are named before the rest is only counted
ROWS = 40  # values in the table
STYLES = {"error": "bold red", "warning": "bold yellow"}


def show_survey(survey: Survey, console: Console) -> None:
    """Print what there is, what is wrong with it, and what to do."""
    _show_files(survey, console)
    if survey.values:
        console.print(_values_table(survey))
    for problem in survey.problems:
        show_problem(problem, console)
    _show_verdict(survey, console)


def _show_files(survey: Survey, console: Console) -> None:
    layout, whole = survey.layout, list(survey.layout.splits) == ["all"]
    splits = "" if whole else f" ({', '.join(f'{name} {count}' for name, count in survey.pairs_by_split.items())})"
    _say(console, f"[bold]{escape(str(survey.root))}[/]: {survey.pairs} pairs{splits}")
    _say(console, f"  images  [cyan]{escape(' or '.join(layout.images[:3]))}[/]")
    _say(console, f"  masks   [cyan]{escape(' or '.join(layout.labels[:3]))}[/], {_kind(survey)}")
    if layout.lists:
        _say(console, f"  splits  [cyan]{escape(layout.lists[0])}[/]")
    sizes = sorted(survey.sizes.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{height} x {width} ({count})" for (height, width), count in sizes[:3])
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    _say(console, f"  sizes   {listed}{more} (height x width)")
    if survey.found.unlisted:
        _say(console, f"  [yellow]passed over[/], as no list names them: images {survey.found.unlisted}")
    if layout.catalog:
        _say(console, f"  files and numbers as in the data set [cyan]{layout.catalog}[/] of the catalogue")


def _kind(survey: Survey) -> str:
    if survey.labels_kind == "color":
        return f"colours ({len(survey.values)} found)"
    return "numbers with a palette" if survey.palette else "numbers"


def _values_table(survey: Survey) -> Table:
    splits = [] if list(survey.layout.splits) == ["all"] else list(survey.layout.splits)
    table = Table("value", "pixels", "images", *splits)
    total = max(1, sum(each.pixels for each in survey.values))
    for each in survey.values[:ROWS]:
        seen = [f"{each.by_split[split]}" if each.by_split[split] else "[red]0[/]" for split in splits]
        table.add_row(_value(survey, each), f"{each.pixels / total:.2%}", f"{each.images / survey.pairs:.1%}", *seen)
    if len(survey.values) > ROWS:
        table.add_row(f"and {len(survey.values) - ROWS} more", "", "")
    return table


def _value(survey: Survey, each: ValueCount) -> str:
    """A value, with a patch of its colour where it has one."""
    if isinstance(each.value, tuple):
        color, text = each.value, escape(str(list(each.value)))
    else:
        color, text = (survey.palette or {}).get(each.value), str(each.value)
    return f"[on rgb({color[0]},{color[1]},{color[2]})]  [/] {text}" if color else text


def show_problem(problem: Problem, console: Console, files: int = SHOWN) -> None:
    """Print a problem with some of its files and what to do about it."""
    _say(console, f"[{STYLES[problem.severity]}]{problem.severity}: {problem.kind}[/] {escape(problem.message)}")
    for line in problem.files[:files]:
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    if len(problem.files) > files > 0:
        _say(console, f"  [dim]and {len(problem.files) - files} more[/]")
    _say(console, f"  [green]{escape(problem.advice)}[/]")


def _show_verdict(survey: Survey, console: Console) -> None:
    folder, warnings = shlex.quote(str(survey.root)), len(survey.problems) - len(survey.errors)
    if not survey.problems:
        _say(console, f"[bold green]Nothing is wrong with {escape(str(survey.root))}.[/]")
    else:
        style = "bold red" if survey.errors else "bold yellow"
        _say(console, f"[{style}]Errors: {len(survey.errors)}, warnings: {warnings}.[/]")
    if survey.errors:
        _say(console, f"A clean copy, with a list of changes: [cyan]fastfcn check {escape(folder)} --fix OUT[/]")
    _say(console, f"Next: {_next_step(survey.root)}")


def _next_step(root: Path) -> str:
    """Training, where there is a recipe already."""
    folder, recipe = (escape(shlex.quote(str(path))) for path in (root, root / "recipe.toml"))
    if (root / "recipe.toml").is_file():
        run = escape(shlex.quote(f"runs/{root.resolve().name}"))
        return f"[cyan]fastfcn train {recipe} --data {folder} --out {run}[/]"
    return f"[cyan]fastfcn init {folder}[/] writes dataset.toml and a recipe for it."


def show_changes(changes: Sequence[Change], after: Survey, out: Path, console: Console) -> None:
    """Print what was changed, and what is still wrong with the copy."""
    _say(console, f"[bold]{escape(str(out))}[/]: {after.pairs} pairs, changes to {len(changes)} files")
    for change in changes[: 4 * SHOWN]:
        console.print(f"  {change.file}: {change.what}", soft_wrap=True, highlight=False, markup=False)
    if len(changes) > 4 * SHOWN:
        _say(console, f"  [dim]and {len(changes) - 4 * SHOWN} more[/]")
    _say(console, f"All of them: [cyan]{escape(str(out / CHANGES))}[/]")
    if after.problems:
        _say(console, "What is left in the copy, for you to decide:")
    for problem in after.problems:
        show_problem(problem, console, files=2)
    if not after.problems:
        _say(console, "[bold green]Nothing is wrong with the copy.[/]")


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)
