"""Every command and every line of Python in the documents runs, in the order in which a reader meets them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import readme_table
import service_tables
from documents import with_tables
from fastfcn import build, recipes
from fastfcn.data.description import load_description
from tests.helpers.command import fastfcn
from tests.helpers.drawn_video import write_video
from tests.helpers.openmmlab_files import openmmlab_state, save_0x
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_weights

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]

# Carried out elsewhere: by .ci/run, by tests/test_demo.py (the demo at full length takes two minutes), or by whoever
# sets up a checkout.
ELSEWHERE = {
    "pip install . && fastfcn demo",
    "pip install '.[test]' && pytest",
    "pip install -e '.[dev]'",
    "pre-commit install",
    "pytest",
}
# In small: two steps on small crops, from random weights unless the command names some.
SIZES = "data.base_size=[48,64] data.crop=[32,32]"
TRAIN = f"optim.steps=2 optim.batch=2 eval.every=2 {SIZES} --no-report --workers 0 --accelerator cpu"
BENCH = "--size 64x64 --runs 1 --no-train --accelerator cpu --threads 1"
PROFILE = "--size 64x64 --runs 1 --accelerator cpu --threads 1 --seconds 0"
EVALUATE = "eval.resize=none eval.scales=[0.5,1.0] --workers 0 --accelerator cpu"
NEEDS_DEVICES = "--devices 4"
# In the test's own process, as they change nothing in it: a fresh one takes seconds to begin.
HERE = ("fastfcn recipe", "fastfcn predict", "fastfcn info", "fastfcn push", "fastfcn reproduce")

RUN: set[str] = set()  # what one document has shown to run need not be run for the next


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S)


def commands(document: Path) -> list[str]:
    """The command lines of a document that are to be run here."""
    lines = [line for block in blocks(document, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [line.strip() for line in lines if line.strip() and line.strip() not in ELSEWHERE]


def in_small(command: str) -> str:
    """The command as it is run here."""
    command = re.sub(r"^torchrun .* -m fastfcn", "fastfcn", command)  # the machines it names are not here
    if command.startswith("fastfcn reproduce"):
        return command if "--dry-run" in command else command + " --dry-run"
    if command.startswith("fastfcn check"):
        return command + " --help"  # the pairs here are too few for a published data set
    if command.startswith("fastfcn export"):  # one of them; tests/test_export.py and tests/exports have the others
        return f"{command} --scores --sizes 33x47" if "--format onnx" in command else f"{command} --help"
    if command.startswith("fastfcn init"):
        return command + " --accelerator cpu --force"  # several documents draft the same folder
    if NEEDS_DEVICES in command or command.startswith("fastfcn serve"):  # it would go on; tests/server has it
        return command + " --help"
    if command.startswith("fastfcn train"):
        pretrained = "" if "backbone.pretrained=" in command else " backbone.pretrained=none"
        return f"{command} {TRAIN}{pretrained}"
    if command.startswith("fastfcn bench"):
        return f"{command} {BENCH}"
    if command.startswith("fastfcn profile"):
        one = command.replace("profile --budget", "profile demo --budget")  # not every recipe there is
        return f"{one} {PROFILE}"
    if command.startswith("fastfcn report"):
        return command.replace("--against runs/slim", "--against runs/camvid") + " --workers 0 --accelerator cpu"
    if command.startswith("fastfcn evaluate"):
        return f"{command} {EVALUATE}"
    if "hf://" in command or " webcam" in command:
        return f"{command} --help"
    if command.startswith("fastfcn push") and "--dry-run" not in command:
        return f"{command} --dry-run card"
    return command


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with everything that the documents take for granted, in small."""
    folder = tmp_path_factory.mktemp("reader")
    for split in ("train", "val"):
        pairs(folder, f"CamVid/{split}/{{}}.png", f"CamVid/{split}annot/{{}}.png", values=(0, 3, 8, 11))
        pairs(folder, f"photos/images/{split}/{{}}.jpg", f"photos/masks/{split}/{{}}.png", values=(0, 1, 255))
    city, end = "cityscapes/{}/val/ulm/", "_000000_000001_"
    pairs(folder, city.format("leftImg8bit") + "ulm{}" + end + "leftImg8bit.png",
          city.format("gtFine") + "ulm{}" + end + "gtFine_labelIds.png", values=(7, 8, 26))  # fmt: skip
    pairs(folder, "more/{}.jpg", "more-masks/{}.png", values=(0,))
    (folder / "more/0.jpg").rename(folder / "street.jpg")
    tiny_weights(folder / "weights.safetensors")
    tiny_weights(folder / "runs/streets/weights.safetensors")
    write_video(folder / "drive.mp4", 6)
    (folder / "photos.toml").write_text(blocks(ROOT / "docs/own-images.md", "toml")[0])
    torch.save(timm.create_model("resnet18").state_dict(), folder / "resnet18.pth")
    model = build.create(recipes.load("fastfcn_r50_psp_cityscapes_80k_b8"))
    names = [each.name for each in load_description("cityscapes").classes]
    save_0x(folder / "fastfcn_r50-d32_jpu_psp.pth", openmmlab_state(model), names)
    return folder


def pairs(folder: Path, images: str, labels: str, values: tuple[int, ...]) -> None:
    """Two images with masks in stripes of `values`."""
    for name in ("0", "1"):
        image, label = folder / images.format(name), folder / labels.format(name)
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        stripes = np.repeat(np.array(values, np.uint8), 64 // len(values) + 1)[:64]
        Image.fromarray(np.random.default_rng(int(name)).integers(0, 256, (48, 64, 3), np.uint8)).save(image)
        Image.fromarray(np.tile(stripes, (48, 1))).save(label)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_run(document, place, monkeypatch):
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": scripts + os.pathsep + os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    for command in commands(document):
        if command in RUN:
            continue
        RUN.add(command)
        assert command.startswith(("fastfcn ", "python ", "torchrun ")), f"{document.name}: who runs {command!r}?"
        for run in sorted(re.findall(r"--out (runs/\S+)", command)):
            if (place / run).exists() and "--resume" not in command:
                subprocess.run(["rm", "-r", str(place / run)], check=True)
        small = in_small(command)
        if (small.startswith(HERE) and ">" not in small) or re.fullmatch("fastfcn .* --help", small):
            monkeypatch.chdir(place)
            done = fastfcn(*shlex.split(small)[1:])
            assert done.code == 0, f"{document.name}: {command}\n{done.out[-2000:]}\n{done.err[-3000:]}"
            continue
        done = subprocess.run(small, shell=True, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{document.name}: {command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_runs(document, place, monkeypatch):
    monkeypatch.chdir(place)
    for block in blocks(document, "python"):
        exec(compile(block, str(document), "exec"), {})


def test_commands_elsewhere_are_those_of_the_documents():
    lines = {
        line.strip() for document in DOCUMENTS for block in blocks(document, "bash") for line in block.splitlines()
    }
    assert lines >= ELSEWHERE
    assert "pip install --quiet --no-cache-dir '.[test]' && pytest" in (ROOT / ".ci/run").read_text()


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("script", [readme_table, service_tables], ids=lambda script: script.__name__)
def test_tables_are_made_from_files(script):
    for document, tables in script.TABLES.items():
        text, table = document.read_text(encoding="utf-8"), tables()
        assert with_tables(text, script.SCRIPT, table) == text, f"run: {script.SCRIPT}"


def test_documents_split_like_a_shell():
    for document in DOCUMENTS:
        for command in commands(document):
            assert shlex.split(command)
