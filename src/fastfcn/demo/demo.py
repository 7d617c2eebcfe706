"""`fastfcn demo`: draw a dataset, train, evaluate and show predictions in a few minutes, without downloads."""

import json
import shlex
import shutil
import time
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
from fastfcn.recipes.recipe import Recipe
from fastfcn.report.report import report_after_training
from fastfcn.training.run import Run, TrainingResult
from fastfcn.training.train import train
from fastfcn.utils.console import SafeConsole, styled
from fastfcn.utils.files import make_folder, replace_file, write_text
from fastfcn.utils.machine import Machine
from fastfcn.utils.progress import progress_bar
from fastfcn.visualize import GAP, MARGIN, colorize, contact_sheet, legend

TRAIN, VAL = 400, 60  # images
MINUTES = 3.0
SPEED_STEPS, SPEED_IMAGES = 12, 4  # steps that measure the speed, and images that are validated after them
TRAINING_SHARE = 0.7  # of the remaining time; the rest is for validation, report and sheet
MIN_STEPS = 20
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
    minutes: float = MINUTES,
) -> float | None:
    """Draw a dataset of streets into `folder`, train the recipe `demo` on it on the CPU, and show the results.

    `changes` override the recipe, such as "optim.steps=2". Without a change of the steps, the number of steps is chosen
    so that everything takes about `minutes` on this machine, at most the steps of the recipe. Returns the mIoU (0-1) on
    the validation images, or None if training was stopped. Raises OutputError if `folder` contains files that an
    earlier demo did not make.
    """
    start = time.monotonic()
    out = _prepare_folder(Path(folder), console)
    data, weights = out / "data", out / "weights.safetensors"
    recipe = recipes.load("demo", changes)
    machine = Machine(accelerator="cpu")
    _draw(data, train_count, val_count, recipe.data.base_size, console)
    if not any(change.startswith("optim.steps=") for change in changes):
        recipe = _within_budget(recipe, data, machine, minutes, start, console)
    console.print_line(styled("Training [bold]{}[/] on the CPU; scores are on the validation images.", recipe.summary))
    result = train(recipe, data, out, machine)
    if not result.finished:
        _print_how_to_continue(out, result, console)
        return None
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


def _within_budget(
    recipe: Recipe, data: Path, machine: Machine, minutes: float, start: float, console: SafeConsole
) -> Recipe:
    """The recipe with as many steps as fit into `minutes` from `start` on, measured with a short training."""
    console.print_line("Measuring how fast this machine trains.")
    seconds = _step_seconds(recipe, data, machine)
    most = recipe.steps
    steps = steps_within(60 * minutes - (time.monotonic() - start), seconds, most)
    if steps < most:
        console.print_line(
            f"A step takes {seconds:.2g} s, so {steps} of {most} steps are trained to stay within about {minutes:g} "
            f"minutes, with a lower score. For all of them: --steps {most}. The result depends on that number only."
        )
    return recipe.override(with_steps(steps, recipe)) if steps < most else recipe


def steps_within(remaining: float, seconds: float, most: int) -> int:
    """The number of steps of `seconds` each that fit into the `remaining` seconds, at most `most`."""
    return min(most, max(MIN_STEPS, round(TRAINING_SHARE * remaining / seconds)))


def with_steps(steps: int, recipe: Recipe) -> list[str]:
    """Changes to the recipe for another number of steps: warmup and validations in proportion."""
    share = steps / recipe.steps
    every, warmup = (max(1, round(share * value)) for value in (recipe.eval.every, recipe.schedule.warmup_steps))
    return [f"optim.steps={steps}", f"eval.every={every}", f"schedule.warmup_steps={warmup}"]


def _step_seconds(recipe: Recipe, data: Path, machine: Machine) -> float:
    """The time of a training step, in a run that is discarded; it validates on a few images only."""
    folder = data.parent / ".speed"
    shutil.rmtree(folder, ignore_errors=True)
    write_dataset(folder / "data", recipe.optim.batch, SPEED_IMAGES, size=recipe.data.base_size)
    short = recipe.override([*with_steps(SPEED_STEPS, recipe), f"eval.every={SPEED_STEPS}"])
    try:
        train(short, folder / "data", folder / "run", machine)
        lines = [json.loads(line) for line in Run(folder / "run").log.read_text(encoding="utf-8").splitlines()]
        return recipe.optim.batch / [line["images_per_second"] for line in lines if "images_per_second" in line][-1]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _print_how_to_continue(out: Path, result: TrainingResult, console: SafeConsole) -> None:
    folder, data, recipe = (shlex.quote(str(path)) for path in (out, out / "data", out / "recipe.toml"))
    console.print_line(f"Stopped after step {result.step} of {result.steps}. To continue with the training:")
    console.print_line(f"  fastfcn train {recipe} --data {data} --out {folder} --accelerator cpu --resume")


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
