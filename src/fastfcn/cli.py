"""The command line: one subcommand per verb; errors of the user's come without a traceback."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fastfcn.errors import UserError

app = typer.Typer(
    help="Semantic segmentation with Joint Pyramid Upsampling: train, evaluate and predict on your own images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
out_console = Console()
error_console = Console(stderr=True)

Changes = Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: KEY=VALUE, e.g. optim.lr=0.02")]
Data = Annotated[Path, typer.Option(help="Folder of the data set.")]
Devices = Annotated[int, typer.Option(min=1, help="Processes, one a device.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes that read images, for each device.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")]
Accelerator = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


@app.command()
def recipes() -> None:
    """List the recipes with their published scores."""
    from fastfcn.show_recipes import show_recipes

    show_recipes(out_console)


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="Name, OpenMMLab config name, or path of a recipe.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE changes to make, or one other recipe to compare with."),
    ] = None,
) -> None:
    """Print a recipe, with changes marked; or show what differs between two.

    [dim]fastfcn recipe fastfcn_r50_psp_camvid optim.lr=0.02\n
    fastfcn recipe fastfcn_r50_psp_camvid dilated_r50_psp_camvid[/]
    """
    from fastfcn import recipe as recipes_module
    from fastfcn.show_recipes import show_differences, show_recipe

    changes = changes or []
    if len(changes) == 1 and "=" not in changes[0]:
        show_differences(recipes_module.load(name), recipes_module.load(changes[0]), out_console)
    else:
        show_recipe(recipes_module.load(name, changes), out_console)


@app.command()
def train(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="Name or path of a recipe.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run; made anew.")],
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    devices: Devices = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    accumulate: Annotated[int, typer.Option(min=1, help="Work off each batch in so many parts, to save memory.")] = 1,
    deterministic: Annotated[bool, typer.Option(help="Bit for bit repeatable on a GPU too; slower.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="Also log for TensorBoard, into OUT/tensorboard.")] = False,
) -> None:
    """Train a recipe. Ctrl-C stops after the step; --resume goes on, bit for bit as if never stopped.

    [dim]fastfcn train fastfcn_r50_psp_camvid --data CamVid --out runs/camvid\n
    fastfcn train fastfcn_r18_psp_camvid optim.steps=200 backbone.pretrained=none --data CamVid --out runs/try[/]
    """
    from fastfcn import recipe as recipes_module
    from fastfcn.machine import Machine
    from fastfcn.train import train as train_recipe

    machine = Machine(accelerator, devices, nodes, workers, precision, accumulate, deterministic)
    wanted = recipes_module.load(name, changes or [])
    state = train_recipe(wanted, data, out, machine, resume, tensorboard)
    if not machine.first_process:
        return
    if state.step < wanted.optim.steps:
        say(f"Stopped after step {state.step} of {wanted.optim.steps}. Go on with: --resume")
        raise typer.Exit(130)
    say(f"Best val mIoU {state.best:.2f} at step {state.best_step}. Weights: {out / 'weights.safetensors'}")
    say(f"[dim]Next: fastfcn evaluate {out / 'weights.safetensors'} --data {data}[/]")


@app.command()
def evaluate(
    weights: Annotated[Path, typer.Argument(help="A weights file.")],
    data: Data,
    changes: Changes = None,
    split: Annotated[str | None, typer.Option(help="Split to score; by default the recipe's val split.")] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Multi-scale and flip testing, as the recipe's eval says.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores here.")
    ] = None,
    devices: Devices = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
) -> None:
    """Score a weights file at the original resolution: mIoU, accuracies and a table of classes.

    [dim]fastfcn evaluate runs/camvid/weights.safetensors --data CamVid --tta --json scores.json[/]
    """
    from fastfcn.evaluate import as_json, score_table
    from fastfcn.evaluate import evaluate as evaluate_weights
    from fastfcn.files import make_folder, write_text
    from fastfcn.machine import Machine

    if json_file:
        make_folder(json_file.parent)  # what is wrong with it is said before the work
    machine = Machine(accelerator, devices, 1, workers, precision)
    scores, about, split = evaluate_weights(weights, data, machine, split, tta, changes or [])
    if not machine.first_process:
        return
    out_console.print(score_table(scores, about, split))
    if json_file:
        write_text(json_file, json.dumps(as_json(scores, about), indent=2) + "\n")


@app.command()
def predict(
    weights: Annotated[Path, typer.Argument(help="A weights file.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders or patterns ('a/*.jpg').")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.png (ids), NAME_overlay.jpg and legend.png.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Colour in pictures. A broken image is reported and skipped; the exit code is 1 then.

    [dim]fastfcn predict runs/camvid/weights.safetensors photos --out coloured[/]
    """
    from fastfcn.predict import find_images, load
    from fastfcn.predict import predict as predict_images
    from fastfcn.progress import counted

    images = find_images(inputs)
    results = list(counted(predict_images(load(weights, device), images, out), len(images), "Predicting"))
    errors = [error for error in results if error]
    for error in errors:
        _print_error(error)
    say(f"{len(images) - len(errors)} of {len(images)} images coloured in; pictures are in {out}.")
    if errors:
        raise typer.Exit(1)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file of OpenMMLab's (mmsegmentation 0.x or 1.x).")],
    name: Annotated[str, typer.Option("--recipe", help="The recipe, or OpenMMLab config name, it was trained with.")],
    out: Annotated[Path, typer.Option(help="Weights file to write.")],
) -> None:
    """Make a weights file of a published checkpoint. Nothing in the checkpoint is run.

    [dim]fastfcn convert published.pth --recipe fastfcn_r50_psp_cityscapes_80k_b8 --out psp.safetensors[/]
    """
    from fastfcn.convert import convert as convert_checkpoint

    for remark in convert_checkpoint(checkpoint, name, out):
        say(remark)
    say(f"Wrote {out}.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write into; made anew.")] = Path("fastfcn-demo"),
) -> None:
    """Draw street scenes, train a small network on them for two minutes, and show what it learnt."""
    from fastfcn.demo import demo as run_demo

    run_demo(out, out_console)


def say(text: str) -> None:
    """Print a line that is not broken, so that paths and commands can be copied."""
    out_console.print(text, soft_wrap=True, highlight=False)


def _print_error(error: UserError) -> None:
    error_console.print(f"[bold red]Error:[/] {_plain(error.message)}", highlight=False, soft_wrap=True)
    if error.hint:
        error_console.print(f"[yellow]{_plain(error.hint)}[/]", highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def main() -> None:
    """Entry point of the `fastfcn` command."""
    try:
        app()
    except UserError as error:
        _print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
