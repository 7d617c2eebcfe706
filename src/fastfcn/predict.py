"""`fastfcn predict` and `fastfcn.load`: from a weights file and images to class maps and pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastfcn import weights
from fastfcn.data.description import DataSetDescription
from fastfcn.data.images import read_image
from fastfcn.data.transforms import normalise_batch
from fastfcn.errors import DataError, OutputError, UserError
from fastfcn.files import make_folder, replace_file
from fastfcn.machine import keep_memory
from fastfcn.models.optimize import optimize
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipe import Recipe
from fastfcn.visualize import colorize, legend, overlay, palette_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image.

    `labels`: class indices (H, W), uint8; `image`: the RGB image (H, W, 3), uint8; `description`: names and colours.
    """

    labels: np.ndarray
    image: np.ndarray
    description: DataSetDescription

    @property
    def colors(self) -> np.ndarray:
        """The class map in the classes' colours: RGB uint8 (H, W, 3)."""
        return colorize(self.labels, self.description.colors)

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """The class map laid over the image: RGB uint8 (H, W, 3)."""
        return overlay(self.image, self.labels, self.description.colors, opacity)

    def shares(self) -> dict[str, float]:
        """The part of the image that each class takes, 0-1, for the classes that are in it."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.description.classes)) / self.labels.size
        named = zip(self.description.class_names, counts, strict=True)
        return {name: float(count) for name, count in named if count}

    def label_image(self) -> Image.Image:
        """The class map as a palette picture with the ids of the data set (class indices where it has none)."""
        classes = self.description.classes
        ids = [each.ids[0] if each.ids else index for index, each in enumerate(classes)]
        table = np.asarray(ids, np.int64)
        if table.max() > 255:
            return Image.fromarray(table[self.labels].astype(np.uint16))
        return palette_image(table[self.labels].astype(np.uint8), dict(zip(ids, self.description.colors, strict=True)))


class Predictor:
    """A network with what it needs to read an image; made by `fastfcn.load`.

    `recipe`, `classes` (names), `description` (names, colours, ids), `device`, and `network`: the given one, which is
    used up, in the form that is fastest there (models.optimize). On a processor the memory of a prediction is kept
    for the next.
    """

    def __init__(self, model: Segmenter, recipe: Recipe, description: DataSetDescription, device: str = "auto"):
        self.device = _device(device)
        self.network = optimize(model.to(self.device), in_place=True)
        if self.device.type == "cpu":
            keep_memory(large=True)
        self.recipe = recipe
        self.description = description
        self.classes = description.class_names

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Prediction:
        """The class map of one image at its own size.

        `image`: a path, a PIL image, or an RGB uint8 array (H, W, 3). Raises DataError for a file that cannot be
        read and for arrays of another kind.
        """
        pixels = as_pixels(image)
        return Prediction(self.labels(pixels[None])[0], pixels, self.description)

    @torch.inference_mode()
    def labels(self, images: np.ndarray) -> np.ndarray:
        """Class maps (B, H, W) of RGB uint8 images (B, H, W, 3) of one size."""
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        return self.network.labels(normalise_batch(pixels, self.recipe.data.mean, self.recipe.data.std)).cpu().numpy()


def load(path: str | Path, device: str = "auto") -> Predictor:
    """The predictor of a weights file. `device`: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".

    Raises WeightsError where the file cannot be used, and UserError for a device that is not there; nothing in the
    file is executed.
    """
    held = weights.read(path)
    return Predictor(weights.load_model(held), held.recipe, held.description, device)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device  # asks the device itself, where torch.device reads the name alone
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"Cannot use the device {name!r}: {reason}", "Choose another, or auto.") from error


def as_pixels(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """RGB uint8 (H, W, 3) of an image given in any of the forms a predictor takes. Raises DataError."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise DataError(f"An image must be a path, a PIL image or an array, not {type(image).__name__}.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"An image array must be RGB uint8 (H, W, 3), not {image.dtype} {image.shape}.")
    return np.array(image, order="C")


def find_images(inputs: list[str]) -> list[Path]:
    """The image files among files, folders (searched to the bottom) and glob patterns, each once, in order.

    Raises DataError for an input that is nothing of these.
    """
    found: dict[Path, None] = {}
    for each in inputs:
        matches = _expand(each)
        if not matches:
            raise DataError(
                f"{each}: there is no image of that name, folder or pattern.",
                f"Images end in {', '.join(SUFFIXES)}; quote patterns: 'photos/*.jpg'.",
            )
        found |= dict.fromkeys(matches)
    return list(found)


def _expand(given: str) -> list[Path]:
    path = Path(given)
    if path.is_file():
        return [path]
    # Not Path.glob, which also finds hidden files, such as the ._NAME.jpg that macOS leaves.
    pattern = f"{escape(given)}/**" if path.is_dir() else given
    found = (Path(each) for each in glob(pattern, recursive=True))  # noqa: PTH207
    return sorted(each for each in found if each.suffix.lower() in SUFFIXES and each.is_file())


def output_names(images: list[Path]) -> list[str]:
    """A name without suffix for each image; images of one name in several folders are told apart by a number."""
    names, taken = [], {"legend"}
    for image in images:
        name, number = image.stem, 1
        while name in taken:
            number += 1
            name = f"{image.stem}_{number}"
        taken.add(name)
        names.append(name)
    return names


def predict(predictor: Predictor, images: list[Path], out: str | Path) -> Iterator[UserError | None]:
    """Write NAME.png (ids), NAME_overlay.jpg and one legend.png into `out`, image by image.

    Yields None for each image that worked and the error for each that did not; the rest goes on. Raises OutputError
    where `out` cannot be written, or an image lies where a picture would be written.
    """
    folder, names = make_folder(out), output_names(images)
    _keep_apart(images, folder, names)
    description = predictor.description
    with replace_file(folder / "legend.png") as temporary:
        legend(description.class_names, description.colors).save(temporary)
    for image, name in zip(images, names, strict=True):
        try:
            prediction = predictor(image)
        except DataError as error:
            yield error
            continue
        with replace_file(folder / f"{name}.png") as temporary:
            prediction.label_image().save(temporary)
        with replace_file(folder / f"{name}_overlay.jpg") as temporary:
            Image.fromarray(prediction.overlay()).save(temporary, quality=92)
        yield None


def _keep_apart(images: list[Path], folder: Path, names: list[str]) -> None:
    written = {(folder / f"{name}{ending}").resolve() for name in names for ending in (".png", "_overlay.jpg")}
    written.add((folder / "legend.png").resolve())
    for image in images:
        if image.resolve() in written:
            raise OutputError(f"{image} would be overwritten by a picture of that name.", "Choose another --out.")
