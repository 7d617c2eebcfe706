"""How fast is fastfcn beside others with the same weights? Speed, memory and equal class maps, in turns.

Run in the peers' environment (README.md), on a machine with nothing else to do:

    python benchmarks/speed.py
    python benchmarks/speed.py --device cuda
    python benchmarks/speed.py --only 'psp_19*/fastfcn*'
    python benchmarks/speed.py --out benchmarks/results/speed_cpu_avx2.json

Writes benchmarks/results/speed_DEVICE.json, after each contest anew, and the tables of benchmarks/README.md from it;
another machine's results have a file of their own beside it, and tables where that document has marks of its name;
--only renews the rows that its patterns name (CONTEST or CONTEST/VARIANT, * and ? as in a shell) and keeps the others.
Exits with 1 where a bound falls short or a variant failed.
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
from fastfcn.bench.record import image_size, machine_info
from speed_peers import measure, results
from speed_peers.calls import Place
from speed_peers.contests import QUICK_SIZE, Contest, contests

PEERS = ("mmsegmentation", "mmengine", "mmcv-lite", "openvino", "onnx", "onnxruntime")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="CONTEST or CONTEST/VARIANT")
    parser.add_argument("--size", type=image_size, metavar="HxW", help="all contests at this size instead")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="all cores if left out")
    parser.add_argument("--seconds", type=float, default=40.0, help="of counted turns in each contest, about")
    parser.add_argument("--launches", type=int, default=1, help="of each variant's process in that time")
    parser.add_argument("--quick", action="store_true", help="64x128 and three rounds; records only with --out")
    parser.add_argument("--with-compile", action="store_true", help="torch.compile too, which takes minutes")
    parser.add_argument("--gpu-contests", action="store_true", help="those of a GPU, on whatever device")
    parser.add_argument("--images", type=Path, default=results.ROOT.parent / "shared" / "data" / "samples")
    parser.add_argument("--folder", type=Path, help="keep weights here and use those that are here")
    parser.add_argument("--out", type=Path, help="the file of results")
    parser.add_argument("--tables", action="store_true", help="only make the tables from the file of results")
    parser.add_argument("--picture", type=Path, nargs="?", const=results.ROOT / "docs" / "speed.png",
                        help="only draw the file of results (docs/speed.png)")  # fmt: skip
    asked = parser.parse_args()
    if asked.launches < 1:
        parser.error(f"--launches {asked.launches}: one at least.")
    return asked


def chosen(asked: argparse.Namespace) -> list[Contest]:
    """The contests, with the variants that --only names and the ones that they are compared with."""
    size = asked.size or (QUICK_SIZE if asked.quick else None)
    picked = []
    for contest in contests("cuda" if asked.gpu_contests else asked.device, asked.with_compile, size):
        named = [each for each in contest.variants if results.wanted(asked.only, contest.name, each.name)]
        needed = {each.name for each in named} | {each.reference for each in named} | {contest.variants[0].name}
        if named:
            variants = tuple(each for each in contest.variants if each.name in needed)
            picked.append(replace(contest, variants=variants))
    if not picked:
        raise SystemExit("No contest has a name that fits --only.")
    return picked


def facts(place: Place) -> dict:
    """Machine, versions, the peaks of matrix products, and whether our kernels could be built."""
    found = machine_info(torch.device(place.device))
    for name in PEERS:
        try:
            found["versions"][name] = version(name)
        except PackageNotFoundError:
            continue
    asked = (measure.about_machine, place.device, place.threads)
    found |= in_fresh_process(*asked, progress=lambda done, total: None)
    peaks = ", ".join(f"{name}: {speed:,.1f} GFLOP/s" for name, speed in found["peaks"].values())
    print(f"{peaks}; compiled kernels: {found.get('kernels', 'not used')}", flush=True)
    return found


def measured(asked: argparse.Namespace, place: Place, path: Path | None) -> dict:
    """Hold all contests, writing after each; returns the whole record."""
    old = results.read(path) if path else {"rows": []}
    torch.set_num_threads(place.threads)
    results.check_same_machine(old, machine_info(torch.device(place.device))["machine"])
    about = facts(place)
    noted = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), "command": command(asked)}
    record, began = old, monotonic()
    for contest in chosen(asked):
        start = monotonic()
        seconds = 0.0 if asked.quick else asked.seconds
        rows = measure.run(contest, place, asked.images, seconds, asked.launches, about["peaks"])
        named = [row for row in rows if results.wanted(asked.only, row["contest"], row["variant"])]
        record = results.merged(record, [noted | row for row in named], about, place.device)
        if path:
            results.write(path, record)
        print("\n".join(results.figures(rows)), flush=True)
        print(f"{monotonic() - start:.0f} s, {monotonic() - began:.0f} s in all", flush=True)
    return record


def command(asked: argparse.Namespace) -> str:
    """The command line without paths, which are of this machine."""
    said = ["python", "benchmarks/speed.py", "--device", asked.device, "--threads", str(asked.threads)]
    said += ["--seconds", f"{asked.seconds:g}"] + (["--only", *asked.only] if asked.only else [])
    said += ["--launches", str(asked.launches)] if asked.launches > 1 else []
    said += ["--size", "{}x{}".format(*asked.size)] if asked.size else []
    flags = {"--quick": asked.quick, "--with-compile": asked.with_compile, "--gpu-contests": asked.gpu_contests}
    return shlex.join(said + [flag for flag, given in flags.items() if given])


def main() -> None:
    asked = arguments()
    path = (asked.out or results.result_path(asked.device)).resolve()
    if asked.picture:
        from speed_peers.picture import draw

        return draw(results.read(path), asked.picture)
    if asked.tables:
        return results.put_tables(path, results.read(path))
    if asked.quick and not asked.out:
        path = None
    with ExitStack() as closing:
        folder = asked.folder or Path(closing.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        record = measured(asked, Place(folder, asked.device, asked.threads), path)
    print("\n".join(results.bounds(record["criteria"])))
    if path:
        results.put_tables(path, record)
    short = [each["bound"] for each in record["criteria"] if each["result"] != "holds"]
    short += [f"{row['contest']}: {row['variant']}: {row['failed']}" for row in record["rows"] if "failed" in row]
    raise SystemExit("\n".join(["Falls short:", *short]) if short else 0)


if __name__ == "__main__":
    main()
