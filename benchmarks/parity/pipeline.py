"""Compare segmentation maps with those of mmsegmentation's test pipeline, from the image file to the last pixel.

Run in the comparison environment (README.md):

    python benchmarks/parity/pipeline.py

Exits with 1 if a tolerance is exceeded.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import openmmlab
import PIL
import record
import torch
from forward import SampleImages, from_state, normalized
from lightning_fabric import Fabric
from mmengine.dataset import Compose, pseudo_collate
from mmseg.models import SegTTAModel
from openmmlab import ARCHITECTURES, Architecture
from PIL import Image
from torch import nn
from torch.nn import functional

from fastfcn import build, recipes
from fastfcn.data.description import DatasetDescription
from fastfcn.data.images import read_image
from fastfcn.data.opencv_resize import resize_image, scaled_size
from fastfcn.evaluation import evaluate
from fastfcn.metrics import Scores
from fastfcn.prediction import inference
from fastfcn.recipes.inference import inference_settings

LEAST_AGREEMENT = 0.999
SAMPLES = Path("samples")
IMAGES = (
    SAMPLES / "coco_stuff_sample/val_img/000000001503.jpg",
    SAMPLES / "ade20k_sample/images/validation/ADE_val_00000003.jpg",
    SAMPLES / "mmseg_tests_data/color.jpg",
    SAMPLES / "voc_format_sample_labelme/JPEGImages/2011_000003.jpg",
    Path("camvid/val/0016E5_07959.jpg"),
    SAMPLES / "ade20k_sample/images/validation/ADE_val_00000002.jpg",
    SAMPLES / "coco_stuff_sample/train_img/000000017914.jpg",
    SAMPLES / "coco_stuff_sample/val_img/000000001490.jpg",
)
STREET = SAMPLES / ("mmseg_tests_data/pseudo_cityscapes_dataset/leftImg8bit/frankfurt_000000_000294_leftImg8bit.png")
# The Cityscapes recipe resizes each image to two million pixels, too slow for all of them.
TESTED = {150: IMAGES, 19: (STREET,)}
ALSO_WITH_TORCH = "fastfcn_psp_150"  # also tested with PyTorch's resize


class OpenMMLabTester:
    """A network of mmsegmentation with the test pipelines of its config, without annotations."""

    def __init__(self, model: nn.Module):
        loaded, *transforms = model.cfg.tta_pipeline
        views = [step for step in transforms[0]["transforms"] if step[0]["type"] != "LoadAnnotations"]
        single = [step for step in model.cfg.test_pipeline if step["type"] != "LoadAnnotations"]
        self.models = {False: model, True: SegTTAModel(model)}
        self.pipelines = {False: Compose(single), True: Compose([loaded, {**transforms[0], "transforms": views}])}

    @torch.no_grad()
    def labels(self, path: Path, tta: bool) -> np.ndarray:
        """Segmentation map (H, W) of the file."""
        batch = pseudo_collate([self.pipelines[tta]({"img_path": str(path)})])
        return self.models[tta].test_step(batch)[0].pred_sem_seg.data.squeeze(0).numpy().astype(np.uint8)


def write_example(description: DatasetDescription, source: Path, labels: np.ndarray, folder: Path) -> None:
    """Write the image, and `labels` as its mask, in the layout of the dataset's val split."""
    names = {"split": description.splits["val"], "city": "any", "name": "image"}
    image, mask = (folder / patterns[0].format(**names) for patterns in (description.images, description.labels))
    for path in (image, mask):
        path.parent.mkdir(parents=True)
    shutil.copy(source, image)
    Image.fromarray(np.array([class_.ids[0] for class_ in description.classes], np.uint8)[labels]).save(mask)


def our_scores(model: nn.Module, architecture: Architecture, folder: Path, tta: bool) -> Scores:
    """Scores of `fastfcn evaluate` with mmsegmentation's labels as masks; pixel accuracy: share of equal labels."""
    recipe = recipes.load(architecture.recipe)
    dataset = build.dataset(recipe, build.description(recipe), folder, recipe.data.val_split, train=False)
    settings = inference_settings(recipe, tta=tta)
    return evaluate.measure(model, settings, dataset, Fabric(accelerator="cpu", devices=1))


def compare(architecture: Architecture, images: list[Path], samples: SampleImages, folder: Path) -> list[dict]:
    """A row for each image, with one view and with twelve."""
    theirs = openmmlab.build(architecture)
    compared = normalized(samples.image(2, (512, 512)))
    with torch.no_grad():
        openmmlab.calibrate_weights(theirs, samples.for_statistics(), compared)
    description = build.description(recipes.load(architecture.recipe))
    cases = [(path, tta, folder / f"{number}_{tta}") for number, path in enumerate(images) for tta in (False, True)]
    side = OpenMMLabTester(theirs)
    for path, tta, place in cases:
        write_example(description, path, side.labels(path, tta), place)
    state = theirs.state_dict()
    del theirs, side
    ours = from_state(architecture, state).to(memory_format=torch.channels_last)
    rows = []
    for path, tta, place in cases:
        scores = our_scores(ours, architecture, place, tta)
        row = {"photograph": path.name, "views": 12 if tta else 1, "agreement": scores.pixel_accuracy / 100}
        row["classes_seen"] = int((scores.pixels > 0).sum())
        if architecture.name == ALSO_WITH_TORCH and not tta:
            with patch.object(inference, "resize_image", torch_resize):
                row["agreement_by_torch"] = our_scores(ours, architecture, place, tta).pixel_accuracy / 100
        rows.append(row)
        print(architecture.name, row, flush=True)
    return rows


def torch_resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """PyTorch's bilinear resize of uint8 images, which fastfcn does not use."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    return functional.interpolate(pixels, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()


def image_row(path: Path) -> dict:
    """Decoded and resized by OpenCV, fastfcn and PyTorch: the share of values that differ, and by how much."""
    theirs, ours = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1], read_image(path)
    size = ours.shape[:2]
    resized = {"ours": [], "torch": []}
    for classes in TESTED:
        recipe = recipes.load(next(entry.recipe for entry in ARCHITECTURES if entry.classes == classes))
        for new_size in inference.test_sizes(recipe, size, tta=False) + inference.test_sizes(recipe, size, tta=True):
            expected = cv2.resize(theirs, new_size[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
            resized["ours"].append(np.abs(resize_image(ours, new_size) - expected))
            resized["torch"].append(np.abs(torch_resize(ours, new_size) - expected))
    row = {"photograph": path.name, "size": list(size), "decoded_differently": float((ours != theirs).mean())}
    for name, differences in resized.items():
        flat = np.concatenate([difference.ravel() for difference in differences])
        row[name] = {"resized_differently": float((flat > 0).mean()), "most_levels": int(flat.max())}
    # How often rounding each side of the scaled image separately would give another size.
    scales = recipes.load(ARCHITECTURES[0].recipe).eval.scales
    plain = [tuple(int(side * scale + 0.5) for side in size) for scale in scales]
    row["sizes_unlike_plain_rounding"] = sum(a != scaled_size(size, s) for a, s in zip(plain, scales, strict=True))
    return row


def failures(result: dict) -> Iterator[str]:
    """What exceeds a tolerance, one line each."""
    for entry in result["images"]:
        if entry["decoded_differently"] or entry["ours"]["resized_differently"]:
            yield f"image: {entry}"
    for entry in result["architectures"]:
        for row in entry["rows"]:
            if row["agreement"] < LEAST_AGREEMENT:
                yield f"{entry['architecture']}: {row}"


def lines(result: dict) -> list[str]:
    """The two tables of README.md."""
    sizes = {entry["photograph"]: f"{entry['size'][0]}x{entry['size'][1]}" for entry in result["images"]}
    shares: dict[tuple, dict] = {}
    for entry in result["architectures"]:
        for row in entry["rows"]:
            agreement = shares.setdefault((entry["classes"], row["photograph"]), {})
            agreement[entry["head"], row["views"]] = f"{100 * row['agreement']:.4f}"
    columns = [(head, views) for head in openmmlab.FOLDERS for views in (1, 12)]
    header = ["image", "size", "classes"] + [
        f"{head}, {views} view{'s' if views > 1 else ''}" for head, views in columns
    ]
    maps = [[name, sizes[name], str(n), *(row.get(key, "") for key in columns)] for (n, name), row in shares.items()]
    rows = [row for entry in result["architectures"] for row in entry["rows"]]
    torch_rows = {row["photograph"]: row["agreement_by_torch"] for row in rows if "agreement_by_torch" in row}
    images = [
        [entry["photograph"], f"{entry['decoded_differently']:.0%}"]
        + [f"{entry[name]['resized_differently']:.0%}" for name in ("ours", "torch")]
        + [str(entry["torch"]["most_levels"])]
        + [f"{100 * torch_rows[entry['photograph']]:.4f} %" if entry["photograph"] in torch_rows else ""]
        for entry in result["images"]
    ]
    summary = (
        f"{result['date']}, {result['machine']['processor']}, torch {result['versions']['torch']}, "
        f"OpenCV {result['versions']['opencv']}: {len(rows)} segmentation maps, at least "
        f"{100 * min(row['agreement'] for row in rows):.4f} % of the labels equal."
    )
    other = [
        "image",
        "decoded differently",
        "resized differently",
        "by torch",
        "max. difference",
        "labels then equal",
    ]
    return [summary, "", *record.table(header, maps), "", *record.table(other, images)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=record.REPOSITORY.parent / "shared/data", help="folder of the datasets"
    )
    parser.add_argument("--only", nargs="*", help="networks such as fastfcn_psp_150; results are not written")
    parser.add_argument("--first", type=int, help="use only this many images; results are not written")
    arguments = parser.parse_args()
    start = time.monotonic()
    samples = SampleImages(arguments.data / SAMPLES)
    images = [image_row(arguments.data / path) for path in (*IMAGES, STREET)]
    compared = []
    for architecture in ARCHITECTURES:
        if not architecture.jpu or (arguments.only and architecture.name not in arguments.only):
            continue
        paths = [arguments.data / path for path in TESTED[architecture.classes][: arguments.first]]
        with tempfile.TemporaryDirectory() as folder:
            rows = compare(architecture, paths, samples, Path(folder))
        compared.append(
            {
                "architecture": architecture.name,
                "head": architecture.head,
                "classes": architecture.classes,
                "recipe": architecture.recipe,
                "config": architecture.config.stem,
                "rows": rows,
            }
        )
    result = record.circumstances(time.monotonic() - start) | {"bound": LEAST_AGREEMENT, "images": images}
    result["versions"] |= {"opencv": cv2.__version__, "pillow": PIL.__version__}
    result["architectures"] = compared
    if not (arguments.only or arguments.first):
        record.write("parity_pipeline", result)
        record.put_table("pipeline", lines(result))
    raise SystemExit("\n".join(failures(result)) or 0)


if __name__ == "__main__":
    main()
