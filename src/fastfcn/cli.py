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
def bench(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="NAME... [KEY=VALUE]...", help="Recipes or weights files; changes to all of them."),
    ],
    size: Annotated[str | None, typer.Option(metavar="HxW", help="For inference; else the recipe's test size.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Counted runs; else about ten seconds of them.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Of a training step; else the recipe's per device.")] = None,
    no_train: Annotated[bool, typer.Option("--no-train", help="Measure inference only.")] = False,
    no_infer: Annotated[bool, typer.Option("--no-infer", help="Measure training only.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor; else as torch chooses.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures here.")
    ] = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
) -> None:
    """Measure speed and memory of recipes side by side: image to class map, and training steps.

    A recipe's name stands for random weights, a .safetensors file for its own.

    The per-device batch of a published recipe is a fourth of its batch (it was trained on 4 GPUs).

    [dim]fastfcn bench fastfcn_r50_psp_cityscapes_80k_b8 dilated_r50_psp_cityscapes_80k_b8 --size 512x1024[/]
    """
    from fastfcn.bench import bench as bench_recipes
    from fastfcn.bench import command, image_size
    from fastfcn.files import make_folder, write_text
    from fastfcn.measure_speed import Settings
    from fastfcn.show_bench import bench_table

    if json_file:
        make_folder(json_file.parent)  # what is wrong with it is said before the work
    names, changes = [each for each in arguments if "=" not in each], [each for each in arguments if "=" in each]
    settings = Settings(image_size(size) if size else None, runs, batch, precision, accelerator, threads)
    parts = [part for part, left_out in (("inference", no_infer), ("training", no_train)) if not left_out]
    record = bench_recipes(names, changes, settings, parts)
    out_console.print(bench_table(record))
    if json_file:
        write_text(json_file, json.dumps({"command": command()} | record, indent=1) + "\n")


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
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")],
    dataset: Annotated[str, typer.Option(help="Name of a data set, or path of its .toml file.")],
    split: Annotated[list[str] | None, typer.Option(help="Check only this split; may be given again.")] = None,
    values: Annotated[bool, typer.Option("--values", help="Also read every mask.")] = False,
    workers: Workers = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write what was found here.")
    ] = None,
) -> None:
    """Say where a data set comes from and what its folder must look like, and check the one at hand.

    The exit code is 1 where anything is wrong.

    [dim]fastfcn check cityscapes --dataset cityscapes --split val[/]
    """
    from fastfcn.check import check as check_folder
    from fastfcn.data.description import load_description
    from fastfcn.files import write_text
    from fastfcn.machine import Machine
    from fastfcn.show_check import show_report

    readers = Machine(workers=workers).readers
    report = check_folder(load_description(dataset), folder, split or (), values, readers)
    show_report(report, out_console)
    if json_file:
        write_text(json_file, json.dumps(report.as_json(), indent=1) + "\n")
    if report.problems:
        raise typer.Exit(1)


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe with published scores.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for all that is made; else reproduced/RECIPE.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights to score, instead of the published ones.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Train the row first; the same command goes on.")] = False,
    tta: Annotated[bool | None, typer.Option("--tta/--no-tta", help="Several scales and flip, too.")] = None,
    tolerance: Annotated[float | None, typer.Option(min=0, help="Points of mIoU that still hold.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to score; by default the recipe's val split.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    devices: Devices = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    accumulate: Annotated[int, typer.Option(min=1, help="Train each batch in so many parts, to save memory.")] = 1,
) -> None:
    """Reproduce a row of the table: fetch the published weights or train, score, and compare.

    The exit code is 0 where the published scores hold, and 1 where they differ.

    [dim]fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes\n
    fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --train --devices 4[/]
    """
    from fastfcn.machine import Machine
    from fastfcn.reproduce import reproduce as reproduce_row
    from fastfcn.reproduce_plan import describe, make_plan
    from fastfcn.verdict import markdown_row, verdict_table

    machine = Machine(accelerator, devices, nodes, workers, precision, accumulate)
    plan = make_plan(name, data, out, checkpoint, train, tta, split, tolerance)
    for line in describe(plan, machine) if machine.first_process else ():
        say(line)
    if dry_run:
        return
    verdict = reproduce_row(plan, machine, lambda remark: say(_plain(remark)))
    if not machine.first_process:
        return
    if verdict is None:
        say("Stopped. The same command goes on where it was.")
        raise typer.Exit(130)
    out_console.print(verdict_table(verdict))
    say(_plain(markdown_row(verdict)))
    raise typer.Exit(0 if verdict["verdict"] == "holds" else 1)


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
