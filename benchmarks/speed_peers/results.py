"""The result file, and the tables created from it."""

import json
from fnmatch import fnmatch
from pathlib import Path

from fastfcn.bench.record import rounded
from fastfcn.utils.files import write_text
from speed_peers.bounds import criteria
from speed_peers.comparisons import SKIPPED

ROOT = Path(__file__).parents[2]
README = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
NOTES = {
    "what": "from a uint8 RGB image to its segmentation map in memory, one image at a time, after warm-up; "
    "training: complete steps on a batch in memory",
    "turns": "each variant has its own process; they run one at a time, round after round",
    "median_ms": "of all calls; images_per_second is computed from it",
    "times_as_fast_as": "ratio of the medians of variants in the same run",
    "cores_busy": "average number of busy CPU cores during the calls",
    "loaded_mib": "growth of the process while the network is loaded, without libraries: resident memory, or "
    "tensors on the GPU; free memory is released before and after",
    "growth_mib": "peak memory of all calls minus memory before the first one",
    "gflops": "nominal: 2 per multiply-add of convolutions and matrix products, the network as its authors define it",
    "share_of_peak": "gflops divided by median time and by the speed of the fastest matrix product; "
    "above 1 if fewer operations are computed than nominal",
    "agreement": "share of pixels with the same label as the reference's",
}


def result_path(device: str) -> Path:
    return RESULTS / f"speed_{device}.json"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}


def check_same_machine(old: dict, machine: dict) -> None:
    """A result file must not contain rows of different machines."""
    pairs = {key: (old["machine"][key], machine[key]) for key in ("processor", "gpu", "threads") if old.get("machine")}
    other = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    if other:
        differences = ", ".join(f"{key} {before!r}, now {now!r}" for key, (before, now) in other.items())
        raise SystemExit(
            f"The result file is from another machine: {differences}. Choose another with --out, or delete it."
        )


def merged(old: dict, rows: list[dict], environment: dict, device: str) -> dict:
    """`old` with `rows` replacing those of the same comparison and variant; new rows follow their comparison."""
    merged_rows = {(row["comparison"], row["variant"]): row for row in old["rows"]}
    for row in rows:
        # Rounding an agreement to five digits could turn slightly less into 99.99 %.
        short = {key: value if key == "agreement" else rounded(value) for key, value in row.items()}
        merged_rows[row["comparison"], row["variant"]] = short
    comparisons = list(dict.fromkeys(comparison for comparison, _ in merged_rows))
    ordered = [row for comparison in comparisons for key, row in merged_rows.items() if key[0] == comparison]
    return {"device": device, **environment, "notes": NOTES, "rows": ordered, "criteria": criteria(device, ordered)}


def write(path: Path, record: dict) -> None:
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def matches(patterns: list[str] | None, comparison: str, variant: str) -> bool:
    """Whether a pattern of --only matches COMPARISON or COMPARISON/VARIANT; without patterns everything matches."""
    names = (comparison, f"{comparison}/{variant}")
    return not patterns or any(fnmatch(name, pattern) for name in names for pattern in patterns)


def tables(record: dict) -> list[str]:
    """Lines of Markdown: conditions, results, targets."""
    return [sentence(record), "", *figures(record["rows"]), "", *bounds(record["criteria"])]


def sentence(record: dict) -> str:
    machine, versions = record["machine"], record["versions"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
    peaks = ", ".join(f"{speed:,.1f} GFLOP/s in {name}" for name, speed in record["peaks"].values())
    used = ", ".join(f"{name} {versions[name]}" for name in versions if name in SHOWN)
    dates = sorted({row["date"] for row in record["rows"]})
    return f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {where}; matrix products: {peaks}; {used}."


def skipped(row: dict) -> bool:
    """Whether a variant was not measured because its software is not installed."""
    return row.get("failed", "").startswith(SKIPPED)


SHOWN = ("torch", "torchvision", "mmsegmentation", "openvino", "onnxruntime", "cuda")
HEADER = ["variant", "ms", "images/s", "speedup", "of peak", "loaded MiB", "growth MiB", "equal labels"]


def figures(rows: list[dict]) -> list[str]:
    """One line per variant below a line with the comparison's name; ratios are relative to the first variant."""
    lines = [f"| {' | '.join(HEADER)} |", "|---|" + "--:|" * (len(HEADER) - 1)]
    for comparison in dict.fromkeys(row["comparison"] for row in rows):
        lines.append(f"| **{comparison}** |" + " |" * (len(HEADER) - 1))
        own = [row for row in rows if row["comparison"] == comparison]
        lines += [f"| {' | '.join(cells(row, own[0]['variant']))} |" for row in own]
    return lines


def cells(row: dict, first: str) -> list[str]:
    if "failed" in row:
        return [row["variant"], "skipped" if skipped(row) else "failed", *[""] * (len(HEADER) - 2)]
    ratio, share, equal = row["times_as_fast_as"].get(first), row.get("share_of_peak"), row.get("agreement")
    return [
        row["variant"],
        f"{row['median_ms']:.4g}",
        f"{row['images_per_second']:.3g}",
        "" if ratio is None else f"{ratio:.2f}",
        "" if share is None else f"{share:.0%}",
        f"{row['loaded_mib']:.0f}",
        "" if row["growth_mib"] is None else f"{row['growth_mib']:.0f}",
        "" if equal is None else f"{100 * equal:.4f} %",
    ]


def bounds(criteria: list[dict]) -> list[str]:
    lines = ["| target | measured | |", "|---|--:|---|"]
    for target in criteria:
        value = (
            f"{100 * target['measured']:.4f} %"
            if target["bound"].endswith(("class map", "labels"))
            else f"{target['measured']:g}"
        )
        lines.append(f"| {target['bound'].replace('class map', 'labels')} | {value} | {target['result']} |")
    return lines


def put_tables(path: Path, record: dict, document: Path = README) -> None:
    """Write the tables of the record at `path` between the markers with its name, if the document has them."""
    text = document.read_text(encoding="utf-8")
    if path.parent == RESULTS and marks(path.stem)[0] in text:
        document.write_text(with_tables(text, path.stem, record), encoding="utf-8")


def with_tables(text: str, name: str, record: dict) -> str:
    """`text` of a document with the tables between the markers of `name`."""
    opening, closing = marks(name)
    before, rest = text.split(opening)
    return before + opening + "\n".join(tables(record)) + "\n" + closing + rest.split(closing)[1]


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->\n", f"<!-- end {name} -->"
