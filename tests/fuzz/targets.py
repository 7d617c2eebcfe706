"""What is fuzzed: for each kind of input a valid file, and the commands that read it."""

import contextlib
import functools
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastfcn.data.decoding import as_colors, as_numbers, as_rgb, open_image
from fastfcn.data.description import CATALOG
from fastfcn.errors import UserError
from tests.fuzz.http_requests import damaged_request, fuzzed_service, request_seeds
from tests.fuzz.mutate import damaged, damaged_text
from tests.helpers.annotated_sets import SETS
from tests.helpers.command import fastfcn
from tests.helpers.tiny import NARROW, picture, tiny_recipe, tiny_weights, write_streets

SMALL = (*NARROW, 'backbone={kind="pyramid", name="lcnet_035", pretrained="none"}')
FORMATS = {"png": {}, "jpg": {}, "tif": {}, "bmp": {}, "gif": {}, "webp": {}, "ppm": {}, "tga": {}, "jp2": {}}


@dataclass(frozen=True)
class Target:
    """`run(content)` reads one damaged input; it may raise UserError alone. `weight`: its share of all inputs.

    `close()` is called after the last input.
    """

    name: str
    seeds: tuple[bytes, ...]
    change: Callable[[bytes, random.Random], bytes]
    run: Callable[[bytes], None]
    weight: int
    close: Callable[[], None] = lambda: None


def command(*arguments: object) -> None:
    """Run the command line in this process; an error it reports itself is fine, anything else is raised."""
    done = fastfcn(*arguments)
    text = done.out + done.err
    assert "Traceback" not in text, text
    assert done.code in (0, 1, 2), f"exit code {done.code}: {text}"
    if done.code == 1 and not text.strip():
        raise AssertionError("exit code 1 without a word")


def encoded(suffix: str, pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    form = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(suffix, suffix.upper().replace("PPM", "PPM"))
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def make_targets(folder: Path) -> list[Target]:
    """All targets, with their valid files below `folder`."""
    return [
        *image_targets(folder),
        *dataset_targets(folder),
        *import_targets(folder),
        *recipe_targets(folder),
        *weights_targets(folder),
        *run_targets(folder),
        *request_targets(folder),
    ]


def image_targets(folder: Path) -> list[Target]:
    weights, work = tiny_weights(folder / "weights.safetensors", SMALL[-1]), folder / "images"
    work.mkdir()
    label = (picture(32, 48)[..., 0] // 64).astype(np.uint8)
    images = tuple(encoded(suffix, picture(32, 48)) for suffix in FORMATS)
    masks = (
        *(encoded(suffix, label) for suffix in ("png", "tif", "bmp", "ppm")),
        *(encoded(suffix, picture(32, 48) // 64) for suffix in ("png", "tif", "gif")),
        encoded("png", label, bits=2),
        encoded("tif", label, compression="tiff_lzw"),
    )

    def read_pixels(content: bytes) -> None:
        for convert in (as_rgb, as_numbers, as_colors):
            try:
                with open_image(io.BytesIO(content), "input") as image:
                    convert(image)
            except UserError:
                pass

    def predict(content: bytes) -> None:
        (work / "a.png").write_bytes(content)
        command("predict", weights, work / "a.png", "--out", folder / "predicted", "--device", "cpu")

    return [
        Target("image readers", images, damaged, read_pixels, 30),
        Target("mask readers", masks, damaged, read_pixels, 30),
        Target("predict", images, damaged, predict, 8),
    ]


def dataset_targets(folder: Path) -> list[Target]:
    work = folder / "own"
    for index in range(3):
        pixels, label = picture(32, 48, index), (picture(32, 48, index)[..., 0] // 64).astype(np.uint8)
        for part, content in (("images", pixels), ("masks", label)):
            (work / part).mkdir(parents=True, exist_ok=True)
            (work / part / f"{index}.png").write_bytes(encoded("png", content))
    mask, image = (work / part / "1.png" for part in ("masks", "images"))
    lists = folder / "lists"
    shutil.copytree(work, lists)
    streets = write_streets(folder / "streets", 2, 1)
    description = (CATALOG / "streets.toml").read_bytes()

    def check(path: Path) -> Callable[[bytes], None]:
        valid = path.read_bytes()

        def run(content: bytes) -> None:
            path.write_bytes(content)
            out = folder / "fixed"
            shutil.rmtree(out, ignore_errors=True)
            try:
                command("check", work, "--fix", out, "--workers", "0")
            finally:
                path.write_bytes(valid)

        return run

    def init(name: str) -> Callable[[bytes], None]:
        def run(content: bytes) -> None:
            (lists / name).write_bytes(content)
            try:
                command("init", lists, "--force", "--pretrained", "none")
                command("check", lists, "--workers", "0")
            finally:
                (lists / name).unlink()
                shutil.rmtree(lists / "splits", ignore_errors=True)

        return run

    def describe(content: bytes) -> None:
        (folder / "d.toml").write_bytes(content)
        command("check", streets, "--dataset", folder / "d.toml", "--values", "--workers", "0")

    names = (b"background\nleaf\n3 wheeler\n", b"0: background\n1: leaf\n2: stem\n")
    csv = (b'name,r,g,b\nRoad,0,0,0\n"Car, parked",1,1,1\n', b"Pixel Value, Class\n0, background\n1, leaf\n")
    return [
        Target("check, image", (image.read_bytes(),), damaged, check(image), 4),
        Target("check, mask", (mask.read_bytes(),), damaged, check(mask), 4),
        Target("classes.txt", names, damaged_text, init("classes.txt"), 3),
        Target("class_dict.csv", csv, damaged_text, init("class_dict.csv"), 3),
        Target("train.txt", (b"0\n1\n", b"images/0.png masks/0.png\n"), damaged_text, init("train.txt"), 3),
        Target("dataset.toml", (description,), damaged_text, describe, 6),
    ]


def import_targets(folder: Path) -> list[Target]:
    """Exports of labeling tools: the first byte of an input is the number of the file that it replaces."""

    def change(content: bytes, rng: random.Random) -> bytes:
        return content[:1] + damaged_text(content[1:], rng)

    def target(name: str, write: Callable[[Path], Path]) -> Target:
        export, out = write(folder / "exports" / name.replace(" ", "_")), folder / "imported"
        paths = sorted(path for path in export.rglob("*") if path.suffix in (".json", ".xml", ".txt", ".yaml", ".csv"))
        seeds = tuple(bytes([index]) + path.read_bytes() for index, path in enumerate(paths))

        def run(content: bytes) -> None:
            path = paths[content[0]]
            path.write_bytes(content[1:])
            shutil.rmtree(out, ignore_errors=True)
            try:
                command("import", export, "--out", out)
            finally:
                path.write_bytes(seeds[content[0]][1:])

        return Target(f"import, {name}", seeds, change, run, 2)

    return [target(name, write) for name, write in SETS.items()]


def recipe_targets(folder: Path) -> list[Target]:
    text = tiny_recipe().text.encode()

    def show(content: bytes) -> None:
        (folder / "r.toml").write_bytes(content)
        command("recipe", folder / "r.toml")

    def override(content: bytes) -> None:
        command("recipe", "demo", content.decode("utf-8", "surrogateescape"))

    changes = (b"optim.lr=0.02", b'neck={kind="none"}', b"data.crop=[64, 96]", b'head={kind="fcn", width=8}')
    return [
        Target("recipe", (text,), damaged_text, show, 10),
        Target("override", changes, damaged_text, override, 4),
    ]


def weights_targets(folder: Path) -> list[Target]:
    path = folder / "w.safetensors"
    valid = (folder / "weights.safetensors").read_bytes()
    length = int.from_bytes(valid[:8], "little")
    header = json.loads(valid[8 : 8 + length])
    torch.save({"state_dict": {"a": torch.zeros(3)}, "meta": {"CLASSES": ("a",)}}, folder / "c.pth")

    def info(content: bytes) -> None:
        path.write_bytes(content)
        command("info", path)
        command("predict", path, folder / "images" / "a.png", "--out", folder / "predicted", "--device", "cpu")

    def change_header(content: bytes, rng: random.Random) -> bytes:
        """A valid file whose texts are damaged."""
        changed = json.loads(json.dumps(header))
        changed["__metadata__"].pop("checksum")  # as in files of earlier versions: else it is all that is tested
        name = rng.choice(sorted(changed["__metadata__"]))
        text = damaged_text(changed["__metadata__"][name].encode(), rng).decode("utf-8", "replace")
        changed["__metadata__"][name] = text
        written = json.dumps(changed).encode()
        written += b" " * (-len(written) % 8)
        return len(written).to_bytes(8, "little") + written + content[8 + length :]

    def convert(content: bytes) -> None:
        (folder / "d.pth").write_bytes(content)
        command("convert", folder / "d.pth", "--recipe", "demo", "--out", folder / "converted.safetensors")

    return [
        Target("weights", (valid,), damaged, info, 4),
        Target("header of weights", (valid,), change_header, info, 6),
        Target("checkpoint to convert", ((folder / "c.pth").read_bytes(),), damaged, convert, 6),
    ]


def run_targets(folder: Path) -> list[Target]:
    """Files of a run that ended: resuming it reads them all and does nothing more."""
    run, data = folder / "run", folder / "streets"
    arguments = ("--data", data, "--workers", "0", "--no-report", "--accelerator", "cpu")
    changes = (*SMALL, "optim.steps=1", "optim.batch=2", "eval.every=1")
    command("train", "demo", *changes, *arguments, "--out", run)
    copy = folder / "resumed"

    def resume(name: str) -> Callable[[bytes], None]:
        def again(content: bytes) -> None:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            (copy / name).write_bytes(content)
            command("train", "demo", *changes, *arguments, "--out", copy, "--resume")

        return again

    def report(name: str) -> Callable[[bytes], None]:
        def again(content: bytes) -> None:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            (copy / "weights.safetensors").unlink()  # the report of what the run recorded
            (copy / name).write_bytes(content)
            command("report", copy)

        return again

    files = {name: (run / name).read_bytes() for name in ("last.ckpt", "log.jsonl", "recipe.toml", "environment.toml")}
    return [
        Target("last.ckpt", (files["last.ckpt"],), damaged, resume("last.ckpt"), 2),
        Target("log.jsonl, resumed", (files["log.jsonl"],), damaged_text, resume("log.jsonl"), 2),
        Target("log.jsonl, reported", (files["log.jsonl"],), damaged_text, report("log.jsonl"), 3),
        Target("environment.toml", (files["environment.toml"],), damaged_text, report("environment.toml"), 2),
        Target("recipe.toml of a run", (files["recipe.toml"],), damaged_text, report("recipe.toml"), 3),
    ]


def request_targets(folder: Path) -> list[Target]:
    """The service, started with the first request."""
    stack = contextlib.ExitStack()

    @functools.cache
    def send() -> Callable[[bytes], None]:
        return stack.enter_context(fuzzed_service(folder / "weights.safetensors"))

    return [Target("requests", request_seeds(), damaged_request, lambda content: send()(content), 40, stack.close)]
