"""Detection of the main process, like Fabric's, with leftovers in the environment variables."""

import pytest

from fastfcn.errors import UserError
from fastfcn.utils.machine import Machine

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}
SLURM = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_JOB_NAME": "train",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", *TORCHRUN, *SLURM, "SLURM_PROCID")
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "devices", "first", "processes"),
    [
        ({}, 1, True, 1),
        ({"RANK": "1"}, 1, True, 1),
        ({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1"}, 1, True, 1),
        ({"LOCAL_RANK": "1"}, 1, True, 1),
        ({"NODE_RANK": "1"}, 1, True, 1),
        ({"RANK": "1"}, 2, True, 2),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "2"}, 2, True, 2),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, 2, False, 2),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1", "WORLD_SIZE": "4"}, 2, False, 2),
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, 1, True, 2),
        ({**TORCHRUN, "RANK": "1", "LOCAL_RANK": "1"}, 1, False, 2),
        ({**SLURM, "SLURM_PROCID": "0"}, 2, True, 2),
        ({**SLURM, "SLURM_PROCID": "1"}, 2, False, 2),
        ({**SLURM, "SLURM_PROCID": "1"}, 1, True, 1),
    ],
)
def test_the_first_process(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], devices: int, first: bool, processes: int
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    machine = Machine("cpu", devices)
    assert (machine.first_process, machine.processes) == (first, processes)


def test_settings_that_fabric_refuses(monkeypatch: pytest.MonkeyPatch):
    for name, value in {**SLURM, "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(UserError, match="rank of this process"):
        _ = Machine("cpu", 2).first_process


def test_a_rank_without_torchrun_is_ignored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    fabric = Machine("cpu").launch()
    assert (fabric.global_rank, fabric.world_size) == (0, 1)
    assert "RANK=1 is ignored, because torchrun did not start this process" in capsys.readouterr().err
