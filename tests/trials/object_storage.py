"""Training from moto's S3 server equals training from the files; killed with two processes, it resumes with one.

python -m tests.trials.object_storage --data CamVid --dataset camvid

It needs `pip install 'fastfcn[cloud]' 'moto[server]'`. Without --data, street scenes are drawn. Also printed: the time
to read all training images from the folder, the packed folder, and S3 without and with the cache.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from fastfcn import weights
from fastfcn.data.dataset import Dataset
from fastfcn.data.description import load_description
from fastfcn.data.packing import pack
from fastfcn.training.run import Run
from tests.helpers.tiny import NARROW, write_streets

URL = "s3://bucket/data"
CHANGES = ("head.dropout=0.0", "auxiliary.dropout=0.0", "data.crop=[64, 64]")


@contextmanager
def s3_server(folder: Path) -> Iterator[None]:
    """moto's server with an empty bucket; the environment of this process leads to it."""
    port = find_free_network_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "FASTFCN_CACHE": str(folder / "cache"),
    }
    with (folder / "moto.txt").open("w") as log:
        command = [sys.executable, "-c", "from moto.server import main; main()", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
        _wait_for(port)
        client.create_bucket(Bucket="bucket")
        yield
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.2)


def train(data: object, out: Path, *more: str, kill_at: int = 0) -> Run:
    """Train the narrow network; with `kill_at`, kill all processes after that step."""
    command = [sys.executable, "-m", "fastfcn", "train", "demo", *NARROW, *CHANGES, "--data", str(data), "--out",
               str(out), "--accelerator", "cpu", "--no-report", *more]  # fmt: skip
    run, end = Run(out), time.monotonic() + 600
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True)
    while process.poll() is None and time.monotonic() < end:
        if kill_at and any(line["step"] >= kill_at for line in run.read_log()) and run.checkpoint.exists():
            os.killpg(process.pid, 9)
            kill_at = 0
        time.sleep(0.05)
    process.wait()
    return run


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in run.read_log() if "loss" in line]


def same_weights(one: Run, other: Run) -> bool:
    first, second = weights.read(one.last).tensors, weights.read(other.last).tensors
    return all(torch.equal(first[key], second[key]) for key in first)


def seconds_to_read(dataset: Dataset) -> float:
    start = time.perf_counter()
    for index in range(len(dataset)):
        dataset[index]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--dataset", default="streets")
    parser.add_argument("--workers", default="1")
    parser.add_argument("--steps", type=int, default=6, help="of each training; one is killed half way")
    options = parser.parse_args()
    steps = (f"optim.steps={options.steps}", f"eval.every={max(1, options.steps // 3)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = options.data or write_streets(folder / "streets", 24, 4)
        description = load_description(options.dataset)
        with s3_server(folder):
            for place in (folder / "packed", URL):
                print(pack(description, data, place, splits=["train", "val"], shard_mb=16, workers=2), flush=True)
            for title, place in (("files", data), ("packed", folder / "packed"), ("s3", URL), ("s3, cached", URL)):
                seconds = seconds_to_read(Dataset(description, place, "train"))
                print(f"all training images read from {title}: {seconds:.2f} s", flush=True)
            shutil.rmtree(folder / "cache")
            dataset = f"data.dataset={options.dataset}"
            places = {"files": data, "packed": folder / "packed", "s3": URL}
            runs = {
                title: train(place, folder / title, dataset, *steps, "--workers", options.workers)
                for title, place in places.items()
            }
            for title, run in runs.items():
                equal = losses(run) == losses(runs["files"]) and same_weights(run, runs["files"])
                print(f"{title}: {losses(run)} equal to the files: {equal}", flush=True)
            killed = (URL, folder / "killed", dataset, *steps, "--workers", "1")
            train(*killed, "--devices", "2", kill_at=options.steps // 2)
            print(f"killed with two processes after {len(losses(Run(folder / 'killed')))} steps", flush=True)
            resumed = train(*killed, "--accumulate", "2", "--resume")
            whole = train(data, folder / "whole", dataset, *steps, "--workers", "1", "--accumulate", "2")
            largest = max(abs(a / b - 1) for a, b in zip(losses(resumed), losses(whole), strict=True))
            print(f"resumed with one: {losses(resumed)}, largest relative difference {largest:.1e}", flush=True)


if __name__ == "__main__":
    main()
