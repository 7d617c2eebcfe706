"""The command line: one subcommand per verb; errors of the user's come without a traceback."""

import sys

import typer

from fastfcn.cli.bench import bench, profile
from fastfcn.cli.check import check, convert
from fastfcn.cli.evaluate import evaluate, predict
from fastfcn.cli.export import export
from fastfcn.cli.info import info, push
from fastfcn.cli.init import init
from fastfcn.cli.output import print_error
from fastfcn.cli.recipes import recipe, recipes
from fastfcn.cli.report import report
from fastfcn.cli.serve import serve
from fastfcn.cli.train import demo, reproduce, train
from fastfcn.errors import UserError

VERBS = (
    recipes,
    recipe,
    init,
    train,
    evaluate,
    report,
    predict,
    serve,
    info,
    push,
    bench,
    profile,
    export,
    convert,
    check,
    reproduce,
    demo,
)  # as --help lists them

app = typer.Typer(
    help="Semantic segmentation with Joint Pyramid Upsampling: train, evaluate and predict on your own images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in VERBS:
    app.command()(verb)


def main() -> None:
    """Entry point of the `fastfcn` command."""
    try:
        app()
    except UserError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
