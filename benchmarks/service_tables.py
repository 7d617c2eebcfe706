"""Write the tables of docs/backbones.md, export.md and serve.md from results: python benchmarks/service_tables.py."""

import json
from collections import Counter
from collections.abc import Callable
from statistics import median

from fastfcn.recipes.recipe import load
from markdown_tables import markdown, with_tables
from readme_table import HEADS, RESULTS, ROOT

SCRIPT = "python benchmarks/service_tables.py"
NOTHING = "Nothing has been measured yet."


def tables(of: dict[str, Callable[[dict], str]]) -> str:
    """One table for each result file, by name, that exists."""
    records = [(RESULTS / f"{name}.json", table) for name, table in of.items()]
    return "\n\n".join(table(json.loads(path.read_text())) for path, table in records if path.exists()) or NOTHING


def export_tables() -> str:
    """Tables of exported networks, in float32 and in int8."""
    return tables({"export_parity": parity_table, "export_int8": int8_table})


def parity_table(record: dict) -> str:
    """One row per network and runtime: the worst values of all sizes."""
    rows, sizes = [], Counter()
    for case, result in record["results"].items():
        recipe = load(case.partition("/")[0])
        sizes.update("x".join(map(str, entry["size"])) for entry in result["results"])
        agreement, difference = f"{result['worst_agreement']:.4%}", f"{result['worst_difference']:.1e}"
        verdict = "; ".join(result["broken"]) or "yes"
        network = f"{HEADS[recipe.head.kind]}, {recipe.backbone.name}"
        rows.append([network, result["title"], f"{result['megabytes']:.0f}", agreement, difference, verdict])
    header = ["network", "runtime", "MB", "min. equal labels", "max. logit difference", "within tolerance"]
    date = max(result["date"] for result in record["results"].values())
    script = "`python benchmarks/export_parity.py --images FOLDER_WITH_IMAGES`"
    caption = f"Image sizes: {', '.join(sizes)}; none of them was traced. Measured by {script}, {date}."
    return f"{caption}\n\n{markdown(header, rows)}"


def int8_table(record: dict) -> str:
    """Int8 compared with float32 in OpenVINO, for a trained network."""
    header = ["size", "equal labels", "float32 ms", "int8 ms", "speedup"]
    rows = []
    for entry in record["results"]:
        before, after = entry["other_p50_ms"], entry["p50_ms"]
        times = [f"{before:.1f}", f"{after:.1f}", f"{before / after:.2f}"]
        rows.append(["x".join(map(str, entry["size"])), f"{entry['agreement']:.2%}", *times])
    scores = f"mIoU {record['miou_before']:.2f} in float32, {record['miou_after']:.2f} in int8"
    caption = (
        f"INT8 version of {record['recipe']}: {scores}. `{record['command']}`, {record['date']}, {machine(record)}."
    )
    return f"{caption}\n\n{markdown(header, rows)}"


def backbone_tables() -> str:
    """What was tried with the networks of each family of timm, and the networks that are refused."""
    return tables({"families": families_tables})


def families_tables(record: dict) -> str:
    """Two tables; a cell is empty if that was not tried."""
    steps = {"training": "training", "prediction": "fast prediction", "onnx": "ONNX"}
    rows, refused = [], []
    for name, result in sorted(record["networks"].items(), key=lambda item: item[1]["family"].lower()):
        start = [result["family"], f"`{name}`"]
        if "refused" in result:
            refused.append([*start, result["refused"].replace("|", "/")])
        else:
            rows.append([*start, *(_outcome(result.get(step, "")) for step in steps)])
    counts = [
        f"{title} of {sum(row[2 + index] == 'yes' for row in rows)}" for index, title in enumerate(steps.values())
    ]
    caption = (
        f"{len(rows)} networks; tried and correct: {', '.join(counts)}. An empty cell was not tried. "
        f"{record['note']} `{record['command']}`, {record['date']}."
    )
    tried = markdown(["family", "network", *steps.values()], rows)
    return f"{caption}\n\n{tried}\n\nRefused:\n\n{markdown(['family', 'network', 'reason'], refused)}"


def _outcome(result: str) -> str:
    return {"ok": "yes", "": ""}.get(result, f"no: {result}".replace("|", "/"))


def serve_tables() -> str:
    """Load, overload and hostile requests."""
    return tables({"serve_load": load_table, "serve_hostile": hostile_table})


def load_table(record: dict) -> str:
    """Load and overload compared with the predictor without HTTP."""
    offline, memory = record["offline_images_per_second"], record["memory"]
    rows = [["predictor without HTTP", f"{median(offline):.2f}", "", "", ""]]
    for name in ("load", "overload"):
        load = record[name]
        half, _, slowest = load["seconds_p50_p95_p99"]
        refused = str(load["statuses"].get("503", 0))
        clients = f"{load['clients']} clients"
        if load.get("hostile_clients"):
            clients += f" and {load['hostile_clients']} hostile ones"
        rows.append([clients, f"{load['images_per_second']:.2f}", f"{half:.2f}", f"{slowest:.2f}", refused])
    header = ["", "images/s", "p50 latency (s)", "p99 latency (s)", "refused (503)"]
    size, end = "x".join(map(str, record["size"])), record["sigterm"]
    caption = (
        f"{record['network']}, images of {size}, {record['seconds']:.0f} s of overload: "
        f"`python benchmarks/{record['command']}`, {record['date']}, {machine(record)}."
    )
    after = (
        f"Memory {memory['middle_mib']:.0f} MiB after half the time and {memory['end_mib']:.0f} MiB at the end. After "
        f"SIGTERM, {end['answered_after_sigterm']} accepted requests were completed and {record['lost']} lost."
    )
    if hostile := record["overload"].get("hostile_statuses"):
        answers = ", ".join(f"{count} of {status}" for status, count in hostile.items())
        after += (
            " Hostile clients send JPEGs of many scans and PNGs of one line, beyond and within the limits; the answers "
            f"under overload: {answers}."
        )
    return f"{caption}\n\n{markdown(header, rows)}\n\n{after}"


def hostile_table(record: dict) -> str:
    """Responses to every kind of hostile request."""
    kinds: dict[str, Counter] = {}
    for kind, answers in record["answers"].items():
        kinds.setdefault(kind.split(" GET ")[0].split(" POST ")[0], Counter()).update(answers)
    rows = []
    for kind, counts in sorted(kinds.items()):
        answered = ", ".join(f"{count} of {answer}" for answer, count in sorted(counts.items()))
        rows.append([kind, str(counts.total()), answered])
    memory = record["memory"]
    caption = (
        f"{record['requests']} hostile requests: {record['status_500']} responses with status 500, {record['hung']} "
        f"timeouts. Memory {memory['middle_mib']:.0f} MiB half-way, {memory['end_mib']:.0f} MiB at the end. "
        f"`python benchmarks/{record['command']}`, {record['date']}."
    )
    return f"{caption}\n\n{markdown(['kind', 'requests', 'responses by status'], rows)}"


def machine(record: dict) -> str:
    """The CPU and the number of threads."""
    return f"{record['machine']['processor']}, {record['machine']['threads']} threads"


TABLES = {
    ROOT / "docs" / "backbones.md": backbone_tables,
    ROOT / "docs" / "export.md": export_tables,
    ROOT / "docs" / "serve.md": serve_tables,
}

if __name__ == "__main__":
    for document, made in TABLES.items():
        text = document.read_text(encoding="utf-8")
        document.write_text(with_tables(text, SCRIPT, made()), encoding="utf-8")
