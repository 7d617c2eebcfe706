"""The examples for clusters are valid scripts and manifests, and their commands have options that exist."""

import shlex
import subprocess

import pytest
import yaml

from tests.helpers.command import fastfcn
from tests.helpers.paths import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".sh", ".sbatch"))


def train_arguments(name: str) -> list[str]:
    """The arguments of `fastfcn train` in an example, without variables."""
    if name.endswith(".yaml"):
        command = list(yaml.safe_load_all((EXAMPLES / name).read_text()))[-1]["spec"]["trainer"]["command"]
    else:
        text = (EXAMPLES / name).read_text().replace("\\\n", " ")
        (line,) = [line for line in text.splitlines() if "fastfcn train " in line or "fastfcn predict " in line]
        command = shlex.split(line)
    return command[command.index("fastfcn") + 1 :]


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_reads_the_script(name: str):
    subprocess.run(["bash", "-n", EXAMPLES / name], check=True)


@pytest.mark.parametrize("name", [*SCRIPTS, "kubeflow.yaml"])
def test_options_exist(name: str):
    """The command is valid up to its data, which does not exist here."""
    arguments = train_arguments(name)
    assert "--resume" in arguments
    done = fastfcn(*arguments, "--help")
    assert done.code == 0, done.err
    known = done.out
    for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
        assert option in known, option


def test_names_in_the_manifest_agree():
    runtime, job = yaml.safe_load_all((EXAMPLES / "kubeflow.yaml").read_text())
    assert (runtime["kind"], job["kind"]) == ("TrainingRuntime", "TrainJob")
    assert runtime["apiVersion"] == job["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    pod = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    gpus = job["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"]
    assert job["spec"]["trainer"]["numProcPerNode"] == gpus
