"""Check that `fastfcn reproduce` measures mmsegmentation's mIoU, for a checkpoint that mmsegmentation wrote.

Run in the comparison environment (README.md):

    python benchmarks/parity/reproduce.py

mmsegmentation writes a checkpoint with random weights, tests it on ADE20K's sample images, and computes mIoU with its
IoUMetric. A recipe with this as its published result is then run through `fastfcn reproduce`, with the checkpoint on a
local server. Exits with 1 if a result is wrong.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import openmmlab
import record
import torch
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from openmmlab import Architecture
from PIL import Image
from pipeline import SAMPLES, OpenMMLabTester
from sample_images import SampleImages, normalized

from fastfcn import recipes
from fastfcn.data.description import CATALOG, load_description

ARCHITECTURE = Architecture("psp", 150, True)
IMAGES = SAMPLES / "ade20k_sample/images/validation"
FIGURES = {"miou": False, "miou_tta": True}
BLOCK, CHANGED = 64, 0.2  # pixels, and share of blocks of a mask that get another class
SHIFT = 0.3  # error of the wrong published result, in points


class Server(ThreadingHTTPServer):
    """Serves one file at every path; ends each response after `break_after` bytes."""

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.break_after, self.offsets = content, None, []
        Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """Responds with the file, or with the requested range."""

    def do_GET(self) -> None:
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self.server.offsets.append(int(start[1]) if start else 0)
        body = self.server.content[self.server.offsets[-1] :]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.break_after])

    def log_message(self, *_: object) -> None:
        """Do not log."""


def write_data(images: list[Path], labels: list[np.ndarray], folder: Path) -> None:
    """Write the images, with `labels` as masks except for some random blocks, in ADE20K's layout and ids."""
    generator = np.random.default_rng(0)
    for image, label in zip(images, labels, strict=True):
        mask = label + 1
        for top in range(0, mask.shape[0], BLOCK):
            for left in range(0, mask.shape[1], BLOCK):
                if generator.random() < CHANGED:
                    mask[top : top + BLOCK, left : left + BLOCK] = generator.integers(0, 151)
        for kind in ("images", "annotations"):
            (folder / kind / "validation").mkdir(parents=True, exist_ok=True)
        (folder / "images/validation" / image.name).write_bytes(image.read_bytes())
        Image.fromarray(mask).save(folder / "annotations/validation" / f"{image.stem}.png")


def their_score(labels: list[np.ndarray], folder: Path, images: list[Path]) -> float:
    """mIoU of the segmentation maps in percent by mmsegmentation's metric, with the masks as it reads them."""
    metric = IoUMetric()
    metric.dataset_meta = {"classes": load_description("ade20k").class_names}
    for label, image in zip(labels, images, strict=True):
        with Image.open(folder / "annotations/validation" / f"{image.stem}.png") as mask:
            truth = np.array(mask).astype(np.int64) - 1
        truth[truth == -1] = 255
        maps = {"pred_sem_seg": label, "gt_sem_seg": truth}
        data = {name: PixelData(data=torch.from_numpy(map_.astype(np.int64))[None]) for name, map_ in maps.items()}
        metric.process({}, [SegDataSample(**data).to_dict()])
    return float(metric.compute_metrics(metric.results)["mIoU"])


def recipe_file(folder: Path, figures: dict[str, float], address: str) -> Path:
    """The recipe with another published result and URL; its dataset is ADE20K with any number of images."""
    text = (CATALOG / "ade20k.toml").read_text()
    (folder / "ade20k_sample.toml").write_text(re.sub(r"^counts = .*\n", "", text, flags=re.M))
    recipe = recipes.load(ARCHITECTURE.recipe, [f"data.dataset={folder / 'ade20k_sample.toml'}"])
    lines = [f"{name} = {value:.2f}" for name, value in figures.items()]
    published = "\n".join(["[published]", *lines, f'weights = "{address}"', 'source = "measured here"'])
    path = folder / "row.toml"
    path.write_text(recipe.text[: recipe.text.index("[published]")] + published + "\n")
    return path


def reproduce(row: Path, folder: Path, out: str, *options: str) -> dict:
    """Run the command; returns exit code, seconds, results and error."""
    command = [sys.executable, "-m", "fastfcn", "reproduce", str(row), "--data", str(folder / "data")]
    command += ["--out", str(folder / out), "--accelerator", "cpu", "--workers", "0", *options]
    environment = {**os.environ, "FASTFCN_CACHE": str(folder / "cache"), "no_proxy": "127.0.0.1"}
    start = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr[-2000:], flush=True)
    record = {"exit_code": done.returncode, "seconds": round(time.monotonic() - start, 1)}
    verdict = folder / out / "verdict.json"
    if done.returncode < 2 and verdict.is_file():
        record["figures"] = json.loads(verdict.read_text())["figures"]
    refusal = re.search(r"Error: (.*)", done.stderr)
    return record | ({"error": refusal[1].replace(str(folder), "...")} if refusal else {})


def cases(folder: Path, figures: dict[str, float], content: bytes) -> dict[str, dict]:
    """All situations of a user, in order."""
    digits = hashlib.sha256(content).hexdigest()[:8]
    server = Server(content)
    address = f"http://127.0.0.1:{server.server_address[1]}/{ARCHITECTURE.name}"
    row = recipe_file(folder, figures, f"{address}-{digits}.pth")
    server.break_after = len(content) // 2
    records = {"download interrupted": reproduce(row, folder, "out")}
    server.break_after = None
    records["the same command again"] = reproduce(row, folder, "out") | {"asked_from_byte": server.offsets[-1]}
    records["once more"] = reproduce(row, folder, "out") | {"requests": len(server.offsets)}
    wrong = {name: value + SHIFT for name, value in figures.items()}
    records["a published figure that is wrong"] = reproduce(
        recipe_file(folder, wrong, f"{address}-{digits}.pth"), folder, "other", "--no-tta"
    )
    server.offsets.clear()
    records["a wrong hash"] = reproduce(recipe_file(folder, figures, f"{address}-00000000.pth"), folder, "third")
    server.shutdown()
    return records


def failures(result: dict) -> list[str]:
    """What is wrong, one line each."""
    records, size = result["cases"], result["checkpoint_bytes"]
    codes = [value["exit_code"] for value in records.values()]
    wrong = [] if codes == [2, 0, 0, 1, 2] else [f"exit codes {codes}"]
    if records["the same command again"].get("asked_from_byte") != size // 2:
        wrong.append("the download did not resume where it stopped")
    if records["once more"].get("requests") != 2 or records["once more"]["seconds"] > 120:
        wrong.append("the last run repeated work")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=record.REPOSITORY.parent / "shared/data", help="folder of the datasets"
    )
    parser.add_argument("--first", type=int, help="use only this many images; results are not written")
    arguments = parser.parse_args()
    start = time.monotonic()
    images = sorted((arguments.data / IMAGES).glob("*.jpg"))[: arguments.first]
    samples = SampleImages(arguments.data / SAMPLES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = openmmlab.build(ARCHITECTURE)
        with torch.no_grad():
            openmmlab.calibrate_weights(model, samples.for_statistics(), normalized(samples.image(2, (512, 512))))
        openmmlab.save(ARCHITECTURE, model, "0.x", folder / "theirs.pth")
        side = OpenMMLabTester(model)
        maps = {figure: [side.labels(path, tta) for path in images] for figure, tta in FIGURES.items()}
        write_data(images, maps["miou"], folder / "data")
        figures = {figure: their_score(labels, folder / "data", images) for figure, labels in maps.items()}
        del model, side
        content = (folder / "theirs.pth").read_bytes()
        records = cases(folder, figures, content)
    result = record.circumstances(time.monotonic() - start) | {
        "network": ARCHITECTURE.name, "config": ARCHITECTURE.config.stem, "images": [path.name for path in images],
        "checkpoint_bytes": len(content), "theirs": figures, "cases": records,
    }  # fmt: skip
    if not arguments.first:
        record.write("parity_reproduce", result)
    raise SystemExit("\n".join(failures(result)) or 0)


if __name__ == "__main__":
    main()
