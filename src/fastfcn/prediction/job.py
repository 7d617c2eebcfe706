"""A run of `fastfcn predict`: images, videos and cameras, and the files written for them."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fastfcn.data.bands import rasterio
from fastfcn.data.images import RGB
from fastfcn.errors import DataError, OutputError, UserError
from fastfcn.prediction.image_files import PredictImage, check_output_name, predict_files
from fastfcn.prediction.image_outputs import CONFIDENCE, ImageOutputs
from fastfcn.prediction.inputs import Inputs, output_names
from fastfcn.prediction.large_images import TileProgress, is_raster, predict_raster
from fastfcn.prediction.manifest import Manifest, Shard, fingerprint
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.video.reader import VideoReader, import_av, open_camera
from fastfcn.prediction.video.segment import OutputSettings, VideoResult, segment
from fastfcn.prediction.video.writer import suffix_for

ALL = Shard()
MAX_FILE_THREADS = 8
Progress = Callable[[int, float], None]  # frames processed, frames per second from reading to writing


def _no_progress(_frames: int, _speed: float) -> None:
    """Progress that is not shown."""


class PredictionJob:
    """The inputs of one `predict`, or of one shard of it, and the names of its outputs.

    Everything that can be checked before the first file is written is checked in the constructor. `list`: a hash of the
    images of all shards and their names.
    """

    def __init__(
        self, inputs: Inputs, out: str | Path, settings: OutputSettings, shard: Shard = ALL, tiles: bool = False
    ):
        """`out`: folder for all outputs; `shard`: which part of the inputs to process; `tiles`: GeoTIFF and JPEG 2000
        are processed in tiles, see `predict_raster`.

        Raises UserError if nothing would be written, OutputError if an input would be overwritten, and
        MissingExtraError for videos without PyAV and for GeoTIFF in tiles without rasterio.
        """
        self.folder, self.settings, self.shard, self.tiles = Path(out), settings, shard, tiles
        self.outputs = ImageOutputs(self.folder, settings)
        self.preview_outputs = ImageOutputs(self.folder, replace(settings, labels=False, formats=()))
        video_input = bool(inputs.videos or inputs.cameras)
        if not (settings.overlay or settings.labels if video_input else self.outputs.kinds or settings.formats):
            raise UserError("Nothing would be written.", "Remove --no-overlay, or add --labels.")
        if inputs.cameras and shard.count > 1:
            raise UserError("A camera cannot be divided into shards.", "Leave out --shard, or start one process.")
        endings = ("", CONFIDENCE) if "confidence" in settings.formats else ("",)
        names = output_names([*inputs.images, *inputs.videos], endings)
        names, video_names = names[: len(inputs.images)], names[len(inputs.images) :]
        self.list = fingerprint(inputs.images, names)
        part = slice(shard.index, None, shard.count)
        self.names = names[part]
        self.inputs = replace(inputs, images=inputs.images[part], videos=inputs.videos[part])
        self.remaining: Sequence[int] = range(len(self.names))  # images to process
        if self.rasters:
            rasterio()
            if settings.labels is False or settings.formats:
                raise UserError("GeoTIFF in tiles becomes labels and an overlay.", "Remove --no-labels and --format.")
        self.videos = [
            self.folder / f"{name}_overlay{suffix_for(video)}"
            for name, video in zip(video_names[part], self.inputs.videos, strict=True)
        ]
        if video_input:
            import_av()
        written = {file for index in self.remaining for file in self.files(index)}
        written |= {path.name for path in self.videos} | {"legend.png"}
        _check_no_overwrite([*self.inputs.images, *self.inputs.videos], self.folder, written)

    def skip_finished(self, manifest: Manifest) -> None:
        """Process only the images that are not finished according to the manifest."""
        files = [self.files(index) for index in range(len(self.names))]
        self.remaining = manifest.remaining(self.inputs.images, self.names, files)

    @property
    def rasters(self) -> list[int]:
        """The remaining images that `predict_raster` processes, from file to file."""
        return [index for index in self.remaining if self.tiles and is_raster(self.inputs.images[index])]

    @property
    def ordinary(self) -> list[int]:
        """The other remaining images."""
        return [index for index in self.remaining if not (self.tiles and is_raster(self.inputs.images[index]))]

    def files(self, index: int) -> list[str]:
        """Names of the files that are written for an image."""
        name = self.names[index]
        if self.tiles and is_raster(self.inputs.images[index]):
            return [f"{name}.tif", *self.preview_outputs.files(name)]
        return self.outputs.files(name)

    def predict_raster(
        self, predictor: Predictor, index: int, manifest: Manifest | None, progress: TileProgress
    ) -> UserError | None:
        """Process a GeoTIFF or JPEG 2000 in tiles; its overlay is reduced. Returns the error if it cannot be used."""
        source, name = self.inputs.images[index], self.names[index]
        result: dict[str, int] | UserError
        try:
            check_output_name(source, self.folder / self.files(index)[-1])
            prediction = predict_raster(predictor, source, self.folder / f"{name}.tif", progress)
            self.preview_outputs.write(name, prediction.preview)
            result = prediction.pixels
        except DataError as error:
            result = error
        if manifest:
            manifest.add(source, name, result)
        return result if isinstance(result, UserError) else None

    def predict_images(self, predictor: Predictor, manifest: Manifest | None = None) -> Iterator[UserError | None]:
        """Process ordinary images; yields None for each that was written, and the error for each that was not."""
        images = [self.inputs.images[index] for index in self.ordinary]
        names = [self.names[index] for index in self.ordinary]
        predict = image_predictor(predictor, self.settings)
        results = predict_files(predict, images, names, self.outputs, file_threads(predictor), predictor.images)
        yield from self.record(zip(self.ordinary, results, strict=True), manifest)

    def record(
        self, results: Iterable[tuple[int, dict[str, int] | UserError]], manifest: Manifest | None
    ) -> Iterator[UserError | None]:
        """Note the result of each image, given by its index, in the manifest; yields None or the error of each."""
        for index, result in results:
            if manifest:
                manifest.add(self.inputs.images[index], self.names[index], result)
            yield result if isinstance(result, UserError) else None

    def predict_video(
        self, predictor: Predictor, index: int, progress: Callable[[int | None], Progress] = lambda _: _no_progress
    ) -> VideoResult:
        """Process a video; `progress` is called with the expected number of frames, None if it is unknown.

        Raises DataError and OutputError.
        """
        _needs_rgb(predictor)
        source, out = self.inputs.videos[index], self.videos[index]
        check_output_name(source, out)
        with VideoReader(source) as reader:
            return segment(predictor, reader, out, self.settings, progress=progress(reader.frames))

    def record_camera(self, predictor: Predictor, name: str, progress: Callable[[int | None], Progress]) -> VideoResult:
        """Record a camera until Ctrl-C, or for `settings.seconds`."""
        _needs_rgb(predictor)
        out = self.folder / f"{name.replace(':', '_')}_overlay.mp4"
        with open_camera(name) as reader:
            return segment(predictor, reader, out, self.settings, True, progress(None))


def image_predictor(predictor: Predictor, settings: OutputSettings) -> PredictImage:
    """`predictor` with what the outputs need."""
    return partial(predictor, probabilities=True) if "confidence" in settings.formats else predictor


def file_threads(predictor: Predictor, threads: int | None = None) -> int:
    """Threads that read images, and as many that write results: one next to a network that computes on the CPU.

    `threads`: how many there may be; None for the number of cores.
    """
    on_gpu = predictor.device.type == "cuda"
    return min(MAX_FILE_THREADS, threads or os.cpu_count() or 1) if on_gpu else 1


def _needs_rgb(predictor: Predictor) -> None:
    if predictor.images is not RGB:
        raise UserError("Videos have RGB frames, but the network reads other bands.", "Predict image files.")


def _check_no_overwrite(inputs: Sequence[Path], folder: Path, written: Collection[str]) -> None:
    """Raise OutputError if one of the inputs is a file that would be written into `folder`."""
    target = folder.resolve()
    for path in inputs:
        resolved = path.resolve()
        if resolved.name in written and resolved.parent == target:
            raise OutputError(f"{path} would be overwritten by an output of the same name.", "Choose another --out.")
