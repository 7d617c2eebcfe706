"""Eight-bit integers for OpenVINO on processors, by NNCF: convolutions are rounded, matrix products are not.

What each layer's values range over is read from images that the user names.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn.data.images import read_image
from fastfcn.errors import DataError
from fastfcn.prediction.inputs import find_inputs

MOST_IMAGES = 300  # more say little that is new


def calibration_images(folder: Path) -> list[Path]:
    """Up to MOST_IMAGES images under `folder`, evenly spread. Raises DataError."""
    found = find_inputs([str(folder)]).images
    if not found:
        raise DataError(f"{folder} has no images.", "Name a folder of images like those the network will see.")
    step = max(1, -(-len(found) // MOST_IMAGES))
    return found[::step]


def quantized(model: Any, images: list[Path]) -> Any:
    """`model` (an `openvino.Model` of uint8 images) with convolutions in int8. Raises DataError for an image."""
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    # The pooling matrices and codewords of the heads are small, and their products are sums over whole maps.
    ignored = nncf.IgnoredScope(types=["MatMul"], validate=False)
    return nncf.quantize(
        model,
        nncf.Dataset(_Batches(images)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        ignored_scope=ignored,
    )


class _Batches:
    """The images one by one, as often as they are asked for."""

    def __init__(self, images: list[Path]):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.images:
            yield read_image(path)[None]
