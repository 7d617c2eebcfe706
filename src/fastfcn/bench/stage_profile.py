"""`fastfcn profile`: where a network's time, arithmetic and memory go, stage by stage; and what fits a budget."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from fastfcn import recipes
from fastfcn.bench import budget_table, stage_table
from fastfcn.bench.candidates import candidates, milliseconds, sizes_for
from fastfcn.bench.dilated_baseline import dilated_twin
from fastfcn.bench.fitting import fitting
from fastfcn.bench.fresh_process import in_fresh_process
from fastfcn.bench.measure import Settings
from fastfcn.bench.passes import profile_networks
from fastfcn.bench.record import rounded
from fastfcn.errors import UserError
from fastfcn.utils.progress import progress_bar

SECONDS = 30.0  # of measuring for a budget; counting and estimating come on top


def profile(names: Sequence[str], changes: Sequence[str] = (), settings: Settings | None = None) -> dict:
    """Costs of each stage of the one recipe in `names`, and of its dilated twin if it has one.

    `changes` such as "neck.width=128" are made in it.

    The size is that of `settings`, else the recipe's crop. Returns what is written as JSON: date, machine, versions,
    notes, and the stages of each network. Raises UserError (its kinds).
    """
    if len(names) != 1:
        raise UserError("Name one recipe.", "Or say how long an image may take: --budget '20 ms'.")
    settings, own = settings or Settings(), recipes.load(names[0], changes)
    twin, size = dilated_twin(own), settings.size or own.data.crop
    compared = [own] + ([twin] if twin else [])
    title = f"{own.name}{' and its dilated twin' * bool(twin)}"
    about = {"size": list(size), "precision": settings.precision, "changes": list(changes), "notes": stage_table.NOTES}
    return _measured(title, about, profile_networks, compared, size, settings)


def within_budget(
    budget: str,
    names: Sequence[str] = (),
    changes: Sequence[str] = (),
    settings: Settings | None = None,
    seconds: float = SECONDS,
) -> dict:
    """Which networks of the recipes `names` (all that are shipped, if left out) need no longer than `budget`.

    `budget`: "20 ms", "0.5 s" or "30 images/s"; `seconds`: how long to measure. With JPU, several widths are tried, and
    of the size of `settings` also the half and the quarter (512x1024 and 256x512 if left out). Returns what is written
    as JSON: date, machine, versions, notes, and all candidates, best first. Raises UserError (its kinds).
    """
    settings, limit = settings or Settings(), milliseconds(budget)
    found = candidates(names or recipes.names(), changes, sizes_for(settings.size))
    about = {"budget_ms": limit, "precision": settings.precision, "changes": list(changes), "notes": budget_table.NOTES}
    return _measured(f"{len(found)} networks for {budget}", about, fitting, found, limit, seconds, settings)


def _measured(title: str, about: dict, function: Callable[..., dict], *arguments: Any) -> dict:
    """The record of what `function` measures in a fresh process, under a bar called `title`."""
    began = perf_counter()
    with progress_bar() as bar:
        task = bar.add_task(title, total=None)
        try:
            measured = in_fresh_process(
                function, *arguments, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        except MemoryError as error:
            raise UserError(f"There is too little memory: {error}.", "Lower --size.") from error
        bar.update(task, visible=False)
    record = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "seconds": round(perf_counter() - began)}
    return record | about | {key: rounded(value) for key, value in measured.items()}
