"""The functions of the Python API that run a whole task; `import fastfcn` offers them as `fastfcn.train` and so on.

Each takes plain keyword arguments, imports what it needs when it is called, and returns an object with the results.
Errors in the input raise UserError or one of its kinds (`fastfcn.errors`): the message says what to do.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastfcn.checking.check import FolderReport
    from fastfcn.evaluation.scores import EvaluationResult
    from fastfcn.exporting.export import ExportResult
    from fastfcn.recipes.inference import Context, SizeLike
    from fastfcn.recipes.recipe import Recipe
    from fastfcn.training.run import TrainingResult

Overrides = Mapping[str, Any] | Sequence[str]
Size = tuple[int, int]  # (height, width)


def train(
    recipe: "str | Path | Recipe",
    data: str | Path,
    out: str | Path,
    *,
    overrides: Overrides = (),
    resume: bool = False,
    accept_changed_data: bool = False,
    strict: bool = False,
    trust_labels: bool = False,
    loggers: Sequence[str] = (),
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    workers: int | None = None,
    precision: str = "32-true",
    accumulate: int = 1,
    deterministic: bool = False,
    checkpoint_activations: bool = False,
    compile: bool = False,
) -> "TrainingResult":
    """Train a recipe and return where the run is and how good it became.

        run = fastfcn.train("fastfcn_r18_psp_camvid", data="CamVid", out="runs/a")
        run.miou, run.weights, run.step, run.finished

    Ctrl-C stops after the current step; the same call with `resume=True` continues, bit for bit.

    Args:
        recipe: Name of a recipe (`fastfcn.list_recipes()`), path of a recipe file, or a Recipe.
        data: Folder of the dataset, or of a packed one, or its URL, such as "s3://bucket/photos".
        out: Folder of the run; created. It must not contain a run unless `resume` is set.
        overrides: Changes to the recipe: `{"optim.steps": 100}` or `["optim.steps=100"]`.
        resume: Continue the stopped run in `out`; start it if there is none.
        accept_changed_data: Resume although classes or files of the dataset have changed since the start.
        strict: Refuse weights (`load_from`) whose classes are not those of the dataset. Otherwise classes of the same
            name keep their outputs, and others start from random weights.
        trust_labels: Do not read all masks before the first step to check them.
        loggers: Names among "tensorboard", "mlflow" and "wandb".
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: Processes per machine, one per device; more than 1 starts the script again for each of them.
        nodes: Number of machines. Under torchrun or srun, both are those of the job.
        workers: Dataloader workers per device; default: by the number of CPU cores, at most 8, or 16 for a GPU.
        precision: "32-true", "bf16-mixed" (short: "bf16") or "16-mixed".
        accumulate: Number of parts in which each batch is processed, to save memory.
        deterministic: Repeatable bit for bit on a GPU too, but slower; on a CPU training always is.
        checkpoint_activations: Recompute activations in the backward pass: less memory, about a third slower.
        compile: Compile the network with torch.compile.

    Raises:
        UserError: A recipe, dataset, weights file, folder or device cannot be used, or training diverged.
    """
    from fastfcn.training.loggers import check_loggers
    from fastfcn.training.train import train
    from fastfcn.utils.machine import Machine

    machine = Machine(
        accelerator, devices, nodes, workers, precision, accumulate, deterministic, checkpoint_activations, compile
    )
    loaded = _load_recipe(recipe, overrides)
    check_loggers(loggers)
    return train(loaded, data, out, machine, resume, loggers, accept_changed_data, strict, trust_labels)


def evaluate(
    weights: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    size: "SizeLike | None" = None,
    tta: bool = False,
    window: "SizeLike | None" = None,
    overlap: float | None = None,
    tile: int | None = None,
    context: "Context" = "window",
    overrides: Overrides = (),
    accelerator: str = "auto",
    devices: int = 1,
    workers: int | None = None,
    precision: str = "32-true",
    trusted: bool = False,
) -> "EvaluationResult":
    """Evaluate a network on a labeled split at the original resolution of the images.

        result = fastfcn.evaluate("runs/a/weights.safetensors", data="CamVid")
        result.miou, result.pixel_accuracy, result.classes["Car"]

    Args:
        weights: A weights file, an exported file, or "hf://USER/NAME" on the Hugging Face Hub.
        data: Folder of the dataset, or of a packed one, or its URL, such as "s3://bucket/photos".
        split: Name of the split; default: the validation split of the recipe.
        size: (height, width), or "512x1024": fit images into this size; "image": their own size. Default: as the
            recipe's section `eval` says.
        tta: Test-time augmentation: the scales and flips of the recipe's section `eval`.
        window: (height, width), or "512x512": process images in overlapping windows of this size.
        overlap: Of windows, as a share of their sides; default: a third, with `tile` an eighth.
        tile: Process images at their own size in tiles of this many pixels, in memory that depends on the tile.
        context: Of tiles: "window" for sliding windows, "whole" for the labels of the whole image at once.
        overrides: Changes to the recipe in the file, such as `{"eval.flip": False}`.
        accelerator, devices, workers, precision: As for `train`.
        trusted: Allow a .pt2 file to run the native code that it contains.

    Raises:
        UserError: The file, dataset, split or device cannot be used.
    """
    from fastfcn.evaluation.evaluate import evaluate
    from fastfcn.utils.machine import Machine

    machine = Machine(accelerator, devices, workers=workers, precision=precision)
    return evaluate(
        weights, data, machine, split, tta, _override_list(overrides), trusted, size, window, overlap, tile, context
    )


def check(
    folder: str | Path, *, images: str = "", masks: str = "", bands: Sequence[str] = (), nodata: float | None = None,
    workers: int | None = None, show_progress: bool = True,
) -> "FolderReport":  # fmt: skip
    """Find problems in a folder of images and masks: unreadable files, wrong sizes or values, leaking splits, ...

        report = fastfcn.check("photos")
        report.errors, report.problems, report.values, report.pairs

    Common layouts (images/ and masks/, VOC, Cityscapes, ADE20K, ...) are detected.

    Args:
        folder: Folder of the dataset.
        images, masks: Folders below it to use, if several could be meant.
        bands: Names of all bands of the image files, in their order, if they are not RGB images of 8 bits.
        nodata: Value of missing pixels in the bands; default: as the files say.
        workers: Number of threads; default: the number of CPU cores, at most 8.
        show_progress: Show a progress bar.

    Raises:
        DataError: The folder does not exist, or contains no images with masks.
    """
    from fastfcn.checking.bands import BandSettings
    from fastfcn.checking.check import check_folder

    threads = min(8, os.cpu_count() or 1) if workers is None else workers
    return check_folder(folder, threads, show_progress, images, masks, BandSettings(tuple(bands), nodata))


def export(
    weights: str | Path,
    format: str,
    out: str | Path,
    *,
    logits: bool = False,
    sizes: Sequence[Size] | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    calibrate: str | Path | None = None,
    max_loss: float = 1.0,
    force: bool = False,
    largest: Size = (512, 512),
    progress: Callable[[str], None] | None = None,
) -> "ExportResult":
    """Export a network to another runtime and verify that the outputs are those of PyTorch; else no file is written.

        result = fastfcn.export("runs/a/weights.safetensors", format="onnx", out="model.onnx")

    The file takes uint8 RGB images (batch, height, width, 3), or bands in float32, of any size and returns segmentation
    maps.

    Args:
        weights: A weights file, or "hf://USER/NAME" on the Hugging Face Hub.
        format: "onnx", "openvino", "pt2", "executorch" or "triton".
        out: File to write; the suffix is .onnx, .xml, .pt2 or .pte. For triton the folder of the model repository.
        logits: Also return the logits, as a second output.
        sizes: Image sizes (height, width) to verify; default: a selection.
        data: Folder of the dataset, to measure mIoU before and after.
        split: Split of `data`; default: the validation split of the recipe.
        calibrate: Folder of images from which to quantize to int8 (openvino only).
        max_loss: mIoU that int8 may cost, in points.
        force: Write an int8 file whatever it costs, or without measuring.
        largest: Largest image (height, width) that an executorch file supports.
        progress: Called with a line of text at every step, for example `print`.

    Raises:
        UserError: The network cannot be exported, or the outputs differ from PyTorch.
        MissingExtraError: The runtime is not installed.
    """
    from fastfcn.exporting.export import ExportSettings, export
    from fastfcn.exporting.verification import SIZES

    folder, images = (None if path is None else Path(path) for path in (data, calibrate))
    tested = SIZES if sizes is None else sizes
    settings = ExportSettings(logits, tested, folder, split, images, max_loss, force, largest)
    return export(weights, format, out, settings, progress or (lambda line: None))


def _load_recipe(recipe: "str | Path | Recipe", overrides: Overrides) -> "Recipe":
    from fastfcn.recipes.recipe import Recipe, load

    changes = _override_list(overrides)
    return recipe.override(changes) if isinstance(recipe, Recipe) else load(recipe, changes)


def _override_list(overrides: Overrides) -> list[str]:
    """Overrides in the form of the command line: `KEY=VALUE` with a TOML value."""
    from fastfcn.recipes.validation import toml_text

    if isinstance(overrides, str):  # a sequence of letters
        return [overrides]
    if isinstance(overrides, Mapping):
        return [f"{key}={toml_text(_plain(value))}" for key, value in overrides.items()]
    return list(overrides)


def _plain(value: Any) -> Any:
    """Paths as strings: TOML has no type for them."""
    return str(value) if isinstance(value, os.PathLike) else value
