"""`fastfcn predict`: segment images and videos, on this machine or through a running service."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastfcn.cli.options import MODEL_HELP, TOKEN, InputSize, Trusted, Tta, Window, check_weights
from fastfcn.cli.output import print_error
from fastfcn.errors import DataError, UserError
from fastfcn.utils.console import say
from fastfcn.utils.progress import video_progress, with_progress

if TYPE_CHECKING:
    import numpy as np

    from fastfcn.client import Client
    from fastfcn.prediction.job import PredictionJob
    from fastfcn.prediction.predictor import Predictor
    from fastfcn.prediction.video.segment import VideoResult


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
    outline: Annotated[bool, typer.Option("--outline", help="Draw only the edges of the areas in overlays.")] = False,
    size: InputSize = None,
    tta: Tta = False,
    window: Window = None,
    every: Annotated[int, typer.Option(min=1, help="Run the network on every N-th video frame only.")] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Stop a video or webcam after this many seconds (default: at its end)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="32-true, bf16-mixed or 16-mixed; exported files accept 32-true only.")
    ] = "32-true",
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Use a running service; WEIGHTS is left out then.")
    ] = None,
    trusted: Trusted = False,
) -> None:
    """Segment images and videos.

    For an image, write NAME.png (class ids) and NAME_overlay.jpg. For a video, write NAME_overlay.mp4 with the original
    audio and frame rate, and with --labels a folder NAME_labels. A webcam is recorded until Ctrl-C.

    Files that cannot be read are reported and skipped; the exit code is 1 then.

    Images are resized as for `fastfcn evaluate`, by the recipe in the weights file; the outputs keep the
    original size. --size, --tta and --window change that.

    Videos need: pip install 'fastfcn\\[video]'

    [dim]fastfcn predict runs/camvid/weights.safetensors photos 'more/*.jpg' --out segmented\n
    fastfcn predict runs/camvid/weights.safetensors drive.mp4 --out segmented --every 3 --opacity 0.4\n
    fastfcn predict runs/camvid/weights.safetensors photos --out segmented --leave-out background --outline\n
    fastfcn predict hf://USER/NAME webcam --out recorded --seconds 20\n
    fastfcn predict --server http://127.0.0.1:8000 photos --out segmented[/]
    """
    if not server:
        check_weights(weights)
    from fastfcn.prediction.inputs import find_inputs
    from fastfcn.prediction.job import PredictionJob
    from fastfcn.prediction.load import load
    from fastfcn.prediction.video.segment import OutputSettings
    from fastfcn.recipes.inference import check_sizes

    inputs = [weights, *(inputs or [])] if server else inputs or []  # with --server the first argument is an input
    if not inputs:
        raise UserError("No inputs were given.", "Add images, folders or patterns after the weights file.")
    check_sizes(size, window)
    if server and (size or tta or window):
        raise UserError("--size, --tta and --window are settings of the service.", "Pass them to `fastfcn serve`.")
    names = tuple(name.strip() for name in leave_out.split(",") if name.strip())
    settings = OutputSettings(overlay, labels, opacity, names, outline, every, seconds)
    job = PredictionJob(find_inputs(inputs), out, settings)
    for problem in job.inputs.problems:
        print_error(problem)
    if server:
        complete = predict_remotely(job, server)
    else:
        complete = run(job, load(weights, device, trusted, precision, size=size, tta=tta, window=window))
    if not complete or job.inputs.problems:
        raise typer.Exit(1)


def run(job: "PredictionJob", predictor: "Predictor") -> bool:
    """Process images, videos and cameras with progress bars; returns whether all of them could be read."""
    from fastfcn.prediction.image_files import save_legend
    from fastfcn.prediction.prediction import class_indices

    class_indices(predictor.description, job.settings.leave_out)  # a wrong name is reported before anything is written
    save_legend(predictor.description, job.folder)
    complete = [run_images(job, job.predict_images(predictor))] if job.inputs.images else []
    complete += [run_video(job, predictor, index) for index in range(len(job.inputs.videos))]
    for name in job.inputs.cameras:
        say("Recording {}. Press Ctrl-C to stop.", name)
        with video_progress(name) as progress:
            result = job.record_camera(predictor, name, progress)
        _report(name, result)
    return all(complete)


def run_images(job: "PredictionJob", results: Iterator[UserError | None]) -> bool:
    """Process images with a progress bar and print their errors; returns whether there were none."""
    total = len(job.inputs.images)
    errors = [error for error in with_progress(results, total, "Predicting") if error]
    for error in errors:
        print_error(error)
    say("Segmented {} of {} images; results are in {}.", total - len(errors), total, job.folder)
    return not errors


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


def predict_remotely(job: "PredictionJob", server: str) -> bool:
    """Process images through the service at `server`; returns whether all of them could be read."""
    from fastfcn.client import Client
    from fastfcn.prediction.image_files import save_legend
    from fastfcn.prediction.prediction import class_indices

    if job.inputs.videos or job.inputs.cameras:
        raise UserError("A service takes images only.", "Leave out --server for videos and webcams.")
    client = Client(server, os.environ.get(TOKEN))
    class_indices(client.description, job.settings.leave_out)
    save_legend(client.description, job.folder)
    return run_images(job, _received(client, job))


def _received(client: "Client", job: "PredictionJob") -> Iterator[UserError | None]:
    """Write the service's answers, image by image, as `predict_files` does; yields None or the image's error."""
    from fastfcn.prediction.image_files import predict_files
    from fastfcn.prediction.prediction import Prediction

    images, settings = job.inputs.images, job.settings
    for path, name, answer in zip(images, job.names, client.file_labels(images), strict=True):
        if isinstance(answer, DataError):
            yield answer
            continue

        def predict_image(pixels: "np.ndarray", labels: "np.ndarray" = answer) -> Prediction:
            return Prediction(labels, pixels, client.description)

        yield from predict_files(
            predict_image, [path], [name], job.folder, job.image_labels, settings.overlay, settings.opacity,
            settings.leave_out, settings.outline,
        )  # fmt: skip
