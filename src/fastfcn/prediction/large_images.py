"""Prediction of GeoTIFF, COG and JPEG 2000 files part by part: memory depends on the parts, not on the image."""

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastfcn.data.images import RGBReader
from fastfcn.errors import UserError
from fastfcn.prediction.inference import tiled_labels
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.raster import SUFFIXES, create_label_raster, open_raster
from fastfcn.prediction.sliding_window import Window
from fastfcn.prediction.tiles import TiledLabels
from fastfcn.utils.files import make_folder, output_errors
from fastfcn.utils.sizes import Size

PREVIEW = 2048  # pixels; longer side of the prediction that is returned
TileProgress = Callable[[TiledLabels], Callable[[], None]]  # gets the plan, returns what is called after each step


class RasterPrediction(NamedTuple):
    """`preview`: every n-th pixel, at most PREVIEW on a side; `pixels`: number of pixels of each class that occurs."""

    preview: Prediction
    pixels: dict[str, int]


def is_raster(path: Path) -> bool:
    """Whether `predict_raster` reads the file, by its name."""
    return path.suffix.lower() in SUFFIXES


def predict_raster(
    predictor: Predictor, source: Path, target: Path, progress: TileProgress = lambda _: lambda: None
) -> RasterPrediction:
    """Write the segmentation map of `source` to the GeoTIFF `target`, in the tiles of the predictor's settings.

    Raises UserError for a network of other bands, DataError for an image that cannot be used, OutputError, and
    MissingExtraError without rasterio.
    """
    settings = predictor.network_settings
    if settings.tiles is None:
        raise ValueError("the predictor has no tiles; load it with tile=2048")
    if not isinstance(predictor.images, RGBReader):
        raise UserError(
            f"{source} cannot be processed in tiles: this network reads other bands than red, green and blue.",
            "Cut the image into files that fit into the memory, and leave out --tile.",
        )
    rows = settings.window[0] if settings.window else settings.tiles.side + 2 * settings.tiles.halo
    with open_raster(source, rows) as raster, open_raster(source, rows) as masks, open_sums(target) as sums:

        def read(window: Window) -> Tensor:
            return torch.from_numpy(raster.read(window)).permute(2, 0, 1)[None]

        blocks = tiled_labels(predictor.network, settings, raster.size, read, sums)
        step, preview = progress(blocks), Preview(raster.size)
        counts = np.zeros(len(predictor.classes), np.int64)
        with (
            create_label_raster(target, raster, predictor.description) as written,
            torch.inference_mode(),
            predictor.computing(),
            closing(iter(blocks)) as results,
        ):
            for block in results:
                if block is not None:
                    labels = block.values[0].cpu().numpy()
                    window = Window(block.top, block.left, block.top + labels.shape[0], block.left + labels.shape[1])
                    valid = None if raster.all_valid else masks.valid(window)
                    written.write(window, labels, valid)
                    preview.add(window, labels)
                    known = labels.ravel() if valid is None else labels[valid]
                    counts += np.bincount(known, minlength=len(counts))
                step()
        image = raster.read(Window(0, 0, *raster.size), preview.size)
        found = {name: count for name, count in zip(predictor.classes, counts.tolist(), strict=True) if count}
        return RasterPrediction(Prediction(preview.labels, image, predictor.description), found)


class Preview:
    """Every n-th label of an image of `size`, collected part by part."""

    def __init__(self, size: Size):
        self._step = math.ceil(max(size) / PREVIEW)
        self.size: Size = math.ceil(size[0] / self._step), math.ceil(size[1] / self._step)
        self.labels = np.zeros(self.size, np.uint8)

    def add(self, window: Window, labels: np.ndarray) -> None:
        step = self._step
        part = labels[-window.top % step :: step, -window.left % step :: step]
        top, left = -(-window.top // step), -(-window.left // step)
        self.labels[top : top + part.shape[0], left : left + part.shape[1]] = part


class StoredSums:
    """Maps (B, C, H, W) by number, in a temporary file, channels last; see `mean_blocks`."""

    def __init__(self, file: IO[bytes], target: Path):
        self._file, self._target = file, target
        self._places: dict[int, tuple[int, int, tuple[int, ...]]] = {}  # offset, capacity in bytes, shape
        self._end = 0

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: int) -> Tensor:
        offset, _, shape = self._places[key]
        self._file.seek(offset)
        values = np.frombuffer(bytearray(self._file.read(4 * math.prod(shape))), np.float32).reshape(shape)
        return torch.from_numpy(values).permute(0, 3, 1, 2)

    def __setitem__(self, key: int, value: Tensor) -> None:
        values = value.float().cpu().permute(0, 2, 3, 1).numpy()
        data = values.tobytes()
        offset, capacity, _ = self._places.get(key, (0, -1, None))
        if len(data) > capacity:
            offset, capacity, self._end = self._end, len(data), self._end + len(data)
        self._places[key] = offset, capacity, values.shape
        self._file.seek(offset)
        with output_errors(self._target):
            self._file.write(data)


@contextmanager
def open_sums(target: Path) -> Iterator[StoredSums]:
    """Storage in the folder of `target`, which disappears at the end. Raises OutputError."""
    make_folder(target.parent)
    with ExitStack() as stack:
        with output_errors(target):
            file = stack.enter_context(tempfile.TemporaryFile(dir=target.parent))
        yield StoredSums(file, target)
