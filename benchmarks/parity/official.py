"""Compare the official family with FastFCN's official code, with the same weights.

Run in the comparison environment (README.md), with a checkout of https://github.com/wuhuikai/FastFCN:

    python benchmarks/parity/official.py --official FastFCN

Exits with 1 if a tolerance is exceeded.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import official_code
import record
import torch
from forward import comparison
from official_networks import NETWORKS, Architecture, calibrated_network, from_theirs, parameters
from official_runs import training_row, window_rows
from sample_images import SampleImages, normalized
from store_logits import sample
from torch import nn

from fastfcn import weights
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.upsample import upsample
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.convert import convert

sys.path.insert(0, str(record.REPOSITORY))
from tests.helpers import named_weights, official_weights

SIZES = ((480, 480), (353, 481))  # (height, width)
ODD = SIZES[-1]
BOUNDS = {
    "difference": 2e-3,  # of logits with a standard deviation of about 3
    "agreement": 0.9999,
    "windows": 1e-3,  # relative, of sums of exponentials
    "loss": 1e-3,  # relative
    "update": 1e-2,  # relative to the length of the update
}
STORED_SIZES = ((97, 65), (41, 401))
STORED = (("psp", "jpu"), ("deeplabv3", "jpu"), ("enc", "jpu_x"))


def logit_rows(ours: Segmenter, theirs: nn.Module, samples: SampleImages) -> Iterator[dict]:
    """Full-size logits at each size; at the odd one also the outputs that only training uses."""
    for size in SIZES:
        image = normalized(samples.image(2, size))
        expected = theirs(image)
        yield {"route": "logits", "size": list(size)} | comparison(ours(image), expected[0])
    _, extras = ours.forward_train(normalized(samples.image(2, ODD)))
    full = upsample(extras["auxiliary"], ODD, ours.align_corners)
    yield {"route": "auxiliary head", "size": list(ODD)} | comparison(full, expected[-1])
    if "se" in extras:
        yield {"route": "SE logits", "size": list(ODD)} | comparison(extras["se"], expected[1])


def checkpoint_row(recipe: Recipe, ours: Segmenter, theirs: nn.Module, folder: Path) -> dict:
    """A `.pth.tar` as the official code writes it, through `fastfcn convert`: equal tensors."""
    official_code.save(theirs, folder / "model_best.pth.tar")
    recipe.save(folder / "used.toml")
    convert(folder / "model_best.pth.tar", str(folder / "used.toml"), folder / "w.safetensors")
    tensors, expected = weights.read(folder / "w.safetensors").tensors, ours.state_dict()
    equal = tensors.keys() == expected.keys() and all(torch.equal(tensors[key], expected[key]) for key in tensors)
    return {"route": "checkpoint", "weights_equal": equal}


@torch.no_grad()
def compare(encoding: Any, architecture: Architecture, samples: SampleImages) -> dict:
    """Logits of one network, and its converted checkpoint."""
    recipe, theirs = architecture.recipe(), calibrated_network(encoding, architecture, samples)
    ours = from_theirs(recipe, theirs)
    counted = {"theirs": parameters(theirs) - parameters(theirs.pretrained.fc), "ours": parameters(ours)}
    with tempfile.TemporaryDirectory() as folder:
        rows = [*logit_rows(ours, theirs, samples), checkpoint_row(recipe, ours, theirs, Path(folder))]
    return {"architecture": architecture.name, "recipe": recipe.name, "parameters": counted, "rows": rows}


def failures(result: dict) -> Iterator[str]:
    """What exceeds a tolerance, one line each."""
    for entry in result["architectures"]:
        if len(set(entry["parameters"].values())) > 1:
            yield f"{entry['architecture']}: parameters {entry['parameters']}"
        for row in entry["rows"]:
            fine = row.get("difference", 0.0) <= BOUNDS["difference"] and row.get("weights_equal", True)
            if not fine or row.get("agreement", 1.0) < BOUNDS["agreement"]:
                yield f"{entry['architecture']}: {row}"
    for row in result["windows"]:
        if row["relative_difference"] > BOUNDS["windows"] or row["agreement"] < BOUNDS["agreement"]:
            yield f"windows: {row}"
    for row in result["training"]:
        if row["relative_difference"] > BOUNDS["loss"] or row["update_difference"] > BOUNDS["update"]:
            yield f"training: {row}"


def lines(result: dict) -> list[str]:
    """The tables of README.md."""
    logits = [
        [entry["architecture"], f"{entry['parameters']['ours']:,}", row["route"], "x".join(map(str, row["size"])),
         f"{row['logits_std']:.2f}", f"{100 * row['agreement']:.4f} %", f"{row['difference']:.1e}"]
        for entry in result["architectures"] for row in entry["rows"] if "size" in row
    ]  # fmt: skip
    windows = [
        ["x".join(map(str, row["size"])), ", ".join(map(str, row["windows"])), str(len(row["scales"])),
         "yes" if row["flip"] else "no", f"{row['relative_difference']:.1e}", f"{100 * row['agreement']:.4f} %"]
        for row in result["windows"]
    ]  # fmt: skip
    training = [
        [row["architecture"], " ".join(f"{entry['theirs']:.4f}" for entry in row["losses"]),
         f"{row['relative_difference']:.1e}", f"{row['update_difference']:.1e}"]
        for row in result["training"]
    ]  # fmt: skip
    machine = f"{result['date']}, {result['machine']['processor']}, torch {result['versions']['torch']}"
    first = ["network", "parameters", "compared", "size", "std", "equal labels", "difference"]
    second = ["size", "base size, crop, stride", "scales", "mirrored", "largest relative difference", "equal labels"]
    third = ["network", "their losses", "largest relative difference", "difference of the update"]
    return [f"{machine}; FastFCN at {result['commit'][:7]}.", "", *record.table(first, logits), "",
            *record.table(second, windows), "", *record.table(third, training)]  # fmt: skip


@torch.no_grad()
def store(encoding: Any, head: str, neck: str) -> None:
    """Write the expected values of tests/test_parity_official.py, with weights drawn from key names."""
    architecture = next(network for network in NETWORKS if (network.head, network.neck) == (head, neck))
    model = official_code.build(encoding, head, neck, architecture.depth, architecture.data).eval()
    drawn = official_weights.weights(head, neck, model.nclass)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in drawn}, strict=True)
    images = []
    for seed, size in enumerate(STORED_SIZES):
        outputs = model(torch.from_numpy(named_weights.image(*size)))
        entry = {"size": list(size), "main": sample(outputs[0], 150, seed), "auxiliary": sample(outputs[-1], 40, seed)}
        images.append(entry | ({"se": sample(outputs[1], model.nclass, seed)} if len(outputs) == 3 else {}))
    content = {"made_by": "benchmarks/parity/official.py --store", "torch": torch.__version__, "head": head,
               "neck": neck, "classes": model.nclass, "images": images}  # fmt: skip
    path = record.REPOSITORY / "tests" / "stored" / "logits" / f"official_{head}_{neck}.json"
    path.write_text(json.dumps(content) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="a checkout of wuhuikai/FastFCN")
    parser.add_argument(
        "--images", type=Path, default=record.REPOSITORY.parent / "shared/data/samples", help="folder with images"
    )
    parser.add_argument("--store", action="store_true", help="only write the expected values of the tests")
    arguments = parser.parse_args()
    encoding, start = official_code.load(arguments.official), time.monotonic()
    if arguments.store:
        for head, neck in STORED:
            store(encoding, head, neck)
        return
    samples, compared = SampleImages(arguments.images), []
    for architecture in NETWORKS:
        compared.append(compare(encoding, architecture, samples))
        print(architecture.name, f"{time.monotonic() - start:.0f} s", flush=True)
    windows = list(window_rows(encoding, samples))
    trained = [training_row(encoding, network, samples) for network in NETWORKS if network.depth == 50]
    commit = subprocess.run(["git", "-C", arguments.official, "rev-parse", "HEAD"], capture_output=True, text=True)
    result = record.circumstances(time.monotonic() - start) | {
        "command": "python benchmarks/parity/official.py --official FastFCN",
        "commit": commit.stdout.strip() or "unknown",
        "bounds": BOUNDS,
        "architectures": compared,
        "windows": windows,
        "training": trained,
    }
    record.write("parity_official", result)
    record.put_table("official", lines(result))
    raise SystemExit("\n".join(failures(result)) or 0)


if __name__ == "__main__":
    main()
