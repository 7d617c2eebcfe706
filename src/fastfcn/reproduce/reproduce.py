"""`fastfcn reproduce`: compare a published result with one measured from the published weights or a new training.

All intermediate results are stored in the output folder: running the command again resumes, and repeats nothing.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric

from fastfcn import build, weights
from fastfcn.checking.known_dataset import check_known_dataset
from fastfcn.data.dataset import Dataset
from fastfcn.errors import OutputError, WeightsError
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.reproduce.plan import Plan, splits_of, tolerance_of
from fastfcn.reproduce.verdict import markdown_row, verdict
from fastfcn.training.run import Run, TrainingResult
from fastfcn.training.train import train
from fastfcn.utils.files import make_folder, write_text
from fastfcn.utils.machine import Machine
from fastfcn.utils.provenance import package_versions, today
from fastfcn.weights.convert import convert
from fastfcn.weights.download import fetch_published, hash_in_name, sha256_of

Log = Callable[[str], None]
NOT_COMPARED = ("name", "aliases", "summary", "seed")  # recipe keys that do not affect scores


def reproduce(plan: Plan, machine: Machine, log: Log) -> dict | TrainingResult | None:
    """Run `plan`, write verdict.json and row.md to its folder, and return the verdict.

    Returns the result of the training if it was interrupted, and None in all processes but the first. Raises DataError
    first if the data folder has problems; and WeightsError, RecipeError and OutputError.
    """
    source: dict = {}
    if machine.first_process:
        check_known_dataset(build.description(plan.recipe), plan.data, splits_of(plan)).raise_problems()
        make_folder(plan.out)
        source = {} if plan.train else _prepare(plan, log)
    if plan.train:
        result = train(plan.recipe, plan.data, plan.run.folder, machine, resume=_started(plan.run))
        if not result.finished:
            return result
    fabric = machine.launch()  # the other processes wait here for the weights
    if fabric.is_global_zero and plan.train:
        source = {"file": plan.weights.name, "sha256": sha256_of(plan.weights), "kind": "trained", "address": None}
    dataset = build.dataset(plan.recipe, build.description(plan.recipe), plan.data, plan.split, train=False)
    key = _key(plan, dataset, machine) if fabric.is_global_zero else {}
    measured = {figure: _measure(plan, figure, key, fabric, machine) for figure in plan.figures}
    return _conclude(plan, measured, source, dataset) if fabric.is_global_zero else None


def _started(run: Run) -> bool:
    """Whether there is a run to resume, as in `Run.start`."""
    return run.checkpoint.exists() or bool(run.read_log())


def _prepare(plan: Plan, log: Log) -> dict:
    """Download and convert the weights, unless the folder has the result already; returns their record."""
    if plan.weights == plan.checkpoint:
        return _custom_weights(plan, log)
    record_file = plan.out / "weights.json"
    before = _read_json(record_file)
    made_by = {"recipe": plan.recipe.name, "text": _hash(plan.recipe.text), "versions": package_versions()["fastfcn"]}
    if before and before.get("made_by", {}).get("recipe") != plan.recipe.name:
        raise OutputError(
            f"{plan.out} contains another recipe's results: {before.get('made_by', {}).get('recipe')}.",
            "Choose another --out.",
        )
    reusable = before.get("made_by") == made_by and _has_hash(plan.weights, before.get("converted"))
    if reusable and not plan.checkpoint and before["source"]["address"] == plan.url:
        return before["source"]
    checkpoint = _existing(plan.checkpoint) if plan.checkpoint else fetch_published(plan.name, plan.url)
    source = _source(plan, checkpoint, log)
    if not reusable or before["source"]["sha256"] != source["sha256"]:
        for remark in convert(checkpoint, plan.name, plan.weights):
            log(remark)
    content = {"made_by": made_by, "source": source, "converted": sha256_of(plan.weights)}
    write_text(record_file, json.dumps(content, indent=1) + "\n")
    return source


def _custom_weights(plan: Plan, log: Log) -> dict:
    """The record of a user's weights file, with the recipe keys that differ from the plan's."""
    changed = [key for key, *_ in weights.read(plan.weights).recipe.differences(plan.recipe)]
    changed = [key for key in changed if key not in NOT_COMPARED and not key.startswith("published.")]
    if changed:
        log(f"{plan.weights} was trained with a different recipe; differing keys: {', '.join(changed)}.")
    record = {"file": plan.weights.name, "sha256": sha256_of(plan.weights), "kind": "custom", "address": None}
    return record | ({"other_recipe_in": changed} if changed else {})


def _source(plan: Plan, checkpoint: Path, log: Log) -> dict:
    """The record of a checkpoint; raises WeightsError if its sha256 is not the one in its name."""
    sha256 = sha256_of(checkpoint)
    if not sha256.startswith(hash_in_name(checkpoint.name)):
        raise WeightsError(
            f"{checkpoint}: the sha256 is {sha256[:16]}..., but its name has {hash_in_name(checkpoint.name)}...",
            "The file is damaged or was changed: download it again, or rename it if it is your own.",
        )
    expected = hash_in_name(plan.url or "")
    published = sha256.startswith(expected)
    if not published:
        log(f"{checkpoint} is not the published file (...-{expected}): the verdict is about {checkpoint.name}.")
    kind = "published" if published else "custom"
    address = plan.url if published else None
    return {"file": checkpoint.name, "sha256": sha256, "kind": kind, "address": address}


def _measure(plan: Plan, figure: str, key: dict, fabric: Fabric, machine: Machine) -> dict:
    """The score for one of FIGURES; read from the folder if the same weights and data were evaluated before."""
    path = plan.out / f"scores_{figure}.json"
    before = _read_json(path) if fabric.is_global_zero else {}
    if fabric.broadcast(before.get("of") == key):
        return before
    started = time.monotonic()
    result = evaluate(plan.weights, plan.data, machine, plan.split, tta=figure == "miou_tta")
    device = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else fabric.device.type
    environment = {"device": device, "processes": fabric.world_size, "date": today()}
    record = {"of": key, **environment, "seconds": round(time.monotonic() - started, 1), "scores": result.as_json()}
    if fabric.is_global_zero:
        write_text(path, json.dumps(record, indent=1) + "\n")
    return record


def _key(plan: Plan, dataset: Dataset, machine: Machine) -> dict:
    """Everything a score depends on: weights with their recipe, data, precision and software."""
    stats = [
        (example.name, path.stat()) for example in dataset.examples for path in example[1:] if isinstance(path, Path)
    ]
    data = _hash("\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats))
    return {
        "weights": sha256_of(plan.weights),
        "data": data,
        "split": plan.split,
        "precision": machine.precision,
        "python": platform.python_version(),
    } | package_versions()


def _conclude(plan: Plan, measured: dict[str, dict], source: dict, dataset: Dataset) -> dict:
    data = {
        "dataset": dataset.description.name,
        "folder": plan.data.resolve().name,
        "split": plan.split,
        "images": len(dataset),
    }
    result = verdict(plan.recipe, measured, tolerance_of(plan, source["kind"]), source, data)
    write_text(plan.out / "verdict.json", json.dumps(result, indent=1) + "\n")
    write_text(plan.out / "row.md", markdown_row(result) + "\n")
    return result


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.", "Give the path of a downloaded or trained checkpoint.")
    return path


def _read_json(path: Path) -> dict:
    """The JSON object in a file; empty if the file is missing or contains something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _has_hash(path: Path, sha256: str | None) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
