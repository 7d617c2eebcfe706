"""`fastfcn predict`: segment images and videos, on this machine or through a running service."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastfcn.cli.options import (
    MODEL_HELP,
    TOKEN,
    InputSize,
    Overlap,
    Tile,
    TileContext,
    Trusted,
    Tta,
    Window,
    check_weights,
)
from fastfcn.cli.output import print_error
from fastfcn.errors import DataError, UserError
from fastfcn.utils.console import say
from fastfcn.utils.progress import tile_progress, video_progress, with_progress

if TYPE_CHECKING:
    import numpy as np

    from fastfcn.client import Client
    from fastfcn.prediction.job import PredictionJob
    from fastfcn.prediction.manifest import Manifest
    from fastfcn.prediction.predictor import Predictor
    from fastfcn.prediction.video.segment import VideoResult
    from fastfcn.ray import RayEngine
    from fastfcn.utils.cluster import Job


def predict(
    weights: Annotated[
        str,
        typer.Argument(metavar="WEIGHTS", help=MODEL_HELP),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Images, videos, folders, patterns ('a/*.jpg'), or webcam."),
    ] = None,
    labels: Annotated[
        bool | None,
        typer.Option("--labels/--no-labels", help="Write label images with class ids (default: for images only)."),
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write images and videos with the classes drawn over them.")] = True,
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Opacity of the class colors.")] = 0.5,
    leave_out: Annotated[
        str, typer.Option(metavar="A,B", help="Classes that overlays do not show, such as background.")
    ] = "",
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Also write polygons (GeoJSON), coco (masks as RLE), confidence (PNG) or shares (CSV); "
            "repeat for several.",
        ),
    ] = None,
    outline: Annotated[bool, typer.Option("--outline", help="Draw only the edges of the areas in overlays.")] = False,
    size: InputSize = None,
    tta: Tta = False,
    window: Window = None,
    overlap: Overlap = None,
    tile: Tile = None,
    context: TileContext = "window",
    every: Annotated[int, typer.Option(min=1, help="Run the network on every N-th video frame only.")] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Stop a video or webcam after this many seconds (default: at its end)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="32-true, bf16-mixed (short: bf16) or 16-mixed; exported files accept 32-true only.")
    ] = "32-true",
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Use a running service; WEIGHTS is left out then.")
    ] = None,
    trusted: Trusted = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Process only part I of N, such as 3/16; the same inputs for all.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip the images that the manifest in --out lists as finished.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="local (this process), or ray: actors on a Ray cluster, for images only.")
    ] = "local",
    actors: Annotated[
        int | None, typer.Option(min=1, help="With --engine ray: number of actors (default: all CPU cores or GPUs).")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU cores of each actor (default: 1; with GPUs their share of the cores, at most 8)."
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images that an actor gets at a time (default: 16).")] = None,
) -> None:
    """Segment images and videos.

    For an image, write NAME.png (class ids) and NAME_overlay.jpg. For a video, write NAME_overlay.mp4 with the original
    audio and frame rate, and with --labels a folder NAME_labels. A webcam is recorded until Ctrl-C.

    Files that cannot be read are reported and skipped; the exit code is 1 then. manifest.jsonl lists all images with
    the pixels of each class, or the error. Under torchrun and srun, the processes divide the inputs among them.

    Images are resized as for `fastfcn evaluate`, by the recipe in the weights file; the outputs keep the
    original size. --size, --tta and --window change that.

    --tile is for images that do not fit into the memory. A GeoTIFF, COG or JPEG 2000 is read and written part by part
    and becomes the GeoTIFF NAME.tif with the same reference to the ground; its overlay is reduced to 2048 pixels. Other
    images are decoded at once, and only the network runs part by part.

    Videos need: pip install 'fastfcn\\[video]'; GeoTIFF with --tile: pip install 'fastfcn\\[geo]'; --engine ray:
    pip install 'fastfcn\\[cluster]'

    [dim]fastfcn predict runs/camvid/weights.safetensors photos 'more/*.jpg' --out segmented\n
    fastfcn predict runs/camvid/weights.safetensors area.tif --out segmented --tile 2048\n
    fastfcn predict runs/camvid/weights.safetensors drive.mp4 --out segmented --every 3 --opacity 0.4\n
    fastfcn predict runs/camvid/weights.safetensors photos --out segmented --leave-out background --outline\n
    fastfcn predict runs/camvid/weights.safetensors photos --out segmented --shard 3/16 --resume\n
    fastfcn predict runs/camvid/weights.safetensors photos --out segmented --engine ray --resume\n
    fastfcn predict hf://USER/NAME webcam --out recorded --seconds 20\n
    fastfcn predict --server http://127.0.0.1:8000 photos --out segmented[/]
    """
    if not server:
        check_weights(weights)
    from fastfcn.prediction.image_files import save_legend
    from fastfcn.prediction.image_outputs import FORMATS, SHARES
    from fastfcn.prediction.inputs import find_inputs
    from fastfcn.prediction.job import PredictionJob
    from fastfcn.prediction.load import load
    from fastfcn.prediction.manifest import find_shard
    from fastfcn.prediction.prediction import class_indices
    from fastfcn.prediction.video.segment import OutputSettings
    from fastfcn.recipes.inference import InferenceChanges, check_sizes, check_tiles
    from fastfcn.utils.cluster import find_job
    from fastfcn.weights.download import sha256_of
    from fastfcn.weights.locate import local_file

    inputs = [weights, *(inputs or [])] if server else inputs or []  # with --server the first argument is an input
    if not inputs:
        raise UserError("No inputs were given.", "Add images, folders or patterns after the weights file.")
    check_sizes(size, window)
    check_tiles(size, tta, window, overlap, tile, context)
    if server and (size or tta or window or tile or overlap is not None):
        raise UserError(
            "--size, --tta, --window and --tile are settings of the service.", "Pass them to `fastfcn serve`."
        )
    if unknown := [name for name in formats or [] if name not in (*FORMATS, SHARES)]:
        raise UserError(f"Unknown format {unknown[0]!r}.", f"Choose among {', '.join((*FORMATS, SHARES))}.")
    if server and "confidence" in (formats or []):
        raise UserError("A service does not return the confidence.", "Use a weights file for --format confidence.")
    pool = {name: value for name, value in (("actors", actors), ("threads", threads), ("batch", batch)) if value}
    _check_engine(engine, pool, server, tile)
    names = tuple(name.strip() for name in leave_out.split(",") if name.strip())
    settings = OutputSettings(overlay, labels, opacity, names, outline, every, seconds, tuple(formats or ()))
    cluster = find_job()
    job = PredictionJob(find_inputs(inputs), out, settings, find_shard(shard, cluster), tile is not None)
    for problem in job.inputs.problems if job.shard.index == 0 else ():
        print_error(problem)
    model: Predictor | Client | RayEngine
    if server:
        model, source = _client(job, server), {"server": server}
    else:
        changes = InferenceChanges(size=size, tta=tta, window=window, overlap=overlap, tile=tile, context=context)
        if engine == "ray":
            model = _ray_engine(job, weights, device=device, trusted=trusted, precision=precision, **changes, **pool)
        else:
            model = load(weights, _device(device, cluster), trusted, precision, **changes)
        view = {**changes, "precision": precision}
        source = {"weights": weights, "sha256": sha256_of(local_file(weights)), **view}
    class_indices(model.description, job.settings.leave_out)  # a wrong name is reported before anything is written
    with _manifest(job, source, resume, cluster is not None) as manifest:
        save_legend(model.description, job.folder)
        complete = run(job, model, manifest)
    if not complete or job.inputs.problems:
        raise typer.Exit(1)


def _client(job: "PredictionJob", server: str) -> "Client":
    """A client for the service at `server`, which takes images only."""
    from fastfcn.client import Client

    if job.inputs.videos or job.inputs.cameras:
        raise UserError("A service takes images only.", "Leave out --server for videos and webcams.")
    return Client(server, os.environ.get(TOKEN))


def _check_engine(engine: str, pool: dict[str, int], server: str | None, tile: int | None) -> None:
    """Raise UserError for an unknown engine, and for options that do not apply to it."""
    if engine not in ("local", "ray"):
        raise UserError(f"Unknown engine {engine!r}.", "Choose local or ray.")
    if engine == "local" and pool:
        raise UserError(f"--{next(iter(pool))} is an option of the actors of Ray.", "Add --engine ray.")
    if engine == "ray" and (server or tile):
        raise UserError("--engine ray supports neither --server nor --tile.", "Leave out --engine ray.")


def _ray_engine(job: "PredictionJob", weights: str, **options: Any) -> "RayEngine":
    """The engine for a job, which must have images only."""
    from fastfcn.ray import RayEngine

    if job.inputs.videos or job.inputs.cameras:
        raise UserError("Ray processes images only.", "Leave out --engine ray for videos and webcams.")
    return RayEngine(weights, **options)


def _device(name: str, cluster: "Job | None") -> str:
    """The device for `name`: processes of a job on one machine use its GPUs in turn."""
    import torch

    if cluster is None or name not in ("auto", "cuda") or not torch.cuda.is_available():
        return name
    return f"cuda:{cluster.environment.local_rank() % torch.cuda.device_count()}"


@contextmanager
def _manifest(
    job: "PredictionJob", source: dict[str, Any], resume: bool, restarted: bool
) -> "Iterator[Manifest | None]":
    """The manifest of the images of `job`, whose finished images are skipped if `resume`; None without images."""
    from fastfcn.prediction.manifest import Manifest

    if not job.inputs.images:
        yield None
        return
    settings = {**source, **asdict(job.settings), "inputs": job.list}
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    manifest = Manifest(job.folder, job.shard, settings)
    with manifest.open(resume, restarted):
        if resume:
            job.skip_finished(manifest)
        yield manifest


def run(job: "PredictionJob", model: "Predictor | Client | RayEngine", manifest: "Manifest | None") -> bool:
    """Process images, videos and cameras with progress bars; returns whether all of them could be read."""
    from fastfcn.client import Client
    from fastfcn.data.decoding import any_number_of_pixels
    from fastfcn.prediction.predictor import Predictor

    complete = []
    if manifest:
        if isinstance(model, Predictor):
            results = job.predict_images(model, manifest)
        else:
            found = _received(model, job) if isinstance(model, Client) else model.results(job)
            results = job.record(found, manifest)
        with any_number_of_pixels() if job.tiles else nullcontext():
            complete.append(run_images(job, results, manifest, model.description.class_names))
    if not isinstance(model, Predictor):
        return all(complete)
    complete += [run_raster(job, model, index, manifest) for index in job.rasters]
    complete += [run_video(job, model, index) for index in range(len(job.inputs.videos))]
    for name in job.inputs.cameras:
        say("Recording {}. Press Ctrl-C to stop.", name)
        with video_progress(name) as progress:
            result = job.record_camera(model, name, progress)
        _report(name, result)
    return all(complete)


def run_images(
    job: "PredictionJob", results: Iterator[UserError | None], manifest: "Manifest", classes: Sequence[str]
) -> bool:
    """Process images with a progress bar and print their errors; returns whether there were none."""
    from fastfcn.prediction.image_outputs import SHARES

    total, finished = len(job.ordinary), len(job.inputs.images) - len(job.remaining)
    if not total and job.rasters:
        return True
    errors = [error for error in with_progress(results, total, "Predicting") if error]
    for error in errors:
        print_error(error)
    if SHARES in job.settings.formats:
        manifest.write_shares(job.folder / f"shares{job.shard.suffix}.csv", classes)
    before = f" {finished} were finished before." if finished else ""
    say("Segmented {} of {} images; results are in {}.{}", total - len(errors), total, job.folder, before)
    return not errors


def run_raster(job: "PredictionJob", predictor: "Predictor", index: int, manifest: "Manifest | None") -> bool:
    """Process a GeoTIFF or JPEG 2000 in tiles with a progress bar; returns whether it could be read."""
    source, started = job.inputs.images[index], monotonic()
    with tile_progress(source.name) as progress:
        error = job.predict_raster(predictor, index, manifest, progress)
    if error:
        print_error(error)
    else:
        say("{}: {:.0f} s; wrote {}", source, monotonic() - started, job.folder / job.files(index)[0])
    return error is None


def run_video(job: "PredictionJob", predictor: "Predictor", index: int) -> bool:
    """Process a video with a progress bar; returns whether it could be read to its end."""
    source = job.inputs.videos[index]
    try:
        with video_progress(source.name) as progress:
            result = job.predict_video(predictor, index, progress)
    except DataError as error:
        print_error(error)
        return False
    _report(str(source), result)
    if result.problem:
        hint = "The part that could be read was processed and written."
        print_error(UserError(f"{source} is incomplete or corrupt: {result.problem}.", hint))
    return result.problem is None


def _report(source: str | Path, result: "VideoResult") -> None:
    written = " and ".join(map(str, result.written))
    say(
        "{}: {} frames in {:.1f} s ({:.1f} frames/s, reading and writing included); wrote {}",
        source, result.frames, result.seconds, result.speed, written,
    )  # fmt: skip


def _received(client: "Client", job: "PredictionJob") -> Iterator[tuple[int, dict[str, int] | UserError]]:
    """Write the service's answers, image by image, as `predict_files` does; yields index and result of each."""
    from fastfcn.prediction.image_files import predict_files
    from fastfcn.prediction.prediction import Prediction

    images = [job.inputs.images[index] for index in job.remaining]
    for index, answer in zip(job.remaining, client.file_labels(images), strict=True):
        if isinstance(answer, DataError):
            yield index, answer
            continue

        def predict_image(pixels: "np.ndarray", labels: "np.ndarray" = answer) -> Prediction:
            return Prediction(labels, client.images.preview(pixels), client.description)

        image, name = job.inputs.images[index], job.names[index]
        for result in predict_files(predict_image, [image], [name], job.outputs, reader=client.images):
            yield index, result
