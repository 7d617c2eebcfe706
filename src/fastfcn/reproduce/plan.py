"""The plan of `fastfcn reproduce`: published result, weights, data and tolerance."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from fastfcn import build, recipes
from fastfcn.checking.known_dataset import check_known_dataset
from fastfcn.errors import RecipeError, UserError
from fastfcn.recipes.recipe import Recipe
from fastfcn.reproduce.verdict import FIGURES, TOLERANCE, TRAINED_TOLERANCE
from fastfcn.training.run import Run
from fastfcn.utils.console import styled
from fastfcn.utils.machine import Machine
from fastfcn.utils.storage import cache_folder
from fastfcn.weights.download import hash_in_name, url_variants


@dataclass(frozen=True)
class Plan:
    """What to reproduce, from which files, and where to write. `figures`: keys of FIGURES."""

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
        """The run of `--train`."""
        return Run(self.out / "run")

    @property
    def url(self) -> str | None:
        """URL of the published weights, if any."""
        return self.recipe.published.weights if self.recipe.published else None

    @property
    def weights(self) -> Path:
        """The weights file that is evaluated."""
        if self.train:
            return self.run.last  # not the best: that would be selected by the score that is reported
        if self.checkpoint and self.checkpoint.suffix == ".safetensors":
            return self.checkpoint
        return self.out / "weights.safetensors"


def make_plan(
    name: str, data: Path, out: Path | None = None, checkpoint: Path | None = None, train: bool = False,
    tta: bool | None = None, split: str | None = None, tolerance: float | None = None,
) -> Plan:  # fmt: skip
    """A plan for the recipe `name`; `tta` None also tests multi-scale and flip if a result for it is published.

    Raises RecipeError if no result is published, and UserError for options that exclude each other.
    """
    recipe = recipes.load(name)
    published = recipe.published
    if published is None or (published.miou is None and published.miou_tta is None):
        known = [known_name for known_name in recipes.names() if has_scores(recipes.load(known_name))]
        raise RecipeError(
            f"Recipe '{recipe.name}' has no published mIoU to compare with.", f"Recipes with one: {', '.join(known)}."
        )
    if train and checkpoint:
        raise UserError("--train and --checkpoint exclude each other.", "Use one of them.")
    scales = published.miou_tta is not None if tta is None else tta
    if not scales and published.miou is None:
        raise UserError(f"For '{recipe.name}', only a multi-scale mIoU is published.", "Remove --no-tta.")
    figures = tuple(FIGURES) if scales else ("miou",)
    folder = out or Path("reproduced") / recipe.name
    return Plan(name, recipe, data, folder, split or recipe.data.val_split, figures, train, checkpoint, tolerance)


def has_scores(recipe: Recipe) -> bool:
    """Whether a recipe has published scores."""
    published = recipe.published
    return published is not None and not (published.miou is None and published.miou_tta is None)


def splits_of(plan: Plan) -> list[str]:
    """The splits that the plan needs."""
    trained = [plan.recipe.data.train_split, plan.recipe.data.val_split] if plan.train else []
    return list(dict.fromkeys([*trained, plan.split]))


def tolerance_of(plan: Plan, kind: str) -> float:
    """Allowed difference from the published result for weights of this kind, in points of mIoU."""
    if plan.tolerance is not None:
        return plan.tolerance
    return TOLERANCE if kind == "published" else TRAINED_TOLERANCE


def describe(plan: Plan, machine: Machine) -> Iterator[str | Text]:
    """The plan in lines, with the equivalent commands for each step."""
    recipe, published = plan.recipe, plan.recipe.published
    yield styled("[bold]{}[/]: {}", recipe.name, recipe.summary)
    splits = " and ".join(splits_of(plan))
    yield styled("  data     {} {} in {}: {}", recipe.data.dataset, splits, plan.data, _state_of_data(plan))
    yield from _describe_training(plan, machine) if plan.train else _describe_weights(plan)
    for figure in plan.figures:
        score = getattr(published, figure, None)
        expected = "nothing published" if score is None else f"published {score:.2f}"
        command = ["fastfcn", "evaluate", str(plan.weights), "--data", str(plan.data), "--split", plan.split]
        yield f"  score    {FIGURES[figure]}, with the recipe's [eval] settings: {expected}"
        yield _command_line("           ", [*command, *(["--tta"] if figure == "miou_tta" else [])])
    exact, custom = tolerance_of(plan, "published"), tolerance_of(plan, "custom")
    within = f"{custom:g}" if plan.train else f"{exact:g}"
    other = f" ({custom:g} if that is not the published file)" if plan.checkpoint and custom != exact else ""
    yield f"  verdict  holds within {within} points of the published mIoU{other}: {plan.out / 'verdict.json'}, row.md"


def _state_of_data(plan: Plan) -> str | Text:
    problems = check_known_dataset(build.description(plan.recipe), plan.data, splits_of(plan)).problems
    return "ready" if not problems else styled("[yellow]not ready:[/] {}", problems[0].message)


def _describe_weights(plan: Plan) -> Iterator[str | Text]:
    if plan.checkpoint:
        yield f"  weights  {plan.checkpoint}" + ("" if plan.checkpoint.is_file() else ": not found")
    elif plan.url:
        cached = (cache_folder() / plan.url.rsplit("/", 1)[-1]).is_file()
        first, *others = url_variants(plan.url)
        yield f"  weights  {first}" + (": downloaded" if cached else "")
        yield from (f"           or {other}" for other in others)
        yield f"           sha256 {hash_in_name(plan.url) or '(not published)'}..., stored in {cache_folder()}"
    else:
        yield "  weights  no URL is published; use --checkpoint FILE or --train"
    if plan.weights != plan.checkpoint:
        source = plan.checkpoint or cache_folder() / (plan.url or "FILE").rsplit("/", 1)[-1]
        command = ["fastfcn", "convert", str(source), "--recipe", plan.name, "--out", str(plan.weights)]
        yield _command_line("           ", command)


def _command_line(prefix: str, command: list[str]) -> Text:
    """A shell command after `prefix`."""
    return styled("{}[dim]{}[/]", prefix, shlex.join(command))


def _describe_training(plan: Plan, machine: Machine) -> Iterator[str | Text]:
    optim, devices, nodes = plan.recipe.optim, machine.devices, max(machine.nodes, 2)
    yield f"  train    {plan.recipe.steps} steps of batch {optim.batch} into {plan.run.folder}; run again to resume"
    command = ["fastfcn", "reproduce", plan.name, "--data", str(plan.data), "--out", str(plan.out), "--train"]
    command += ["--devices", str(devices)]
    launcher = ["torchrun", "--nnodes", str(nodes), "--nproc-per-node", str(devices)]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "HOST:29500", "-m"]
    yield _command_line("           one machine:   ", command)
    yield f"           {nodes} machines, run on each (HOST is one of them; the folders must be shared):"
    yield _command_line("                          ", [*launcher, *command[:-2]])
