"""Predictions of image files, written as label images and overlays; reading, network and writing run in parallel."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from fastfcn.data.description import DatasetDescription
from fastfcn.data.images import RGB, ImageReader
from fastfcn.errors import DataError, UserError
from fastfcn.prediction.image_outputs import ImageOutputs
from fastfcn.prediction.prediction import Prediction
from fastfcn.utils.files import make_folder, replace_file
from fastfcn.utils.prefetch import map_in_threads, prefetch
from fastfcn.visualize import legend

PredictImage = Callable[[np.ndarray], Prediction]  # from pixels as `reader` reads them; a `Predictor` is one


def predict_files(
    predict: PredictImage,
    images: Sequence[Path],
    names: Sequence[str],
    outputs: ImageOutputs,
    threads: int = 1,
    reader: ImageReader = RGB,
) -> Iterator[dict[str, int] | UserError]:
    """Write `outputs` for each image, under its name; `reader` reads the images.

    Yields the pixels of each class for each image that was written, and the error for each that could not be read, or
    whose name is too long for its outputs; the other images are processed anyway. `threads`: that read images, and as
    many that write outputs. Raises OutputError if the folder cannot be written.
    """
    make_folder(outputs.folder)
    longest = [outputs.folder / f"{name}{outputs.longest}" for name in names]

    def write(result: tuple[str, Prediction | UserError]) -> dict[str, int] | UserError:
        name, prediction = result
        return outputs.write(name, prediction) if isinstance(prediction, Prediction) else prediction

    read = map_in_threads(partial(_read, reader), zip(images, longest, strict=True), threads)
    with (
        closing(prefetch(_predicted(predict, prefetch(read)))) as predictions,
        closing(map_in_threads(write, zip(names, predictions, strict=True), threads)) as written,
    ):
        yield from written


def save_legend(description: DatasetDescription, folder: Path) -> None:
    """Write legend.png: the classes with their colors."""
    with replace_file(make_folder(folder) / "legend.png") as temporary:
        legend(description.class_names, description.colors).save(temporary)


def check_output_name(source: Path, output: Path) -> None:
    """Raise DataError if a file called `output` cannot exist, because its name is too long or has invalid letters."""
    try:
        output.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        if output.parent.is_dir():
            reason = (error.strerror or str(error)).lower()
            raise DataError(
                f"{source} was skipped: {reason} for the output {output.name}.", "Rename the image."
            ) from error


def _read(reader: ImageReader, files: tuple[Path, Path]) -> np.ndarray | UserError:
    """The image at the first path, unless the second, an output, cannot have its name."""
    path, output = files
    try:
        check_output_name(path, output)
        return reader.read(path)
    except DataError as error:
        return error


def _predicted(predict: PredictImage, images: Generator[np.ndarray | UserError]) -> Iterator[Prediction | UserError]:
    with closing(images):
        for image in images:
            yield image if isinstance(image, UserError) else predict(image)
