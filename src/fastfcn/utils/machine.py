"""What a run is carried out on: devices, precision and processes. It changes speed and memory, not the recipe."""

import ctypes
import os
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from fastfcn.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's mallopt(3)
LARGE = 16 * 2**20  # bytes
AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Machine:
    """Settings of the command line.

    `accelerator`: "auto", "cpu", "cuda", "mps"; `devices`: processes on each of `nodes` machines; `workers`:
    processes that read images, for each device, None = chosen by the processors; `precision`: "32-true" or
    "bf16-mixed"; `accumulate`: parts that each device's share of the batch is worked off in; `deterministic`: bit
    for bit the same on a GPU as well, at some cost of speed (a CPU always is); `checkpoint_activations`: keep few maps
    for the gradient and make the others again; `compile`: run the network through torch.compile.
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

    def launch(self) -> Fabric:
        """Start the other processes and return this one's Fabric; raises UserError for devices that are not there."""
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        started = os.environ.get("LOCAL_WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else None
        devices = int(started or self.devices)
        strategy = "ddp" if devices * self.nodes > 1 or started else "auto"
        try:
            fabric = Fabric(
                accelerator=self.accelerator,
                devices=devices,
                num_nodes=self.nodes,
                precision=self.precision,  # type: ignore[arg-type]
                strategy=strategy,
            )
            fabric.launch()
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"Cannot use {devices} {self.accelerator} device(s) at precision {self.precision}: {reason}",
                "Choose other --devices, --accelerator or --precision.",
            ) from error
        if fabric.device.type == "cpu":
            keep_memory()
        return fabric

    @property
    def processes(self) -> int:
        """Processes in all, those that `torchrun` started included."""
        return int(os.environ.get("WORLD_SIZE", self.devices * self.nodes))

    @property
    def first_process(self) -> bool:
        """Whether this process is the one that writes files and speaks; known before the launch."""
        return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))

    @property
    def dataloader_workers(self) -> int:
        """Number of dataloader workers (processes that read images) per device."""
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(8, max(1, processors // self.devices)) if self.workers is None else self.workers

    def check_batch(self, batch: int) -> None:
        """Raise UserError unless a total `batch` can be shared evenly."""
        if batch % (self.processes * self.accumulate):
            raise UserError(
                f"A batch of {batch} cannot be shared evenly by {self.processes} process(es), "
                f"each in {self.accumulate} part(s).",
                "Choose --devices and --accumulate that divide it, or change optim.batch.",
            )
        shared = self.processes > 1 and self.accelerator != "cpu" and torch.cuda.is_available()
        if batch == self.processes * self.accumulate and not shared:
            raise UserError(
                "Each part of the batch would be one image, from which batch norm cannot learn.",
                "Raise optim.batch, or lower --accumulate or --devices.",
            )


def autocast_type(precision: str) -> torch.dtype | None:
    """What products are computed in at a precision such as "bf16-mixed"; None: as they are.

    Raises UserError for one that there is not.
    """
    if precision not in AUTOCAST:
        raise UserError(f"There is no precision {precision!r}.", f"Choose one of {', '.join(AUTOCAST)}.")
    return AUTOCAST[precision]


def keep_memory(large: bool = False) -> None:
    """Let glibc's allocator keep freed memory instead of handing it back; elsewhere nothing is done.

    A training step or a prediction allocates the same as the one before. Getting it from the system again costs a page
    fault for every 4 KiB: up to a fifth of the time on a CPU. In training, large blocks leave gaps that the next ones
    do not fill, which costs a fourth of a step's memory: without `large` those go back.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    if large:
        mallopt(M_MMAP_MAX, 0)
    else:
        mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, -1)
