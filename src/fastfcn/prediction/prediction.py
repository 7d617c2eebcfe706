"""The prediction of a network for one image, and ways to show it."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fastfcn.data.description import DatasetDescription
from fastfcn.errors import UserError
from fastfcn.prediction.notebook import as_html, as_png
from fastfcn.utils.spelling import did_you_mean
from fastfcn.visualize import colorize, overlay, palette_image


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image; notebooks show it as an overlay with a legend.

    Attributes:
        labels: class indices (H, W), uint8.
        image: the image, RGB uint8 (H, W, 3); of bands, a preview.
        description: names, colors and ids of the classes.
        logits: float32 (classes, H, W), before softmax; None unless requested.
        probabilities: float32 (classes, H, W), 0-1; None unless requested.
    """

    labels: np.ndarray
    image: np.ndarray
    description: DatasetDescription
    logits: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    @property
    def colors(self) -> np.ndarray:
        """The labels in the colors of the classes: RGB uint8 (H, W, 3)."""
        return colorize(self.labels, self.description.colors)

    def overlay(self, opacity: float = 0.5, leave_out: Collection[str] = (), outline: bool = False) -> np.ndarray:
        """The class colors drawn over the image: RGB uint8 (H, W, 3).

        Args:
            opacity: of the colors, 0 to 1.
            leave_out: names of classes that are not drawn, such as a background.
            outline: draw only the edges of the areas.

        Raises UserError for a name that is not a class.
        """
        left_out = class_indices(self.description, leave_out)
        return overlay(self.image, self.labels, self.description.colors, opacity, left_out, outline)

    def shares(self) -> dict[str, float]:
        """The share of the pixels, 0 to 1, of each class that occurs in the image, by class name."""
        named = zip(self.description.class_names, self.pixels() / self.labels.size, strict=True)
        return {name: float(share) for name, share in named if share}

    def pixels(self) -> np.ndarray:
        """Pixels of each class in the image, int64 (classes,)."""
        return np.bincount(self.labels.ravel(), minlength=len(self.description.classes))

    def confidence(self) -> np.ndarray:
        """The probability of the predicted class of each pixel, float32 (H, W), 0-1.

        Raises UserError if the image was predicted without probabilities.
        """
        if self.probabilities is None:
            raise UserError(
                "The confidence needs probabilities, which were not requested.",
                "Predict with predictor(image, probabilities=True).",
            )
        return self.probabilities.max(0)

    def label_image(self) -> Image.Image:
        """The labels as a palette image that stores class ids (see `label_image`)."""
        return label_image(self.labels, self.description)

    def _repr_html_(self) -> str:
        return as_html(self.overlay(), self.shares(), self.description)

    def _repr_png_(self) -> bytes:
        return as_png(self.overlay())

    def __repr__(self) -> str:
        """The size and the largest classes; the arrays would fill the screen."""
        largest = sorted(self.shares().items(), key=lambda item: -item[1])[:4]
        named = ", ".join(f"{name} {share:.0%}" for name, share in largest)
        return f"Prediction({self.labels.shape[0]} x {self.labels.shape[1]}: {named})"


def class_indices(description: DatasetDescription, names: Collection[str]) -> frozenset[int]:
    """The indices of the classes `names`. Raises UserError for a name that is not a class."""
    known = description.class_names
    if unknown := [name for name in names if name not in known]:
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise UserError(f"There is no class {unknown[0]!r}{did_you_mean(unknown[0], known)}", f"Classes: {shown}.")
    return frozenset(known.index(name) for name in names)


def class_ids(description: DatasetDescription) -> list[int]:
    """The id of each class in label images: the first of its ids in the dataset's masks, or else its index."""
    return [entry.ids[0] if entry.ids else index for index, entry in enumerate(description.classes)]


def label_image(labels: np.ndarray, description: DatasetDescription) -> Image.Image:
    """Class indices (H, W) as a palette image that stores the dataset's ids and shows the class colors.

    Classes without ids are stored as class indices. The image is 16-bit gray if an id exceeds 255.
    """
    table = id_table(description)
    if table.dtype == np.uint16:
        return Image.fromarray(table[labels])
    return palette_image(table[labels], dict(zip(table.tolist(), description.colors, strict=True)))


def id_table(description: DatasetDescription) -> np.ndarray:
    """`class_ids` as label images store them: uint8, or uint16 if an id exceeds 255."""
    ids = class_ids(description)
    return np.asarray(ids, np.uint8 if max(ids) <= 255 else np.uint16)
