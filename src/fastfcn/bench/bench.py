"""`fastfcn bench`: speed and memory of recipes or weights files, one after another."""

from collections.abc import Sequence
from time import perf_counter

from rich.progress import Progress

from fastfcn import recipes
from fastfcn.bench.fresh_process import in_fresh_process
from fastfcn.bench.measure import (
    Settings,
    Subject,
    inference_setting,
    measure_inference,
    measure_training,
    training_setting,
)
from fastfcn.bench.record import rounded
from fastfcn.errors import UserError
from fastfcn.prediction.load import is_model_file, open_model, open_weights
from fastfcn.utils.progress import progress_bar
from fastfcn.utils.provenance import today
from fastfcn.weights.locate import local_file

PARTS = ("inference", "training")
NOTES = {
    "inference": "from a uint8 image to its segmentation map, through fastfcn.load, one image at a time",
    "training": "fastfcn.training.train.train_step on one synthetic batch, without reading and augmenting images",
    "recipe_device_batch": "a quarter of the batch of a published recipe (trained on 4 GPUs), else the whole batch",
    "images_per_second": "from the mean of the runs; the device is synchronized after each run",
    "cores_busy": "average number of busy CPU cores; lower than the number of threads if the machine had other work",
    "gflops": "2 per multiply-add; convolutions and matrix products of the network without the auxiliary head",
    "share_of_peak": "gflops * images_per_second divided by the speed of the fastest square matrix product; "
    "all products of direct convolution count, so Winograd convolutions and skipped zero padding can raise it above 1",
}


def bench(
    names: Sequence[str],
    changes: Sequence[str] = (),
    settings: Settings | None = None,
    parts: Sequence[str] = PARTS,
) -> dict:
    """Measure the speed and memory of `names`, each part of each in a fresh process.

    `names`: recipes (with random weights), weights files (.safetensors), or exported files (inference only);
    `changes`: overrides of each recipe, such as "data.crop=[256,512]"; `parts`: "inference" and "training". Returns the
    content of the JSON file: date, machine, versions, notes, and one result per name. Running out of memory is a result
    too. Raises UserError and its subclasses.
    """
    settings = settings or Settings()
    if not names or not parts:
        raise UserError("Nothing to measure.", "Name a recipe, and use at most one of --no-infer and --no-train.")
    # All names are checked before the first is measured.
    subjects = [_subject(name, changes, settings, "training" in parts) for name in names]
    start, results = perf_counter(), []
    with progress_bar() as bar:
        overall = bar.add_task("All", total=len(subjects) * len(parts), visible=len(subjects) * len(parts) > 1)
        for subject in subjects:
            result = {"name": subject.name, "recipe": subject.recipe.name, "changes": list(changes)}
            result["weights"] = str(subject.weights or "random")
            for part in parts:
                result[part] = _measure(part, subject, settings, bar)
                bar.advance(overall)
            results.append(result)
    return _record(results, perf_counter() - start)


def _subject(name: str, changes: Sequence[str], settings: Settings, training: bool) -> Subject:
    if not is_model_file(name):
        return Subject(name, recipes.load(name, changes))
    path = local_file(name)
    if training:
        model = open_weights(path, "train", "Add --no-train to measure inference only.")
    else:
        model = open_model(path, settings.accelerator, settings.precision, settings.trusted)
    return Subject(name, model.recipe.override(changes), path)


def _measure(part: str, subject: Subject, settings: Settings, bar: Progress) -> dict:
    task = bar.add_task(f"{subject.recipe.name}: {part}", total=None)
    function = measure_inference if part == "inference" else measure_training
    try:
        return in_fresh_process(
            function, subject, settings, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    except MemoryError as error:
        setting = inference_setting if part == "inference" else training_setting
        return setting(subject, settings) | {"out_of_memory": str(error)}
    finally:
        bar.update(task, visible=False)


def _record(results: list[dict], seconds: float) -> dict:
    """The results, with machine and versions, which they have in common, moved to the top."""
    common: dict = {}
    for result in results:
        for part in PARTS:
            measured = result.get(part, {})
            common |= {key: measured.pop(key) for key in ("machine", "versions") if key in measured}
    record = {"date": today(), "seconds": round(seconds)}
    return record | common | {"notes": NOTES, "results": [rounded(result) for result in results]}
