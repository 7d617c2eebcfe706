"""Conversion of images in various forms to the arrays that a network reads, and batching of images of equal size."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastfcn.data.bands import TYPES, BandReader
from fastfcn.data.images import RGB, ImageReader, from_pil
from fastfcn.errors import DataError

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
BATCH_PIXELS = 2_000_000  # pixels of a batch; a larger image is processed alone


def is_batch(images: object) -> bool:
    """Whether the argument is several images: a list, a tuple, or an array or tensor of four dimensions."""
    return isinstance(images, list | tuple) or (isinstance(images, np.ndarray | Tensor) and images.ndim == 4)


def as_pixels(image: ImageLike, reader: ImageReader = RGB) -> np.ndarray:
    """Convert one image to RGB uint8 (H, W, 3), or, with a `reader` of bands, to float32 (H, W, bands).

    `image`: a path, a PIL image, an array (H, W, 3) of uint8, or a tensor (3, H, W) of uint8 or of floats from 0 to 1,
    which are rounded to 256 levels. For bands: a path, or an array (H, W, bands) or a tensor (bands, H, W) of the bands
    that the network reads, with the values of the files. Raises DataError.
    """
    if isinstance(image, str | Path):
        return reader.read(Path(image))
    if isinstance(reader, BandReader):
        return _from_bands(image, reader)
    match image:
        case Image.Image():
            return from_pil(image)
        case Tensor():
            return _from_tensor(image)
        case np.ndarray():
            return _from_array(image)
    raise DataError(f"An image must be a path, a PIL image, an array or a tensor, not {type(image).__name__}.")


def _from_bands(image: object, reader: BandReader) -> np.ndarray:
    listed = f"{reader.channels} bands ({', '.join(reader.names)})"
    if isinstance(image, Tensor) and image.ndim == 3:
        image = image.detach().permute(1, 2, 0).cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise DataError(f"An image of {listed} must be a path, an array or a tensor, not {type(image).__name__}.")
    if image.ndim != 3 or image.shape[2] != reader.channels or not image.size or image.dtype.name not in TYPES:
        raise DataError(
            f"An image array must have {listed} in the last axis (H, W, {reader.channels}), as a tensor in the first; "
            f"not {image.dtype} {image.shape}.",
            f"Values are those of the files, as one of {', '.join(TYPES)}; they are not normalized.",
        )
    return reader.filled(image.astype(np.float32))


def _from_array(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            f"An image array must be RGB uint8 (H, W, 3), not {image.dtype} {image.shape}.",
            "For several images use (B, H, W, 3), for channels first a tensor, for gray np.stack([gray] * 3, -1).",
        )
    return np.array(image, order="C")


def _from_tensor(image: Tensor) -> np.ndarray:
    shape = tuple(image.shape)
    if image.ndim != 3 or shape[0] != 3 or not image.numel():
        raise DataError(
            f"An image tensor must be RGB (3, H, W), not {shape}.",
            "For several images use (B, 3, H, W), for channels last image.permute(2, 0, 1).",
        )
    if image.is_floating_point():
        low, high = (float(value) for value in image.detach().aminmax())
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"An image tensor of floats must have values from 0 to 1; it has values from {low:.4g} to {high:.4g}.",
                "Do not normalize the image: the predictor does it with the mean and standard deviation of the recipe.",
            )
        image = (image.detach().float() * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise DataError(f"An image tensor must be uint8 or float, not {image.dtype}.")
    return image.permute(1, 2, 0).cpu().contiguous().numpy()


def batches(images: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Indices of consecutive images of equal size, to be processed as one batch."""
    batch: list[int] = []
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        full = (len(batch) + 1) * height * width > BATCH_PIXELS
        if batch and (full or image.shape != images[batch[-1]].shape):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
