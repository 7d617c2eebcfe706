"""Terminal output of `fastfcn import`: what was written, the classes, and what was left out."""

import shlex

from rich.table import Table

from fastfcn.init.import_report import SHOWN, ImportReport, rules_text
from fastfcn.utils.console import SafeConsole, styled, swatch

MAX_ROWS = 60  # classes listed


def show_import(report: ImportReport, console: SafeConsole) -> None:
    """Print the classes with their counts, and everything that was left out."""
    splits = ", ".join(f"{split} {count}" for split, count in report.images.items())
    how = " (random split)" if report.drawn else ""
    console.print_line(styled("[bold]{}[/]: {} images from {}: {}{}", report.out, sum(report.images.values()),
                              report.format.title, splits, how))  # fmt: skip
    console.print_line(rules_text(report.options))
    console.print(_class_table(report))
    for line in _remarks(report):
        console.print_line(line)
    if report.problems:
        console.print_line(styled("[bold yellow]Left out as broken: {}[/]", len(report.problems)))
        for problem in report.problems[:SHOWN]:
            console.print_line(f"  {problem}")
        if len(report.problems) > SHOWN:
            console.print_line(styled("  [dim]and {} more[/]", len(report.problems) - SHOWN))
    folder = shlex.quote(str(report.out))
    console.print_line(styled("Next: [cyan]fastfcn init {}[/] writes a recipe for it.", folder))


def _class_table(report: ImportReport) -> Table:
    table = Table("class", "pixels", "share", *(["objects"] if report.objects else []), "images")
    total = max(sum(entry.pixels for entry in report.classes), 1)
    for entry in report.classes[:MAX_ROWS]:
        objects = [str(entry.objects)] if report.objects else []
        name = styled("{} {}", swatch(entry.info.color), entry.info.name)
        table.add_row(name, str(entry.pixels), f"{entry.pixels / total:.2%}", *objects, str(entry.images))
    if len(report.classes) > MAX_ROWS:
        table.add_row(f"and {len(report.classes) - MAX_ROWS} more")
    return table


def _remarks(report: ImportReport) -> list[str]:
    remarks = list(report.notes)
    kinds = report.without_area.items()
    remarks += [f"Not painted, because it has no area: {kind} ({count})." for kind, count in kinds]
    if report.empty:
        remarks.append(f"{report.empty} shapes cover the center of no pixel.")
    if report.overlapping:
        remarks.append(
            f"In {report.images_with_overlap} images, {report.overlapping} pixels have several classes "
            f"(--overlap {report.options.overlap})."
        )
    if report.ignored_pixels:
        remarks.append(f"{report.ignored_pixels} pixels are ignored.")
    if report.images_without_shapes:
        count = report.images_without_shapes
        remarks.append(f"{count} images have no shape: they are background. If they are not labeled yet, remove them.")
    if report.unlabeled_images:
        remarks.append(f"{report.unlabeled_images} images without a labeled pixel are left out.")
    return remarks
