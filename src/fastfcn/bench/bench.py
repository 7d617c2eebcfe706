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
    "inference": "uint8 image in, class map out, through fastfcn.load, one image at a time",
    "training": "fastfcn.training.train.train_step on one synthetic batch; reading and augmenting images is not in it",
    "recipe_device_batch": "a fourth of the batch where figures are published, trained on 4 GPUs; else the whole batch",
    "images_per_second": "from the mean of the runs; every run is synchronised with the device",
    "cores_busy": "processors kept busy on average; less than the threads where the machine had other work",
    "gflops": "2 per multiply-add; convolutions and matrix products of the network without the auxiliary head",
    "share_of_peak": "gflops * images_per_second over the speed of the fastest square matrix product on the device; "
    "all products of the plain convolutions count; Winograd's form and skipped zero padding take it beyond 1",
}


def bench(
    names: Sequence[str],
    changes: Sequence[str] = (),
    settings: Settings | None = None,
    parts: Sequence[str] = PARTS,
) -> dict:
    """Measure recipes (names or paths ending in .toml, with random weights), weights files (.safetensors), or exported
    files, which cannot be trained.

    `changes` such as "data.crop=[256,512]" are made in each recipe; `parts`: "inference", "training". Returns what is
    written as JSON: date, machine, versions, notes, and a result of each name. Each part of each is measured in a
    fresh process. Too little memory is a result like others. Raises UserError (its kinds) for what cannot be measured.
    """
    settings = settings or Settings()
    if not names or not parts:
        raise UserError("There is nothing to measure.", "Name a recipe; leave out --no-infer or --no-train.")
    # What is wrong with the last is said before the first is measured.
    subjects = [_subject(name, changes, settings, "training" in parts) for name in names]
    began, results = perf_counter(), []
    with progress_bar() as bar:
        whole = bar.add_task("All", total=len(subjects) * len(parts), visible=len(subjects) * len(parts) > 1)
        for subject in subjects:
            result = {"name": subject.name, "recipe": subject.recipe.name, "changes": list(changes)}
            result["weights"] = str(subject.weights or "random")
            for part in parts:
                result[part] = _measure(part, subject, settings, bar)
                bar.advance(whole)
            results.append(result)
    return _record(results, perf_counter() - began)


def _subject(name: str, changes: Sequence[str], settings: Settings, trains: bool) -> Subject:
    if not is_model_file(name):
        return Subject(name, recipes.load(name, changes))
    path = local_file(name)
    if trains:
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
    """The results with what is common to them said once."""
    common: dict = {}
    for result in results:
        for part in PARTS:
            measured = result.get(part, {})
            common |= {key: measured.pop(key) for key in ("machine", "versions") if key in measured}
    record = {"date": today(), "seconds": round(seconds)}
    return record | common | {"notes": NOTES, "results": [rounded(result) for result in results]}
