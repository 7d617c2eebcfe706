"""The check of all masks before the first step, divided among the processes; its result is kept in the run folder."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import torch
from lightning_fabric import Fabric

from fastfcn.data.dataset import Dataset, LabelProblem, PixelCounts
from fastfcn.errors import DataError, RepeatedError
from fastfcn.training.log import StopRequest
from fastfcn.training.run import Run
from fastfcn.utils.files import write_text
from fastfcn.utils.progress import progress_bar

PART = 256  # masks that a process reads between exchanges with the others; those that wait do so for minutes at most


def check_labels(run: Run, splits: Mapping[str, Dataset], fabric: Fabric, workers: int, stop: StopRequest) -> bool:
    """Check every mask of `splits` once per run, and save the number of pixels of each class to labels.json.

    Packed data was checked already, and its index has the counts. Else, each process reads its share, on `workers`
    threads. Returns False if a signal stopped the check. Raises DataError with the first problems.
    """
    if fabric.broadcast(run.labels.exists()):
        return True
    pixels = {}
    with progress_bar() as bar:
        bar.disable = not fabric.is_global_zero
        for name, dataset in splits.items():
            task = bar.add_task(f"Checking {name} masks", total=len(dataset))
            counts = _count(dataset, fabric, workers, stop, lambda done, task=task: bar.update(task, completed=done))
            if counts is None:
                return False
            pixels[name] = dict(zip(dataset.description.class_names, counts.classes.tolist(), strict=True))
            pixels[name]["ignored"] = counts.ignored
            bar.update(task, visible=False)
    if fabric.is_global_zero:
        write_text(run.labels, json.dumps(pixels, indent=1))
    return True


def _count(
    dataset: Dataset, fabric: Fabric, workers: int, stop: StopRequest, progress: Callable[[int], None]
) -> PixelCounts | None:
    """Pixel counts over all processes; None if a signal stopped the check."""
    if (known := dataset.known_totals()) is not None:
        return dataset.checked_counts(known, [])
    rank, world = fabric.global_rank, fabric.world_size
    totals, problems = np.zeros(256, np.int64), []
    for start in range(0, len(dataset), PART * world):
        part = range(start + rank, min(start + PART * world, len(dataset)), world)
        counts, found = dataset.count_labels(part, workers, lambda done, _, start=start: progress(start + done * world))
        totals += counts
        problems += found
        if stop.requested(fabric):
            return None
    totals = torch.as_tensor(fabric.all_reduce(torch.from_numpy(totals).to(fabric.device), reduce_op="sum"))
    try:
        return dataset.checked_counts(totals.cpu().numpy(), _gathered(problems, fabric))
    except DataError as error:
        raise error if fabric.is_global_zero else RepeatedError(error.message, error.hint) from None


def _gathered(problems: list[LabelProblem], fabric: Fabric) -> list[LabelProblem]:
    """The problems that all processes found, by file: as many as are shown, from each."""
    parts = [
        fabric.broadcast(problems if rank == fabric.global_rank else [], rank) for rank in range(fabric.world_size)
    ]
    return sorted((problem for part in parts for problem in part), key=lambda problem: str(problem.path))
