"""The outputs of `predict` for an image: labels, overlay, polygons, COCO masks and confidence, as content of files."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fastfcn.prediction.json_formats import coco, geojson
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.video.segment import OutputSettings
from fastfcn.utils.files import replace_file

CONFIDENCE = "_confidence"
SHARES = "shares"  # the value of `--format` that is one file for all images


class Output(NamedTuple):
    """One file of an image: the ending of its name, and its content."""

    ending: str
    encode: Callable[[Prediction], bytes]


class ImageOutputs:
    """The outputs of images that `settings` chooses, which are encoded, or written into `folder`."""

    def __init__(self, folder: Path, settings: OutputSettings):
        self.folder, self.settings = folder, settings
        self.kinds: dict[str, Output] = {}  # by name, such as "labels"
        if settings.labels is not False:
            self.kinds["labels"] = Output(".png", _encode_labels)
        if settings.overlay:
            self.kinds["overlay"] = Output("_overlay.jpg", self._encode_overlay)
        self.kinds |= {name: output for name, output in FORMATS.items() if name in settings.formats}

    def files(self, name: str) -> list[str]:
        """Names of the files that are written for the image `name`."""
        return [f"{name}{output.ending}" for output in self.kinds.values()]

    @property
    def longest(self) -> str:
        """The longest ending of a file."""
        return max((output.ending for output in self.kinds.values()), key=len, default="")

    def write(self, name: str, prediction: Prediction) -> dict[str, int]:
        """Write the files of the image `name`, each atomically; returns the pixels of each class in it."""
        for output in self.kinds.values():
            with replace_file(self.folder / f"{name}{output.ending}") as temporary:
                temporary.write_bytes(output.encode(prediction))
        return class_pixels(prediction)

    def encode(self, prediction: Prediction) -> dict[str, bytes]:
        """The content of each file of an image, by the name of the output."""
        return {name: output.encode(prediction) for name, output in self.kinds.items()}

    def _encode_overlay(self, prediction: Prediction) -> bytes:
        settings = self.settings
        pixels = prediction.overlay(settings.opacity, settings.leave_out, settings.outline)
        return encode_image(Image.fromarray(pixels), "JPEG", quality=92)


def class_pixels(prediction: Prediction) -> dict[str, int]:
    """The number of pixels of each class that occurs in the image, by class name."""
    counts = prediction.pixels().tolist()
    return {name: count for name, count in zip(prediction.description.class_names, counts, strict=True) if count}


def encode_image(image: Image.Image, kind: str, **options: int) -> bytes:
    """The content of an image file of a `kind` such as "PNG"."""
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def encode_json(value: Any) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def _encode_labels(prediction: Prediction) -> bytes:
    return encode_image(prediction.label_image(), "PNG")


def _encode_polygons(prediction: Prediction) -> bytes:
    return encode_json(geojson(prediction))


def _encode_coco(prediction: Prediction) -> bytes:
    return encode_json(coco(prediction))


def _encode_confidence(prediction: Prediction) -> bytes:
    """8-bit gray: 255 for a probability of 1."""
    return encode_image(Image.fromarray((prediction.confidence() * 255).round().astype(np.uint8)), "PNG")


# The values of `--format` that are one file per image.
FORMATS = {
    "polygons": Output(".geojson", _encode_polygons),
    "coco": Output(".json", _encode_coco),
    "confidence": Output(f"{CONFIDENCE}.png", _encode_confidence),
}
