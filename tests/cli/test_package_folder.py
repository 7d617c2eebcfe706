"""`python -m fastfcn` inside the package: its modules are not imported in place of the standard library's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastfcn

PACKAGE = Path(fastfcn.__file__).parent


def test_modules_that_python_imports_first_have_other_names():
    """The top level, and `utils`, whose modules would be imported before __main__ can prevent it."""
    names = {path.stem for folder in (PACKAGE, PACKAGE / "utils") for path in folder.iterdir()}
    assert names & sys.stdlib_module_names <= {"__main__", "__init__"}


@pytest.mark.parametrize("folder", [".", "cli", "checking", "report", "utils"])
def test_commands_run_in_a_folder_of_the_package(folder: str):
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-B", "-m", "fastfcn", "recipes"],
        cwd=PACKAGE / folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "fastfcn_r18_psp_camvid" in done.stdout


def test_child_processes_do_not_search_the_package_folder(tmp_path):
    """Only inside the package: elsewhere a user's own modules next to the command stay importable."""
    code = (
        "import os, runpy, sys; sys.argv = ['fastfcn', '--version']\n"
        "try: runpy.run_module('fastfcn', run_name='__main__')\n"
        "except SystemExit: print(os.environ.get('PYTHONSAFEPATH'))"
    )
    for folder, safe in ((PACKAGE / "cli", "1"), (tmp_path, "None")):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        environment |= {"PYTHONPATH": str(PACKAGE.parent)}
        done = subprocess.run([sys.executable, "-B", "-c", code], cwd=folder, env=environment, capture_output=True)
        assert done.stdout.decode().split()[-1] == safe, done.stderr
