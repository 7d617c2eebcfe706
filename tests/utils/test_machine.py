"""Rank and number of processes from the variables of torchrun, SLURM and Kubernetes, and leftovers of others."""

import pytest

from fastfcn.errors import UserError
from fastfcn.utils import cluster, machine
from fastfcn.utils.machine import Machine

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}
# What SLURM sets in a batch script of two tasks per machine, and what srun adds for each task.
BATCH = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
SRUN = {**BATCH, "SLURM_STEP_ID": "0"}
LAST_TASK = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"}
OPERATOR = {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "23456"}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", *TORCHRUN, *SRUN, *OPERATOR):
        monkeypatch.delenv(name, raising=False)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "devices", "first", "processes"),
    [
        ({}, 1, True, 1),
        ({"RANK": "1"}, 1, True, 1),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, 1, True, 1),
        ({"LOCAL_RANK": "1"}, 1, True, 1),
        ({"NODE_RANK": "1"}, 1, True, 1),
        ({"RANK": "1"}, 2, True, 2),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "2"}, 2, True, 2),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, 2, False, 2),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1", "WORLD_SIZE": "4"}, 2, False, 2),
        ({**OPERATOR, "LOCAL_RANK": "1"}, 2, False, 2),  # a process that Fabric started
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, 1, True, 4),
        ({**TORCHRUN, "RANK": "2", "LOCAL_RANK": "0"}, 1, False, 4),
        ({**TORCHRUN, **SRUN, **LAST_TASK, "RANK": "0", "LOCAL_RANK": "0"}, 1, True, 4),
        (SRUN, 1, True, 4),
        ({**SRUN, **LAST_TASK}, 1, False, 4),
        ({**SRUN, **LAST_TASK}, 2, False, 4),
        ({**SRUN, "SLURM_NTASKS": "1"}, 2, True, 2),  # one task that starts its processes itself
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, 1, True, 1),
        (BATCH, 1, True, 1),
        (OPERATOR, 1, True, 3),
        ({**OPERATOR, "RANK": "2"}, 1, False, 3),
    ],
)
def test_the_first_process(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], devices: int, first: bool, processes: int
):
    set_variables(monkeypatch, variables)
    machine = Machine("cpu", devices)
    assert (machine.first_process, machine.processes) == (first, processes)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({**TORCHRUN, "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1"}, (3, 4, 2, 2, 1, 1)),
        ({**SRUN, **LAST_TASK}, (3, 4, 2, 2, 1, 1)),
        ({**OPERATOR, "RANK": "2"}, (2, 3, 1, 3, 0, 2)),
    ],
)
def test_machines_and_ranks_of_a_job(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple):
    set_variables(monkeypatch, variables)
    job = cluster.find_job()
    assert job is not None
    environment = job.environment
    ranks = (environment.local_rank(), environment.node_rank())
    assert (job.rank, job.processes, job.devices, job.nodes, *ranks) == expected


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({**SRUN, "SLURM_NTASKS_PER_NODE": ""}, "rank of this process under srun"),
        ({**TORCHRUN, "LOCAL_RANK": "0"}, "RANK' is missing"),
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "3"}, "torchrun started 3 processes, 2 on this machine"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "one of 2 processes, but MASTER_ADDR and MASTER_PORT are missing"),
    ],
)
def test_contradicting_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str):
    set_variables(monkeypatch, variables)
    with pytest.raises(UserError, match=message):
        _ = Machine("cpu").first_process


@pytest.mark.parametrize("machine", [Machine("cpu", 4), Machine("cpu", 2, nodes=3)])
def test_devices_that_are_not_those_of_the_job(monkeypatch: pytest.MonkeyPatch, machine: Machine):
    set_variables(monkeypatch, {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"})
    with pytest.raises(UserError, match=r"torchrun started 2 process\(es\) on each of 2 machine") as error:
        machine.launch()
    assert "Leave out --devices and --nodes" in error.value.hint


@pytest.mark.parametrize(
    ("variables", "warning"),
    [({"RANK": "1"}, "RANK=1 is ignored"), (BATCH, "SLURM has 4 tasks for this job, but srun did not start")],
)
def test_variables_that_do_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], warning: str
):
    set_variables(monkeypatch, variables)
    fabric = Machine("cpu").launch()
    assert (fabric.global_rank, fabric.world_size) == (0, 1)
    assert warning in capsys.readouterr().err


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpu", "workers"),
    [("auto", 1, False, 8), ("auto", 1, True, 16), ("cuda", 4, True, 10), ("cpu", 1, True, 8), ("cpu", 40, True, 1)],
)
def test_the_default_number_of_workers(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, devices: int, gpu: bool, workers: int
):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: range(40), raising=False)
    monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: gpu)
    assert Machine(accelerator, devices).dataloader_workers == workers
    assert Machine(accelerator, devices, workers=3).dataloader_workers == 3
