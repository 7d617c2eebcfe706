"""Opening model files: the one place that decides which files `load` and the commands accept."""

from pathlib import Path

from fastfcn import weights
from fastfcn.errors import UserError
from fastfcn.prediction.exported import FULL_PRECISION, ExportedPredictor
from fastfcn.prediction.predictor import Predictor, TorchPredictor
from fastfcn.prediction.runtimes.registry import runtime_of
from fastfcn.weights.file import Weights
from fastfcn.weights.hub import is_address
from fastfcn.weights.locate import local_file

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar")  # all but the first get an error that says how to convert


def load(path: str | Path, device: str = "auto", trusted: bool = False, precision: str = FULL_PRECISION) -> Predictor:
    """Load a model for prediction.

    Args:
        path: a weights file; a file written by `fastfcn export`; the name of a recipe with published weights, which are
            downloaded and converted once; or `hf://USER/NAME` on the Hugging Face Hub.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
        trusted: allow a .pt2 file, which contains native code that runs when it is loaded. Nothing is executed when
            files of other formats are loaded.
        precision: "32-true", "bf16-mixed" or "16-mixed" for a weights file. An exported file has its own precision
            and accepts only "32-true".

    Raises WeightsError if the file cannot be used, and UserError for a device or a precision that is not available.
    """
    model = open_model(path, device, precision, trusted)
    if isinstance(model, Predictor):
        return model
    return TorchPredictor(weights.load_model(model), model.recipe, model.description, device, precision)


def from_pretrained(name: str, device: str = "auto") -> Predictor:
    """Load a model from the Hugging Face Hub: `USER/NAME`, or `USER/NAME@REVISION` for one version of it."""
    return load(name if is_address(name) else f"hf://{name}", device)


def open_model(
    path: str | Path, device: str = "auto", precision: str = FULL_PRECISION, trusted: bool = False
) -> Weights | ExportedPredictor:
    """Read a weights file, or load an exported file into its runtime; the suffix decides which.

    `path` and errors are as in `load`. `device` and `precision` apply to exported files, which are ready to run;
    for a weights file the caller decides what to do with the network (`weights.load_model`).
    """
    file = local_file(path)
    if runtime_of(file):
        return ExportedPredictor(file, device, precision, trusted)
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
