"""Images in tiles: scores with each context, speed and memory, and equality with the whole image at once.

    python benchmarks/large_images.py mosaic --weights weights.safetensors --data CamVid
    python benchmarks/large_images.py speed --weights weights.safetensors --data CamVid --size 4000x6000
    python benchmarks/large_images.py equality --data CamVid

`mosaic` joins validation images of CamVid into one large image. `speed` writes such a mosaic of --size as a GeoTIFF,
predicts it in windows from file to file, and compares the CPU seconds per pixel with those of one whole image of
1440x1920 pixels in memory; the peak memory is that of the process before that. `equality` compares labels in tiles with
the context of the whole image with those of the untiled network, with random weights. Writes
benchmarks/results/large_images.json.
"""

import argparse
import json
import resource
import shlex
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastfcn
import fastfcn.data.images
from fastfcn import build, recipes
from fastfcn.bench.record import machine_info
from fastfcn.data.dataset import Dataset
from fastfcn.fast.optimize import optimize
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.prediction.inference import predict_labels
from fastfcn.prediction.large_images import predict_raster
from fastfcn.prediction.tiles import prepare_tiles
from fastfcn.recipes.inference import image_size, inference_settings
from fastfcn.utils.files import write_text
from fastfcn.utils.sizes import Size

RESULTS = Path(__file__).parent / "results" / "large_images.json"
TILE = 1024
CONTEXTS: dict[str, dict[str, Any]] = {
    "whole image": {"size": "image"},
    "windows of 240x320, overlap 1/8": {"tile": TILE},
    "windows of 240x320, overlap 1/3": {"tile": TILE, "overlap": 1 / 3},
    "windows of 360x480, overlap 1/8": {"tile": TILE, "window": (360, 480)},
    "windows of 360x480, overlap 1/3": {"tile": TILE, "window": (360, 480), "overlap": 1 / 3},
    "windows of 720x960, overlap 1/8": {"tile": TILE, "window": (720, 960)},
}
EQUAL = (
    "fastfcn_r18_psp_camvid",
    "fastfcn_r18_jpu_s_camvid",
    "dilated_r18_psp_camvid",
    "dilated_r18_enc_camvid",
    "official_r50_deeplabv3_pcontext",
)
SIZES = ((1024, 1536), (1000, 1500), (777, 1811))


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("mosaic", "speed", "equality"))
    parser.add_argument("--weights", type=Path, help="a network for CamVid")
    parser.add_argument("--data", type=Path, required=True, help="CamVid's folder")
    parser.add_argument("--rows", type=int, default=5, help="images below one another in the mosaic")
    parser.add_argument("--columns", type=int, default=6, help="images side by side in the mosaic")
    parser.add_argument("--size", type=image_size, default=(4000, 6000), metavar="HxW", help="of the GeoTIFF")
    parser.add_argument("--networks", nargs="*", default=list(EQUAL), help="recipes to compare")
    parser.add_argument("--sizes", nargs="*", type=image_size, default=list(SIZES), help="image sizes to compare")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = arguments(argv)
    part = {"mosaic": mosaic, "speed": speed, "equality": equality}[options.part]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    given = [Path(word).name if Path(word).is_absolute() else word for word in (sys.argv[1:] if argv is None else argv)]
    earlier = {} if options.part == "mosaic" else results.get(options.part, {}).get("results", {})
    results[options.part] = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "benchmarks/large_images.py", *given]),
        **machine_info(torch.device("cpu")),
        "results": earlier | part(options),  # of other networks and sizes
    }
    write_text(RESULTS, json.dumps(results, indent=1) + "\n")


def mosaic(options: argparse.Namespace) -> dict[str, Any]:
    """mIoU of every context on one large image; "one by one": on the images that it is made of."""
    recipe = fastfcn.load(options.weights, "cpu").recipe
    dataset = Dataset(build.description(recipe), options.data, "val")
    chosen = np.linspace(0, len(dataset) - 1, options.rows * options.columns).round().astype(int)
    examples = [dataset[int(index)] for index in chosen]
    image, label = (_joined([getattr(example, kind) for example in examples], options) for kind in ("image", "label"))
    classes, scores = len(dataset.description.classes), {}
    predictor = fastfcn.load(options.weights, "cpu", size="image")
    one_by_one = _joined([predictor(example.image).labels for example in examples], options)
    scores["images one by one"] = _miou(one_by_one, label, classes)
    for name, changes in CONTEXTS.items():
        start = time.perf_counter()
        labels = fastfcn.load(options.weights, "cpu", **changes)(image).labels
        scores[name] = _miou(labels, label, classes)
        print(f"{name}: {scores[name]} mIoU, {time.perf_counter() - start:.1f} s", flush=True)
    return {"recipe": recipe.name, "size": list(label.shape), "images": len(examples), "miou": scores}


def _joined(parts: list[np.ndarray], options: argparse.Namespace) -> np.ndarray:
    rows = [parts[start : start + options.columns] for start in range(0, len(parts), options.columns)]
    return np.concatenate([np.concatenate(row, 1) for row in rows])


def _miou(labels: np.ndarray, label: np.ndarray, classes: int) -> float:
    matrix = ConfusionMatrix(classes, torch.device("cpu"))
    matrix.update(torch.from_numpy(labels), torch.from_numpy(label))
    return round(Scores(matrix.counts.numpy()).miou, 2)


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds per megapixel in windows from file to file, and of one image in memory; the peak memory of both."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "area.tif"
        _write_mosaic(source, options.data, options.size)
        predictor = fastfcn.load(options.weights, "cpu", tile=2048)
        start, cpu = time.perf_counter(), time.process_time()
        predict_raster(predictor, source, Path(folder) / "labels.tif")
        tiled, tiled_cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        mebibytes = (Path(folder) / "labels.tif").stat().st_size / 2**20
        equal = _same_place(source, Path(folder) / "labels.tif")
    plain = fastfcn.load(options.weights, "cpu", size="image")
    image = np.random.default_rng(0).integers(0, 256, (1440, 1920, 3), np.uint8)
    plain(image)
    times = []
    for _ in range(3):
        cpu = time.process_time()
        plain(image)
        times.append((time.process_time() - cpu) / (image.size / 3e6))
    per_megapixel = tiled_cpu / (options.size[0] * options.size[1] / 1e6)
    result = {
        "seconds": round(tiled, 1),
        "cpu_seconds_per_megapixel": round(per_megapixel, 4),
        "cpu_seconds_per_megapixel_whole_image": round(min(times), 4),
        "ratio": round(per_megapixel / min(times), 3),
        "peak_memory_mib": round(peak),
        "labels_mib": round(mebibytes, 1),
        "same_reference": equal,
    }
    print(result)
    return {f"{predictor.recipe.name} {options.size[0]}x{options.size[1]}": result}


def _write_mosaic(path: Path, data: Path, size: Size) -> None:
    """A GeoTIFF of validation images side by side, in tiles."""
    import rasterio

    names = sorted((data / "val").iterdir())
    height, width = size
    profile = {
        **{"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "BIGTIFF": "IF_SAFER"},
        **{"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "jpeg", "photometric": "ycbcr"},
        **{"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500_000, 5_600_000, 0.5, 0.5)},
    }
    with rasterio.open(path, "w", **profile) as dataset:
        tile = np.concatenate([fastfcn.data.images.read_image(name) for name in names[:12]], 1)
        strip = np.tile(tile, (1, -(-width // tile.shape[1]), 1))[:, :width]
        for top in range(0, height, 512):
            rows = np.arange(top, min(top + 512, height)) % strip.shape[0]
            dataset.write(strip[rows].transpose(2, 0, 1), window=((top, top + len(rows)), (0, width)))


def _same_place(source: Path, target: Path) -> bool:
    import rasterio

    with rasterio.open(source) as one, rasterio.open(target) as two:
        return (one.crs, one.transform, one.shape) == (two.crs, two.transform, two.shape)


@torch.inference_mode()
def equality(options: argparse.Namespace) -> dict[str, Any]:
    """Share of equal labels, by network and size."""
    tile = np.concatenate(
        [fastfcn.data.images.read_image(path) for path in sorted((options.data / "val").iterdir())[:8]]
    )
    results: dict[str, Any] = {}
    for name in options.networks:
        recipe = recipes.load(name)
        torch.manual_seed(0)
        model = build.network(recipe, 20).eval()
        torch.nn.init.normal_(model.head.classifier.weight)
        model.head.classifier.weight -= model.head.classifier.weight.mean(1, keepdim=True)
        settings = inference_settings(recipe, tile=TILE, context="whole")
        settings = prepare_tiles(settings, partial(build.network, recipe, 20))
        assert settings.tiles
        results[name] = {"halo": settings.tiles.halo, "passes": settings.tiles.passes, "equal": {}}
        plain, layers = optimize(model), optimize(model, fuse=False)
        for height, width in options.sizes:
            pixels = np.tile(tile, (1, 5, 1))[:height, :width]
            images = [torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]]
            expected = predict_labels(plain, inference_settings(recipe, size="image"), images, (height, width))
            labels = predict_labels(layers, settings, images, (height, width))
            counts = {"different": int((labels != expected).sum()), "classes": len(expected.unique())}
            results[name]["equal"][f"{height}x{width}"] = counts
            print(name, settings.tiles.halo, (height, width), counts, flush=True)
    return results


if __name__ == "__main__":
    main()
