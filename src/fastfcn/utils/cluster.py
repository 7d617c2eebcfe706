"""Jobs whose processes something else starts: torchrun, srun, or an operator on Kubernetes; and this one's rank."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.kubeflow import KubeflowEnvironment
from lightning_fabric.plugins.environments.lsf import LSFEnvironment
from lightning_fabric.plugins.environments.mpi import MPIEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from fastfcn.errors import UserError

OPERATOR = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # all that Kubeflow's PyTorchJob sets by itself


@dataclass(frozen=True)
class Job:
    """The `processes` that `launcher` started, `devices` of them on each machine; this one has `rank`."""

    launcher: str
    environment: ClusterEnvironment
    rank: int
    processes: int
    devices: int

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.processes // self.devices


def find_job(devices: int = 1) -> Job | None:
    """The job that this process belongs to, from environment variables; None if it was started by itself.

    `devices`: processes on each machine, for launchers that do not say it (LSF and MPI). A job of one process is none,
    except under torchrun. Raises UserError for variables that contradict each other.
    """
    if TorchElasticEnvironment.detect():
        return _job("torchrun", TorchElasticEnvironment, "LOCAL_WORLD_SIZE")
    if is_srun_step() and SLURMEnvironment.detect() and _number("SLURM_NTASKS") > 1:
        return _job("srun", SLURMEnvironment, "SLURM_NTASKS_PER_NODE")
    for name, environment in (("LSF", LSFEnvironment), ("MPI", MPIEnvironment)):
        if environment.detect():
            return _job(name, environment, devices)
    if _is_operator_job():
        return _job("the operator of the cluster (RANK, WORLD_SIZE)", KubeflowEnvironment, 1)
    return None


def is_srun_step() -> bool:
    """Whether `srun` started this process; in a batch script itself, SLURM sets only the variables of the job."""
    return "SLURM_STEP_ID" in os.environ


def _is_operator_job() -> bool:
    """Whether RANK, WORLD_SIZE and the address are set without torchrun: one process per machine.

    With LOCAL_RANK the user, or Fabric, starts the processes (see `LightningEnvironment`).
    """
    if "RANK" not in os.environ or "LOCAL_RANK" in os.environ or _number("WORLD_SIZE", 1) < 2:
        return False
    if missing := [name for name in OPERATOR if name not in os.environ]:
        raise UserError(
            f"RANK and WORLD_SIZE say that this is one of {os.environ['WORLD_SIZE']} processes, but "
            f"{' and '.join(missing)} are missing.",
            "Start the processes with torchrun, or unset RANK and WORLD_SIZE for a process alone.",
        )
    return True


def _job(launcher: str, create: Callable[[], ClusterEnvironment], devices: int | str) -> Job:
    """`devices`: processes on each machine, or the variable that says it."""
    try:
        environment = create()
        rank, processes = environment.global_rank(), environment.world_size()
        local = int(os.environ[devices]) if isinstance(devices, str) else devices
    except (RuntimeError, KeyError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"Cannot determine the rank of this process under {launcher}: {reason}",
            "Correct the settings of the job, or unset the variables of the cluster.",
        ) from error
    if local < 1 or processes % local or not 0 <= rank < processes:
        raise UserError(
            f"{launcher} started {processes} processes, {local} on this machine, and this one has rank {rank}.",
            "Start the same number of processes on each machine.",
        )
    return Job(launcher, environment, rank, processes, local)


def _number(name: str, default: int = 0) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
