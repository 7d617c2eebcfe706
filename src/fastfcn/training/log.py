"""What a training run shows and notes while it goes: progress bar, log.jsonl, loggers; and when it must stop."""

import math
import signal
import time
from collections.abc import Sequence
from types import FrameType

import torch
from lightning.fabric import Fabric
from torch import Tensor

from fastfcn.errors import DivergedError
from fastfcn.training.loggers import open_logger
from fastfcn.training.run import Run
from fastfcn.utils.progress import console, progress_bar

SLOW_FLUSH = 20  # steps between readings of losses from GPUs or other processes: each reading waits for them
CHECKPOINT_SECONDS = 300.0
PLAIN_SECONDS = 30.0  # between lines where there is no terminal to draw a bar on


class TrainLog:
    """Collects losses on the device and writes them out every few steps; a context manager around the loop."""

    def __init__(self, run: Run, fabric: Fabric, done: int, steps: int, batch: int, logs: Sequence[str] = ()):
        self.run, self.fabric, self.batch = run, fabric, batch
        self.every = 1 if fabric.world_size == 1 and fabric.device.type == "cpu" else SLOW_FLUSH
        self.pending: list[tuple[int, float, dict[str, Tensor]]] = []
        self.flushed_at = self.saved_at = self.said_at = time.monotonic()
        own = logs if fabric.is_global_zero else ()
        self.loggers = [open_logger(name, run.folder, run.recipe) for name in dict.fromkeys(own)]
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
        for each in self.loggers:
            each.close(failed=error[0] is not None)

    def add(self, step: int, rate: float, losses: dict[str, Tensor]) -> bool:
        """Note the losses of the `step`-th step; true when all that was noted has been written."""
        self.pending.append((step, rate, {name: value.detach() for name, value in losses.items()}))
        if len(self.pending) >= self.every:
            self.flush()
        return not self.pending

    def flush(self) -> None:
        """Average what is pending over the processes and write it."""
        if not self.pending:
            return
        values = torch.stack([torch.stack(list(losses.values())) for _, _, losses in self.pending])
        values = torch.as_tensor(self.fabric.all_reduce(values, reduce_op="mean")).tolist()
        now = time.monotonic()
        speed = len(self.pending) * self.batch / max(now - self.flushed_at, 1e-9)
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

    def _write(self, lines: list[dict]) -> None:
        self.run.append(lines)
        last = lines[-1]
        shown = {"loss": f"{last['loss']:.3f}", "lr": f"{last['learning_rate']:.2g}"}
        shown["speed"] = f"{last['images_per_second']:.1f}"
        self.bar.update(self.task, completed=last["step"], **shown)  # type: ignore[arg-type] # fields of the bar
        if not console.is_terminal and time.monotonic() - self.said_at > PLAIN_SECONDS:
            self.said_at = time.monotonic()
            console.print(" ".join(f"{key} {value:.4g}" for key, value in last.items()), soft_wrap=True)
        for each in self.loggers:
            for line in lines:
                each.log({key: value for key, value in line.items() if key != "step"}, line["step"])

    def validation(self, step: int, scores: dict, note: str) -> None:
        """Write validation scores and print `note` above the bar; only the first process does."""
        self.run.append([{"step": step, "validation": scores}])
        self.bar.console.print(note)
        named = ("miou", "mean_accuracy", "pixel_accuracy")
        for each in self.loggers:
            each.log({f"validation/{name}": scores[name] for name in named if scores[name] is not None}, step)
        self.flushed_at = time.monotonic()

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is old enough for the next; counts from this moment if so."""
        due = time.monotonic() - self.saved_at > CHECKPOINT_SECONDS
        if due:
            self.saved_at = time.monotonic()
        return due


def _check_finite(lines: list[dict]) -> None:
    """Stop before a checkpoint or weights are overwritten by what cannot recover."""
    for line in lines:
        if not math.isfinite(line["loss"]):
            raise DivergedError(
                f"The loss of step {line['step']} is {line['loss']}: the run has diverged. Its checkpoint is kept.",
                "Lower optim.lr, raise optim.warmup_steps, or train with --precision 32-true.",
            )


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a wish to stop after the step; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.wished = False

    def __enter__(self) -> "StopRequest":
        self.before = {each: signal.signal(each, self._note) for each in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_error: object) -> None:
        for each, handler in self.before.items():
            signal.signal(each, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.wished and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wished = True
        console.print("Stopping after this step; the run can be resumed.")

    def agreed(self, fabric: Fabric) -> bool:
        """Whether any process wishes to stop; all of them must ask at the same step."""
        wished = torch.tensor(float(self.wished), device=fabric.device)
        return bool(torch.as_tensor(fabric.all_reduce(wished, reduce_op="sum")) > 0)
