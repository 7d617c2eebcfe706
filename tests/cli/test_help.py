"""`--help` of every command: each option is explained, and the examples parse."""

import inspect
import re
import shlex
from collections.abc import Callable
from importlib import metadata

import pytest
import typer

from fastfcn.cli import COMMANDS, app
from tests.helpers.command import fastfcn

PARSERS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def examples(function: Callable) -> list[str]:
    """The example calls in the help of a command."""
    lines = [re.sub(r"\[/?dim\]|\[/\]|\\n", "", line).strip() for line in inspect.getdoc(function).splitlines()]
    return [line for line in lines if re.match(r"fastfcn \S+( |$)", line)]


@pytest.mark.parametrize("function", COMMANDS, ids=lambda function: function.__name__)
def test_every_command_shows_examples_that_it_parses(function: Callable):
    commands = examples(function)
    assert commands
    for line in commands:
        _, name, *arguments = shlex.split(line.partition(" > ")[0])
        assert name == function.__name__
        PARSERS[name].make_context(name, list(arguments), resilient_parsing=False)  # raises for unknown options


@pytest.mark.parametrize("function", COMMANDS, ids=lambda function: function.__name__)
def test_every_option_is_explained(function: Callable):
    for parameter in PARSERS[function.__name__].params:
        assert parameter.name == "help" or getattr(parameter, "help", None), f"{function.__name__}: {parameter.name}"


def test_help_lists_every_command():
    done = fastfcn("--help")
    assert done.code == 0
    for function in COMMANDS:
        assert f" {function.__name__} " in done.out


def test_version():
    assert fastfcn("--version") == (0, f"fastfcn {metadata.version('fastfcn')}\n", "")
