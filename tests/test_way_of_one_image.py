"""How many functions one image passes on its way from the command line to the loss, and on to mIoU.

A reader who follows an image should arrive soon. Counted are the named functions of the package that a training step
enters, each once. Not counted: constructors, the steps of a transform and of decoding, the arithmetic inside layers,
what `recipe.load` does inside (it is one), and what goes on beside the image: bars, logs, checkpoints, processes,
the finding of files. `build.*` counts as one. What is left out is listed here, by module, for all to see.
"""

import inspect
import sys

import pytest

from fastfcn import cli, kernels
from tests.tiny import NARROW, write_streets

STEPS_OF_A_TRANSFORM = ("data.transforms", "data.resize", "data.images", "data.masks", "evaluate.test_sizes")
CONSTRUCTORS = ("models.backbone", "metrics._mean")
LAYERS = ("ops.", "models.layers", "models.fold")
BESIDE = (
    "data.description", "data.layout", "data.sampler", "data.streets", "download", "files", "machine", "pretrained",
    "findings", "loggers", "pages", "progress", "report", "run", "state", "train_log", "weights",
)  # fmt: skip
BESIDE_FUNCTIONS = (
    "train._prepare", "train._batches", "train._check_labels", "train._seed", "train._validate", "cli.main",
    "data.dataset.read_batches", "data.dataset.Dataset.__len__", "data.dataset.Dataset.check_labels",
    "data.dataset.Dataset._check", "data.dataset.Dataset.survey_labels", "data.dataset._lopsided",
    "data.dataset._size_problem", "data.dataset.Dataset.read_label", "show_scores.as_json", "show_scores._number",
    "show_scores.summary", "evaluate.TestImages.__len__", "cli.screen.say",
)  # fmt: skip
TO_THE_LOSS, TO_MIOU = 12, 19


def entered_functions(call, argument) -> list[str]:
    """The package's functions in the order in which `call(argument)` first enters them."""
    seen: dict[str, None] = {}

    def note(frame, event, _argument):
        module = frame.f_globals.get("__name__", "")
        # Class bodies run as calls too; functions alone are compiled with fast locals.
        function = event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED
        if function and module.startswith("fastfcn"):
            seen.setdefault(f"{module.removeprefix('fastfcn').lstrip('.')}.{frame.f_code.co_qualname}")

    sys.setprofile(note)
    try:
        call(argument)
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.setprofile(None)
    return list(seen)


def way(names: list[str]) -> list[str]:
    """What of `names` counts, by the rules above."""
    counted: dict[str, None] = {}
    for name in names:
        if any(part in name for part in ("<", "__init__", "__create_fn__", "__enter__", "__exit__")):
            continue
        if name.startswith("recipe"):
            name = "recipe.load"
        elif name.startswith("build."):
            name = "build.*"
        elif name.startswith("data.transforms.TrainTransform.__call__"):
            name = "data.transforms.TrainTransform.__call__"
        elif name.startswith((*STEPS_OF_A_TRANSFORM, *CONSTRUCTORS, *LAYERS, *BESIDE)) or name in BESIDE_FUNCTIONS:
            continue
        counted.setdefault(name)
    return list(counted)


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> list[str]:
    kernels.available()  # the search for their build, once a process, is on no image's way
    folder = tmp_path_factory.mktemp("way")
    write_streets(folder / "data")
    changes = ["demo", *NARROW, "optim.steps=1", "eval.every=1"]
    arguments = ["train", *changes, "--data", f"{folder}/data", "--out", f"{folder}/run", "--workers", "0",
                 "--no-report"]  # fmt: skip
    return entered_functions(lambda each: cli.app(each), arguments)


def test_to_the_loss(trace):
    steps = way(trace[: trace.index("losses.segmentation_loss") + 1])
    assert steps[-1] == "losses.segmentation_loss"
    assert "train.train_step" in steps
    assert "models.segmenter.Segmenter.train_scores" in steps
    assert len(steps) <= TO_THE_LOSS, "\n".join(steps)


def test_to_miou(trace):
    steps = way(trace)
    assert "evaluate.measure" in steps
    assert "metrics.ConfusionMatrix.update" in steps
    assert len(steps) <= TO_MIOU, "\n".join(steps)
