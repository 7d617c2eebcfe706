"""Hardware settings of a run (devices, precision, processes), and memory of the process. No part of the recipe."""

import ctypes
import os
import sys
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from fastfcn.errors import UserError
from fastfcn.utils.cluster import Job, find_job, is_srun_step
from fastfcn.utils.progress import warn

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # parameters of glibc's mallopt(3)
MAX_WORKERS, MAX_WORKERS_GPU = 8, 16  # dataloader workers per device, unless their number is given
LARGE_BLOCK = 16 * 2**20  # bytes
FULL_PRECISION, BF16 = "32-true", "bf16-mixed"
AUTOCAST = {FULL_PRECISION: None, BF16: torch.bfloat16, "16-mixed": torch.float16}
SHORT_NAMES = {"bf16": BF16}


@dataclass(frozen=True)
class Machine:
    """Where and how a network runs.

    `accelerator`: "auto", "cpu", "cuda" or "mps"; `devices`: processes on each of `nodes` machines, one per device
    (under torchrun or srun the job decides, see `cluster.find_job`);
    `workers`: dataloader workers per device, None for a default by the number of CPU cores; `precision`: "32-true",
    "bf16-mixed" (short: "bf16") or "16-mixed"; `accumulate`: number of parts in which each device processes its
    share of the batch;
    `deterministic`: repeatable bit for bit on a GPU too, but slower (a CPU always is); `checkpoint_activations`:
    recompute activations in the backward pass to save memory; `compile`: use torch.compile.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int | None = None
    precision: str = "32-true"
    accumulate: int = 1
    deterministic: bool = False
    checkpoint_activations: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", SHORT_NAMES.get(self.precision, self.precision))

    def launch(self) -> Fabric:
        """Connect the processes, started here unless a job has them; returns the Fabric of this one.

        Raises UserError for devices that do not exist, and for a job of another size.
        """
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        job = self.job
        if job:
            self._check_size(job)
        else:
            _warn_of_unused_variables()
        devices, nodes = (job.devices, job.nodes) if job else (self.devices, self.nodes)
        try:
            fabric = Fabric(
                accelerator=self.accelerator,
                devices=devices,
                num_nodes=nodes,
                precision=self.precision,  # type: ignore[arg-type]
                strategy="ddp" if devices * nodes > 1 else "auto",
                plugins=[job.environment if job else LightningEnvironment()],
            )
            fabric.launch()
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            per_task = " With srun, request GPUs per node, not per task: each process must see all GPUs of its machine."
            raise UserError(
                f"Cannot use {devices} {self.accelerator} device(s) at precision {self.precision}: {reason}",
                f"Choose another --accelerator, --devices or --precision.{per_task if is_srun_step() else ''}",
            ) from error
        if fabric.device.type == "cpu":
            keep_memory()
        return fabric

    @property
    def job(self) -> Job | None:
        """The job of torchrun, srun or a cluster that started this process, if any."""
        return find_job(self.devices)

    @property
    def processes(self) -> int:
        """Total number of processes, also if a job started them."""
        job = self.job
        return job.processes if job else self.devices * self.nodes

    @property
    def first_process(self) -> bool:
        """Whether this process writes files and prints; known before `launch`."""
        if job := self.job:
            return job.rank == 0
        environment = LightningEnvironment()
        return self.processes == 1 or (environment.node_rank() == 0 and environment.local_rank() == 0)

    def _check_size(self, job: Job) -> None:
        """Raise UserError if devices or nodes are given that are not those of the job."""
        if self.devices not in (1, job.devices) or self.nodes not in (1, job.nodes):
            raise UserError(
                f"--devices {self.devices} and --nodes {self.nodes} differ from the job: {job.launcher} started "
                f"{job.devices} process(es) on each of {job.nodes} machine(s).",
                "Leave out --devices and --nodes; they are read from the job.",
            )

    @property
    def dataloader_workers(self) -> int:
        """Number of dataloader workers (processes that read images) per device.

        A GPU trains on more images per second than eight of them read.
        """
        if self.workers is not None:
            return self.workers
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        on_gpu = self.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
        return min(MAX_WORKERS_GPU if on_gpu else MAX_WORKERS, max(1, processors // (self.job or self).devices))

    def check_batch(self, batch: int) -> None:
        """Raise UserError unless a total `batch` divides evenly into processes and parts of more than one image."""
        if batch % (self.processes * self.accumulate):
            raise UserError(
                f"A batch of {batch} cannot be divided evenly among {self.processes} process(es) with "
                f"{self.accumulate} part(s) each.",
                "Choose --devices and --accumulate that divide it, or change optim.batch.",
            )
        synchronized = self.processes > 1 and self.accelerator != "cpu" and torch.cuda.is_available()
        if batch == self.processes * self.accumulate and not synchronized:
            raise UserError(
                "Each part of the batch would be one image; batch norm needs at least two.",
                "Raise optim.batch, or lower --accumulate or --devices.",
            )


def _warn_of_unused_variables() -> None:
    """Say that this process is not part of a job, although variables of one are set."""
    if os.environ.get("RANK", "0") != "0" and "LOCAL_RANK" not in os.environ:
        warn(f"RANK={os.environ['RANK']} is ignored, because WORLD_SIZE does not say that there are other processes.")
    if os.environ.get("SLURM_NTASKS", "1") != "1" and not is_srun_step():
        warn(f"SLURM has {os.environ['SLURM_NTASKS']} tasks for this job, but srun did not start this process.")


def precision_name(precision: str) -> str:
    """The full name of a precision, such as "bf16-mixed" for "bf16". Raises UserError if it is unknown."""
    name = SHORT_NAMES.get(precision, precision)
    if name not in AUTOCAST:
        raise UserError(f"Unknown precision {precision!r}.", f"Choose one of {', '.join((*AUTOCAST, *SHORT_NAMES))}.")
    return name


def autocast_type(precision: str) -> torch.dtype | None:
    """The dtype of autocast for a precision such as "bf16-mixed"; None for "32-true". Raises UserError if unknown."""
    return AUTOCAST[precision_name(precision)]


def keep_memory(large: bool = False) -> None:
    """Let glibc's allocator keep freed memory instead of returning it to the system; does nothing without glibc.

    Each training step or prediction allocates the same memory as the one before. Getting it from the system again costs
    a page fault per 4 KiB, up to a fifth of the time on a CPU. In training, kept large blocks fragment, which costs a
    quarter of a step's memory, so only with `large` are they kept as well.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    if large:
        mallopt(M_MMAP_MAX, 0)
    else:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
    mallopt(M_TRIM_THRESHOLD, -1)


def process_memory(device: torch.device) -> tuple[float | None, str]:
    """Peak memory so far in MiB, None if the system does not report it; and a description of what was measured."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20, "peak memory of tensors on the GPU"
    try:
        import resource
    except ImportError:  # Windows
        return None, "not measured: not available on this system"
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return peak, "peak memory of the whole process, including PyTorch and the evaluation"
