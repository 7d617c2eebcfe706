"""The whole page: its parts in order, with their style and script inside."""

from pathlib import Path

from fastfcn.report.account import Account
from fastfcn.report.calibration import calibration_section
from fastfcn.report.classes import class_table
from fastfcn.report.gallery import gallery
from fastfcn.report.markup import Markup, join, tag
from fastfcn.report.matrix import confusion_list, matrix_panel
from fastfcn.report.mistakes import mistakes_section
from fastfcn.report.setting import curves, environment_section, pixels_section, recipe_section, speed_table
from fastfcn.report.words import sentences, tiles

HERE = Path(__file__).parent
# Nothing may be loaded from anywhere: a browser refuses what this file does not bring along.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
INTRODUCTIONS = {
    "Training": "Over steps, as the run logged it. The band spans the lowest and highest loss of a stretch of steps.",
    "Classes": "A click on a title sorts. The line across a bar holds 95 % of resamplings of the images.",
    "Confusion": "Of the pixels of each true class, how many percent are called what.",
    "Calibration": "Below the diagonal the network is more sure than right. The bars say how many pixels are how sure.",
    "Errors": "Every wrong pixel is of one of three kinds.",
    "Images": "By the mIoU of the image, over the classes in it. Tap a picture to enlarge it.",
    "Speed and memory": "",
    "Recipe": "",
    "Environment": "",
}


def page(accounts: list[Account], made: str) -> str:
    """A report of a run, or of two side by side, as one HTML file; `made` says when and by what."""
    names = " against ".join(each.name for each in accounts)
    bodies = {title: body for title, body in _bodies(accounts).items() if body}
    links = [tag("a", title, href=f"#{_anchor(title)}") for title in bodies]
    head = join(
        Markup('<meta charset="utf-8">'),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        Markup('<link rel="icon" href="data:,">'),
        tag("title", f"{names} · fastfcn report"),
        tag("style", Markup((HERE / "style.css").read_text(encoding="utf-8"))),
    )
    body = join(
        _header(accounts),
        tag("nav", *links, aria_label="Parts of the report"),
        tag("main", *(_section(title, body) for title, body in bodies.items())),
        tag("footer", made),
        tag("dialog"),
        tag("script", Markup((HERE / "script.js").read_text(encoding="utf-8"))),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _bodies(accounts: list[Account]) -> dict[str, Markup]:
    """What each part of the report holds; empty where there is nothing to tell."""
    found = [(each.name if len(accounts) > 1 else "", each.findings) for each in accounts if each.findings]
    confusion = [matrix_panel(findings, name) for name, findings in found]
    confusion += [confusion_list(findings, f"Largest confusions{of and ': ' + of}") for of, findings in found]
    return {
        "Training": curves(accounts),
        "Classes": class_table(accounts),
        "Confusion": tag("div", *confusion, class_="grid wide") if found else Markup(""),
        "Calibration": calibration_section(accounts) if found else Markup(""),
        "Errors": mistakes_section(accounts) if found else Markup(""),
        "Images": gallery(accounts),
        "Speed and memory": speed_table(accounts),
        "Recipe": recipe_section(accounts),
        "Environment": join(environment_section(accounts), pixels_section(accounts)),
    }


def _section(title: str, body: Markup) -> Markup:
    told = INTRODUCTIONS[title]
    return tag("section", tag("h2", title), *([tag("p", told, class_="note")] if told else ()), body, id=_anchor(title))


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _header(accounts: list[Account]) -> Markup:
    mine = accounts[0]
    names = [tag("span", each.name, class_=kind) for kind, each in zip(("mine", "theirs"), accounts, strict=False)]
    title = names[0] if len(names) == 1 else join(names[0], " ", tag("small", "against"), " ", names[1])
    lines = []
    if mine.findings:
        found = mine.findings
        facts = [found.about.title, found.split, f"{found.images} images", f"{len(found.about.classes)} classes"]
        lines.append(" · ".join((*facts[: 3 if "classes" in found.about.title else 4], found.views)))
    if mine.history.recipe:
        lines.append(mine.history.recipe.summary)
    several = len(accounts) > 1
    missing = [tag("p", f"{each.name}: {line}" if several else line) for each in accounts for line in each.missing]
    told = sentences(accounts)
    return tag(
        "header",
        tag("p", "fastfcn report", class_="kicker"),
        tag("h1", title, class_="compared" if several else None),
        *(tag("p", line, class_="subtitle") for line in lines),
        *([tag("div", *missing, class_="missing", role="note")] if missing else ()),
        tiles(accounts),
        *([tag("ul", *told, class_="told")] if told else ()),
        class_="top",
    )
