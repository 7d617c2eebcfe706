"""Measure fastfcn on one NVIDIA GPU in ten minutes, with PyTorch 2.11 or later and a folder of wheels.

    bash benchmarks/gpu.sh --needs                 # what to bring to a machine without network, at most 64 MiB
    bash benchmarks/gpu.sh --wheels wheels --images photos --camvid CamVid
    bash benchmarks/gpu.sh --only training dilated
    bash benchmarks/gpu.sh --try                   # every part on a CPU at tiny sizes; writes no GPU figures

The parts run one after the other, each in its own process and with its own time limit; one that fails or takes too
long does not stop the others. Each writes benchmarks/results/gpu_PART.json after every measurement, with machine,
versions, date and command; benchmarks/results/gpu.md has the tables. Without mmsegmentation its columns are skipped.
Exits with 1 if a part failed. This file uses the standard library alone, because it installs the rest.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LIMIT_MIB = 64  # of everything brought to the machine
# Modules by the name of their distribution. A machine with PyTorch often has some of them.
FASTFCN = {
    "annotated-types": "annotated_types", "huggingface-hub": "huggingface_hub", "jinja2": "jinja2",
    "lightning-fabric": "lightning_fabric", "lightning-utilities": "lightning_utilities", "numpy": "numpy",
    "pillow": "PIL", "pydantic": "pydantic", "pydantic-core": "pydantic_core", "pyyaml": "yaml", "rich": "rich",
    "safetensors": "safetensors", "timm": "timm", "tomlkit": "tomlkit", "torchvision": "torchvision", "typer": "typer",
    "typing-inspection": "typing_inspection",
}  # fmt: skip
PEERS = {
    "addict": "addict", "ftfy": "ftfy", "matplotlib": "matplotlib", "mmcv-lite": "mmcv", "mmengine": "mmengine",
    "mmsegmentation": "mmseg", "opencv-python-headless": "cv2", "platformdirs": "platformdirs",
    "prettytable": "prettytable", "regex": "regex", "scipy": "scipy", "setuptools": "pkg_resources",
    "termcolor": "termcolor", "wcwidth": "wcwidth", "yapf": "yapf",
}  # fmt: skip
VERSIONS = {"mmsegmentation": "==1.2.2", "mmcv-lite": "==2.1.0", "setuptools": "<81"}
# mmsegmentation imports compiled operators of mmcv that mmcv-lite lacks and these networks never call.
MMCV_OPERATORS = """\
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args, **kwargs):
        raise RuntimeError(f"mmcv-lite has no operator {name}")

    return missing
"""


# Each part's share of the time, about its seconds. The most important figures come first.
LIMITS = {"checks": 60, "inference": 220, "training": 100, "dilated": 45, "camvid": 90, "compiled": 75}
START_SECONDS = 10  # before and after the parts
TRIAL_SECONDS = 300.0  # of each part of --try, which takes a fraction of it on an idle machine


@dataclass(frozen=True)
class Part:
    """One measurement: the arguments after `python`, and its time limit in seconds."""

    name: str
    arguments: tuple[str, ...]
    seconds: float


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to run (default: all): " + ", ".join(LIMITS))
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="install the wheels in this folder first")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder with three .jpg images (default: drawn)")
    parser.add_argument("--camvid", type=Path, metavar="DIR", help="folder of CamVid; without it that part is skipped")
    parser.add_argument("--minutes", type=float, default=10.0, help="time limit of all parts together (default: 10)")
    parser.add_argument("--try", dest="trial", action="store_true", help="every part on a CPU at tiny sizes")
    parser.add_argument("--needs", action="store_true", help="only list what a machine without network needs")
    args = parser.parse_args(argv)
    if unknown := set(args.only or ()) - LIMITS.keys():
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; choose from {', '.join(LIMITS)}")
    return args


def parts(args: argparse.Namespace, images: Path, out: Path) -> list[Part]:
    """The parts to run; each writes into `out`."""
    chosen = [name for name in LIMITS if name in (args.only or LIMITS) and can_run(name, args)]
    unit = (60 * args.minutes - START_SECONDS) / sum(LIMITS[name] for name in chosen)
    seconds = {name: TRIAL_SECONDS if args.trial else unit * LIMITS[name] for name in chosen}
    return [
        Part(name, command(name, args, images, result_path(name, args.trial, out)), seconds[name]) for name in chosen
    ]


def can_run(name: str, args: argparse.Namespace) -> bool:
    """CamVid needs its data, and torch.compile takes minutes on a CPU; what --try cannot run is no part of it."""
    if name == "camvid":
        return args.trial or args.camvid is not None
    return name != "compiled" or not args.trial


def result_path(name: str, trial: bool, out: Path) -> Path:
    """The file of a part, whose name says what its figures are."""
    return out / f"{'try' if trial else 'gpu'}_{name}.json"


def command(name: str, args: argparse.Namespace, images: Path, path: Path) -> tuple[str, ...]:
    """The arguments after `python` of a part that writes `path`."""
    device = "cpu" if args.trial else "cuda"
    if name == "checks":
        return ("benchmarks/gpu_checks.py", "--device", device, "--out", str(path))
    if name == "camvid":
        data = ("--data", str(args.camvid.resolve())) if args.camvid and not args.trial else ()
        return ("benchmarks/gpu_camvid.py", "--device", device, "--out", str(path), *data)
    patterns = {
        "inference": ("psp_*", "enc_*", "aspp_*"),
        "training": ("train_*",),
        "dilated": ("dilated_*", "slim_*"),
        "compiled": tuple(f"{head}_*/{name}" for head in ("psp", "enc", "aspp") for name in ("compiled", "fastfcn")),
    }
    speed = ("benchmarks/speed.py", "--device", device, "--images", str(images), "--out", str(path), "--no-targets")
    if args.trial:
        tried = {"inference": "psp_19_*/fastfcn*", "training": "train_psp_19_*", "dilated": "dilated_psp_*"}
        return (*speed, "--gpu-comparisons", "--quick", "--only", tried[name])
    compiled = ("--with-compile",) if name == "compiled" else ()
    return (*speed, "--seconds", "4", *compiled, "--only", *patterns[name])


def run(part: Part, environment: dict[str, str]) -> dict:
    """Run a part in its own process group, which is killed at the time limit; returns what became of it."""
    start = monotonic()
    print(f"== {part.name}: python {' '.join(part.arguments)} (at most {part.seconds:.0f} s)", flush=True)
    process = subprocess.Popen([sys.executable, *part.arguments], cwd=ROOT, env=environment, start_new_session=True)
    try:
        code = process.wait(part.seconds)
        result = "complete" if code == 0 else f"failed with exit code {code}"
    except subprocess.TimeoutExpired:
        result = f"stopped at the time limit of {part.seconds:.0f} s; what was measured before is kept"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    print(f"-- {part.name}: {result} [{monotonic() - start:.0f} s]", flush=True)
    return {"part": part.name, "result": result, "seconds": round(monotonic() - start)}


def install(wheels: Path, target: Path) -> None:
    """Install the wheels of a folder into `target`, without network and without their dependencies."""
    names = sorted(map(str, wheels.glob("*.whl")))
    if not names:
        raise SystemExit(f"{wheels} has no .whl files; `--needs` says how to download them.")
    options = ("--no-index", "--no-deps", "--no-compile", "--quiet", "--upgrade", "--target", str(target))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *names], check=True)
    if (target / "mmcv").is_dir():
        (target / "mmcv" / "_ext.py").write_text(MMCV_OPERATORS)


def needs() -> str:
    """What to bring to a machine without network, and what is missing in this interpreter."""
    specifiers = [name + VERSIONS.get(name, "") for name in sorted(FASTFCN | PEERS)]
    missing = [name for name, module in sorted((FASTFCN | PEERS).items()) if not importlib.util.find_spec(module)]
    quoted = " ".join(f"'{one}'" if {"<", "="} & set(one) else one for one in specifiers)
    return f"""\
Bring, at most {LIMIT_MIB} MiB in all (leave out wheels that the machine has, such as numpy or opencv):
- this repository
- a folder with three .jpg photographs (--images), else street scenes are drawn
- the folder of CamVid (--camvid), 33 MiB with JPEG images
- a folder of wheels (--wheels) for its Python and processor, here Python 3.12 on x86-64:
  pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \\
    --platform manylinux2014_x86_64 -d wheels {quoted}
Needed by fastfcn: {", ".join(sorted(FASTFCN))}
Needed by mmsegmentation, which is skipped without them: {", ".join(sorted(PEERS))}
Missing in {sys.executable}: {", ".join(missing) or "none"}"""


def environment_of(site: Path) -> dict[str, str]:
    """Environment variables of the parts: the source, tests/helpers, and the installed wheels first."""
    paths = [str(ROOT / "src"), str(ROOT), str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "FASTFCN_KERNELS": "off", "PYTHONUNBUFFERED": "1"}


def in_python(code: str, environment: dict[str, str]) -> str:
    """The output of a Python program in the environment of the parts; raises SystemExit with its error."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stderr.strip()}\nWheels may be missing: see --needs.")
    return done.stdout.strip()


DRAW = """
from pathlib import Path
from PIL import Image
from fastfcn.demo.streets import draw
for number in range(3):
    Image.fromarray(draw(number, {size})[0]).save(Path({folder!r}) / f"street_{{number}}.jpg")
"""


def table(path: Path) -> list[str]:
    """Lines of Markdown from the file of a part. Raises ValueError if it was not measured on a GPU."""
    from speed_peers.results import figures, sentence

    record = json.loads(path.read_text(encoding="utf-8"))
    if not record["machine"]["gpu"]:
        raise ValueError(f"{path} was measured without a GPU")
    commands = sorted({row["command"] for row in record["rows"]})
    lines = [f"## {path.stem.removeprefix('gpu_').capitalize()}", "", *(f"`{one}`" for one in commands), ""]
    if "peaks" in record:
        skipped = sorted({row["failed"] for row in record["rows"] if row.get("failed", "").startswith("skipped")})
        return [*lines, sentence(record), *skipped, "", *figures(record["rows"]), ""]
    machine, versions = record["machine"]["gpu"], record["versions"]
    lines += [f"{record['rows'][0]['date']}, {machine}, torch {versions['torch']}.", "", "| | result |", "|---|---|"]
    return [*lines, *(f"| {row['name']} | {row['result']} |" for row in record["rows"]), ""]


def write_tables(folder: Path) -> None:
    """Write gpu.md from the files gpu_PART.json of the folder."""
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
    files = [path for name in LIMITS if (path := result_path(name, False, folder)).exists()]
    lines = ["# On a GPU", "", "Made by `bash benchmarks/gpu.sh` from the files gpu_*.json.", ""]
    lines += [line for path in files for line in table(path)]
    (folder / "gpu.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    if args.needs:
        return print(needs())
    with tempfile.TemporaryDirectory() as folder:
        site, images = Path(folder) / "site", args.images or Path(folder)
        if args.wheels:
            install(args.wheels, site)
            sys.path.insert(0, str(site))
        environment = environment_of(site)
        has_gpu = in_python("import torch; print(torch.cuda.is_available())", environment) == "True"
        if not has_gpu and not args.trial:
            raise SystemExit("PyTorch finds no NVIDIA GPU. `--try` runs every part on a CPU, and writes no figures.")
        if images == Path(folder):
            in_python(DRAW.format(folder=folder, size=(64, 128) if args.trial else (512, 1024)), environment)
        out = Path(folder) if args.trial else RESULTS
        results = [run(part, environment) for part in parts(args, images.resolve(), out)]
        if not args.trial:
            write_tables(out)
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M}", *(f"{one['part']}: {one['result']}" for one in results), sep="\n")
    raise SystemExit(any(one["result"] != "complete" for one in results))


if __name__ == "__main__":
    main()
