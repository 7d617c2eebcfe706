"""The file of results and the tables that are made from it."""

import json
from fnmatch import fnmatch
from pathlib import Path

from fastfcn.bench.record import rounded
from fastfcn.utils.files import write_text
from speed_peers.bounds import criteria

ROOT = Path(__file__).parents[2]
README = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
NOTES = {
    "what": "uint8 RGB image in memory in, class map in memory out, one image at a time, warm and synchronised; "
    "training: whole steps, the batch is there already",
    "turns": "every variant has a process of its own; one calls while the others sleep, in turn, round after round",
    "median_ms": "of all calls; images_per_second comes from it",
    "times_as_fast_as": "ratio of the medians of the variants that took turns in the same run",
    "cores_busy": "processors that the process kept busy on average during its calls",
    "loaded_mib": "growth of the process while the network is loaded, the libraries not included: resident memory, or "
    "tensors on the GPU; free memory is handed back before and after",
    "growth_mib": "from before the first call to the most that it came to in any call; what is kept counts",
    "gflops": "nominal: 2 per multiply-add of convolutions and matrix products, the network as its authors define it",
    "share_of_peak": "gflops over median and over the speed of the fastest square matrix product on the machine; "
    "beyond 1 where less is computed than is nominal",
    "agreement": "share of the pixels of a photograph that have the same class as in the reference's class map",
}


def result_path(device: str) -> Path:
    return RESULTS / f"speed_{device}.json"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}


def check_same_machine(old: dict, machine: dict) -> None:
    """Rows of different machines must not meet in one file."""
    told = {key: (old["machine"][key], machine[key]) for key in ("processor", "gpu", "threads") if old.get("machine")}
    other = {key: pair for key, pair in told.items() if pair[0] != pair[1]}
    if other:
        said = ", ".join(f"{key} {before!r}, now {now!r}" for key, (before, now) in other.items())
        raise SystemExit(f"The file of results is of another machine: {said}. Choose another with --out, or remove it.")


def merged(old: dict, rows: list[dict], facts: dict, device: str) -> dict:
    """`old` with `rows` in the place of those of the same contest and variant; others come at their contest's end."""
    held = {(row["contest"], row["variant"]): row for row in old["rows"]}
    for row in rows:
        # Five figures of an agreement could make 99.99 % of a little less.
        short = {key: value if key == "agreement" else rounded(value) for key, value in row.items()}
        held[row["contest"], row["variant"]] = short
    contests = list(dict.fromkeys(contest for contest, _ in held))
    kept = [row for contest in contests for key, row in held.items() if key[0] == contest]
    return {"device": device, **facts, "notes": NOTES, "rows": kept, "criteria": criteria(device, kept)}


def write(path: Path, record: dict) -> None:
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def wanted(patterns: list[str] | None, contest: str, variant: str) -> bool:
    """Whether one of the patterns of --only fits CONTEST or CONTEST/VARIANT; without any, all are wanted."""
    names = (contest, f"{contest}/{variant}")
    return not patterns or any(fnmatch(name, pattern) for name in names for pattern in patterns)


def tables(record: dict) -> list[str]:
    """Lines of Markdown: how, the figures, the bounds."""
    return [sentence(record), "", *figures(record["rows"]), "", *bounds(record["criteria"])]


def sentence(record: dict) -> str:
    machine, versions = record["machine"], record["versions"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
    peaks = ", ".join(f"{speed:,.1f} GFLOP/s in {name}" for name, speed in record["peaks"].values())
    used = ", ".join(f"{name} {versions[name]}" for name in versions if name in SHOWN)
    dates = sorted({row["date"] for row in record["rows"]})
    return f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {where}; matrix products: {peaks}; {used}."


SHOWN = ("torch", "torchvision", "mmsegmentation", "openvino", "onnxruntime", "cuda")
HEADER = ["variant", "ms", "images/s", "times as fast", "of peak", "loaded MiB", "growth MiB", "equal labels"]


def figures(rows: list[dict]) -> list[str]:
    """A line for each variant under a line for its contest; ratios are to the contest's first."""
    lines = [f"| {' | '.join(HEADER)} |", "|---|" + "--:|" * (len(HEADER) - 1)]
    for contest in dict.fromkeys(row["contest"] for row in rows):
        lines.append(f"| **{contest}** |" + " |" * (len(HEADER) - 1))
        own = [row for row in rows if row["contest"] == contest]
        lines += [f"| {' | '.join(cells(row, own[0]['variant']))} |" for row in own]
    return lines


def cells(row: dict, first: str) -> list[str]:
    if "failed" in row:
        return [row["variant"], "failed", *[""] * (len(HEADER) - 2)]
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
    lines = ["| bound | measured | |", "|---|--:|---|"]
    for each in criteria:
        value = f"{100 * each['measured']:.4f} %" if "labels" in each["bound"] else f"{each['measured']:g}"
        lines.append(f"| {each['bound']} | {value} | {each['result']} |")
    return lines


def put_tables(path: Path, record: dict, document: Path = README) -> None:
    """Write the tables of the record at `path` between the marks of its name in the document, if it has them."""
    text = document.read_text(encoding="utf-8")
    if path.parent == RESULTS and marks(path.stem)[0] in text:
        document.write_text(with_tables(text, path.stem, record), encoding="utf-8")


def with_tables(text: str, name: str, record: dict) -> str:
    """`text` of a document with the tables between the marks of `name`."""
    opening, closing = marks(name)
    before, rest = text.split(opening)
    return before + opening + "\n".join(tables(record)) + "\n" + closing + rest.split(closing)[1]


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->\n", f"<!-- end {name} -->"
