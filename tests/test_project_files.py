"""Files around the package: they parse, agree with each other, and name only what exists."""

import re
import shlex
import tomllib
from fnmatch import fnmatch

import pytest
import yaml

import fastfcn
from tests.helpers.command import fastfcn as command
from tests.helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
CPU_TORCH = "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"
# The lowest version of torch that is supported, and its torchvision.
OLDEST_TORCH = "torch==2.11.0 torchvision==0.26.0"
# Workflow commands that contributors do not run.
ONLY_IN_WORKFLOWS = {
    f"pip install {OLDEST_TORCH} --index-url https://download.pytorch.org/whl/cpu",
    f"pip install -e '.[test]' {OLDEST_TORCH} 'numpy<2.4'",  # later ones break the interpreter of its Triton
    "pytest tests/kernels tests/fast tests/training tests/test_losses.py",
    "pip install -e '.[docs]'",
    "pip install build hatch twine",
    'test "v$(hatch version)" = "$GITHUB_REF_NAME"',
    "python -m build",
    "twine check --strict dist/*",
}


def read_yaml(path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: str) -> list[dict]:
    return [step for job in read_yaml(WORKFLOWS[workflow])["jobs"].values() for step in job["steps"]]


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of each line of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_version_has_one_source():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    source = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert re.findall(r'^__version__ = "(.+)"$', source, re.M) == [fastfcn.__version__]


def test_the_citation_is_the_paper():
    citation = read_yaml(ROOT / "CITATION.cff")
    paper = citation["preferred-citation"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["project"]["license"]
    assert [author["family-names"] for author in paper["authors"]] == ["Wu", "Zhang", "Huang", "Liang", "Yu"]
    assert paper["url"] == PROJECT["project"]["urls"]["Paper"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_issue_templates_parse(path):
    form = read_yaml(path)
    if path.stem != "config":
        assert {"name", "description", "body"} <= form.keys()
        assert all(field["attributes"]["label"] for field in form["body"])


def test_workflows_run_on_every_platform_and_python():
    matrix = read_yaml(WORKFLOWS["ci"])["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    prefix = "Programming Language :: Python :: 3."
    supported = [name for name in PROJECT["project"]["classifiers"] if name.startswith(prefix)]
    assert [f"Programming Language :: Python :: {version}" for version in matrix["python-version"]] == supported


def test_workflows_run_the_commands_of_the_contributing_guide():
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    documented = {line for block in re.findall(r"```bash\n(.*?)```", guide, re.S) for line in block.splitlines()}
    run = {step["run"] for name in WORKFLOWS for step in steps(name) if "run" in step}
    assert CPU_TORCH in guide
    assert run <= documented | ONLY_IN_WORKFLOWS | {CPU_TORCH}
    assert documented - run == {"pre-commit install"}


def test_the_oldest_torch_is_the_one_that_is_required():
    (required,) = [name for name in PROJECT["project"]["dependencies"] if name.startswith("torch>")]
    assert OLDEST_TORCH.split()[0] == required.replace(">=", "==") + ".0"


def test_releases_are_published_without_a_stored_token():
    release = read_yaml(WORKFLOWS["release"])
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in WORKFLOWS["release"].read_text(encoding="utf-8")


def test_the_local_check_builds_the_documentation_and_runs_the_tests():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "pip install --quiet --no-cache-dir '.[test]'" in script
    assert re.search("^pytest$", script, re.M)
    assert re.search(r"^sphinx-build -W --keep-going .*-b html docs ", script, re.M)


def test_the_local_check_builds_a_wheel_and_runs_it_without_a_compiler():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    built, installed, run = (
        script.index(command)
        for command in (
            "FASTFCN_BUILD_KERNELS=1 pip wheel",
            "/wheel/fastfcn-*.whl",
            "python -m tests.trials.wheel_without",
        )
    )
    assert built < installed < run < script.index("\npytest\n")


def test_released_wheels_contain_kernels():
    wheels = PROJECT["tool"]["cibuildwheel"]
    assert wheels["environment"]["FASTFCN_BUILD_KERNELS"] == "1"
    assert wheels["test-command"].endswith("python -m tests.trials.wheel_without_compiler")
    jobs = read_yaml(WORKFLOWS["release"])["jobs"]
    assert any(step.get("uses", "").startswith("pypa/cibuildwheel@") for step in jobs["wheels"]["steps"])
    assert jobs["publish"]["needs"] == ["build", "wheels"]


def test_the_source_distribution_contains_the_build_hook():
    targets = PROJECT["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["hooks"]["custom"]["path"] in targets["sdist"]["include"]


def test_extras_named_in_documents_exist():
    extras = PROJECT["project"]["optional-dependencies"].keys()
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for names in re.findall(r"(?:fastfcn|'\.)\[([a-z,]+)\]", document.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= extras, document.name


def test_the_image_serves_as_an_unprivileged_user():
    kinds = [kind for kind, _ in instructions()]
    values = dict(instructions())
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    assert values["USER"] == "fastfcn"
    assert "http://127.0.0.1:8000/health" in values["HEALTHCHECK"]
    assert values["ENTRYPOINT"] == '["fastfcn", "serve", "--host", "0.0.0.0"]'
    options = command("serve", "--help").out
    assert "--host" in options
    assert "8000" in options


def test_the_image_gets_the_files_it_copies():
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    ]
    for kind, value in instructions():
        if kind == "COPY":
            for source in shlex.split(value)[:-1]:
                assert (ROOT / source).exists()
                assert any(fnmatch(source, pattern) for pattern in kept), source
