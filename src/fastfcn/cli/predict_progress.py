"""What `fastfcn predict` shows while it works."""

from pathlib import Path
from typing import TYPE_CHECKING

from fastfcn.cli.output import print_error, say
from fastfcn.errors import DataError, UserError
from fastfcn.utils.progress import counted, framed

if TYPE_CHECKING:
    from fastfcn.prediction.load import Job
    from fastfcn.prediction.predictor import Predictor
    from fastfcn.prediction.video.segment import Outcome


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
