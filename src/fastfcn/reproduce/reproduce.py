"""`fastfcn reproduce`: one row of the published table, from its weights or from its training, to a verdict.

What is done stays in the folder: the same command again goes on where it was stopped and computes nothing twice.
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
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.files import make_folder, write_text
from fastfcn.utils.machine import Machine
from fastfcn.utils.provenance import package_versions, today
from fastfcn.weights.convert import convert
from fastfcn.weights.download import fetch_published, hash_in_name, sha256_of

Say = Callable[[str], None]
NOT_COMPARED = ("name", "aliases", "summary", "seed")  # keys of a recipe that decide no score


def reproduce(plan: Plan, machine: Machine, say: Say) -> dict | None:
    """Carry out `plan`, write verdict.json and row.md into its folder, and return the verdict.

    None where training was stopped before its end, and in all processes but the first. Raises DataError before any
    work where the data folder is not what it should be; WeightsError, RecipeError and OutputError as its parts do.
    """
    source: dict = {}
    if machine.first_process:
        check_known_dataset(build.description(plan.recipe), plan.data, splits_of(plan)).raise_problems()
        make_folder(plan.out)
        source = {} if plan.train else _prepare(plan, say)
    if plan.train:
        result = train(plan.recipe, plan.data, plan.run.folder, machine, resume=_started(plan.run))
        if not result.finished:
            return None
    fabric = machine.launch()  # the other processes wait here until the weights are there
    if fabric.is_global_zero and plan.train:
        source = {"file": plan.weights.name, "sha256": sha256_of(plan.weights), "kind": "trained", "address": None}
    dataset = build.dataset(plan.recipe, build.description(plan.recipe), plan.data, plan.split, train=False)
    key = _key(plan, dataset, machine) if fabric.is_global_zero else {}
    measured = {figure: _measure(plan, figure, key, fabric, machine) for figure in plan.figures}
    return _conclude(plan, measured, source, dataset) if fabric.is_global_zero else None


def _started(run: Run) -> bool:
    """Whether there is something to resume, as `Run.start` sees it."""
    return run.checkpoint.exists() or bool(run.read_log())


def _prepare(plan: Plan, say: Say) -> dict:
    """Get the weights and convert them, unless the folder holds what these made; returns what is known of them."""
    if plan.weights == plan.checkpoint:
        return _own_weights(plan, say)
    note = plan.out / "weights.json"
    before = _read_json(note)
    made_by = {"recipe": plan.recipe.name, "text": _hash(plan.recipe.text), "versions": package_versions()["fastfcn"]}
    if before and before.get("made_by", {}).get("recipe") != plan.recipe.name:
        raise OutputError(
            f"{plan.out} holds another recipe's results: {before.get('made_by', {}).get('recipe')}.",
            "Choose another --out.",
        )
    kept = before if before.get("made_by") == made_by and _is(plan.weights, before.get("converted")) else {}
    if kept and not plan.checkpoint and kept["source"]["address"] == plan.address:
        return kept["source"]
    checkpoint = _existing(plan.checkpoint) if plan.checkpoint else fetch_published(plan.name, plan.address)
    source = _source(plan, checkpoint, say)
    if not kept or kept["source"]["sha256"] != source["sha256"]:
        for remark in convert(checkpoint, plan.name, plan.weights):
            say(remark)
    content = {"made_by": made_by, "source": source, "converted": sha256_of(plan.weights)}
    write_text(note, json.dumps(content, indent=1) + "\n")
    return source


def _own_weights(plan: Plan, say: Say) -> dict:
    """What a verdict says of a weights file of the user's, with the keys in which its recipe is another."""
    changed = [key for key, *_ in weights.read(plan.weights).recipe.differences(plan.recipe)]
    changed = [key for key in changed if key not in NOT_COMPARED and not key.startswith("published.")]
    if changed:
        say(f"{plan.weights} was made with another recipe; these differ: {', '.join(changed)}.")
    about = {"file": plan.weights.name, "sha256": sha256_of(plan.weights), "kind": "own", "address": None}
    return about | ({"other_recipe_in": changed} if changed else {})


def _source(plan: Plan, checkpoint: Path, say: Say) -> dict:
    """What a verdict says of a checkpoint; raises WeightsError where it has not the hash that its name tells."""
    sha256 = sha256_of(checkpoint)
    if not sha256.startswith(hash_in_name(checkpoint.name)):
        raise WeightsError(
            f"{checkpoint}: the sha256 is {sha256[:16]}..., its name says {hash_in_name(checkpoint.name)}...",
            "It is damaged or was changed: fetch it again. (A file of your own should have another name.)",
        )
    expected = hash_in_name(plan.address or "")
    published = sha256.startswith(expected)
    if not published:
        say(f"{checkpoint} is not the published file (...-{expected}): the verdict is about {checkpoint.name}.")
    kind = "published" if published else "own"
    address = plan.address if published else None
    return {"file": checkpoint.name, "sha256": sha256, "kind": kind, "address": address}


def _measure(plan: Plan, figure: str, key: dict, fabric: Fabric, machine: Machine) -> dict:
    """The score for one figure, from the folder where the same weights were scored on the same data before."""
    path = plan.out / f"scores_{figure}.json"
    before = _read_json(path) if fabric.is_global_zero else {}
    if fabric.broadcast(before.get("of") == key):
        return before
    started = time.monotonic()
    result = evaluate(plan.weights, plan.data, machine, plan.split, tta=figure == "miou_tta")
    device = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else fabric.device.type
    facts = {"device": device, "processes": fabric.world_size, "date": today()}
    kept = {"of": key, **facts, "seconds": round(time.monotonic() - started, 1), "scores": result.as_json()}
    if fabric.is_global_zero:
        write_text(path, json.dumps(kept, indent=1) + "\n")
    return kept


def _key(plan: Plan, dataset: Dataset, machine: Machine) -> dict:
    """What a score depends on: weights with their recipe, data, arithmetic and software."""
    stats = [(each.name, path.stat()) for each in dataset.examples for path in each[1:]]
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
    said = verdict(plan.recipe, measured, tolerance_of(plan, source["kind"]), source, data)
    write_text(plan.out / "verdict.json", json.dumps(said, indent=1) + "\n")
    write_text(plan.out / "row.md", markdown_row(said) + "\n")
    return said


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.", "Name the checkpoint that was downloaded or trained.")
    return path


def _read_json(path: Path) -> dict:
    """The object in a file; empty where there is none, or another thing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is(path: Path, sha256: str | None) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
