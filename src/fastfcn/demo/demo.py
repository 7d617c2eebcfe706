"""`fastfcn demo`: draw a dataset, train, evaluate and show predictions in a few minutes, without downloads."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastfcn import recipes
from fastfcn.cli.tables.scores import score_table
from fastfcn.data.dataset import Dataset
from fastfcn.demo.streets import write_dataset
from fastfcn.errors import OutputError
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.prediction.load import load
from fastfcn.prediction.predictor import Predictor
from fastfcn.report.report import report_after_training
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.console import SafeConsole, styled
from fastfcn.utils.files import make_folder, replace_file, write_text
from fastfcn.utils.machine import Machine
from fastfcn.utils.progress import progress_bar
from fastfcn.visualize import GAP, MARGIN, colorize, contact_sheet, legend

TRAIN, VAL = 400, 60  # images
SHEET_ROWS, CELL = 6, 384  # images on the contact sheet, and their width in pixels
ABOUT = "about.txt"
GENERATED = (
    "sheet.png", "weights.safetensors", "last.safetensors", "last.ckpt", "log.jsonl", "labels.json", "recipe.toml",
    "environment.toml", "report.html",
)  # fmt: skip
MARKER = "Made by `fastfcn demo`"  # the beginning of ABOUT in a folder that the demo may clear
ABOUT_TEXT = f"""{MARKER}. Running it again with the same --out replaces these files.

sheet.png             images, ground truth and predictions for the validation set
report.html           training curves, IoU per class, error analysis, best and worst images
weights.safetensors   the trained model: fastfcn predict weights.safetensors IMAGES --out OUT
log.jsonl             the loss of every step and the scores of every validation
recipe.toml           the training recipe
data/                 the dataset: images/{{train,val}} and labels/{{train,val}}
"""


def demo(
    folder: str | Path,
    console: SafeConsole,
    changes: Sequence[str] = (),
    train_count: int = TRAIN,
    val_count: int = VAL,
) -> float:
    """Draw a dataset of streets into `folder`, train the recipe `demo` on it on the CPU, and show the results.

    `changes` override the recipe, such as "optim.steps=2". Returns the mIoU (0-1) on the validation images. Raises
    OutputError if `folder` contains files that an earlier demo did not make.
    """
    out = _prepare_folder(Path(folder), console)
    data, weights = out / "data", out / "weights.safetensors"
    recipe = recipes.load("demo", changes)
    machine = Machine(accelerator="cpu")
    _draw(data, train_count, val_count, recipe.data.base_size, console)
    console.print_line(styled("Training [bold]{}[/] on the CPU; scores are on the validation images.", recipe.summary))
    train(recipe, data, out, machine)
    console.print_line(report_after_training(Run(out), data, machine))
    result = evaluate(weights, data, machine)
    console.print(score_table(result, console))
    sheet = out / "sheet.png"
    with replace_file(sheet) as temporary:
        _sheet(load(weights, "cpu"), Dataset(result.description, data, result.split), result.scores).save(temporary)
    console.print_line(styled("Images, ground truth and predictions: [bold]{}[/]", sheet))
    console.print_line(styled("Report (open in a browser): [bold]{}[/]", out / "report.html"))
    console.print_line(styled("[bold green]mIoU {:.2f}[/]", result.miou / 100))
    _print_next_steps(out, console)
    return result.miou / 100


def _prepare_folder(out: Path, console: SafeConsole) -> Path:
    """Create `out` and remove the files of an earlier demo; other files stay."""
    marker_file = make_folder(out) / ABOUT
    try:
        if marker_file.is_file() and marker_file.read_text(encoding="utf-8").startswith(MARKER):
            console.print_line(f"Removing the files of an earlier demo in {out}.")
            shutil.rmtree(out / "data", ignore_errors=True)
            for name in GENERATED:
                (out / name).unlink(missing_ok=True)
        elif any(out.iterdir()):
            raise OutputError(f"{out} contains files that are not the demo's.", "Choose another folder with --out.")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"Cannot clear {out}: {error}.", "Choose another folder with --out.") from error
    write_text(marker_file, ABOUT_TEXT)
    return out


def _draw(data: Path, train_count: int, val_count: int, size: tuple[int, int], console: SafeConsole) -> None:
    with progress_bar() as bar:
        task = bar.add_task("Drawing streets", total=train_count + val_count)
        write_dataset(
            data, train_count, val_count, size=size, progress=lambda done, _: bar.update(task, completed=done)
        )
        bar.update(task, visible=False)
    console.print_line(f"Drew {train_count} training and {val_count} validation images into {data}.")


def _sheet(predictor: Predictor, dataset: Dataset, scores: Scores) -> Image.Image:
    """A contact sheet of image, ground truth and prediction for some images spread over the split."""
    colors, names = dataset.description.colors, dataset.description.class_names
    rows, captions = [], []
    for index in np.linspace(0, len(dataset) - 1, min(SHEET_ROWS, len(dataset))).astype(int):
        example = dataset[int(index)]
        labels = predictor(example.image).labels
        matrix = ConfusionMatrix(len(names))
        matrix.update(torch.from_numpy(labels), torch.from_numpy(example.label))
        image_scores = Scores(matrix.counts.numpy())
        rows.append([example.image, *(_enlarged(colorize(label, colors)) for label in (example.label, labels))])
        captions.append(
            f"{dataset.split}/{example.name}:  mIoU {image_scores.miou / 100:.2f},  "
            f"pixel accuracy {image_scores.pixel_accuracy:.0f} %"
        )
    width = 2 * MARGIN + 3 * CELL + 2 * GAP
    headline = f"Drawn streets, validation set: mIoU {scores.miou / 100:.2f}"
    return contact_sheet(
        rows, ("Image", "Ground truth", "Prediction"), captions, headline, legend(names, colors, width=width), CELL
    )


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Repeat pixels so that segmentation maps stay sharp on the sheet."""
    factor = max(1, CELL // image.shape[1])
    return image.repeat(factor, 0).repeat(factor, 1)


def _print_next_steps(out: Path, console: SafeConsole) -> None:
    weights = out / "weights.safetensors"
    steps = (
        ("Segment your own images with this toy model", f"fastfcn predict {weights} IMAGES --out predictions"),
        ("Evaluate it with multi-scale testing", f"fastfcn evaluate {weights} --data {out / 'data'} --tta"),
        ("List the recipes for real datasets", "fastfcn recipes"),
        ("Train on CamVid", "fastfcn train fastfcn_r50_psp_camvid --data CamVid --out runs/camvid"),
        ("Check your own images and masks", "fastfcn check FOLDER"),
        ("Create a recipe for them", "fastfcn init FOLDER"),
    )
    console.print("\nNext steps")
    for purpose, command in steps:
        console.print_line(styled("  [dim]{}:[/]\n    {}", purpose, command))
