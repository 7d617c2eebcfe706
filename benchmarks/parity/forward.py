"""Compare the logits of fastfcn's networks with mmsegmentation's, with the same weights.

Run in the comparison environment (README.md):

    python benchmarks/parity/forward.py

Exits with 1 if a tolerance is exceeded.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openmmlab
import record
import torch
from openmmlab import ARCHITECTURES, Architecture
from sample_images import SampleImages, normalized
from torch import Tensor, nn

import fastfcn
from fastfcn import build, recipes
from fastfcn.weights.convert import convert
from fastfcn.weights.file import load_model, read
from fastfcn.weights.openmmlab import from_openmmlab

SIZES = ((512, 1024), (512, 512), (481, 353))  # (height, width)
ODD = SIZES[-1]
LEAST_AGREEMENT = 0.9999
MOST_DIFFERENCE = 2e-3  # of logits with a standard deviation of about 3


def comparison(ours: Tensor, theirs: Tensor) -> dict:
    labels = theirs.argmax(1)
    return {
        "logits_std": round(float(theirs.std()), 3),
        "classes_seen": len(labels.unique()),
        "agreement": float((ours.argmax(1) == labels).double().mean()),
        "difference": float((ours - theirs).abs().max()),
    }


def theirs_of(model: nn.Module, samples: SampleImages) -> tuple[dict, Tensor, Tensor | None]:
    """Full-size logits by size, and the auxiliary and SE logits at the odd size."""
    full = {size: openmmlab.logits(model, normalized(samples.image(2, size))) for size in SIZES}
    return full, *openmmlab.side_logits(model, normalized(samples.image(2, ODD)))


def from_state(architecture: Architecture, state: dict[str, Tensor]) -> nn.Module:
    model = build.network(recipes.load(architecture.recipe), architecture.classes)
    model.load_state_dict(from_openmmlab(state), strict=True)
    return model.eval()


def state_rows(model: nn.Module, samples: SampleImages, theirs: tuple) -> Iterator[dict]:
    """One row per size, and one for each output that only training uses."""
    full, auxiliary, se_logits = theirs
    for size in SIZES:
        ours = model(normalized(samples.image(2, size)))
        yield {"route": "state dict", "size": list(size)} | comparison(ours, full[size])
    _, extras = model.forward_train(normalized(samples.image(2, ODD)))
    yield {"route": "auxiliary head", "size": list(ODD)} | comparison(extras["auxiliary"], auxiliary)
    if se_logits is not None:
        yield {"route": "SE logits", "size": list(ODD)} | comparison(extras["se"], se_logits)


def converted_row(
    architecture: Architecture, checkpoint: Path, expected: nn.Module, image: np.ndarray, theirs: Tensor
) -> dict:
    """`fastfcn convert`, `fastfcn.load`: equal tensors, logits, and labels from the uint8 image."""
    weights = checkpoint.with_suffix(".safetensors")
    convert(checkpoint, architecture.recipe, weights)
    predictor = fastfcn.load(weights, device="cpu", size="image")
    model = load_model(read(weights)).eval()
    tensors, expected_tensors = model.state_dict(), expected.state_dict()
    equal = tensors.keys() == expected_tensors.keys() and all(
        torch.equal(tensors[key], expected_tensors[key]) for key in tensors
    )
    labels = torch.from_numpy(predictor(image).labels.astype(np.int64))
    return comparison(model(normalized(image)), theirs) | {
        "weights_equal": equal,
        "predictor_agreement": float((labels == theirs[0].argmax(0)).double().mean()),
    }


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def compare(architecture: Architecture, samples: SampleImages, folder: Path) -> dict:
    """All measurements of one architecture."""
    model = openmmlab.build(architecture)
    compared = normalized(samples.image(2, (512, 512)))
    openmmlab.calibrate_weights(model, samples.for_statistics(), compared)
    theirs = theirs_of(model, samples)
    layouts = {layout: folder / f"{architecture.name}_{layout}.pth" for layout in ("1.x", "0.x")}
    for layout, path in layouts.items():
        openmmlab.save(architecture, model, layout, path)
    state, counted = model.state_dict(), parameters(model)
    del model
    ours = from_state(architecture, state)
    rows = list(state_rows(ours, samples, theirs))
    for layout, path in layouts.items():
        row = converted_row(architecture, path, ours, samples.image(2, ODD), theirs[0][ODD])
        rows.append({"route": f"checkpoint {layout}", "size": list(ODD)} | row)
    return {
        "architecture": architecture.name,
        "recipe": architecture.recipe,
        "config": architecture.config.stem,
        "parameters": {"expected": architecture.parameters, "theirs": counted, "ours": parameters(ours)},
        "rows": rows,
    }


def failures(result: dict) -> Iterator[str]:
    """What exceeds a tolerance, one line each."""
    for architecture in result["architectures"]:
        if len(set(architecture["parameters"].values())) > 1:
            yield f"{architecture['architecture']}: parameters {architecture['parameters']}"
        for row in architecture["rows"]:
            agreements = [row["agreement"], row.get("predictor_agreement", 1.0)]
            fine = min(agreements) >= LEAST_AGREEMENT and row["difference"] <= MOST_DIFFERENCE
            if not fine or not row.get("weights_equal", True):
                yield f"{architecture['architecture']}: {row}"


def summary(result: dict) -> str:
    """The worst values of all rows, and the conditions."""
    rows = [row for architecture in result["architectures"] for row in architecture["rows"]]
    predictor = min(row.get("predictor_agreement", 1.0) for row in rows)
    return (
        f"{result['date']}, {result['machine']['processor']}, torch {result['versions']['torch']}: "
        f"{len(result['architectures'])} networks, {len(rows)} comparisons; largest difference "
        f"{max(row['difference'] for row in rows):.1e}, at least {100 * min(row['agreement'] for row in rows):.4f} % "
        f"of the labels equal ({100 * predictor:.4f} % through the predictor, which folds batch norms)."
    )


def lines(result: dict) -> list[str]:
    """The summary and the table of README.md."""
    header = [
        "network",
        "parameters",
        "compared",
        "size",
        "std",
        "classes seen",
        "equal labels",
        "difference",
    ]
    rows = [
        [
            architecture["architecture"],
            f"{architecture['parameters']['ours']:,}",
            row["route"],
            f"{row['size'][0]}x{row['size'][1]}",
            f"{row['logits_std']:.2f}",
            str(row["classes_seen"]),
            f"{100 * row['agreement']:.4f} %",
            f"{row['difference']:.1e}",
        ]
        for architecture in result["architectures"]
        for row in architecture["rows"]
    ]
    return [summary(result), "", *record.table(header, rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", type=Path, default=record.REPOSITORY.parent / "shared/data/samples", help="folder with images"
    )
    parser.add_argument("--only", nargs="*", help="networks such as fastfcn_psp_19; results are not written")
    arguments = parser.parse_args()
    samples = SampleImages(arguments.images)
    start = time.monotonic()
    compared = []
    for architecture in ARCHITECTURES:
        if arguments.only and architecture.name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            compared.append(compare(architecture, samples, Path(folder)))
        worst = max(row["difference"] for row in compared[-1]["rows"])
        print(f"{architecture.name}: difference {worst:.1e}, {time.monotonic() - start:.0f} s", flush=True)
    bounds = {"least_agreement": LEAST_AGREEMENT, "most_difference": MOST_DIFFERENCE}
    result = record.circumstances(time.monotonic() - start) | {"bounds": bounds, "architectures": compared}
    if not arguments.only:
        record.write("parity_forward", result)
        record.put_table("forward", lines(result))
    raise SystemExit("\n".join(failures(result)) or 0)


if __name__ == "__main__":
    main()
