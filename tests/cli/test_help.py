"""What `--help` teaches: every verb shows how it is called, and its examples are calls that the verb understands."""

import inspect
import re
import shlex
from collections.abc import Callable

import pytest
import typer

from fastfcn.cli import VERBS, app
from tests.helpers import command

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def examples(verb: Callable) -> list[str]:
    """The lines of a verb's help that are calls of it."""
    lines = [re.sub(r"\[/?dim\]|\[/\]|\\n", "", line).strip() for line in inspect.getdoc(verb).splitlines()]
    return [line for line in lines if re.match(r"fastfcn \S+( |$)", line)]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_every_verb_shows_examples_that_it_understands(verb: Callable):
    found = examples(verb)
    assert found
    for line in found:
        _, name, *arguments = shlex.split(line.partition(" > ")[0])
        assert name == verb.__name__
        COMMANDS[name].make_context(name, list(arguments), resilient_parsing=False)  # raises for what it does not know


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_every_option_is_explained(verb: Callable):
    for parameter in COMMANDS[verb.__name__].params:
        assert parameter.name == "help" or getattr(parameter, "help", None), f"{verb.__name__}: {parameter.name}"


def test_help_lists_every_verb():
    done = command.fastfcn("--help")
    assert done.code == 0
    for verb in VERBS:
        assert f" {verb.__name__} " in done.out
