"""Write the tables of README.md, docs/model-zoo.md and docs/camvid.md: python benchmarks/readme_table.py."""

import json
from dataclasses import dataclass
from pathlib import Path

from fastfcn import recipes
from fastfcn.recipes.recipe import Recipe
from markdown_tables import with_tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CAMVID = RESULTS / "camvid_r50_psp"
SCRIPT = "python benchmarks/readme_table.py"
PUBLISHED = ("batch", "steps", "mIoU", "ms+flip", "memory GB", "images/s")
HEADS = {"psp": "PSPNet", "aspp": "DeepLabV3", "deeplabv3": "DeepLabV3", "enc": "EncNet"}
# In the order of the tables.
DATA = {
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "pascal_context_59": "Pascal Context, 59",
    "pascal_context": "Pascal Context, 60",
}


# The rows of the README.
CHOSEN = (
    "fastfcn_r50_psp_cityscapes_80k_b8",
    "fastfcn_r50_enc_cityscapes_80k_b8",
    "fastfcn_r50_aspp_cityscapes_80k_b8",
    "fastfcn_r50_psp_ade20k_160k_b16",
    "fastfcn_r50_enc_ade20k_160k_b16",
    "fastfcn_r50_aspp_ade20k_160k_b16",
)


@dataclass(frozen=True)
class Measurement:
    """Results of `benchmarks/bench_all.py` on one device at one precision, by recipe name."""

    device: str
    precision: str
    results: dict[str, dict]
    record: dict

    @property
    def reduced(self) -> bool:
        """Whether the sizes differ from those of the recipes."""
        return "reduced" in self.record

    @property
    def title(self) -> str:
        """Device and, unless it is float32, precision."""
        return self.device if self.precision == "32-true" else f"{self.device}, {self.precision.split('-')[0]}"


def measurements() -> list[Measurement]:
    """All measurements, the CPU first."""
    measured = []
    for name in ("bench_cpu.json", "bench_cuda.json"):
        if not (RESULTS / name).exists():
            continue
        record = json.loads((RESULTS / name).read_text(encoding="utf-8"))
        machine = record["machine"]
        device = machine["gpu"] or f"{machine['threads']}-core {machine['processor']}"
        for precision in dict.fromkeys(result["inference"]["precision"] for result in record["results"]):
            results = {
                result["recipe"]: result
                for result in record["results"]
                if result["inference"]["precision"] == precision
            }
            measured.append(Measurement(device, precision, results, record))
    return measured


def readme_table() -> str:
    """Six published networks."""
    lines = ["| dataset | head | mIoU | multi-scale + flip | recipe |", "|---|---|--:|--:|---|"]
    for recipe in map(recipes.load, CHOSEN):
        published = recipe.published
        assert published
        dataset, head = DATA[recipe.data.dataset], HEADS[recipe.head.kind]
        lines.append(f"| {dataset} | {head} | {published.miou:.2f} | {published.miou_tta:.2f} | `{recipe.name}` |")
    return "\n".join(lines)


def model_zoo_tables() -> str:
    """The published scores with our measurements; then ours, JPU against dilated, one table per device."""
    measured = measurements()
    return "\n\n".join([published_table(measured), *map(speed_table, measured)])


def published_table(measured: list[Measurement]) -> str:
    """All recipes with published scores, in the order of DATA. Unknown values are empty."""
    rows = [recipe for recipe in map(recipes.load, recipes.names()) if recipe.published]
    rows = [recipe for recipe in rows if recipe.published.miou or recipe.published.miou_tta]  # type: ignore[union-attr]
    rows.sort(key=_order)
    columns = {"data": "---", "head": "---", "": "---"} | dict.fromkeys(PUBLISHED, "--:")
    for measurement in measured:
        columns |= dict.fromkeys(our_columns(measurement), "--:")
    head = f"| {' | '.join([*columns, 'recipe'])} |"
    lines = [head, f"|{'|'.join([*columns.values(), '---'])}|"]
    return "\n".join([*lines, *(published_row(recipe, measured) for recipe in rows)])


def _order(recipe: Recipe) -> tuple:
    """By dataset, OpenMMLab's before the official code's, JPU before dilated."""
    official = recipe.name.startswith("official_")
    return list(DATA).index(recipe.data.dataset), official, recipe.neck.kind, recipe.head.kind, recipe.optim.batch


def our_columns(measurement: Measurement) -> list[str]:
    """Titles of the columns of a device; memory is left out if the sizes differ from those of the recipes."""
    if measurement.reduced:
        height, width = next(iter(measurement.results.values()))["inference"]["size"]
        return [f"ours images/s ({measurement.title}, {height}x{width})"]
    return [f"ours images/s ({measurement.title})", f"ours memory GB ({measurement.title})"]


def published_row(recipe: Recipe, measured: list[Measurement]) -> str:
    """The row of a recipe."""
    published = recipe.published
    assert published
    values = [published.miou, published.miou_tta, published.memory_gb, published.fps]
    for measurement in measured:
        result = measurement.results.get(recipe.name, {})
        values.append(result.get("inference", {}).get("images_per_second"))
        if not measurement.reduced:
            mib = result.get("training", {}).get("peak_memory_mib")
            values.append(mib and mib / 1024)
    cells = [
        DATA.get(recipe.data.dataset, recipe.data.dataset),
        HEADS[recipe.head.kind],
        "dilated" if recipe.neck.kind == "none" else recipe.neck.kind.upper().replace("_", "-"),
        str(recipe.optim.batch),
        f"{recipe.optim.steps / 1000:.0f}k",
        *("" if value is None else f"{value:.2f}" for value in values),
        f"`{recipe.name}`",
    ]
    return "| " + " | ".join(cells) + " |"


def speed_table(measurement: Measurement) -> str:
    """JPU, its dilated baseline and their ratio for each head that was measured with both."""
    first = next(iter(measurement.results.values()))
    head = ["head", "", "images/s", "ms p50", "ms p95", "GFLOP", "of peak", "memory MiB", "training images/s"]
    lines = [caption(measurement, first), "", f"| {' | '.join([*head, 'training memory MiB'])} |"]
    lines.append("|---|---|" + "--:|" * 8)
    for name, result in measurement.results.items():
        baseline = measurement.results.get(name.replace("fastfcn_", "dilated_", 1))
        if not name.startswith("fastfcn_") or not baseline:
            continue
        lines.append(speed_row(HEADS[recipes.load(name).head.kind], "JPU", result))
        lines.append(speed_row("", "dilated", baseline))
        lines.append(ratio_row(result, baseline))
    return "\n".join(lines)


def caption(measurement: Measurement, result: dict) -> str:
    """What the speed table shows and how it was measured."""
    inference, training = result["inference"], result["training"]
    sizes = "inference of one image of {}x{}, training steps of {} crops of {}x{}".format(
        *inference["size"], training["batch"], *training["crop"]
    )
    gpu = measurement.record["machine"]["gpu"]
    memory = "tensor memory on the GPU" if gpu else "growth of the process beyond the loaded network"
    return (
        f"JPU against dilated, on a {measurement.title}: {sizes}. Memory is the peak {memory}. *Of peak* is the FLOP/s "
        "of the plain network relative to the device's fastest matrix product; Winograd and skipped zeros need fewer "
        f"operations, hence values above 100 %. `{measurement.record['command']}`, {measurement.record['date']}."
    )


def speed_values(result: dict) -> list[float | None]:
    """The values of a result in the order of the speed table; None where memory was insufficient."""
    inference, training = result["inference"], result["training"]
    keys = ("images_per_second", "p50_ms", "p95_ms", "gflops", "share_of_peak", "peak_memory_mib")
    return [*map(inference.get, keys), training.get("images_per_second"), training.get("peak_memory_mib")]


def speed_row(head: str, neck: str, result: dict) -> str:
    """One network's row of the speed table."""
    forms = ("{:.3g}", "{:.0f}", "{:.0f}", "{:.0f}", "{:.0%}", "{:.0f}", "{:.3g}", "{:.0f}")
    values = zip(forms, speed_values(result), strict=True)
    cells = ["" if value is None else form.format(value) for form, value in values]
    return f"| {' | '.join([head, neck, *cells])} |"


def ratio_row(jpu: dict, dilated: dict) -> str:
    """The values of JPU divided by those of the dilated baseline."""
    pairs = zip(speed_values(jpu), speed_values(dilated), strict=True)
    cells = [f"{ours / baseline:.2f}x" if ours and baseline else "" for ours, baseline in pairs]
    return f"| {' | '.join(['', 'JPU : dilated', *cells])} |"


def camvid_table() -> str:
    """Scores of each class of CamVid's val split."""
    scores = json.loads((CAMVID / "scores.json").read_text())
    pixels = sum(values["pixels"] for values in scores["classes"].values())
    lines = ["| class | IoU | accuracy | share of val |", "|---|--:|--:|--:|"]
    for name, values in scores["classes"].items():
        share = values["pixels"] / pixels
        lines.append(f"| {name} | {values['iou']:.2f} | {values['accuracy']:.2f} | {share:.2%} |")
    means = f"| **mean** | **{scores['miou']:.2f}** | **{scores['mean_accuracy']:.2f}** | |"
    return "\n".join([*lines, means, "", f"Pixel accuracy {scores['pixel_accuracy']:.2f}."])


TABLES = {
    ROOT / "README.md": readme_table,
    ROOT / "docs" / "model-zoo.md": model_zoo_tables,
    ROOT / "docs" / "camvid.md": camvid_table,
}

if __name__ == "__main__":
    for document, table in TABLES.items():
        text = with_tables(document.read_text(encoding="utf-8"), SCRIPT, table())
        document.write_text(text, encoding="utf-8")
