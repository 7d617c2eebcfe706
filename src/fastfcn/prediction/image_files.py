"""Image files to class maps and overlays; reading, network and writing each in a thread of its own."""

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from PIL import Image

from fastfcn.errors import DataError, OutputError, UserError
from fastfcn.prediction.image_formats import as_pixels
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.predictor import Predictor
from fastfcn.utils.files import make_folder, replace_file
from fastfcn.utils.prefetch import ahead
from fastfcn.visualize import legend


def save_pictures(
    predictor: Predictor, images: list[Path], names: list[str], folder: Path,
    labels: bool = True, overlay: bool = True, opacity: float = 0.5,
) -> Iterator[UserError | None]:  # fmt: skip
    """Write NAME.png (ids) and NAME_overlay.jpg of each image into `folder`.

    Yields None for each image that worked and the error for each that did not; the rest goes on. Raises OutputError
    where `folder` cannot be written.
    """
    make_folder(folder)
    with closing(ahead(_predicted(predictor, ahead(_read(images))))) as predicted:
        for name, prediction in zip(names, predicted, strict=True):
            if not isinstance(prediction, Prediction):
                yield prediction
                continue
            if labels:
                with replace_file(folder / f"{name}.png") as temporary:
                    prediction.label_image().save(temporary)
            if overlay:
                with replace_file(folder / f"{name}_overlay.jpg") as temporary:
                    Image.fromarray(prediction.overlay(opacity)).save(temporary, quality=92)
            yield None


def save_legend(predictor: Predictor, folder: Path) -> None:
    """Write legend.png: the classes with their colours."""
    with replace_file(make_folder(folder) / "legend.png") as temporary:
        legend(predictor.classes, predictor.description.colors).save(temporary)


def keep_apart(inputs: list[Path], written: list[Path]) -> None:
    """Raise OutputError where one of the inputs is a file that would be written."""
    places = {each.resolve() for each in written}
    for each in inputs:
        if each.resolve() in places:
            raise OutputError(f"{each} would be overwritten by a picture of that name.", "Choose another --out.")


def _read(images: list[Path]) -> Iterator:
    for image in images:
        try:
            yield as_pixels(image)
        except DataError as error:
            yield error


def _predicted(predictor: Predictor, images: Generator) -> Iterator:
    with closing(images):
        for image in images:
            yield image if isinstance(image, UserError) else predictor(image)
