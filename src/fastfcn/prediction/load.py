"""Opening model files: the one place that decides which files `load` and the commands accept."""

from pathlib import Path

from fastfcn import weights
from fastfcn.errors import UserError
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.prediction.predictor import Predictor, TorchPredictor
from fastfcn.prediction.runtimes.registry import refuse_companion, runtime_of
from fastfcn.recipes.inference import Context, SizeLike, inference_settings
from fastfcn.utils.machine import FULL_PRECISION
from fastfcn.weights.file import Weights
from fastfcn.weights.hub import is_address
from fastfcn.weights.locate import local_file

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar")  # all but the first get an error that says how to convert


def load(
    path: str | Path,
    device: str = "auto",
    trusted: bool = False,
    precision: str = FULL_PRECISION,
    *,
    size: SizeLike | None = None,
    tta: bool = False,
    window: SizeLike | None = None,
    overlap: float | None = None,
    tile: int | None = None,
    context: Context = "window",
) -> Predictor:
    """Load a model for prediction.

    Images are processed as `fastfcn evaluate` does it, by the section `eval` of the recipe in the file: resized, or in
    sliding windows. Labels still have the size of the image.

    Args:
        path: a weights file; a file written by `fastfcn export`; the name of a recipe with published weights, which are
            downloaded and converted once; or `hf://USER/NAME` on the Hugging Face Hub.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
        trusted: allow a .pt2 file, which contains native code that runs when it is loaded. Nothing is executed when
            files of other formats are loaded.
        precision: "32-true", "bf16-mixed" (short: "bf16") or "16-mixed" for a weights file. On a CPU, bf16 is used only
            if it has bf16 arithmetic and is faster; `precision` of the result is the one that is used. An exported file
            has its own precision and accepts only "32-true".
        size: (height, width), or "512x1024": fit images into this size. "image": process them at their own size.
        tta: test-time augmentation: average over the recipe's scales and flips.
        window: (height, width), or "512x512": process images in sliding windows of this size.
        overlap: of windows, as a share of their sides (default: a third, with `tile` an eighth).
        tile: process images at their own size in tiles of this many pixels, in memory that depends on the tile.
        context: of tiles: "window" for sliding windows, "whole" for the labels of the whole image at once.

    Raises WeightsError if the file cannot be used, and UserError for a device, precision or size that cannot be used.
    """
    model = open_model(path, device, precision, trusted, size, tta, window, overlap, tile, context)
    if isinstance(model, Predictor):
        return model
    inference = inference_settings(model.recipe, size, tta, window, overlap, tile, context)
    return TorchPredictor(weights.load_model(model), model.recipe, model.description, device, precision, inference)


def from_pretrained(
    name: str,
    device: str = "auto",
    *,
    size: SizeLike | None = None,
    tta: bool = False,
    window: SizeLike | None = None,
) -> Predictor:
    """Load a model from the Hugging Face Hub: `USER/NAME`, or `USER/NAME@REVISION` for one version of it.

    The other arguments are those of `load`.
    """
    return load(name if is_address(name) else f"hf://{name}", device, size=size, tta=tta, window=window)


def open_model(
    path: str | Path, device: str = "auto", precision: str = FULL_PRECISION, trusted: bool = False,
    size: SizeLike | None = None, tta: bool = False, window: SizeLike | None = None, overlap: float | None = None,
    tile: int | None = None, context: Context = "window",
) -> Weights | ExportedPredictor:  # fmt: skip
    """Read a weights file, or load an exported file into its runtime; the suffix decides which.

    Arguments and errors are as in `load`. All but `path` apply to exported files, which are ready to run; for a weights
    file the caller decides what to do with the network (`weights.load_model`).
    """
    file = local_file(path)
    if runtime_of(file):
        return ExportedPredictor(file, device, precision, trusted, size, tta, window, overlap, tile, context)
    refuse_companion(file)
    return weights.read(file)


def open_weights(
    path: str | Path, action: str, hint: str = "Use the weights file (.safetensors) that it was exported from."
) -> Weights:
    """Read a weights file for an `action` that exported files do not support, such as "export".

    Raises WeightsError, and UserError with `hint` for an exported file.
    """
    file = local_file(path)
    runtime = runtime_of(file)
    if runtime:
        raise UserError(f"Cannot {action} {path}: it is an exported file ({runtime.title}).", hint)
    return weights.read(file)


def is_model_file(name: str) -> bool:
    """Whether `name` is the name of a model file or an address on the Hub, as opposed to the name of a recipe."""
    return is_address(name) or name.lower().endswith(WEIGHTS_SUFFIXES) or runtime_of(name) is not None
