"""int8 quantization for OpenVINO on CPUs, by NNCF: convolutions are quantized, matrix products are not."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn.data.images import ImageReader
from fastfcn.errors import DataError
from fastfcn.prediction.inference import resized
from fastfcn.prediction.inputs import find_inputs
from fastfcn.recipes.inference import InferenceSettings

PACKAGES = ("nncf",)
MAX_IMAGES = 300  # more calibration images hardly change the ranges


def calibration_images(folder: Path) -> list[Path]:
    """Up to MAX_IMAGES images in `folder`, evenly spaced. Raises DataError."""
    images = find_inputs([str(folder)]).images
    if not images:
        raise DataError(f"{folder} contains no images.", "Give a folder of images like those the network will see.")
    step = max(1, -(-len(images) // MAX_IMAGES))
    return images[::step]


def quantize(model: Any, images: list[Path], reader: ImageReader, inference: InferenceSettings) -> Any:
    """Quantize the convolutions of an `openvino.Model`, whose input is images as `reader` reads them, to int8.

    The ranges of activations are measured on `images` at their size in `inference`. Raises DataError for an image that
    cannot be read.
    """
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    # The heads' matrix products (pooling, codewords) are small and sum over whole feature maps.
    ignored = nncf.IgnoredScope(types=["MatMul"], validate=False)
    return nncf.quantize(
        model,
        nncf.Dataset(CalibrationImages(images, reader, inference)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        ignored_scope=ignored,
    )


class CalibrationImages:
    """Image files as batches of one (1, H, W, C), at the size of a single view; read again in every iteration."""

    def __init__(self, paths: list[Path], reader: ImageReader, inference: InferenceSettings):
        self.paths, self.reader, self.inference = paths, reader, inference.with_tta(False)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            (image,) = resized(self.inference, self.reader.read(path))
            yield image.permute(1, 2, 0)[None].numpy()
