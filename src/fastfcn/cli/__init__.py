"""The command line: one file per command. A UserError is printed without a traceback."""

import sys
from importlib import metadata
from typing import Annotated

import typer

from fastfcn.cli.bench import bench
from fastfcn.cli.check import check
from fastfcn.cli.convert import convert
from fastfcn.cli.demo import demo
from fastfcn.cli.evaluate import evaluate
from fastfcn.cli.export import export
from fastfcn.cli.import_annotations import import_annotations
from fastfcn.cli.info import info
from fastfcn.cli.init import init
from fastfcn.cli.output import escape_unencodable_output, print_error, with_system_errors
from fastfcn.cli.pack import pack
from fastfcn.cli.predict import predict
from fastfcn.cli.profile import profile
from fastfcn.cli.push import push
from fastfcn.cli.recipes import recipe, recipes
from fastfcn.cli.report import report
from fastfcn.cli.reproduce import reproduce
from fastfcn.cli.serve import serve
from fastfcn.cli.train import train
from fastfcn.errors import RepeatedError, UserError

COMMANDS = (
    recipes,
    recipe,
    import_annotations,
    init,
    pack,
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


def print_version(requested: bool) -> None:
    """Print the version and exit: the callback of `--version`."""
    if requested:
        typer.echo(f"fastfcn {metadata.version('fastfcn')}")
        raise typer.Exit


app = typer.Typer(
    help="Semantic segmentation with Joint Pyramid Upsampling: train, evaluate and predict on your own images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for function in COMMANDS:
    app.command()(with_system_errors(function))


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `fastfcn` command."""
    escape_unencodable_output()
    try:
        app()
    except UserError as error:
        if not isinstance(error, RepeatedError):
            print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
