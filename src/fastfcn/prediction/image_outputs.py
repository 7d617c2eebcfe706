"""The files that `predict` writes for an image: labels, overlay, polygons, COCO masks and confidence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.prediction.json_formats import coco, geojson
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.video.segment import OutputSettings
from fastfcn.utils.files import replace_file

CONFIDENCE = "_confidence"
SHARES = "shares"  # the value of `--format` that is one file for all images


class ImageOutputs:
    """Writes the outputs of images, as `settings` says, into `folder`."""

    def __init__(self, folder: Path, settings: OutputSettings):
        self.folder, self.settings = folder, settings
        self.endings: dict[str, Callable[[Prediction, Path], None]] = {}  # of file names, and how they are written
        if settings.labels is not False:
            self.endings[".png"] = _write_labels
        if settings.overlay:
            self.endings["_overlay.jpg"] = self._write_overlay
        self.endings |= {FORMATS[name][0]: FORMATS[name][1] for name in FORMATS if name in settings.formats}

    def files(self, name: str) -> list[str]:
        """Names of the files that are written for the image `name`."""
        return [f"{name}{ending}" for ending in self.endings]

    @property
    def longest(self) -> str:
        """The longest ending of a file."""
        return max(self.endings, key=len, default="")

    def write(self, name: str, prediction: Prediction) -> dict[str, int]:
        """Write the files of the image `name`, each atomically; returns the pixels of each class in it."""
        for ending, write in self.endings.items():
            with replace_file(self.folder / f"{name}{ending}") as temporary:
                write(prediction, temporary)
        counts = prediction.pixels().tolist()
        return {name: count for name, count in zip(prediction.description.class_names, counts, strict=True) if count}

    def _write_overlay(self, prediction: Prediction, path: Path) -> None:
        settings = self.settings
        pixels = prediction.overlay(settings.opacity, settings.leave_out, settings.outline)
        Image.fromarray(pixels).save(path, quality=92)


def _write_labels(prediction: Prediction, path: Path) -> None:
    prediction.label_image().save(path)


def _write_polygons(prediction: Prediction, path: Path) -> None:
    path.write_text(json.dumps(geojson(prediction), separators=(",", ":")), encoding="utf-8")


def _write_coco(prediction: Prediction, path: Path) -> None:
    path.write_text(json.dumps(coco(prediction), separators=(",", ":")), encoding="utf-8")


def _write_confidence(prediction: Prediction, path: Path) -> None:
    """8-bit gray: 255 for a probability of 1."""
    Image.fromarray((prediction.confidence() * 255).round().astype(np.uint8)).save(path)


# Ending of the file name and writer of each value of `--format` that is one file per image.
FORMATS: dict[str, tuple[str, Callable[[Prediction, Path], None]]] = {
    "polygons": (".geojson", _write_polygons),
    "coco": (".json", _write_coco),
    "confidence": (f"{CONFIDENCE}.png", _write_confidence),
}
