"""What a network says of an image, and the ways to look at it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from fastfcn.data.description import DataSetDescription
from fastfcn.prediction.notebook import as_html, as_png
from fastfcn.visualize import colorize, overlay, palette_image


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image; a notebook shows it as overlay and legend.

    `labels`: class indices (H, W), uint8; `image`: the RGB image (H, W, 3), uint8; `description`: names and colours;
    `logits`: float32 (classes, H, W) before softmax where they were asked for, else None.
    """

    labels: np.ndarray
    image: np.ndarray
    description: DataSetDescription
    logits: np.ndarray | None = None

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
        return label_image(self.labels, self.description)

    def _repr_html_(self) -> str:
        return as_html(self.overlay(), self.shares(), self.description)

    def _repr_png_(self) -> bytes:
        return as_png(self.overlay())

    def __repr__(self) -> str:
        """The size and the largest classes: arrays would fill the screen."""
        largest = sorted(self.shares().items(), key=lambda each: -each[1])[:4]
        named = ", ".join(f"{name} {share:.0%}" for name, share in largest)
        return f"Prediction({self.labels.shape[0]} x {self.labels.shape[1]}: {named})"


def label_image(labels: np.ndarray, description: DataSetDescription) -> Image.Image:
    """Class indices (H, W) as a palette picture with the ids of the data set; 16-bit where an id is above 255."""
    ids = [each.ids[0] if each.ids else index for index, each in enumerate(description.classes)]
    table = np.asarray(ids, np.int64)
    if table.max() > 255:
        return Image.fromarray(table[labels].astype(np.uint16))
    return palette_image(table[labels].astype(np.uint8), dict(zip(ids, description.colors, strict=True)))
