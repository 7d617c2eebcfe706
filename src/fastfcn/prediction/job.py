"""A run of `fastfcn predict`: images, videos and cameras, and the files written for them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from fastfcn.errors import OutputError, UserError
from fastfcn.prediction.image_files import PredictImage, check_output_name, predict_files
from fastfcn.prediction.inputs import Inputs, output_names
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.video.reader import VideoReader, import_av, open_camera
from fastfcn.prediction.video.segment import OutputSettings, VideoResult, segment
from fastfcn.prediction.video.writer import suffix_for

Progress = Callable[[int, float], None]  # frames processed, frames per second from reading to writing


def _no_progress(_frames: int, _speed: float) -> None:
    """Progress that is not shown."""


class PredictionJob:
    """The inputs of one `predict` and the names of its outputs.

    Everything that can be checked before the first file is written is checked in the constructor.
    """

    def __init__(self, inputs: Inputs, out: str | Path, settings: OutputSettings):
        """`out`: folder for all outputs.

        Raises UserError if nothing would be written, OutputError if an input would be overwritten, and
        MissingExtraError for videos without PyAV.
        """
        self.inputs, self.folder, self.settings = inputs, Path(out), settings
        self.image_labels = settings.labels is not False
        video_input = bool(inputs.videos or inputs.cameras)
        if not (settings.overlay or (settings.labels if video_input else self.image_labels)):
            raise UserError("Nothing would be written.", "Remove --no-overlay, or add --labels.")
        names = output_names([*inputs.images, *inputs.videos])
        self.names, video_names = names[: len(inputs.images)], names[len(inputs.images) :]
        self.videos = [
            self.folder / f"{name}_overlay{suffix_for(video)}"
            for name, video in zip(video_names, inputs.videos, strict=True)
        ]
        if video_input:
            import_av()
        written = [self.folder / f"{name}{ending}" for name in self.names for ending in (".png", "_overlay.jpg")]
        _check_no_overwrite([*inputs.images, *inputs.videos], [*written, *self.videos, self.folder / "legend.png"])

    def predict_images(self, predict: PredictImage) -> Iterator[UserError | None]:
        """Process the images; yields None for each that was written, and the error for each that was not."""
        settings = self.settings
        yield from predict_files(
            predict,
            self.inputs.images,
            self.names,
            self.folder,
            self.image_labels,
            settings.overlay,
            settings.opacity,
            settings.leave_out,
            settings.outline,
        )

    def predict_video(
        self, predictor: Predictor, index: int, progress: Callable[[int | None], Progress] = lambda _: _no_progress
    ) -> VideoResult:
        """Process a video; `progress` is called with the expected number of frames, None if it is unknown.

        Raises DataError and OutputError.
        """
        source, out = self.inputs.videos[index], self.videos[index]
        check_output_name(source, out)
        with VideoReader(source) as reader:
            return segment(predictor, reader, out, self.settings, progress=progress(reader.frames))

    def record_camera(self, predictor: Predictor, name: str, progress: Callable[[int | None], Progress]) -> VideoResult:
        """Record a camera until Ctrl-C, or for `settings.seconds`."""
        out = self.folder / f"{name.replace(':', '_')}_overlay.mp4"
        with open_camera(name) as reader:
            return segment(predictor, reader, out, self.settings, True, progress(None))


def _check_no_overwrite(inputs: list[Path], outputs: list[Path]) -> None:
    """Raise OutputError if one of the inputs is a file that would be written."""
    targets = {path.resolve() for path in outputs}
    for path in inputs:
        if path.resolve() in targets:
            raise OutputError(f"{path} would be overwritten by an output of the same name.", "Choose another --out.")
