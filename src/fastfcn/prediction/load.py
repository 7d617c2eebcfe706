"""`fastfcn predict` and `fastfcn.load`: from a weights file and images or videos to class maps and pictures."""

from collections.abc import Callable, Iterator
from pathlib import Path

from fastfcn import weights
from fastfcn.errors import UserError
from fastfcn.prediction.image_files import keep_apart, save_pictures
from fastfcn.prediction.inputs import Inputs, find_inputs, output_names
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.runtimes.predictor import ExportedPredictor
from fastfcn.prediction.video.cameras import open_camera
from fastfcn.prediction.video.reader import VideoReader, import_av
from fastfcn.prediction.video.segment import Outcome, Settings, segment
from fastfcn.prediction.video.writer import suffix_for
from fastfcn.weights.hub import is_address, local_file

__all__ = ["Inputs", "Job", "Prediction", "Predictor", "Settings", "find_inputs", "from_pretrained", "load"]

Progress = Callable[[int, float], None]  # frames so far, frames per second from end to end


def _silent(_frames: int, _speed: float) -> None:
    """Progress that nobody watches."""


def load(path: str | Path, device: str = "auto", trusted: bool = False, precision: str = "32-true") -> Predictor:
    """The predictor of a weights file, of a file that `fastfcn export` wrote, or of `hf://USER/NAME` on the Hugging
    Face Hub.

    `device`: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps". Raises WeightsError where the file
    cannot be used, and UserError for a device that is not there. `precision`: of a weights file, "bf16-mixed" for speed
    on a GPU. Nothing in the file is executed, but for a .pt2 file,
    which is native code: it is loaded only if `trusted`.
    """
    file = local_file(path)
    match file.suffix.lower():
        case ".onnx" | ".xml" | ".pt2" | ".pte":
            return ExportedPredictor(file, device, trusted)
        case _:  # .safetensors; weights.read says what anything else is
            held = weights.read(file)
            return Predictor(weights.load_model(held), held.recipe, held.description, device, precision)


def from_pretrained(name: str, device: str = "auto") -> Predictor:
    """The predictor of `USER/NAME` on the Hugging Face Hub; `USER/NAME@REVISION` for one version of it."""
    return load(name if is_address(name) else f"hf://{name}", device)


class Job:
    """What one `predict` is to do; nothing is written before all that can be known to be wrong has been looked at."""

    def __init__(self, inputs: Inputs, out: str | Path, settings: Settings):
        """Raises UserError and its kinds."""
        self.inputs, self.folder, self.settings = inputs, Path(out), settings
        self.labels = settings.labels is not False  # of images
        if not (settings.overlay or (settings.labels if inputs.videos or inputs.cameras else self.labels)):
            raise UserError("Nothing would be written.", "Leave --no-overlay out, or add --labels.")
        names = output_names([*inputs.images, *inputs.videos])
        self.names, of_videos = names[: len(inputs.images)], names[len(inputs.images) :]
        self.videos = [
            self.folder / f"{name}_overlay{suffix_for(video)}"
            for name, video in zip(of_videos, inputs.videos, strict=True)
        ]
        if inputs.videos or inputs.cameras:
            import_av()
        written = [self.folder / f"{name}{ending}" for name in self.names for ending in (".png", "_overlay.jpg")]
        keep_apart([*inputs.images, *inputs.videos], [*written, *self.videos, self.folder / "legend.png"])

    def pictures(self, predictor: Predictor) -> Iterator[UserError | None]:
        """Work off the images; yields None for each that worked, and the error for each that did not."""
        settings = self.settings
        yield from save_pictures(
            predictor, self.inputs.images, self.names, self.folder, self.labels, settings.overlay, settings.opacity
        )

    def video(
        self, predictor: Predictor, index: int, progress: Callable[[int | None], Progress] = lambda _: _silent
    ) -> Outcome:
        """Work off a video; `progress` is told how many frames to expect. Raises DataError and OutputError."""
        with VideoReader(self.inputs.videos[index]) as reader:
            return segment(predictor, reader, self.videos[index], self.settings, progress=progress(reader.frames))

    def camera(self, predictor: Predictor, name: str, progress: Callable[[int | None], Progress]) -> Outcome:
        """Record a camera until Ctrl-C, or for `settings.seconds`."""
        out = self.folder / f"{name.replace(':', '_')}_overlay.mp4"
        with open_camera(name) as reader:
            return segment(predictor, reader, out, self.settings, True, progress(None))
