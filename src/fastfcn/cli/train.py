"""`fastfcn train`: train a recipe."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Changes, Data, Devices, Nodes, Precision, Workers
from fastfcn.utils.console import out_console, say, say_plain


def train(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe, or path of a recipe file.")],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for the run.")],
    changes: Changes = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted run in --out; start it if there is none.")
    ] = False,
    accept_changed_data: Annotated[
        bool, typer.Option("--accept-changed-data", help="Resume although the dataset has changed since the start.")
    ] = False,
    devices: Devices = 1,
    nodes: Nodes = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    accumulate: Annotated[int, typer.Option(min=1, help="Split each batch into this many parts to save memory.")] = 1,
    deterministic: Annotated[bool, typer.Option(help="Use deterministic algorithms on a GPU, too; slower.")] = False,
    checkpoint_activations: Annotated[
        bool,
        typer.Option("--checkpoint-activations", help="Recompute activations to save memory; about a third slower."),
    ] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile; needs a C++ compiler.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse weights (load_from) whose classes are not those of the dataset.")
    ] = False,
    trust_labels: Annotated[
        bool, typer.Option("--trust-labels", help="Do not read all masks before the first step to check them.")
    ] = False,
    log: Annotated[
        list[str] | None, typer.Option(help="Also log to tensorboard, mlflow or wandb; repeat for more than one.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="Cross-validate: N trainings, each validated on another part of the data."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Train with N seeds and report mean and standard deviation.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Write an HTML report on the best weights to OUT/report.html.")] = True,
) -> None:
    """Train a recipe.

    Ctrl-C stops after the current step. --resume continues with exactly the results of an uninterrupted run. SIGTERM
    and SIGUSR1 stop as Ctrl-C does, with exit code 75: run the same command with --resume again. Under torchrun and
    srun, devices and nodes are those of the job.
    --folds and --seeds train several times, into folders in --out, and print mean and standard deviation.
    load_from=WEIGHTS fine-tunes a whole network: classes of the same name keep their outputs.

    [dim]fastfcn train fastfcn_r50_psp_camvid --data CamVid --out runs/camvid\n
    fastfcn train fastfcn_r18_psp_camvid optim.steps=200 backbone.pretrained=none --data CamVid --out runs/try\n
    fastfcn train fastfcn_r50_psp_camvid --data CamVid --out runs/camvid --resume --log tensorboard[/]
    """
    from fastfcn import recipes

    recipe = recipes.load(name, changes or [])  # an invalid recipe is reported before the slow imports below
    from fastfcn.report.report import report_after_training
    from fastfcn.training.loggers import check_loggers
    from fastfcn.training.run import Run, TrainingResult
    from fastfcn.training.train import train as train_recipe
    from fastfcn.utils.machine import Machine

    machine = Machine(
        accelerator, devices, nodes, workers, precision, accumulate, deterministic, checkpoint_activations, compile
    )
    check_loggers(log or [])
    if folds or seeds:
        from fastfcn.cli.tables.repeats import repeats_table
        from fastfcn.training.repeats import repeats, train_repeats

        def write_report(result: TrainingResult) -> None:
            if report and not Run(result.folder).report.exists():  # --resume comes by finished trainings again
                report_after_training(Run(result.folder), data, machine)

        planned = repeats(recipe, folds or 1, seeds or 1)
        repeated = train_repeats(
            planned, data, out, machine, resume, log or [], accept_changed_data, write_report, strict, trust_labels
        )
        if repeated.stopped:
            say("Stopped in training {} of {}. Continue with --resume.", len(repeated.runs) + 1, len(planned))
            raise typer.Exit(repeated.stopped.exit_code)
        out_console.print(repeats_table(repeated, out_console))
        return
    result = train_recipe(recipe, data, out, machine, resume, log or [], accept_changed_data, strict, trust_labels)
    if not machine.first_process:
        raise typer.Exit(result.exit_code)
    if not result.finished:
        say("Stopped after step {} of {}. Continue with --resume.", result.step, result.steps)
        raise typer.Exit(result.exit_code)
    if result.stopped_early:
        say("Stopped early after step {} of {}: no better val mIoU since.", result.step, result.steps)
    if report:
        say_plain(report_after_training(Run(out), data, machine))
    say("Best val mIoU {:.2f} at step {}. Weights: {}", result.miou, result.best_step, result.weights)
    weights, folder = (shlex.quote(str(path)) for path in (result.weights, data))
    say("[dim]Next: fastfcn evaluate {} --data {}[/]", weights, folder)
