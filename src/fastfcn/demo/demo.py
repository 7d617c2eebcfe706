"""`fastfcn demo`: a data set, a training run, scores and pictures in a few minutes, with nothing to download."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from fastfcn import recipes
from fastfcn.data.dataset import Dataset
from fastfcn.demo.streets import write
from fastfcn.errors import OutputError
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.evaluation.score_tables import score_table
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.prediction.load import Predictor, load
from fastfcn.report.report import report_after_training
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.files import make_folder, replace_file, write_text
from fastfcn.utils.machine import Machine
from fastfcn.utils.progress import progress_bar
from fastfcn.visualize import GAP, MARGIN, colorize, contact_sheet, legend

TRAIN, VAL, SHOWN = 400, 60, 6  # drawings
CELL = 384  # width of a picture on the sheet
ABOUT = "about.txt"
MADE = (
    "sheet.png", "weights.safetensors", "last.safetensors", "last.ckpt", "log.jsonl", "labels.json", "recipe.toml",
    "environment.toml", "report.html",
)  # fmt: skip
ABOUT_TEXT = """Made by `fastfcn demo`; made anew whenever it runs again.

sheet.png             what the network makes of drawings that it was not trained on
report.html           curves, scores of each class, kinds of errors, worst and best drawings
weights.safetensors   the network: fastfcn predict weights.safetensors PHOTOS --out OUT
log.jsonl             losses of every step, scores of every validation
recipe.toml           what was trained, and how
data/                 the drawings: images/{train,val} and labels/{train,val}
"""


def demo(
    folder: str | Path, console: Console, changes: Sequence[str] = (), train_count: int = TRAIN, val_count: int = VAL
) -> float:
    """Draw streets into `folder`, train the recipe `demo` on them on the CPU, and show what it learnt.

    `changes` override the recipe, such as "optim.steps=2". Returns the mIoU (0-1) on the held-out drawings. Raises
    OutputError where `folder` holds anything that an earlier demo did not make.
    """
    place = _fresh_folder(Path(folder), console)
    data, weights = place / "data", place / "weights.safetensors"
    wanted = recipes.load("demo", changes)
    machine = Machine(accelerator="cpu")
    _draw(data, train_count, val_count, wanted.data.base_size, console)
    console.print(f"Training [bold]{wanted.summary}[/], on the CPU; the scores below are on drawings held out.")
    train(wanted, data, place, machine)
    console.print(report_after_training(Run(place), data, machine), soft_wrap=True, markup=False)
    scores, about, split = evaluate(weights, data, machine)
    console.print(score_table(scores, about, split))
    sheet = place / "sheet.png"
    with replace_file(sheet) as temporary:
        _sheet(load(weights, "cpu"), Dataset(about, data, split), scores).save(temporary)
    console.print(f"Pictures of image, truth and prediction: [bold]{sheet}[/]")
    console.print(f"Curves, classes and errors, for a browser: [bold]{place / 'report.html'}[/]")
    console.print(f"[bold green]mIoU {scores.miou / 100:.2f}[/]", highlight=False)
    _say_what_next(place, console)
    return scores.miou / 100


def _fresh_folder(place: Path, console: Console) -> Path:
    """Make `place`, and clear away what an earlier demo made there; other files stay."""
    about = make_folder(place) / ABOUT
    try:
        if about.is_file() and about.read_text(encoding="utf-8").startswith(ABOUT_TEXT.splitlines()[0]):
            console.print(f"Starting afresh: what an earlier demo made in {place} is removed.")
            shutil.rmtree(place / "data", ignore_errors=True)
            for name in MADE:
                (place / name).unlink(missing_ok=True)
        elif any(place.iterdir()):
            raise OutputError(f"{place} holds files that are not the demo's.", "Choose another --out.")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"Cannot clear {place}: {error}.", "Choose another --out.") from error
    write_text(about, ABOUT_TEXT)
    return place


def _draw(data: Path, train_count: int, val_count: int, size: tuple[int, int], console: Console) -> None:
    with progress_bar() as bar:
        task = bar.add_task("Drawing streets", total=train_count + val_count)
        write(data, train_count, val_count, size=size, progress=lambda done, _: bar.update(task, completed=done))
        bar.update(task, visible=False)
    console.print(f"Drew {train_count} streets to learn from and {val_count} to be tested on, into {data}.")


def _sheet(predictor: Predictor, dataset: Dataset, scores: Scores) -> Image.Image:
    """Image, truth and prediction of some held-out drawings, spread over the whole split."""
    colors, names = dataset.description.colors, dataset.description.class_names
    rows, captions = [], []
    for index in np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset))).astype(int):
        example = dataset[int(index)]
        labels = predictor(example.image).labels
        matrix = ConfusionMatrix(len(names))
        matrix.update(torch.from_numpy(labels), torch.from_numpy(example.label))
        own = Scores(matrix.counts.numpy())
        rows.append([example.image, *(_enlarged(colorize(each, colors)) for each in (example.label, labels))])
        captions.append(
            f"{dataset.split}/{example.name}:  mIoU {own.miou / 100:.2f},  {own.pixel_accuracy:.0f} % right"
        )
    width = 2 * MARGIN + 3 * CELL + 2 * GAP
    headline = f"Drawn streets, held out: mIoU {scores.miou / 100:.2f}"
    return contact_sheet(
        rows, ("Image", "Truth", "Prediction"), captions, headline, legend(names, colors, width=width), CELL
    )


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Repeat pixels, so that the sheet shows class maps as sharp as they are."""
    times = max(1, CELL // picture.shape[1])
    return picture.repeat(times, 0).repeat(times, 1)


def _say_what_next(place: Path, console: Console) -> None:
    weights = place / "weights.safetensors"
    lines = (
        ("Colour in pictures of your own with this toy", f"fastfcn predict {weights} PHOTOS --out coloured"),
        ("Score it again, with several scales", f"fastfcn evaluate {weights} --data {place / 'data'} --tta"),
        ("See the recipes for real data", "fastfcn recipes"),
        ("Train on CamVid", "fastfcn train fastfcn_r50_psp_camvid --data CamVid --out runs/camvid"),
        ("Look over images and masks of your own", "fastfcn check FOLDER"),
        ("Draft a recipe for them, and train it", "fastfcn init FOLDER"),
    )
    console.print("\nWhat next?")
    for purpose, command in lines:
        console.print(f"  [dim]{purpose}:[/]\n    {command}", highlight=False, soft_wrap=True)
