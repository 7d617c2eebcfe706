"""Compare logits and segmentation maps of exported files with PyTorch, at image sizes other than the traced one.

    python benchmarks/export_parity.py --images FOLDER_WITH_IMAGES
    python benchmarks/export_parity.py --images FOLDER_WITH_IMAGES --only fastfcn_r18_jpu_m_camvid/pt2

Networks: PSP, ASPP and Enc heads on a ResNet-50, and one of the slim family. Runtimes: ONNX Runtime, OpenVINO and
AOTInductor; for the slim network also ExecuTorch. Weights are random, calibrated on images so that many classes are
predicted: batch norms have the statistics of two images, and the logits of a third have mean 0 and standard deviation
3. Each result is merged into benchmarks/results/export_parity.json. Exits with 1 if a tolerance is exceeded.
"""

import argparse
import json
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fastfcn import build, recipes, weights
from fastfcn.bench.record import machine_info, rounded
from fastfcn.data.images import read_image
from fastfcn.data.transforms import normalize_batch
from fastfcn.exporting.export import ExportSettings, export
from fastfcn.exporting.verification import MAX_ERROR_RATIO, VerificationError, sample_image
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.inference import image_size
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import write_text
from fastfcn.utils.provenance import command
from fastfcn.utils.sizes import Size

RESULT = Path(__file__).parent / "results" / "export_parity.json"
FILES = {"onnx": "model.onnx", "openvino": "model.xml", "pt2": "model.pt2", "executorch": "model.pte"}
SLIM = "fastfcn_r18_jpu_m_camvid"
RECIPES = (*(f"fastfcn_r50_{head}_cityscapes_80k_b8" for head in ("psp", "aspp", "enc")), SLIM)
CASES = [(name, form) for name in RECIPES for form in ("onnx", "openvino", "pt2")] + [(SLIM, "executorch")]
SIZES = ((353, 481), (768, 256), (256, 1024), (17, 23), (1024, 2048))  # odd, tall, wide, tiny, Cityscapes
LARGEST = (1024, 2048)  # for executorch
SCORES_STD = 3.0
CALIBRATION_SIZE = (256, 512)  # of the image whose logits are scaled to mean 0 and standard deviation 3


def three_images(folder: Path) -> list[Path]:
    """The first, the middle and the last .jpg file by name."""
    paths = sorted(folder.rglob("*.jpg"))
    if len(paths) < 3:
        raise SystemExit(f"{folder} has fewer than three .jpg images")
    return [paths[0], paths[len(paths) // 2], paths[-1]]


def normalized(recipe: Recipe, images: np.ndarray) -> Tensor:
    return normalize_batch(torch.from_numpy(images).permute(0, 3, 1, 2), recipe.data.mean, recipe.data.std)


@torch.no_grad()
def calibrate_weights(model: Segmenter, recipe: Recipe, paths: list[Path]) -> None:
    """Give an untrained model weights that predict many classes, in place."""
    halves = [half for path in paths[:2] for half in np.split(sample_image((256, 384), read_image(path)), 2)]
    quarters = np.stack([part for half in halves for part in np.split(half, 2, axis=1)])
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            # In trained networks the last norm of a block has small weights; large ones amplify rounding errors.
            low, high = (0.1, 0.5) if name.endswith("bn3") else (0.5, 1.5)
            nn.init.uniform_(module.weight, low, high)
            nn.init.normal_(module.bias, 0.0, 0.2)
            module.momentum = 1.0
    model.train()
    model.forward_train(normalized(recipe, quarters))
    model.eval()
    last: nn.Conv2d = model.head.classifier  # type: ignore[assignment]
    nn.init.normal_(last.weight, 0.0, 0.05)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    logits = model.logits(normalized(recipe, sample_image(CALIBRATION_SIZE, read_image(paths[2]))[None]))
    mean = logits.mean((0, 2, 3))
    scale = SCORES_STD / (logits - mean[:, None, None]).std()
    last.weight *= scale
    last.bias.copy_(-mean * scale)  # type: ignore[union-attr]


def write_weights(name: str, paths: list[Path], out: Path) -> None:
    torch.manual_seed(0)
    recipe = recipes.load(name)
    description = build.description(recipe)
    model = build.network(recipe, len(description.classes))
    calibrate_weights(model, recipe, paths)
    weights.save(out, model, recipe, description)


def compare(name: str, form: str, sizes: tuple[Size, ...], paths: list[Path], folder: Path) -> dict:
    """The record of one exported file: its verification, and the tolerances it exceeds."""
    command_line = re.sub(r"(--images )\S*/", r"\1", command())  # without the folders above
    source = folder / f"{name}.safetensors"
    if not source.exists():
        write_weights(name, paths, source)
    settings = ExportSettings(logits=True, sizes=sizes, largest=LARGEST, image=paths[2])
    try:
        result = export(source, form, folder / FILES[form], settings, print).as_json()
        broken: list[str] = []
    except VerificationError as error:
        result, broken = error.verification.as_json(), error.verification.failures()
    result.pop("file", None)
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return rounded({"date": date, "command": command_line, "broken": broken} | result)  # type: ignore[return-value]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder with at least three .jpg images")
    parser.add_argument("--only", action="append", metavar="RECIPE/FORMAT", help="may be argv again")
    parser.add_argument(
        "--size",
        type=image_size,
        action="append",
        metavar="HxW",
        help="image size, instead of the default five; repeatable",
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    # Any recipe and format, not only those of CASES.
    cases = [(case.partition("/")[0], case.partition("/")[2]) for case in args.only] if args.only else CASES
    record = json.loads(args.out.read_text()) if args.out.exists() else {"results": {}}
    tolerances = {"max_error_ratio": MAX_ERROR_RATIO, "scores_std": SCORES_STD}
    with tempfile.TemporaryDirectory() as folder:
        for name, form in cases:
            print(f"{name} as {form}", flush=True)
            sizes = tuple(args.size) if args.size else SIZES
            result = compare(name, form, sizes, three_images(args.images), Path(folder))
            record["results"][f"{name}/{form}"] = result
            record |= {"tolerances": tolerances} | machine_info(torch.device("cpu"))
            write_text(args.out, json.dumps(record, indent=1) + "\n")
            print(f"  differ by {result['worst_difference']:.1e}, {result['worst_agreement']:.4%} equal", flush=True)
    broken = [f"{name}: {line}" for name, result in record["results"].items() for line in result["broken"]]
    print("\n".join(broken) or "All tolerances hold.")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
