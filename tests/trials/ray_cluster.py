"""`fastfcn predict --engine ray` on a cluster of three nodes, one of which is killed: every image is predicted once.

python -m tests.trials.ray_cluster --images 1500

The nodes are processes on this machine (`ray.cluster_utils.Cluster`), with one actor each. One of them is killed when
half of the images are finished. Compared with a run without Ray are all files, byte by byte, and the lines of the
manifests.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.tiny import picture, save_picture, tiny_weights
from tests.trials.bulk_prediction import contents


def predict(weights: Path, photos: Path, out: Path, *options: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "fastfcn", "predict", weights, photos, "--out", out, "--device", "cpu",
               "--format", "coco", "--format", "shares", *options]  # fmt: skip
    return subprocess.Popen(list(map(str, command)), env={**os.environ, **environment})


def finished(out: Path) -> int:
    manifest = out / "manifest.jsonl"
    return manifest.read_bytes().count(b'"pixels"') if manifest.is_file() else 0


def main() -> None:
    from ray.cluster_utils import Cluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1500)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "FASTFCN_KERNELS": "off", "RAY_USAGE_STATS_ENABLED": "0"}
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    weights, photos = tiny_weights(folder / "tiny.safetensors"), folder / "photos"
    for number in range(options.images):
        save_picture(photos / str(number % 7) / f"{number // 7}.png", picture(32, 48, number))
    started = time.monotonic()
    assert predict(weights, photos, folder / "plain").wait() == 0
    print(f"without Ray: {time.monotonic() - started:.0f} s", flush=True)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    started = time.monotonic()
    run = predict(weights, photos, folder / "ray", "--engine", "ray", RAY_ADDRESS=cluster.address)
    while finished(folder / "ray") < options.images / 2 and run.poll() is None:
        time.sleep(0.1)
    print(f"killed a node of three after {finished(folder / 'ray')} images", flush=True)
    cluster.remove_node(nodes[0], allow_graceful=False)
    code = run.wait()
    print(f"with Ray: {time.monotonic() - started:.0f} s, exit code {code}", flush=True)
    cluster.shutdown()
    files, lines = contents(folder / "ray")
    equal = code == 0 and (files, lines) == contents(folder / "plain") and len(lines) == options.images
    print(f"{len(files)} files and {len(lines)} lines are {'equal' if equal else 'NOT EQUAL'}")
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
