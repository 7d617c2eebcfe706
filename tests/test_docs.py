"""Commands and Python code of the documentation run, in the order of the pages.

Every shell and Python fence is read. A command runs as it is written or with small sizes (`in_small`), unless a table
below names it, with the reason. `pytest tests/test_docs.py -s` prints how many commands are in which group.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import readme_table
import service_tables
from fastfcn import api, recipes
from markdown_tables import with_tables
from tests.helpers.command import fastfcn
from tests.helpers.documents import ADDRESS, DOCUMENTS, OTHER, PYTHON, SHELL, Service, fences, write_reader_folder
from tests.helpers.fake_hub import TOKEN, fake_hub
from tests.helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import figures

SETS_UP = "sets up an environment or a checkout; .ci/run and the workflows do it"
LONG = "measures or compares for minutes, some with other software; tests/benchmarks runs its code"
NO_DOCKER = "needs Docker"
NO_BUCKET = "needs a bucket; tests/data/test_storage.py has one on this machine"
NO_RAY = "needs Ray; tests/test_ray.py runs the actors, tests/trials a cluster"
FOUR_GPUS = "needs four GPUs; tests/training runs two processes on the CPU"
WEIGHTS = "would download published weights and evaluate a whole dataset; tests/reproduce does it with small files"
TRAINS = "would train for 80,000 steps; tests/reproduce does it with few"
BY_NAME = "downloads 275 MB; tests/weights/test_published.py does it from a server on this machine"
EXPORTS = "takes half a minute, and the page exports to ONNX; tests/exporting exports a smaller network"
TOO_FEW = "two images where the published dataset has hundreds"

NOT_RUN = {
    "fastfcn predict fastfcn_r50_psp_cityscapes_80k_b8 street.jpg --out predictions": BY_NAME,
    "pip install . && fastfcn demo": "two minutes; tests/demo runs the demo with few steps",
    "pip install '.[test]' && pytest": SETS_UP,
    "pip install -e '.[dev]'": SETS_UP,
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu": SETS_UP,
    "pip install 'fastfcn[serve]'": SETS_UP,
    "pip install hatchling": SETS_UP,
    "FASTFCN_BUILD_KERNELS=1 pip wheel --no-build-isolation --no-deps --wheel-dir dist .": SETS_UP,
    "pre-commit install": SETS_UP,
    "pytest": "would run this test again",
    "ruff check .": SETS_UP,
    "ruff format --check .": SETS_UP,
    "pyright": SETS_UP,
    "sphinx-build -W --keep-going -b html docs docs/_build": "tests/test_site.py builds the site",
    "docker build -t fastfcn .": NO_DOCKER,
    'docker run --rm -p 8000:8000 -e FASTFCN_TOKEN=SECRET -v "$PWD/weights:/weights:ro" fastfcn '
    "/weights/weights.safetensors": NO_DOCKER,
    "docker build -t fastfcn:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .": NO_DOCKER,
    'docker run --rm --gpus all -p 8000:8000 -e FASTFCN_TOKEN=SECRET -v "$PWD/weights:/weights:ro" fastfcn:cuda '
    "/weights/weights.safetensors --device cuda": NO_DOCKER,
}
NOT_RUN_PREFIXES = {
    "for lr in ": "a loop over a command that runs by itself",
    "python benchmarks/": LONG,
    "peers/bin/": LONG,
    "python -m venv peers": LONG,
    "python3 -m venv": LONG,
}
# Run with --help instead, which checks the options.
ONLY_HELP = {
    "fastfcn pack photos --out s3://bucket/photos": NO_BUCKET,
    "fastfcn predict weights.safetensors photos --out on-ray --engine ray --resume": NO_RAY,
    "fastfcn predict weights.safetensors photos --out on-ray --engine ray --actors 16 --threads 2 --batch 32 "
    "--resume": NO_RAY,
    "fastfcn train photos/recipe.toml --data s3://bucket/photos --out runs/photos": NO_BUCKET,
    "fastfcn train fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --out runs/psp --devices 4 "
    "--precision bf16-mixed": FOUR_GPUS,
    "fastfcn train fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --out runs/psp --devices 4 "
    "--precision bf16-mixed --resume": FOUR_GPUS,
    "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --max-restarts 10 -m "
    "fastfcn train fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --out runs/psp --resume": "needs two machines; "
    "tests/training runs two processes, tests/trials two agents",
    "fastfcn export weights.safetensors --format openvino --int8 --calibrate photos/images --data CamVid --force "
    "--out int8.xml": "calibration takes half a minute; tests/exporting quantizes a smaller network",
    "fastfcn export weights.safetensors --format openvino --logits --out model.xml": EXPORTS,
    "fastfcn export weights.safetensors --format triton --out models": EXPORTS,
    "fastfcn predict weights.safetensors webcam --out recorded --seconds 20": "needs a camera",
    "fastfcn check DRIVE --masks training/mask": "needs the dataset; tests/checking draws one of its layout",
}
# Run with --dry-run instead, which prints the plan.
ONLY_DRY_RUN = {
    "fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes": WEIGHTS,
    "fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --devices 4": WEIGHTS,
    "fastfcn reproduce dilated_r50_psp_cityscapes_80k_b8 --data cityscapes": WEIGHTS,
    "fastfcn reproduce fastfcn_r50_psp_ade20k_80k_b16 --data ADEChallengeData2016": WEIGHTS,
    "fastfcn reproduce fastfcn_r50_enc_ade20k_160k_b16 --data ADEChallengeData2016": WEIGHTS,
    "fastfcn reproduce fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024 --data cityscapes": WEIGHTS,
    "fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --train --accumulate 4": TRAINS,
    "fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --train --devices 4": TRAINS,
    "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m fastfcn reproduce "
    "fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --train": TRAINS,
}
# These run, and end with exit code 1.
REPORTS_ERRORS = {
    "fastfcn check cityscapes --dataset cityscapes": TOO_FEW,
    "fastfcn check ADEChallengeData2016 --dataset ade20k": "the folder does not exist, as in the text",
    "fastfcn check cityscapes --dataset cityscapes --split val --values --json check.json": TOO_FEW,
}
# Python fences that do not run, by their first line.
PYTHON_NOT_RUN = {
    "@operator()": "declares an operator whose C++ code is in the page",
    "import ray": "needs Ray and a bucket; tests/test_ray.py runs it on files",
}
LISTED = (NOT_RUN, ONLY_HELP, ONLY_DRY_RUN, REPORTS_ERRORS)

# Options that make a command small: two steps on small crops, from random weights unless the command names some.
SIZES = "data.base_size=[48,64] data.crop=[32,32]"
TRAIN = f"optim.steps=2 optim.batch=2 eval.every=2 {SIZES} --no-report --workers 0 --accelerator cpu"
SMALL = {
    "bench": "--size 64x64 --runs 1 --no-train --accelerator cpu --threads 1",
    "evaluate": "eval.resize=none eval.scales=[0.5,1.0] --workers 0 --accelerator cpu",
    "export": "--sizes 33x47",
    "init": "--accelerator cpu --force",
    "profile": "--size 64x64 --runs 1 --accelerator cpu --threads 1 --seconds 0",
    "report": "--workers 0 --accelerator cpu",
}
# In the process of the test, because a new one takes seconds to import torch.
IN_PROCESS = (
    "check", "evaluate", "export", "import", "info", "init", "pack", "predict", "recipe", "recipes", "report",
    "reproduce", "train",
)  # fmt: skip

done: set[str] = set()  # commands that ran in an earlier document


def in_small(command: str) -> str:
    """The command as this test runs it."""
    if command in ONLY_HELP:
        return re.sub(r"^torchrun .* -m fastfcn", "fastfcn", command) + " --help"
    if command in ONLY_DRY_RUN:
        return re.sub(r"^torchrun .* -m fastfcn", "fastfcn", command) + " --dry-run"
    name = command.split()[1]
    if name == "train":
        weights = "" if "backbone.pretrained=" in command else " backbone.pretrained=none"
        return f"{command} {TRAIN}{weights}"
    if name == "profile":
        command = command.replace("profile --budget", "profile demo --budget")  # one recipe instead of all
    if name in ("bench", "profile"):
        command = with_demo(command)
    if name == "report":
        command = command.replace("--against runs/slim", "--against runs/camvid")  # of another document
    return f"{command} {SMALL[name]}" if name in SMALL else command


def with_demo(command: str) -> str:
    """A measurement of the demo's network instead of recipes, which exist: large networks take a minute to set up."""
    words = command.split()
    measured = [word for word in words if word in recipes.names()]
    if not measured:
        return command
    first = words.index(measured[0])
    return " ".join([*words[:first], "demo", *(word for word in words[first:] if word not in measured)])


def group(command: str) -> str:
    """How a command is treated."""
    if command in NOT_RUN or command.startswith(tuple(NOT_RUN_PREFIXES)):
        return "not run"
    if command in ONLY_HELP:
        return "--help"
    if command in ONLY_DRY_RUN:
        return "--dry-run"
    if command.startswith(("curl ", "fastfcn serve ")) or in_small(command) == command:
        return "as written"
    return "with small sizes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_reader_folder(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Programs of this environment, one thread, no kernels, and a Hugging Face Hub on this machine."""
    scripts = str(Path(sys.executable).parent)
    with fake_hub() as hub:
        yield {
            **os.environ,
            "PATH": scripts + os.pathsep + os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "FASTFCN_KERNELS": "off",  # tests/kernels builds them, which takes a minute
            "HF_ENDPOINT": hub.address,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path_factory.mktemp("hub")),
            "HF_HUB_DISABLE_XET": "1",
        }


@pytest.fixture(autouse=True)
def small_python_api(monkeypatch):
    """`fastfcn.train` and `fastfcn.evaluate` with the same small sizes as the commands."""
    overrides = [word for word in f"{TRAIN} backbone.pretrained=none".split() if "=" in word]
    machine = {"accelerator": "cpu", "workers": 0}

    def train(*args, **options):
        return api.train(*args, **options, **machine, overrides=overrides)

    def evaluate(*args, **options):
        return api.evaluate(*args, **options, **machine, overrides=["eval.resize=none"])

    monkeypatch.setattr("fastfcn.train", train, raising=False)
    monkeypatch.setattr("fastfcn.evaluate", evaluate, raising=False)


@pytest.fixture
def service():
    running = Service()
    yield running
    running.stop()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_document_runs(document, folder, environment, service, monkeypatch):
    monkeypatch.chdir(folder)
    for fence in fences(document):
        if fence.language in PYTHON and fence.text.splitlines()[0] not in PYTHON_NOT_RUN:
            text = fence.text.replace(ADDRESS, service.address)
            exec(compile(text, str(document), "exec"), {"__name__": "__main__"})
        elif fence.language in SHELL:
            for command in fence.commands:
                run(command, f"{document.name}: {command}", folder, environment, service)
        else:
            assert fence.language in (*OTHER, *PYTHON), f"{document.name}: a fence of the language {fence.language!r}"


def run(command: str, where: str, folder: Path, environment: dict[str, str], service: Service) -> None:
    """Run a command of a document; fail if its exit code is not the expected one."""
    if command in done or group(command) == "not run":
        return
    done.add(command)
    assert command.startswith(("fastfcn ", "curl ", "torchrun ")), f"{where}: who runs this?"
    small = command if command.startswith("curl ") else in_small(command)
    small = small.replace(ADDRESS, service.address)
    words = shlex.split(small)
    if words[:2] == ["fastfcn", "serve"]:
        service.start(words[2:], folder, environment)
        return
    for output in re.findall(r"--out (runs/\S+)|--fix (\S+)", command):
        if "--resume" not in command and group(command) not in ("--help", "--dry-run"):
            shutil.rmtree(folder / "".join(output), ignore_errors=True)
    if words[0] == "curl":
        small = small.replace("curl ", "curl --fail --silent --show-error --max-time 60 ", 1)
    if "--help" in words or (words[1] in IN_PROCESS and not re.search("hf://|>|--server", small)):
        finished = fastfcn(*words[1:])
        code, output = finished.code, finished.out[-2000:] + finished.err[-3000:]
    else:
        process = subprocess.run(small, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
        code, output = process.returncode, process.stdout[-2000:] + process.stderr[-3000:]
    assert code == int(command in REPORTS_ERRORS), f"{where}\n{output}"


def commands() -> list[str]:
    """All commands of all documents."""
    everything = (fence for document in DOCUMENTS for fence in fences(document) if fence.language in SHELL)
    return list(dict.fromkeys(command for fence in everything for command in fence.commands))


def test_commands_that_are_not_run_are_listed_with_a_reason():
    counts = Counter(map(group, commands()))
    print(f"\n{sum(counts.values())} commands: {dict(counts)}")
    listed = set().union(*LISTED)
    assert sorted(listed - set(commands())) == [], "listed, but in no document"
    python = [fence.text.splitlines()[0] for path in DOCUMENTS for fence in fences(path) if fence.language in PYTHON]
    assert set(PYTHON_NOT_RUN) <= set(python), "listed, but in no document"
    assert len(listed) == sum(map(len, LISTED)), "listed twice"
    assert all(len(reason) > 10 for table in (*LISTED, NOT_RUN_PREFIXES) for reason in table.values())
    assert counts["--help"] == len(ONLY_HELP)
    assert counts["--dry-run"] == len(ONLY_DRY_RUN)
    assert counts["as written"] + counts["with small sizes"] >= 60


def test_the_two_commands_to_set_up_are_in_the_readme_and_the_local_check():
    readme = [command for fence in fences(ROOT / "README.md") if fence.language in SHELL for command in fence.commands]
    assert "pip install . && fastfcn demo" in readme
    assert "pip install '.[test]' && pytest" in readme
    assert "pip install --quiet --no-cache-dir '.[test]'" in (ROOT / ".ci/run").read_text()


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("script", [readme_table, service_tables], ids=lambda script: script.__name__)
def test_tables_are_made_from_files(script):
    for document, tables in script.TABLES.items():
        text, table = document.read_text(encoding="utf-8"), tables()
        assert with_tables(text, script.SCRIPT, table) == text, f"run: {script.SCRIPT}"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_are_drawn_from_files(name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == figures.FIGURES[name](), "run: python docs/figures.py"


def test_the_speed_in_the_readme_was_measured():
    record = json.loads((ROOT / "benchmarks/results/speed_cpu.json").read_text())
    rates = {(row["comparison"], row["variant"]): row["images_per_second"] for row in record["rows"]}
    names = [f"{head}_19_512x1024" for head in figures.HEADS]
    ratios = [rates[name, "fastfcn"] / rates[name, "mmsegmentation"] for name in names]
    equal = [row["agreement"] for row in record["rows"] if row["comparison"] in names and row["variant"] == "fastfcn"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"fastfcn is {min(ratios):.1f} to {max(ratios):.1f} times as fast as mmsegmentation" in readme
    assert min(equal) > 0.9999


def test_the_training_in_the_readme_was_measured():
    row = json.loads((ROOT / "benchmarks/results/lite_camvid.json").read_text())["results"]["fastfcn"]
    minutes = row["steps"] * row["batch"] / max(row["images_per_second"]["training"]) / 60
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{row['scores']['miou']:.1f} mIoU on CamVid's val after {minutes:.0f} minutes" in readme
