"""`fastfcn predict`: segment images and videos, here or through a running service."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastfcn.cli.options import TOKEN, Precision, Trusted
from fastfcn.cli.output import print_error, say
from fastfcn.errors import DataError, UserError
from fastfcn.utils.progress import counted, framed

if TYPE_CHECKING:
    import numpy as np

    from fastfcn.client import Client
    from fastfcn.prediction.load import Job
    from fastfcn.prediction.predictor import Predictor
    from fastfcn.prediction.video.segment import Outcome


def predict(
    weights: Annotated[str, typer.Argument(help="A weights file, an exported one, or hf://USER/NAME.")],
    out: Annotated[Path, typer.Option(help="Folder for what is written.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Images, videos, folders, patterns ('a/*.jpg'), webcam."),
    ] = None,
    labels: Annotated[
        bool | None, typer.Option("--labels/--no-labels", help="Write class maps (ids); else only of images.")
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write the pictures with the classes laid over.")] = True,
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the classes laid over.")] = 0.5,
    every: Annotated[int, typer.Option(min=1, help="In a video, let the network see each N-th frame.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop a video or webcam after so long.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Precision = "32-true",
    server: Annotated[str | None, typer.Option(metavar="URL", help="A running service, in place of WEIGHTS.")] = None,
    trusted: Trusted = False,
) -> None:
    """Colour in pictures and videos. What cannot be read is reported and skipped; the exit code is 1 then.

    Of an image: NAME.png (ids) and NAME_overlay.jpg.

    Of a video: NAME_overlay.mp4, sound and frame rate kept; with --labels a folder NAME_labels.

    Videos need: pip install 'fastfcn\\[video]'. A webcam records until Ctrl-C.

    [dim]fastfcn predict runs/camvid/weights.safetensors photos 'more/*.jpg' --out coloured\n
    fastfcn predict runs/camvid/weights.safetensors drive.mp4 --out coloured --every 3 --opacity 0.4\n
    fastfcn predict hf://USER/NAME webcam --out recorded --seconds 20\n
    fastfcn predict --server http://127.0.0.1:8000 photos --out coloured[/]
    """
    from fastfcn.prediction.load import Job, Settings, find_inputs, load

    inputs = [weights, *(inputs or [])] if server else inputs or []  # with a service there are no weights to name
    if not inputs:
        raise UserError("There is nothing to predict.", "Name images, folders or patterns after the weights file.")
    job = Job(find_inputs(inputs), out, Settings(overlay, labels, opacity, every, seconds))
    wrong = predict_through(server, job) if server else run(job, load(weights, device, trusted, precision))
    if wrong:
        raise typer.Exit(1)


def run(job: "Job", predictor: "Predictor") -> bool:
    """Work off images, then videos, then cameras, with bars and lines; whether anything went wrong."""
    from fastfcn.prediction.image_files import save_legend

    save_legend(predictor, job.folder)
    wrong = [run_images(job, predictor)] if job.inputs.images else []
    wrong += [run_video(job, predictor, index) for index in range(len(job.inputs.videos))]
    for name in job.inputs.cameras:
        say(f"Recording {name}. Ctrl-C ends it.")
        with framed(name) as progress:
            outcome = job.camera(predictor, name, progress)
        _say_outcome(name, outcome)
    return any(wrong)


def run_images(job: "Job", predictor: "Predictor") -> bool:
    """Whether an image could not be read."""
    images = job.inputs.images
    results = list(counted(job.pictures(predictor), len(images), "Predicting"))
    errors = [error for error in results if error]
    for error in errors:
        print_error(error)
    say(f"{len(images) - len(errors)} of {len(images)} images coloured in; pictures are in {job.folder}.")
    return bool(errors)


def run_video(job: "Job", predictor: "Predictor", index: int) -> bool:
    """Whether the video could not be read, or not to its end."""
    source = job.inputs.videos[index]
    try:
        with framed(source.name) as progress:
            outcome = job.video(predictor, index, progress)
    except DataError as error:
        print_error(error)
        return True
    _say_outcome(str(source), outcome)
    if outcome.problem:
        hint = "What could be read was coloured in and is kept."
        print_error(UserError(f"{source} is not whole: {outcome.problem}.", hint))
    return outcome.problem is not None


def _say_outcome(source: str | Path, outcome: "Outcome") -> None:
    written = " and ".join(map(str, outcome.written))
    say(
        f"{source}: {outcome.frames} frames in {outcome.seconds:.1f} s, "
        f"{outcome.speed:.1f} frames/s from end to end; written: {written}"
    )


def predict_through(server: str, job: "Job") -> bool:
    """`predict` through the service at `server`; whether an image could not be used."""
    from fastfcn.client import Client
    from fastfcn.prediction.image_files import save_legend
    from fastfcn.utils.progress import counted

    if job.inputs.videos or job.inputs.cameras:
        raise UserError("A service takes images only.", "Leave --server out for videos and webcams.")
    images = job.inputs.images
    client = Client(server, os.environ.get(TOKEN))
    save_legend(client, job.folder)  # type: ignore[arg-type] # needs the classes and their colours alone
    results = list(counted(_received(client, job), len(images), "Predicting"))
    errors = [error for error in results if error]
    for error in errors:
        print_error(error)
    say(f"{len(images) - len(errors)} of {len(images)} images coloured in; pictures are in {job.folder}.")
    return bool(errors)


def _received(client: "Client", job: "Job") -> Iterator[UserError | None]:
    """Write what the service answers, image by image, as `predict` does; yields None or the image's error."""
    from fastfcn.prediction.image_files import save_pictures
    from fastfcn.prediction.load import Prediction

    images = job.inputs.images
    for path, name, answer in zip(images, job.names, client.file_labels(images), strict=True):
        if isinstance(answer, DataError):
            yield answer
            continue

        def given(pixels: "np.ndarray", labels: "np.ndarray" = answer) -> Prediction:
            return Prediction(labels, pixels, client.description)

        settings = job.settings
        yield from save_pictures(given, [path], [name], job.folder, job.labels, settings.overlay, settings.opacity)  # type: ignore[arg-type]
