"""Train CamVid to the end on an NVIDIA GPU and record its scores and speed; a part of gpu.py.

    python benchmarks/gpu_camvid.py --device cuda --data CamVid --out benchmarks/results/gpu_camvid.json

Weights start at random, because a machine without network has no others: the scores are not those of the documentation.
Without `--data`, a few steps on drawn scenes show that the program works.
"""

import argparse
import tempfile
from pathlib import Path
from time import monotonic

import torch

import fastfcn
from fastfcn.demo.streets import write_dataset
from gpu_record import PASSED, Record

RECIPES = ("fastfcn_r18_jpu_s_camvid", "fastfcn_r50_psp_camvid")
TRIAL = (
    'backbone={kind="pyramid", name="test_resnet", pretrained="none"}', "neck.width=8", "head.width=8",
    "auxiliary.width=8", "data.base_size=[64, 96]", "data.crop=[64, 96]", "optim.steps=2", "optim.batch=2",
    "eval.every=2", "schedule.warmup_steps=0",
)  # fmt: skip


def train(recipe: str, data: Path, out: Path, device: str, overrides: tuple[str, ...]) -> str:
    """Train to the last step; returns a sentence about the run."""
    start = monotonic()
    precision = "bf16-mixed" if device == "cuda" else "32-true"
    run = fastfcn.train(recipe, data, out, overrides=overrides, accelerator=device, precision=precision)
    seconds = monotonic() - start
    speeds = sorted(line["images_per_second"] for line in run.log() if "images_per_second" in line)
    memory = f", {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if device == "cuda" else ""
    if not run.finished or run.miou is None:
        raise RuntimeError(f"stopped after {run.step} of {run.steps} steps")
    speed = f"{speeds[len(speeds) // 2]:.1f} images/s{memory}"
    return f"{PASSED}: mIoU {run.miou:.2f} after {run.step} steps in {seconds:.0f} s, {precision}, {speed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="device type")
    parser.add_argument("--data", type=Path, help="folder of CamVid")
    parser.add_argument("--out", type=Path, required=True, help="result file")
    args = parser.parse_args()
    record = Record(args.out, args.device)
    with tempfile.TemporaryDirectory() as folder:
        data, names, overrides = args.data, RECIPES, ('backbone.pretrained="none"',)
        if data is None:
            data, names, overrides = write_dataset(Path(folder) / "data", 4, 2, size=(64, 96)), ("demo",), TRIAL
        for name in names:
            record.add(
                f"training of {name}", lambda name=name: train(name, data, Path(folder) / name, args.device, overrides)
            )
    record.finish()


if __name__ == "__main__":
    main()
