"""Do exported files give the network's logits and class maps, in their own runtimes, at sizes that were not traced?

    python benchmarks/export_parity.py --images FOLDER_WITH_PHOTOGRAPHS
    python benchmarks/export_parity.py --images FOLDER_WITH_PHOTOGRAPHS --only fastfcn_r18_jpu_m_camvid/pt2

PSP, ASPP and Enc heads on a ResNet-50 and one of the slim family; ONNX Runtime, OpenVINO and AOTInductor, for the slim
one ExecuTorch too. Weights are random with meaning: batch norms have the statistics of two photographs, and logits mean
0 and standard deviation 3, so that many classes occur; a third photograph is what all of them see. Results are merged
into benchmarks/results/export_parity.json one by one. Exits with 1 where a tolerance does not hold.
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
from fastfcn.bench.record import image_size, machine_info, rounded
from fastfcn.data.images import read_image
from fastfcn.data.transforms import normalize_batch
from fastfcn.exporting.export import ExportSettings, export
from fastfcn.exporting.verification import MAX_DIFFERENCE, MIN_AGREEMENT, VerificationError, sample_image
from fastfcn.models.segmenter import Segmenter
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
MEANING_SIZE = (256, 512)  # of the photograph whose logits get mean 0 and standard deviation 3


def photographs(folder: Path) -> list[Path]:
    """Three .jpg files: the first, the middle one and the last by name."""
    found = sorted(folder.rglob("*.jpg"))
    if len(found) < 3:
        raise SystemExit(f"{folder} has no three .jpg photographs")
    return [found[0], found[len(found) // 2], found[-1]]


def normalised(used: Recipe, pictures: np.ndarray) -> Tensor:
    return normalize_batch(torch.from_numpy(pictures).permute(0, 3, 1, 2), used.data.mean, used.data.std)


@torch.no_grad()
def give_meaning(model: Segmenter, used: Recipe, paths: list[Path]) -> None:
    """Weights whose class maps mean something, though untrained, in place."""
    halves = [half for path in paths[:2] for half in np.split(sample_image((256, 384), read_image(path)), 2)]
    quarters = np.stack([part for half in halves for part in np.split(half, 2, axis=1)])
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            # The last of a residual block is small in trained networks; large ones double rounding errors each time.
            low, high = (0.1, 0.5) if name.endswith("bn3") else (0.5, 1.5)
            nn.init.uniform_(module.weight, low, high)
            nn.init.normal_(module.bias, 0.0, 0.2)
            module.momentum = 1.0
    model.train()
    model.forward_train(normalised(used, quarters))
    model.eval()
    last: nn.Conv2d = model.head.classifier  # type: ignore[assignment]
    nn.init.normal_(last.weight, 0.0, 0.05)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    logits = model.logits(normalised(used, sample_image(MEANING_SIZE, read_image(paths[2]))[None]))
    mean = logits.mean((0, 2, 3))
    scale = SCORES_STD / (logits - mean[:, None, None]).std()
    last.weight *= scale
    last.bias.copy_(-mean * scale)  # type: ignore[union-attr]


def write_weights(name: str, paths: list[Path], out: Path) -> None:
    torch.manual_seed(0)
    used = recipes.load(name)
    about = build.description(used)
    model = build.network(used, len(about.classes))
    give_meaning(model, used, paths)
    weights.save(out, model, used, about)


def compare(name: str, form: str, sizes: tuple[Size, ...], paths: list[Path], folder: Path) -> dict:
    """What is recorded of one file: the verification, and what it broke."""
    told = re.sub(r"(--images )\S*/", r"\1", command())  # a folder's name, not where it lies
    source = folder / f"{name}.safetensors"
    if not source.exists():
        write_weights(name, paths, source)
    settings = ExportSettings(logits=True, sizes=sizes, largest=LARGEST, image=paths[2])
    try:
        found = export(source, form, folder / FILES[form], settings, print).as_json()
        broken: list[str] = []
    except VerificationError as error:
        found, broken = error.verification.as_json(), error.verification.failures()
    found.pop("file", None)
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return rounded({"date": date, "command": told, "broken": broken} | found)  # type: ignore[return-value]


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder with at least three .jpg photographs")
    parser.add_argument("--only", action="append", metavar="RECIPE/FORMAT", help="may be given again")
    parser.add_argument("--size", type=image_size, action="append", metavar="HxW", help="in place of the five")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args(given)
    # Any recipe and format, not only those of CASES.
    cases = [(each.partition("/")[0], each.partition("/")[2]) for each in asked.only] if asked.only else CASES
    record = json.loads(asked.out.read_text()) if asked.out.exists() else {"results": {}}
    tolerances = {"least_agreement": MIN_AGREEMENT, "most_difference": MAX_DIFFERENCE, "scores_std": SCORES_STD}
    with tempfile.TemporaryDirectory() as folder:
        for name, form in cases:
            print(f"{name} as {form}", flush=True)
            sizes = tuple(asked.size) if asked.size else SIZES
            result = compare(name, form, sizes, photographs(asked.images), Path(folder))
            record["results"][f"{name}/{form}"] = result
            record |= {"tolerances": tolerances} | machine_info(torch.device("cpu"))
            write_text(asked.out, json.dumps(record, indent=1) + "\n")
            print(f"  differ by {result['worst_difference']:.1e}, {result['worst_agreement']:.4%} equal", flush=True)
    broken = [f"{name}: {line}" for name, result in record["results"].items() for line in result["broken"]]
    print("\n".join(broken) or "All tolerances hold.")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
