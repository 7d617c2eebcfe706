"""The commands and the Python code of docs/serve.md, run against a service of the test."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.command import fastfcn
from tests.helpers.running_service import RunningService
from tests.helpers.tiny import save_picture

DOCUMENT = Path(__file__).parents[2] / "docs" / "serve.md"
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8").replace("/models/camvid", "/models/tiny")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(start: str) -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith(start)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("street.jpg", "more/1.jpg"):
        save_picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_curl_command_succeeds(service: RunningService, place: Path):
    if subprocess.run(["which", "curl"], capture_output=True).returncode:
        pytest.skip("curl is not installed")
    assert len(commands("curl")) == 8
    for line in commands("curl"):
        command = line.replace(ADDRESS, service.url).replace("curl ", "curl --silent --show-error --fail ", 1)
        done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=place)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert {"labels.png", "overlay.jpg"} <= {path.name for path in place.iterdir()}


def test_the_client_and_a_folder(service: RunningService, place: Path, capsys: pytest.CaptureFixture):
    protocol, client = blocks("python")
    for block in (protocol, client):
        exec(compile(block.replace(ADDRESS, service.url), str(DOCUMENT), "exec"), {})
    assert re.match(r"\[1, 64, 96\]\n\{'\w+': 0\.\d+", capsys.readouterr().out)
    (line,) = commands("fastfcn predict")
    assert fastfcn(*line.replace(ADDRESS, service.url).split()[1:]).code == 0
    names = sorted(path.name for path in (place / "predictions").glob("[!.]*"))
    assert names == ["1.png", "1_overlay.jpg", "legend.png", "manifest.jsonl"]


def prose() -> str:
    """The page without its benchmark tables."""
    return re.sub(r"<!-- table.*?end of table -->", "", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_documented_options_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "300")
    help_text = fastfcn("serve", "--help").out
    text = prose()
    named = set(re.findall(r"(?<!`curl )`?(--[a-z][a-z-]+)", "\n".join(commands("fastfcn serve")) + text)) - {
        "--server", "--out", "--data-binary", "--build-arg", "--gpus", "--rm",  # of other programs
    }  # fmt: skip
    assert len(named) >= 10
    assert {option for option in named if option not in help_text} == set()
    assert all(line.split()[1] == "serve" for line in commands("fastfcn serve"))


def test_documented_scripts_exist():
    scripts = re.findall(r"`python (benchmarks/\w+\.py)`", prose())
    assert len(scripts) == 2
    assert all((DOCUMENT.parents[1] / script).is_file() for script in scripts)
