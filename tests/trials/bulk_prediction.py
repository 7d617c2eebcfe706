"""`fastfcn predict --resume` is killed again and again: it ends with the files of a run that was never stopped.

python -m tests.trials.bulk_prediction --kills 10 --seed 0

Two shards write into one folder, and both are killed at a random moment, also while they start. Compared are all
files, byte by byte, and the lines of the manifests.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.tiny import picture, save_picture, tiny_weights

SHARDS = ("1/2", "2/2")


def start(weights: Path, photos: Path, out: Path, shard: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "fastfcn", "predict", weights, photos, "--out", out, "--shard", shard, "--resume",
               "--format", "coco", "--format", "shares"]  # fmt: skip
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finished(out: Path) -> int:
    """Images with a line in one of the manifests."""
    return sum(path.read_bytes().count(b'"pixels"') for path in out.glob("manifest*.jsonl"))


def contents(out: Path) -> tuple[dict[str, bytes], list[str]]:
    """The files, and the lines of the manifests about images, in any order."""
    files = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith("manifest")}
    lines = [line for path in out.glob("manifest*.jsonl") for line in path.read_text().splitlines()[1:]]
    return files, sorted(json.dumps(json.loads(line), sort_keys=True) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "FASTFCN_KERNELS": "off"}
    folder, generator = Path(tempfile.mkdtemp(prefix="bulk-")), random.Random(options.seed)
    weights, photos = tiny_weights(folder / "tiny.safetensors"), folder / "photos"
    for number in range(options.images):
        save_picture(photos / str(number % 7) / f"{number // 7}.png", picture(32, 48, number))
    for kill in range(options.kills):
        before = finished(folder / "killed")
        processes = [start(weights, photos, folder / "killed", shard) for shard in SHARDS]
        # Half of the kills hit the start, the others what follows the first images.
        while kill % 2 and finished(folder / "killed") == before and processes[0].poll() is None:
            time.sleep(0.05)
        time.sleep(generator.uniform(0, 3))
        for process in processes:
            process.kill()
            process.wait()
        print(f"  kill {kill + 1}: {before} images before, {finished(folder / 'killed')} after", flush=True)
    for out in ("killed", "whole"):
        for shard in SHARDS:
            assert start(weights, photos, folder / out, shard).wait() == 0
    equal = contents(folder / "killed") == contents(folder / "whole")
    print(f"{options.kills} kills; {len(contents(folder / 'whole')[0])} files are {'equal' if equal else 'NOT EQUAL'}")
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
