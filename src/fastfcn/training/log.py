"""Progress bar, log.jsonl and loggers of a training run; and stopping it with Ctrl-C or SIGTERM."""

import math
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from fastfcn.errors import DivergedError
from fastfcn.training.loggers import open_logger
from fastfcn.training.run import Run
from fastfcn.utils.progress import console, progress_bar

FLUSH_STEPS = 20  # the most steps between reading losses from a GPU or other processes: each reading synchronizes
FLUSH_SECONDS = 5.0  # the longest time between two readings, unless a step takes longer: signals are noticed then
CHECKPOINT_SECONDS = 300.0  # between checkpoints
PLAIN_LOG_SECONDS = 30.0  # between printed lines if there is no terminal for a progress bar


class TrainLog:
    """Collects losses on the device and writes them every few steps; a context manager around the training loop.

    `done` of `steps` steps are completed at the start; `batch`: images per step; `logs`: names of loggers.
    """

    def __init__(self, run: Run, fabric: Fabric, done: int, steps: int, batch: int, logs: Sequence[str] = ()):
        self.run, self.fabric, self.batch = run, fabric, batch
        self.synchronizes = fabric.world_size > 1 or fabric.device.type != "cpu"
        self.every = 1
        self.pending: list[tuple[int, float, dict[str, Tensor]]] = []
        self.flushed_at = self.saved_at = self.printed_at = time.monotonic()
        names = dict.fromkeys(logs) if fabric.is_global_zero else ()  # without duplicates
        self.loggers = [open_logger(name, run.folder, run.recipe) for name in names]
        self.bar = progress_bar(
            "loss [bold]{task.fields[loss]}[/]", "lr {task.fields[lr]}", "{task.fields[speed]} images/s"
        )
        self.bar.disable = not fabric.is_global_zero
        self.task = self.bar.add_task("Training", total=steps, completed=done, loss="-", lr="-", speed="-")

    def __enter__(self) -> "TrainLog":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        for logger in self.loggers:
            logger.close(failed=error[0] is not None)

    def add(self, step: int, rate: float, losses: dict[str, Tensor]) -> bool:
        """Add the losses of step `step` (from 1); returns whether everything so far has been written."""
        self.pending.append((step, rate, {name: value.detach() for name, value in losses.items()}))
        if len(self.pending) >= self.every:
            self.flush()
        return not self.pending

    def flush(self) -> None:
        """Average the pending losses over the processes and write them."""
        if not self.pending:
            return
        values = torch.stack([torch.stack(list(losses.values())) for _, _, losses in self.pending])
        values = torch.as_tensor(self.fabric.all_reduce(values, reduce_op="mean")).tolist()
        now = time.monotonic()
        seconds = max(now - self.flushed_at, 1e-9) / len(self.pending)
        speed = self.batch / seconds
        if self.synchronizes:
            self.every = min(FLUSH_STEPS, max(1, int(FLUSH_SECONDS / self._slowest(seconds))))
        lines = [
            {
                "step": step,
                **dict(zip(losses, row, strict=True)),
                "learning_rate": rate,
                "images_per_second": speed,
            }
            for (step, rate, losses), row in zip(self.pending, values, strict=True)
        ]
        self.pending, self.flushed_at = [], now
        _check_finite(lines)
        if self.fabric.is_global_zero:
            self._write(lines)

    def _slowest(self, seconds: float) -> float:
        """The largest of the processes' values: all of them have to flush at the same step."""
        value = torch.tensor(seconds, dtype=torch.float32, device=self.fabric.device)
        return float(self.fabric.all_reduce(value, reduce_op="max"))  # type: ignore[arg-type]

    def _write(self, lines: list[dict]) -> None:
        self.run.append(lines)
        last = lines[-1]
        fields = {"loss": f"{last['loss']:.3f}", "lr": f"{last['learning_rate']:.2g}"}
        fields["speed"] = f"{last['images_per_second']:.1f}"
        self.bar.update(self.task, completed=last["step"], **fields)  # type: ignore[arg-type] # fields of the bar
        if not console.is_terminal and time.monotonic() - self.printed_at > PLAIN_LOG_SECONDS:
            self.printed_at = time.monotonic()
            console.print(" ".join(f"{key} {value:.4g}" for key, value in last.items()), soft_wrap=True)
        for logger in self.loggers:
            for line in lines:
                logger.log({key: value for key, value in line.items() if key != "step"}, line["step"])

    def validation(self, step: int, scores: dict, note: str) -> None:
        """Write validation scores and print `note` above the bar; to be called by the first process only."""
        self.run.append([{"step": step, "validation": scores}])
        self.bar.console.print(note)
        metrics = ("miou", "mean_accuracy", "pixel_accuracy")
        for logger in self.loggers:
            logger.log({f"validation/{name}": scores[name] for name in metrics if scores[name] is not None}, step)
        self.flushed_at = time.monotonic()

    def checkpoint_due(self) -> bool:
        """Whether CHECKPOINT_SECONDS have passed since the last checkpoint; if so, the timer restarts."""
        due = time.monotonic() - self.saved_at > CHECKPOINT_SECONDS
        if due:
            self.saved_at = time.monotonic()
        return due


def _check_finite(lines: list[dict]) -> None:
    """Raise DivergedError, before the checkpoint and weights are overwritten by a diverged network."""
    for line in lines:
        if not math.isfinite(line["loss"]):
            raise DivergedError(
                f"The loss of step {line['step']} is {line['loss']}: training has diverged. The checkpoint is kept.",
                "Lower optim.lr, raise schedule.warmup_steps, or train with --precision 32-true.",
            )


class StopRequest:
    """Ctrl-C, SIGTERM and SIGUSR1 request a stop after the current step; a second Ctrl-C raises KeyboardInterrupt.

    Schedulers announce the end of a job by SIGTERM (Kubernetes, SLURM) or SIGUSR1 (`sbatch --signal=USR1@120`). Only
    the main thread can handle signals: in another thread nothing changes. `announce`: print that it was received.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))

    def __init__(self, announce: bool = True) -> None:
        self.announce = announce
        self.received = 0  # number of the signal
        self.previous: dict[signal.Signals, Any] = {}  # handlers

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self.previous = {name: signal.signal(name, self._handle) for name in self.SIGNALS}
        return self

    def __exit__(self, *_error: object) -> None:
        for name, handler in self.previous.items():
            signal.signal(name, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.announce and not self.received:
            console.print("Stopping after this step; the run can be resumed.")
        self.received = number

    def requested(self, fabric: Fabric) -> bool:
        """Whether any process received a signal; all processes must call this at the same step.

        `received` is the same in all of them then.
        """
        received = torch.tensor(float(self.received), device=fabric.device)
        self.received = int(fabric.all_reduce(received, reduce_op="max"))  # type: ignore[arg-type]
        return self.received > 0
