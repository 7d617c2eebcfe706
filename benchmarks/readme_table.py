"""Write the tables of README.md and docs/camvid.md from recipes and results: python benchmarks/readme_table.py."""

import json
from dataclasses import dataclass
from pathlib import Path

from documents import with_tables
from fastfcn import recipes
from fastfcn.recipes.recipe import Recipe

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CAMVID = RESULTS / "camvid_r50_psp"
SCRIPT = "python benchmarks/readme_table.py"
PUBLISHED = ("batch", "steps", "mIoU", "ms+flip", "memory GB", "images/s")
HEADS = {"psp": "PSPNet", "aspp": "DeepLabV3", "deeplabv3": "DeepLabV3", "enc": "EncNet"}
# In the order of the table.
DATA = {
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "pascal_context_59": "Pascal Context, 59",
    "pascal_context": "Pascal Context, 60",
}


@dataclass(frozen=True)
class Measured:
    """What `benchmarks/bench_all.py` measured on one device at one precision: results by the recipe's name."""

    device: str
    precision: str
    results: dict[str, dict]
    record: dict

    @property
    def reduced(self) -> bool:
        """Whether it was measured at other sizes than the recipes'."""
        return "reduced" in self.record

    @property
    def title(self) -> str:
        """Device and, where it is not float32, precision."""
        return self.device if self.precision == "32-true" else f"{self.device}, {self.precision.split('-')[0]}"


def measured() -> list[Measured]:
    """All that was measured, the CPU first."""
    found = []
    for name in ("bench_cpu.json", "bench_cuda.json"):
        if not (RESULTS / name).exists():
            continue
        record = json.loads((RESULTS / name).read_text(encoding="utf-8"))
        machine = record["machine"]
        device = machine["gpu"] or f"{machine['threads']}-core {machine['processor']}"
        for precision in dict.fromkeys(result["inference"]["precision"] for result in record["results"]):
            results = {
                each["recipe"]: each for each in record["results"] if each["inference"]["precision"] == precision
            }
            found.append(Measured(device, precision, results, record))
    return found


def readme_tables() -> str:
    """The published figures with ours beside them; then ours, JPU against dilated, one table a device."""
    return "\n\n".join([published_table(measured()), *map(speed_table, measured())])


def published_table(ours: list[Measured]) -> str:
    """All recipes with published scores, in the order of DATA. What was not published or measured stays empty."""
    known = [one for one in map(recipes.load, recipes.names()) if one.published]
    known = [one for one in known if one.published.miou or one.published.miou_tta]  # type: ignore[union-attr]
    known.sort(key=_order)
    columns = {"data": "---", "head": "---", "": "---"} | dict.fromkeys(PUBLISHED, "--:")
    for each in ours:
        columns |= dict.fromkeys(own_columns(each), "--:")
    head = f"| {' | '.join([*columns, 'recipe'])} |"
    lines = [head, f"|{'|'.join([*columns.values(), '---'])}|"]
    return "\n".join([*lines, *(published_row(one, ours) for one in known)])


def _order(one: Recipe) -> tuple:
    """By data set, OpenMMLab's before the official code's, JPU before dilated."""
    official = one.name.startswith("official_")
    return list(DATA).index(one.data.dataset), official, one.neck.kind, one.head.kind, one.optim.batch


def own_columns(ours: Measured) -> list[str]:
    """Titles of the columns that a device adds; memory and sizes of a reduced measurement are no row's own."""
    if ours.reduced:
        height, width = next(iter(ours.results.values()))["inference"]["size"]
        return [f"ours images/s ({ours.title}, {height}x{width})"]
    return [f"ours images/s ({ours.title})", f"ours memory GB ({ours.title})"]


def published_row(one: Recipe, ours: list[Measured]) -> str:
    """The line of one recipe."""
    published = one.published
    assert published
    figures = [published.miou, published.miou_tta, published.memory_gb, published.fps]
    for each in ours:
        result = each.results.get(one.name, {})
        figures.append(result.get("inference", {}).get("images_per_second"))
        if not each.reduced:
            mib = result.get("training", {}).get("peak_memory_mib")
            figures.append(mib and mib / 1024)
    cells = [
        DATA.get(one.data.dataset, one.data.dataset),
        HEADS[one.head.kind],
        "dilated" if one.neck.kind == "none" else one.neck.kind.upper().replace("_", "-"),
        str(one.optim.batch),
        f"{one.optim.steps / 1000:.0f}k",
        *("" if value is None else f"{value:.2f}" for value in figures),
        f"`{one.name}`",
    ]
    return "| " + " | ".join(cells) + " |"


def speed_table(ours: Measured) -> str:
    """JPU, its dilated twin and their ratio for each head that was measured with both."""
    first = next(iter(ours.results.values()))
    head = ["head", "", "images/s", "ms p50", "ms p95", "GFLOP", "of peak", "memory MiB", "training images/s"]
    lines = [sentence(ours, first), "", f"| {' | '.join([*head, 'training memory MiB'])} |"]
    lines.append("|---|---|" + "--:|" * 8)
    for name, result in ours.results.items():
        twin = ours.results.get(name.replace("fastfcn_", "dilated_", 1))
        if not name.startswith("fastfcn_") or not twin:
            continue
        lines.append(speed_row(HEADS[recipes.load(name).head.kind], "JPU", result))
        lines.append(speed_row("", "dilated", twin))
        lines.append(ratio_row(result, twin))
    return "\n".join(lines)


def sentence(ours: Measured, one: dict) -> str:
    """What the speed table shows and who made it."""
    inference, training = one["inference"], one["training"]
    sizes = "inference of one image of {}x{}, training steps of {} crops of {}x{}".format(
        *inference["size"], training["batch"], *training["crop"]
    )
    gpu = ours.record["machine"]["gpu"]
    memory = "the tensors on the GPU" if gpu else "growth of the process beyond the loaded network"
    return (
        f"Ours, JPU against dilated, on a {ours.title}: {sizes}. Memory is the peak of {memory}. The share of the "
        "device's peak (of matrix products) counts all products of the plain convolutions; Winograd's form and skipped "
        f"zeros do with fewer, hence more than 100 %. `{ours.record['command']}`, {ours.record['date']}."
    )


def figures(result: dict) -> list[float | None]:
    """The figures of a result in the order of the speed table; None where memory ran out."""
    inference, training = result["inference"], result["training"]
    keys = ("images_per_second", "p50_ms", "p95_ms", "gflops", "share_of_peak", "peak_memory_mib")
    return [*map(inference.get, keys), training.get("images_per_second"), training.get("peak_memory_mib")]


def speed_row(head: str, neck: str, result: dict) -> str:
    """One network's line of the speed table."""
    forms = ("{:.3g}", "{:.0f}", "{:.0f}", "{:.0f}", "{:.0%}", "{:.0f}", "{:.3g}", "{:.0f}")
    cells = ["" if value is None else form.format(value) for form, value in zip(forms, figures(result), strict=True)]
    return f"| {' | '.join([head, neck, *cells])} |"


def ratio_row(first: dict, second: dict) -> str:
    """How many times the dilated network's figures those of JPU are."""
    pairs = zip(figures(first), figures(second), strict=True)
    cells = [f"{mine / theirs:.2f}x" if mine and theirs else "" for mine, theirs in pairs]
    return f"| {' | '.join(['', 'JPU : dilated', *cells])} |"


def camvid_table() -> str:
    """Scores of each class of CamVid's val split."""
    scores = json.loads((CAMVID / "scores.json").read_text())
    pixels = sum(each["pixels"] for each in scores["classes"].values())
    lines = ["| class | IoU | accuracy | share of val |", "|---|--:|--:|--:|"]
    for name, each in scores["classes"].items():
        lines.append(f"| {name} | {each['iou']:.2f} | {each['accuracy']:.2f} | {each['pixels'] / pixels:.2%} |")
    means = f"| **mean** | **{scores['miou']:.2f}** | **{scores['mean_accuracy']:.2f}** | |"
    return "\n".join([*lines, means, "", f"Pixel accuracy {scores['pixel_accuracy']:.2f}."])


TABLES = {ROOT / "README.md": readme_tables, ROOT / "docs" / "camvid.md": camvid_table}

if __name__ == "__main__":
    for document, table in TABLES.items():
        text = with_tables(document.read_text(encoding="utf-8"), SCRIPT, table())
        document.write_text(text, encoding="utf-8")
