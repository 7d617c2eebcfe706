"""Fenced blocks of the documentation, and what its commands need: data, weights, a service, a Hub."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import timm
import torch
from PIL import Image

from fastfcn import build, recipes
from fastfcn.data.description import load_description
from fastfcn.demo import demo
from fastfcn.utils.console import SafeConsole
from tests.helpers import annotated_sets
from tests.helpers.band_sets import write_set
from tests.helpers.openmmlab_files import openmmlab_state, save_0x
from tests.helpers.paths import ROOT
from tests.helpers.synthetic_video import write_video
from tests.helpers.tiny import tiny_weights

DOCUMENTS = [
    path
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        ROOT / "benchmarks/README.md",
        ROOT / "benchmarks/parity/README.md",
        ROOT / "src/fastfcn/kernels/README.md",
    )
    if path.exists()
]
SHELL, PYTHON = ("bash", "sh", "shell", "console"), ("python", "py")
# Fences (also those without a language) that are neither commands nor Python. Sphinx directives are in braces.
OTHER = ("", "text", "toml", "json", "bibtex", "cpp", "c++", "yaml", "html", "{toctree}", "{eval-rst}", "{download}")
ADDRESS = "http://127.0.0.1:8000"


class Fence(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The command lines of a shell fence, without prompts, comments and line continuations."""
        lines = [line.strip().removeprefix("$ ") for line in self.text.replace("\\\n", " ").splitlines()]
        return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


def fences(document: Path) -> list[Fence]:
    """All fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return [Fence(*match) for match in re.findall(r"^[ ]*```([^\s`]*)\n(.*?)^[ ]*```$", text, re.M | re.S)]


def write_reader_folder(folder: Path) -> Path:
    """Everything that the documents assume, with two images per split and tiny networks."""
    for split in ("train", "val"):
        write_pairs(folder, f"CamVid/{split}/{{}}.png", f"CamVid/{split}annot/{{}}.png", values=(0, 3, 8, 11))
        write_pairs(folder, f"photos/images/{split}/{{}}.jpg", f"photos/masks/{split}/{{}}.png", values=(0, 1, 255))
    city, end = "cityscapes/{}/val/ulm/", "_000000_000001_"
    write_pairs(folder, city.format("leftImg8bit") + "ulm{}" + end + "leftImg8bit.png",
                city.format("gtFine") + "ulm{}" + end + "gtFine_labelIds.png", values=(7, 8, 26))  # fmt: skip
    write_pairs(folder, "more/{}.jpg", "more-masks/{}.png", values=(0,))
    (folder / "more/0.jpg").rename(folder / "street.jpg")
    write_set(folder / "scenes", train=2, val=1)
    Image.open(folder / "street.jpg").resize((160, 140)).save(folder / "area.tif")
    annotated_sets.coco_polygons(folder / "export")
    annotated_sets.coco(folder / "pictures", range(4), "../labels/labels.json")
    for run in (".", "runs/streets", "runs/camvid"):
        tiny_weights(folder / run / "weights.safetensors")
    write_video(folder / "drive.mp4", 6)
    write_demo(folder / "fastfcn-demo")
    tomls = (fence.text for fence in fences(ROOT / "docs/own-images.md") if fence.language == "toml")
    (folder / "photos.toml").write_text(next(text for text in tomls if text.startswith("format")))
    torch.save(timm.create_model("resnet18").state_dict(), folder / "resnet18.pth")
    write_openmmlab_checkpoint(folder / "fastfcn_r50-d32_jpu_psp.pth")
    return folder


def write_demo(folder: Path) -> None:
    """The demo's folder after two steps."""
    changes = ["optim.steps=2", "optim.batch=2", "eval.every=2"]
    demo.demo(folder, SafeConsole(quiet=True), changes, train_count=4, val_count=2)


def write_openmmlab_checkpoint(path: Path) -> None:
    """A published checkpoint with random weights."""
    model = build.create(recipes.load("fastfcn_r50_psp_cityscapes_80k_b8"))
    names = [part.name for part in load_description("cityscapes").classes]
    save_0x(path, openmmlab_state(model), names)


def write_pairs(folder: Path, images: str, labels: str, values: tuple[int, ...]) -> None:
    """Two images, different in every folder, with masks in stripes of `values`."""
    for number in (0, 1):
        image, label = folder / images.format(number), folder / labels.format(number)
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        stripes = np.repeat(np.array(values, np.uint8), 64 // len(values) + 1)[:64]
        pixels = np.random.default_rng(crc32(images.format(number).encode())).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(image)
        Image.fromarray(np.tile(stripes, (48, 1))).save(label)


class Service:
    """`fastfcn serve` in a separate process; a second `start` ends the first."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ADDRESS

    def start(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        """Run `fastfcn serve ARGUMENTS` on a free port and wait until it is ready."""
        self.stop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "fastfcn", "serve", *arguments, "--port", str(port), "--device", "cpu"]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 300
        while not self._ready():
            assert self.process.poll() is None, f"{' '.join(command)} ended with {self.process.returncode}"
            assert time.monotonic() < deadline, f"{' '.join(command)} is not ready after five minutes"
            time.sleep(0.2)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self) -> int | None:
        """End the process as a supervisor would; its exit code, None if it was not running."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM if os.name == "posix" else signal.CTRL_BREAK_EVENT)
        code = self.process.wait(60)
        self.process = None
        return code
