"""What `fastfcn reproduce` is going to do: the row, its weights, its data, and what counts as the same score."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from fastfcn import build, recipes
from fastfcn.checking.known_dataset import check_known_dataset
from fastfcn.errors import RecipeError, UserError
from fastfcn.recipes.recipe import Recipe
from fastfcn.reproduce.verdict import FIGURES, TOLERANCE, TRAINED_TOLERANCE
from fastfcn.training.run import Run
from fastfcn.utils.machine import Machine
from fastfcn.weights.download import cache_folder, hash_in_name, url_variants


@dataclass(frozen=True)
class Plan:
    """What to reproduce, from what, and where to. `name` is as the user gave it; `figures` are keys of FIGURES."""

    name: str
    recipe: Recipe
    data: Path
    out: Path
    split: str
    figures: tuple[str, ...]
    train: bool
    checkpoint: Path | None
    tolerance: float | None

    @property
    def run(self) -> Run:
        """Where `--train` trains."""
        return Run(self.out / "run")

    @property
    def address(self) -> str | None:
        """Where the published weights are."""
        return self.recipe.published.weights if self.recipe.published else None

    @property
    def weights(self) -> Path:
        """The weights file that is evaluated."""
        if self.train:
            return self.run.last  # not the best on val: that would be chosen by the score it is to show
        if self.checkpoint and self.checkpoint.suffix == ".safetensors":
            return self.checkpoint
        return self.out / "weights.safetensors"


def make_plan(
    name: str, data: Path, out: Path | None = None, checkpoint: Path | None = None, train: bool = False,
    tta: bool | None = None, split: str | None = None, tolerance: float | None = None,
) -> Plan:  # fmt: skip
    """A plan for the recipe `name`; `tta` None measures multi-scale and flip where a figure for it is published.

    Raises RecipeError where there is nothing published to compare with, and UserError for what excludes each other.
    """
    used = recipes.load(name)
    published = used.published
    if published is None or (published.miou is None and published.miou_tta is None):
        known = [each for each in recipes.names() if has_scores(recipes.load(each))]
        raise RecipeError(
            f"Recipe '{used.name}' has no published mIoU to compare with.", f"These have one: {', '.join(known)}."
        )
    if train and checkpoint:
        raise UserError("--train and --checkpoint exclude each other.", "Leave one of them out.")
    scales = published.miou_tta is not None if tta is None else tta
    if not scales and published.miou is None:
        raise UserError(f"Of '{used.name}' only the mIoU at several scales is published.", "Leave --no-tta out.")
    figures = tuple(FIGURES) if scales else ("miou",)
    folder = out or Path("reproduced") / used.name
    return Plan(name, used, data, folder, split or used.data.val_split, figures, train, checkpoint, tolerance)


def has_scores(one: Recipe) -> bool:
    """Whether a recipe says what was published for it."""
    return one.published is not None and not (one.published.miou is None and one.published.miou_tta is None)


def splits_of(plan: Plan) -> list[str]:
    """The splits that are needed."""
    trained = [plan.recipe.data.train_split, plan.recipe.data.val_split] if plan.train else []
    return list(dict.fromkeys([*trained, plan.split]))


def tolerance_of(plan: Plan, kind: str) -> float:
    """How far from the published figure the score of such weights may be, in points of mIoU."""
    if plan.tolerance is not None:
        return plan.tolerance
    return TOLERANCE if kind == "published" else TRAINED_TOLERANCE


def describe(plan: Plan, machine: Machine) -> Iterator[str]:
    """The plan in lines of rich markup, with the commands that do the same step by step."""
    used, published = plan.recipe, plan.recipe.published
    yield f"[bold]{used.name}[/]: {used.summary}"
    splits = " and ".join(splits_of(plan))
    yield f"  data     {used.data.dataset} {splits} in {escape(str(plan.data))}: {_state_of_data(plan)}"
    yield from _describe_training(plan, machine) if plan.train else _describe_weights(plan)
    for figure in plan.figures:
        said = getattr(published, figure, None)
        compared = "nothing published" if said is None else f"published {said:.2f}"
        command = ["fastfcn", "evaluate", str(plan.weights), "--data", str(plan.data), "--split", plan.split]
        yield f"  score    {FIGURES[figure]}, as the recipe's \\[eval] says: {compared}"
        yield f"           {_typed([*command, *(['--tta'] if figure == 'miou_tta' else [])])}"
    same, other = tolerance_of(plan, "published"), tolerance_of(plan, "own")
    within = f"{other:g}" if plan.train else f"{same:g}"
    also = f" ({other:g} if that is not the published file)" if plan.checkpoint and other != same else ""
    yield f"  verdict  holds within {within} of the published figure{also}: {plan.out / 'verdict.json'} and row.md"


def _state_of_data(plan: Plan) -> str:
    problems = check_known_dataset(build.description(plan.recipe), plan.data, splits_of(plan)).problems
    return "ready" if not problems else f"[yellow]not ready:[/] {escape(problems[0].message)}"


def _describe_weights(plan: Plan) -> Iterator[str]:
    if plan.checkpoint:
        yield f"  weights  {plan.checkpoint}" + ("" if plan.checkpoint.is_file() else ": there is no such file")
    elif plan.address:
        kept = (cache_folder() / plan.address.rsplit("/", 1)[-1]).is_file()
        first, *others = url_variants(plan.address)
        yield f"  weights  {first}" + (": fetched already" if kept else "")
        yield from (f"           or {other}" for other in others)
        yield f"           sha256 {hash_in_name(plan.address) or '(not published)'}..., kept in {cache_folder()}"
    else:
        yield "  weights  no address is published; name the file with --checkpoint, or --train"
    if plan.weights != plan.checkpoint:
        source = plan.checkpoint or cache_folder() / (plan.address or "FILE").rsplit("/", 1)[-1]
        command = ["fastfcn", "convert", str(source), "--recipe", plan.name, "--out", str(plan.weights)]
        yield f"           {_typed(command)}"


def _typed(command: list[str]) -> str:
    """A command as one types it, in rich markup."""
    return f"[dim]{escape(shlex.join(command))}[/]"


def _describe_training(plan: Plan, machine: Machine) -> Iterator[str]:
    optim, devices, nodes = plan.recipe.optim, machine.devices, max(machine.nodes, 2)
    yield f"  train    {optim.steps} steps of batch {optim.batch} into {plan.run.folder}; the same command goes on"
    own = ["fastfcn", "reproduce", plan.name, "--data", str(plan.data), "--out", str(plan.out), "--train"]
    own += ["--devices", str(devices)]
    launcher = ["torchrun", "--nnodes", str(nodes), "--nproc-per-node", str(devices)]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "HOST:29500", "-m"]
    yield f"           one machine:   {_typed(own)}"
    yield f"           {nodes} machines, on each (one of them is HOST; all see the same folders):"
    yield f"                          {_typed([*launcher, *own, '--nodes', str(nodes)])}"
