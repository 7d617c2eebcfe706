"""Compare speed and memory of fastfcn and other software with the same weights; segmentation maps must be equal.

Run in the comparison environment (benchmarks/README.md), on an idle machine:

    python benchmarks/speed.py
    python benchmarks/speed.py --device cuda
    python benchmarks/speed.py --only 'psp_19*/fastfcn*'
    python benchmarks/speed.py --out benchmarks/results/speed_cpu_avx2.json

Writes benchmarks/results/speed_DEVICE.json after each comparison, and the tables of benchmarks/README.md. Results of
another machine need another file; its tables are written if the README has markers with its name. --only updates the
rows that match its patterns (COMPARISON or COMPARISON/VARIANT, with * and ?) and keeps the others. Exits with 1 if a
target is missed or a variant failed.
"""

import argparse
import os
import shlex
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic

import torch

from fastfcn.bench.fresh_process import in_fresh_process
from fastfcn.bench.record import machine_info
from fastfcn.recipes.inference import image_size
from speed_peers import measure, results
from speed_peers.comparisons import QUICK_SIZE, Comparison, comparisons
from speed_peers.environment import Environment

PEERS = ("mmsegmentation", "mmengine", "mmcv-lite", "openvino", "onnx", "onnxruntime")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device type")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="COMPARISON or COMPARISON/VARIANT")
    parser.add_argument("--size", type=image_size, metavar="HxW", help="one image size for all comparisons")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads (default: all cores)"
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="approximate duration of each comparison")
    parser.add_argument("--launches", type=int, default=1, help="processes per variant in that time")
    parser.add_argument("--quick", action="store_true", help="64x128 and three rounds; written only with --out")
    parser.add_argument("--with-compile", action="store_true", help="include torch.compile, which takes minutes")
    parser.add_argument("--gpu-comparisons", action="store_true", help="run the GPU comparisons on any device")
    parser.add_argument(
        "--images", type=Path, default=results.ROOT.parent / "shared" / "data" / "samples", help="folder with images"
    )
    parser.add_argument("--folder", type=Path, help="cache folder for weights")
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--no-targets", action="store_true", help="missed targets are no error")
    parser.add_argument("--tables", action="store_true", help="only write the tables from the result file")
    parser.add_argument("--chart", type=Path, nargs="?", const=results.ROOT / "docs" / "speed.png",
                        help="only draw the chart from the result file (default: docs/speed.png)")  # fmt: skip
    args = parser.parse_args()
    if args.launches < 1:
        parser.error("--launches must be at least 1.")
    return args


def chosen(args: argparse.Namespace) -> list[Comparison]:
    """The comparisons with the variants that --only names, and the variants they are compared with."""
    size = args.size or (QUICK_SIZE if args.quick else None)
    selected = []
    for comparison in comparisons("cuda" if args.gpu_comparisons else args.device, args.with_compile, size):
        named = [
            variant for variant in comparison.variants if results.matches(args.only, comparison.name, variant.name)
        ]
        needed = (
            {variant.name for variant in named}
            | {variant.reference for variant in named}
            | {comparison.variants[0].name}
        )
        if named:
            variants = tuple(variant for variant in comparison.variants if variant.name in needed)
            selected.append(replace(comparison, variants=variants))
    if not selected:
        raise SystemExit("No comparison matches --only.")
    return selected


def machine_record(environment: Environment) -> dict:
    """Machine, versions, the peaks of matrix products, and whether our kernels could be built."""
    record = machine_info(torch.device(environment.device))
    for name in PEERS:
        try:
            record["versions"][name] = version(name)
        except PackageNotFoundError:
            continue
    job = (measure.machine_peaks, environment.device, environment.threads)
    record |= in_fresh_process(*job, progress=lambda done, total: None)
    peaks = ", ".join(f"{name}: {speed:,.1f} GFLOP/s" for name, speed in record["peaks"].values())
    print(f"{peaks}; compiled kernels: {record.get('kernels', 'not used')}", flush=True)
    return record


def measured(args: argparse.Namespace, environment: Environment, path: Path | None) -> dict:
    """Run all comparisons, writing after each; returns the record."""
    old = results.read(path) if path else {"rows": []}
    torch.set_num_threads(environment.threads)
    results.check_same_machine(old, machine_info(torch.device(environment.device))["machine"])
    machine = machine_record(environment)
    run = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), "command": command(args)}
    record, run_start = old, monotonic()
    for comparison in chosen(args):
        start = monotonic()
        seconds = 0.0 if args.quick else args.seconds
        rows = measure.run(comparison, environment, args.images, seconds, args.launches, machine["peaks"])
        named = [row for row in rows if results.matches(args.only, row["comparison"], row["variant"])]
        record = results.merged(record, [run | row for row in named], machine, environment.device)
        if path:
            results.write(path, record)
        print("\n".join(results.figures(rows)), flush=True)
        print(f"{monotonic() - start:.0f} s, {monotonic() - run_start:.0f} s in total", flush=True)
    return record


def command(args: argparse.Namespace) -> str:
    """The command line, without paths."""
    words = ["python", "benchmarks/speed.py", "--device", args.device, "--threads", str(args.threads)]
    words += ["--seconds", f"{args.seconds:g}"] + (["--only", *args.only] if args.only else [])
    words += ["--launches", str(args.launches)] if args.launches > 1 else []
    words += ["--size", "{}x{}".format(*args.size)] if args.size else []
    flags = {"--quick": args.quick, "--with-compile": args.with_compile, "--gpu-comparisons": args.gpu_comparisons}
    return shlex.join(words + [flag for flag, argv in flags.items() if argv])


def main() -> None:
    args = arguments()
    path = (args.out or results.result_path(args.device)).resolve()
    if args.chart:
        from speed_peers.chart import draw

        return draw(results.read(path), args.chart)
    if args.tables:
        return results.put_tables(path, results.read(path))
    if args.quick and not args.out:
        path = None
    with ExitStack() as closing:
        folder = args.folder or Path(closing.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        record = measured(args, Environment(folder, args.device, args.threads), path)
    print("\n".join(results.bounds(record["criteria"])))
    if path:
        results.put_tables(path, record)
    missed = [target["bound"] for target in record["criteria"] if target["result"] != "met" and not args.no_targets]
    failed = [row for row in record["rows"] if "failed" in row and not results.skipped(row)]
    missed += [f"{row['comparison']}: {row['variant']}: {row['failed']}" for row in failed]
    raise SystemExit("\n".join(["Missed:", *missed]) if missed else 0)


if __name__ == "__main__":
    main()
