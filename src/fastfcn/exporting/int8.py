"""int8 quantization for OpenVINO on CPUs, by NNCF: convolutions are quantized, matrix products are not."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn.data.images import RGB, ImageReader
from fastfcn.errors import DataError
from fastfcn.prediction.inputs import find_inputs

PACKAGES = ("nncf",)
MAX_IMAGES = 300  # more calibration images hardly change the ranges


def calibration_images(folder: Path) -> list[Path]:
    """Up to MAX_IMAGES images in `folder`, evenly spaced. Raises DataError."""
    images = find_inputs([str(folder)]).images
    if not images:
        raise DataError(f"{folder} contains no images.", "Give a folder of images like those the network will see.")
    step = max(1, -(-len(images) // MAX_IMAGES))
    return images[::step]


def quantize(model: Any, images: list[Path], reader: ImageReader = RGB) -> Any:
    """Quantize the convolutions of an `openvino.Model`, whose input is images as `reader` reads them, to int8.

    The ranges of activations are measured on `images`. Raises DataError for an image that cannot be read.
    """
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    # The heads' matrix products (pooling, codewords) are small and sum over whole feature maps.
    ignored = nncf.IgnoredScope(types=["MatMul"], validate=False)
    return nncf.quantize(
        model,
        nncf.Dataset(_Images(images, reader)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        ignored_scope=ignored,
    )


class _Images:
    """Image files as batches of one, read again in every iteration."""

    def __init__(self, paths: list[Path], reader: ImageReader):
        self.paths, self.reader = paths, reader

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            yield self.reader.read(path)[None]
