"""Prediction on a Ray cluster: `fastfcn.ray.predict` runs a pool of actors, each with the network, over a dataset.

Ray Data divides the rows among the actors, and repeats what was lost with an actor or a machine.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
import torch

from fastfcn.data.decoding import StoredFile
from fastfcn.errors import DataError, MissingExtraError, UserError, first_line
from fastfcn.prediction.image_files import predict_each, predict_files
from fastfcn.prediction.image_formats import ImageLike, as_pixels
from fastfcn.prediction.image_outputs import ImageOutputs, class_pixels
from fastfcn.prediction.info import read_header
from fastfcn.prediction.job import MAX_FILE_THREADS, PredictionJob, file_threads, image_predictor
from fastfcn.prediction.load import load
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.video.segment import OutputSettings
from fastfcn.recipes.inference import InferenceChanges, inference_settings
from fastfcn.utils.machine import FULL_PRECISION
from fastfcn.weights.locate import local_file

if TYPE_CHECKING:
    from ray.data import Dataset

LABELS = OutputSettings(overlay=False)
BATCH = 16
MAX_BLOCKS = 10_000  # of a job: Ray keeps a few kilobytes for each
DEVICES = ("auto", "cpu", "cuda")

Rows = dict[str, np.ndarray]  # columns of the same length, by name


def predict(
    dataset: "Dataset",
    weights: str | Path,
    out: str | Path | None = None,
    *,
    column: str = "image",
    settings: OutputSettings = LABELS,
    device: str = "auto",
    actors: int | None = None,
    threads: int | None = None,
    batch: int = BATCH,
    trusted: bool = False,
    precision: str = FULL_PRECISION,
    **changes: Unpack[InferenceChanges],
) -> "Dataset":
    """Segment the images of a Ray dataset.

        images = ray.data.read_binary_files("s3://bucket/photos", include_paths=True)
        results = fastfcn.ray.predict(images, "weights.safetensors", column="bytes")
        results.drop_columns(["bytes"]).write_parquet("s3://bucket/results")

    Args:
        dataset: Rows with an image in `column`: the content of an image file, an array (H, W, 3) of uint8, or a path
            that all machines can read. For a network of bands as for `Predictor`. A column `path` is used in messages.
        weights: Weights file that all machines can read, or another name as for `fastfcn.load`.
        out: Folder on all machines in which the outputs are written under the name in the column `name`, atomically.
        column: Column of the images.
        settings: The outputs; default: the segmentation map as PNG.
        device: "cpu", "cuda" (one GPU for each actor), or "auto" (GPUs if the cluster has some).
        actors: Number of actors; default: from one to as many as the cluster has room for, by the work.
        threads: CPU cores of each actor; default: 1, and with GPUs their share of the cores, at most 8.
        batch: Images of each call of an actor.
        trusted, precision, changes: As for `fastfcn.load`.

    Returns:
        The dataset with the columns of `dataset`, `pixels` (JSON: pixels of each class that occurs) and `error` (why
        the image could not be used, or ""). Without `out`, the content of each file is in a column "labels",
        "overlay", "polygons", "coco" or "confidence". It is computed when it is used, as Ray's datasets are.

    Raises:
        UserError: The device cannot be used.
        MissingExtraError: Ray is not installed.
    """
    strategy = import_ray().data.ActorPoolStrategy
    gpus = _use_gpus(device)
    available = room(gpus, threads)
    threads = threads or available.threads
    pool = {"size": actors} if actors else {"min_size": 1, "max_size": available.actors}
    arguments = (str(weights), out and str(out), column, settings, "cuda" if gpus else "cpu", threads)
    return dataset.map_batches(
        Segmenter,
        fn_constructor_args=(*arguments, trusted, precision, changes, os.getcwd()),  # noqa: PTH109
        batch_size=batch,
        batch_format="numpy",
        compute=strategy(**pool),
        num_cpus=threads,
        num_gpus=1 if gpus else 0,
    )


class Segmenter:
    """An actor: a network, which predicts batches of rows. The arguments are those of `predict`."""

    def __init__(
        self, weights: str, out: str | None, column: str, settings: OutputSettings, device: str, threads: int,
        trusted: bool, precision: str, changes: InferenceChanges, folder: str,
    ):  # fmt: skip
        """`folder`: where relative paths begin, if this machine has it."""
        with suppress(OSError):
            os.chdir(folder)
        torch.set_num_threads(threads)
        self.predictor = load(weights, device, trusted, precision, **changes)
        self.column, self.writes = column, out is not None
        self.outputs = ImageOutputs(Path(out or ""), settings)
        self.threads = file_threads(self.predictor, threads)

    def __call__(self, rows: Rows) -> Rows:
        """`rows` with the columns of the results."""
        results = list(self._written(rows) if self.writes else self._encoded(rows))
        names = ["pixels"] if self.writes else [*self.outputs.kinds, "pixels"]
        errors = [str(result) if isinstance(result, UserError) else "" for result in results]
        values = [{} if isinstance(result, UserError) else result for result in results]
        columns = {name: [value.get(name) for value in values] for name in names} | {"error": errors}
        return rows | {name: np.array(values, object) for name, values in columns.items()}

    def _written(self, rows: Rows) -> Iterator[dict[str, Any] | UserError]:
        paths, names = [Path(path) for path in rows[self.column]], [str(name) for name in rows["name"]]
        predict = image_predictor(self.predictor, self.outputs.settings)
        for result in predict_files(predict, paths, names, self.outputs, self.threads, self.predictor.images):
            yield result if isinstance(result, UserError) else {"pixels": json.dumps(result)}

    def _encoded(self, rows: Rows) -> Iterator[dict[str, Any] | UserError]:
        images: Sequence[ImageLike | bytes] = list(rows[self.column])
        places = [str(path) for path in rows["path"]] if "path" in rows else ["The image"] * len(images)

        def read(source: tuple[str, ImageLike | bytes]) -> np.ndarray:
            place, image = source
            reader = self.predictor.images
            return reader.read(StoredFile(place, image)) if isinstance(image, bytes) else as_pixels(image, reader)

        def encode(_: object, prediction: Prediction) -> dict[str, Any]:
            return self.outputs.encode(prediction) | {"pixels": json.dumps(class_pixels(prediction))}

        predict = image_predictor(self.predictor, self.outputs.settings)
        yield from predict_each(predict, list(zip(places, images, strict=True)), read, encode, self.threads)


class RayEngine:
    """Predicts the images of a job on the Ray cluster that RAY_ADDRESS names, or that runs here, or on a new one.

    `description`: of the classes, from the weights; `options`: arguments of `predict`.
    """

    def __init__(self, weights: str | Path, **options: Any):
        """Raises UserError for weights and settings that cannot be used, and MissingExtraError without Ray."""
        import_ray()
        header = read_header(local_file(weights))
        changes = {name: options[name] for name in InferenceChanges.__annotations__ if name in options}
        inference_settings(header.recipe, **changes)
        self.description, self.weights, self.options = header.description, weights, options

    def results(self, job: PredictionJob) -> Iterator[tuple[int, dict[str, int] | UserError]]:
        """The index and the result of each ordinary image of `job`, in the order in which they are finished."""
        if not job.ordinary:
            return
        ray = import_ray()
        connect()
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        batch = self.options.get("batch") or BATCH
        rows = [{"index": i, "image": str(job.inputs.images[i]), "name": job.names[i]} for i in job.ordinary]
        dataset = ray.data.from_items(rows, override_num_blocks=min(-(-len(rows) // batch), MAX_BLOCKS))
        fitting = room(_use_gpus(self.options["device"]), self.options.get("threads"))
        options = {"actors": fitting.actors, **self.options}
        results = predict(dataset, self.weights, job.folder, settings=job.settings, **options)
        with _user_errors():
            for part in results.iter_batches(batch_size=None, batch_format="numpy"):
                for index, pixels, error in zip(part["index"], part["pixels"], part["error"], strict=True):
                    yield int(index), DataError(*error.split("\n", 1)) if error else json.loads(pixels)


class Room(NamedTuple):
    """What fits into a cluster: the number of actors, and the CPU cores of each."""

    actors: int
    threads: int


def room(gpus: bool, threads: int | None) -> Room:
    """How many actors the cluster that is connected has room for, with one GPU each if `gpus`."""
    resources = import_ray().cluster_resources()
    cores, devices = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if not gpus:
        return Room(max(1, cores // (threads or 1)), threads or 1)
    threads = threads or min(MAX_FILE_THREADS, max(1, cores // max(devices, 1)))
    return Room(max(1, min(devices, cores // threads)), threads)


def import_ray() -> Any:
    """Ray with Ray Data. Raises MissingExtraError."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "cluster", "Prediction on a Ray cluster") from error
    return ray


def connect() -> None:
    """Connect to a Ray cluster, unless that is done. One that is started here sends no usage statistics."""
    ray = import_ray()
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        address = os.environ.get("RAY_ADDRESS", "on this machine")
        raise UserError(
            f"Cannot connect to the Ray cluster {address}: {first_line(error)}",
            "Check RAY_ADDRESS and `ray status`, or unset RAY_ADDRESS to start a cluster on this machine.",
        ) from error


def _use_gpus(device: str) -> bool:
    """Whether actors get GPUs. Raises UserError for a device that only one machine can name."""
    if device not in DEVICES:
        raise UserError(
            f"Ray assigns the devices of its actors; {device!r} is not one of them.", f"Use {', '.join(DEVICES)}."
        )
    return device == "cuda" or (device == "auto" and import_ray().cluster_resources().get("GPU", 0) >= 1)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Raise a UserError of an actor as it is; Ray wraps it."""
    try:
        yield
    except Exception as error:  # of several kinds of Ray's
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise cause from None
