"""Predictions of image files, written as label images and overlays; reading, network and writing run in parallel."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

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
Source = TypeVar("Source")
Result = TypeVar("Result")


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

    def read(source: tuple[Path, str]) -> np.ndarray:
        path, name = source
        check_output_name(path, outputs.folder / f"{name}{outputs.longest}")
        return reader.read(path)

    def write(source: tuple[Path, str], prediction: Prediction) -> dict[str, int]:
        return outputs.write(source[1], prediction)

    yield from predict_each(predict, list(zip(images, names, strict=True)), read, write, threads)


def predict_each(
    predict: PredictImage,
    sources: Sequence[Source],
    read: Callable[[Source], np.ndarray],
    write: Callable[[Source, Prediction], Result],
    threads: int = 1,
) -> Iterator[Result | UserError]:
    """Yield what `write` returns for the prediction of each source, or the DataError that `read` raised for it."""

    def read_or_error(source: Source) -> np.ndarray | UserError:
        try:
            return read(source)
        except DataError as error:
            return error

    def predicted() -> Iterator[Prediction | UserError]:
        with closing(prefetch(map_in_threads(read_or_error, sources, threads))) as images:
            for image in images:
                yield image if isinstance(image, UserError) else predict(image)

    def write_or_error(result: tuple[Source, Prediction | UserError]) -> Result | UserError:
        source, prediction = result
        return prediction if isinstance(prediction, UserError) else write(source, prediction)

    with (
        closing(prefetch(predicted())) as predictions,
        closing(map_in_threads(write_or_error, zip(sources, predictions, strict=True), threads)) as results,
    ):
        yield from results


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
