"""How the run was made: curves, speed and memory, recipe, environment."""

from statistics import median

from fastfcn.report.account import Account
from fastfcn.report.charts import Line, line_chart
from fastfcn.report.history import History
from fastfcn.report.markup import Markup, count, join, number, tag

COLOURS = ("mine", "theirs")


def curves(accounts: list[Account]) -> Markup:
    """Loss, validation scores, learning rate and, where it was noted, the gradient's norm, over steps."""
    several = len(accounts) > 1
    charts = [line_chart("Loss", _lines(accounts, "loss", several, band=not several), low=0.0)]
    charts.append(line_chart("Validation", _validations(accounts, several), low=0.0))
    for name, title in (("learning_rate", "Learning rate"), ("gradient_norm", "Gradient norm")):
        lines = _lines(accounts, name, several, band=False)
        charts.append(line_chart(title, lines, low=0.0) if lines else Markup(""))
    parts = _parts_of_loss(accounts[0].history) if not several else []
    if len(parts) > 1:
        charts.append(line_chart("Parts of the loss", parts, low=0.0))
    shown = [each for each in charts if each]
    if not shown:
        return tag("p", "The run holds no log of its training.", class_="note")
    kind = "grid wide" if len(shown) in (2, 4) else "grid"
    return tag("div", *(tag("div", each, class_="panel") for each in shown), class_=kind)


def _lines(accounts: list[Account], name: str, several: bool, band: bool) -> list[Line]:
    lines = []
    for kind, account in zip(COLOURS, accounts, strict=False):
        if curve := account.history.curves.get(name):
            low, high = (curve.low, curve.high) if band else (None, None)
            lines.append(Line(kind, account.name if several else "", curve.steps, curve.mean, low, high))
    return lines


def _parts_of_loss(history: History) -> list[Line]:
    known = {"loss", "learning_rate", "images_per_second", "gradient_norm"}
    names = [each for each in history.curves if each not in known][:3]
    return [
        Line(kind, name, history.curves[name].steps, history.curves[name].mean)
        for kind, name in zip(("mine", "theirs", "good"), names, strict=False)
    ]


def _validations(accounts: list[Account], several: bool) -> list[Line]:
    lines = []
    for kind, account in zip(COLOURS, accounts, strict=False):
        name = account.name if several else "mIoU"
        lines.append(_validation(account.history, "miou", kind, name))
        if not several:
            lines.append(_validation(account.history, "pixel_accuracy", "good", "pixel accuracy"))
    return lines


def _validation(history: History, key: str, kind: str, name: str) -> Line:
    points = [(step, scores[key]) for step, scores in history.validations if scores.get(key) is not None]
    return Line(kind, name, [step for step, _ in points], [value for _, value in points], dots=True)


def speed_table(accounts: list[Account]) -> Markup:
    """Of training as it was logged, and of predictions as they were timed for the report."""
    columns = [_speed(each) for each in accounts]
    titles = list(dict.fromkeys(title for column in columns for title in column))
    rows = [[title, *(column.get(title, "–") for column in columns)] for title in titles]
    return _table([each.name for each in accounts], rows) if rows else Markup("")


def _speed(account: Account) -> dict[str, str]:
    history, found, facts = account.history, account.findings, {}
    if speeds := history.curves.get("images_per_second"):
        facts["Training, images a second (median)"] = f"{median(speeds.mean.tolist()):.3g}"
    if loss := history.curves.get("loss"):
        facts["Steps"] = f"{loss.steps[-1]:.0f}"
    if memory := history.environment.get("peak_memory_mib"):
        facts["Training, most memory"] = f"{memory:,.0f} MiB"
    if found:
        speed = found.speed
        facts["Prediction, one image"] = f"{speed.milliseconds:.3g} ms (median of {speed.runs})"
        facts["Predictions a second"] = f"{1000 / speed.milliseconds:.3g}"
        facts["At"] = f"{speed.size[0]} x {speed.size[1]} pixels, {speed.device}, {speed.threads} thread(s)"
        if speed.memory_mib:
            facts["Scoring, memory"] = f"{speed.memory_mib:,.0f} MiB: {speed.memory}"
    return facts


def recipe_section(accounts: list[Account]) -> Markup:
    """The recipe as it is saved; of two runs what differs first."""
    parts = []
    recipes = [each.history.recipe for each in accounts]
    if len(recipes) == 2 and recipes[0] and recipes[1]:
        rows = [[key, str(mine), str(theirs)] for key, mine, theirs in recipes[0].differences(recipes[1])]
        told = _table([each.name for each in accounts], rows) if rows else tag("p", "Both runs have the same recipe.")
        parts.append(join(tag("h3", "What differs"), told))
    for account, recipe in zip(accounts, recipes, strict=True):
        if recipe:
            lines = [tag("mark", line) if "# was" in line else line for line in recipe.text.splitlines(keepends=True)]
            text = tag("div", tag("pre", *lines), class_="scroll")
            title = tag("summary", f"Recipe {recipe.name}", tag("small", f" of {account.name}: {recipe.summary}"))
            parts.append(tag("details", title, text))
        else:
            parts.append(tag("p", f"{account.name} holds no recipe.toml.", class_="note"))
    return join(*parts)


def environment_section(accounts: list[Account]) -> Markup:
    """Command, machine and versions."""
    flat = [_flat(each.history.environment) for each in accounts]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    if not keys:
        return tag("p", "The run holds no environment.toml.", class_="note")
    return _table([each.name for each in accounts], [[key, *(each.get(key, "–") for each in flat)] for key in keys])


def pixels_section(accounts: list[Account]) -> Markup:
    """What the masks held when the run began, in a line for each split."""
    lines = []
    for split, pixels in accounts[0].history.pixels.items():
        ignored = pixels.get("ignored", 0)
        total = sum(pixels.values())
        absent = [name for name, each in pixels.items() if not each and name != "ignored"]
        told = f"{count(total)} pixels, {number(100 * ignored / max(total, 1))} % of them ignored"
        lines.append([split, told + (f"; none of: {', '.join(absent[:12])}" if absent else "")])
    return _table([accounts[0].name], lines) if lines else Markup("")


def _flat(values: dict, before: str = "") -> dict[str, str]:
    rows: dict[str, str] = {}
    for key, value in values.items():
        rows |= _flat(value, f"{key} of ") if isinstance(value, dict) else {f"{before}{key}": str(value)}
    return rows


def _table(names: list[str], rows: list[list[str]]) -> Markup:
    """Rows of a key and what each run has there."""
    head = [tag("th", "", scope="col"), *(tag("th", name, scope="col") for name in names)]
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", each) for each in row[1:])) for row in rows]
    table = tag("table", *([tag("thead", tag("tr", *head))] if len(names) > 1 else []), tag("tbody", *body))
    return tag("div", table, class_="scroll panel flush pairs", tabindex=0)
