"""Predictions of image files, written as label images and overlays; reading, network and writing run in parallel."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from fastfcn.data.description import DatasetDescription
from fastfcn.errors import DataError, UserError
from fastfcn.prediction.image_formats import as_pixels
from fastfcn.prediction.image_outputs import ImageOutputs
from fastfcn.prediction.prediction import Prediction
from fastfcn.utils.files import make_folder, replace_file
from fastfcn.utils.prefetch import prefetch
from fastfcn.visualize import legend

PredictImage = Callable[[np.ndarray], Prediction]  # from RGB uint8 (H, W, 3); a `Predictor` is one


def predict_files(
    predict: PredictImage, images: Sequence[Path], names: Sequence[str], outputs: ImageOutputs
) -> Iterator[dict[str, int] | UserError]:
    """Write `outputs` for each image, under its name.

    Yields the pixels of each class for each image that was written, and the error for each that could not be read, or
    whose name is too long for its outputs; the other images are processed anyway. Raises OutputError if the folder
    cannot be written.
    """
    make_folder(outputs.folder)
    longest = [outputs.folder / f"{name}{outputs.longest}" for name in names]
    with closing(prefetch(_predicted(predict, prefetch(_read(images, longest))))) as predictions:
        for name, prediction in zip(names, predictions, strict=True):
            yield outputs.write(name, prediction) if isinstance(prediction, Prediction) else prediction


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


def _read(images: Sequence[Path], outputs: Sequence[Path]) -> Iterator[np.ndarray | UserError]:
    for path, output in zip(images, outputs, strict=True):
        try:
            check_output_name(path, output)
            yield as_pixels(path)
        except DataError as error:
            yield error


def _predicted(predict: PredictImage, images: Generator[np.ndarray | UserError]) -> Iterator[Prediction | UserError]:
    with closing(images):
        for image in images:
            yield image if isinstance(image, UserError) else predict(image)
