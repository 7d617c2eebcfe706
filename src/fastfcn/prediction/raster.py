"""GeoTIFF, COG and JPEG 2000, read and written part by part with rasterio (GDAL).

Images have 8 bits: RGB, gray or a palette, with or without transparency. Segmentation maps are GeoTIFFs with the same
reference to the ground, the classes' colors as color table, and "no data" where the image has none.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn.data.bands import TIFF, rasterio
from fastfcn.data.decoding import require_regular
from fastfcn.data.description import DatasetDescription
from fastfcn.errors import DataError, OutputError
from fastfcn.prediction.prediction import id_table
from fastfcn.prediction.sliding_window import Window
from fastfcn.utils.files import replace_file
from fastfcn.utils.sizes import Size

SUFFIXES = (".tif", ".tiff", ".jp2", ".j2k")
# First bytes of files, by the driver of GDAL that reads them and, unlike others, nothing but the file itself.
DRIVERS = {"GTiff": TIFF, "JP2OpenJPEG": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")}
BLOCK = 512  # pixels; side of the blocks in which segmentation maps are stored
LEAST_CACHE, MOST_CACHE = 2**26, 2**29  # bytes of decoded blocks


class Raster:
    """An opened image of `size` (height, width) that is read part by part; see `open_raster`."""

    def __init__(self, path: Path, dataset: Any):
        """Raises DataError for an image whose pixels are not RGB, gray or a palette of 8 bits."""
        self.path, self._dataset = path, dataset
        self._bands = _image_bands(path, dataset)
        self._palette = _palette(dataset) if dataset.colorinterp[0].name == "palette" else None
        self.size: Size = (dataset.height, dataset.width)

    def read(self, window: Window, size: Size | None = None) -> np.ndarray:
        """A part of the image, RGB uint8 (h, w, 3); reduced to `size` by leaving out pixels. Raises DataError."""
        shape = {} if size is None else {"out_shape": (len(self._bands), *size)}
        with _reading(self.path):
            values = self._dataset.read(self._bands, window=_slices(window), **shape)
        if self._palette is not None:
            return self._palette[values[0]]
        return np.ascontiguousarray(np.broadcast_to(values, (3, *values.shape[1:])).transpose(1, 2, 0))

    def valid(self, window: Window) -> np.ndarray:
        """Which pixels of a part hold data, bool (h, w): by the nodata value, a mask or transparency."""
        with _reading(self.path):
            return self._dataset.dataset_mask(window=_slices(window)) > 0

    @property
    def all_valid(self) -> bool:
        """Whether all pixels hold data."""
        return all(flag.name == "all_valid" for band in self._bands for flag in self._dataset.mask_flag_enums[band - 1])

    @property
    def nodata(self) -> float | None:
        return self._dataset.nodata

    def reference(self) -> dict[str, Any]:
        """The reference to the ground, as attributes of a dataset: coordinate system and transform, or points."""
        points, system = self._dataset.gcps
        if points:
            return {"gcps": (points, system)}
        transform = None if self._dataset.transform.is_identity else self._dataset.transform
        known = {"crs": self._dataset.crs, "transform": transform, "rpcs": self._dataset.rpcs}
        return {key: value for key, value in known.items() if value is not None}

    @property
    def pixel_is_point(self) -> bool:
        """Whether coordinates refer to the centers of pixels instead of their corners."""
        return self._dataset.tags().get("AREA_OR_POINT") == "Point"


class LabelRaster:
    """A segmentation map that is written part by part; see `create_label_raster`."""

    def __init__(self, dataset: Any, ids: np.ndarray, nodata: int | None):
        self._dataset, self._ids, self._nodata = dataset, ids, nodata

    def write(self, window: Window, labels: np.ndarray, valid: np.ndarray | None) -> None:
        """Write class indices (h, w); pixels that are not `valid` become "no data"."""
        values = self._ids[labels]
        if valid is not None:
            values[~valid] = self._nodata
        self._dataset.write(values, 1, window=_slices(window))


@contextmanager
def open_raster(path: Path, rows: int) -> Iterator[Raster]:
    """Open an image of which parts of so many `rows` will be read. Raises DataError, and MissingExtraError."""
    library = rasterio()
    with _reading(path), warnings.catch_warnings(category=library.errors.NotGeoreferencedWarning, action="ignore"):
        require_regular(path)
        dataset = library.open(path.resolve(), driver=_driver(path))
    with dataset:
        # All blocks of a row of parts, so that none is decoded twice.
        cache = dataset.width * (rows + 2 * BLOCK) * (dataset.count + 1)
        with library.Env(GDAL_CACHEMAX=min(max(cache, LEAST_CACHE), MOST_CACHE)):
            yield Raster(path, dataset)


def _driver(path: Path) -> str:
    """The driver of GDAL for an image file. Raises ValueError if it is of another format."""
    with path.open("rb") as file:
        head = file.read(12)
    for driver, starts in DRIVERS.items():
        if head.startswith(starts):
            return driver
    raise ValueError("it is neither TIFF nor JPEG 2000; convert it")


@contextmanager
def create_label_raster(path: Path, source: Raster, description: DatasetDescription) -> Iterator[LabelRaster]:
    """Write the segmentation map of `source` as a GeoTIFF, atomically. Raises OutputError."""
    library = rasterio()
    ids = id_table(description)
    nodata = None if source.all_valid else _nodata(source, ids)
    height, width = source.size
    layout = {
        **{"driver": "GTiff", "height": height, "width": width, "count": 1, "BIGTIFF": "IF_SAFER"},
        **{"compress": "deflate", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK},
    }
    with (
        warnings.catch_warnings(category=library.errors.NotGeoreferencedWarning, action="ignore"),
        replace_file(path) as temporary,
    ):
        with library.open(temporary, "w", **layout, dtype=ids.dtype, nodata=nodata) as dataset:
            for key, value in source.reference().items():
                setattr(dataset, key, value)
            if source.pixel_is_point:
                dataset.update_tags(AREA_OR_POINT="Point")
            if ids.dtype == np.uint8:
                dataset.write_colormap(1, dict(zip(ids.tolist(), description.colors, strict=True)))
            yield LabelRaster(dataset, ids, nodata)
        _check_complete(path, temporary)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise DataError, naming the file, for what goes wrong while it is read."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:  # rasterio's errors are OSErrors
        reason = str(error.__cause__ or error).strip().rstrip(".")
        raise DataError(
            f"{path} cannot be read: {reason}.", "Restore the file from an intact copy, or leave it out."
        ) from error


def _image_bands(path: Path, dataset: Any) -> list[int]:
    """The bands (from 1) of red, green and blue, or the one of gray or palette. Raises DataError for other bands."""
    if set(dataset.dtypes) != {"uint8"} or dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "8") != "8":
        raise DataError(
            f"{path} cannot be used: its values are of type {dataset.dtypes[0]}, not 8-bit.",
            "Convert it: gdal_translate -ot Byte -scale LOW HIGH 0 255 INPUT OUTPUT",
        )
    meanings = [meaning.name for meaning in dataset.colorinterp]
    if dataset.count == 3 and "undefined" in meanings:
        return [1, 2, 3]
    colors = [meaning for meaning in meanings if meaning != "alpha"]
    if sorted(colors) == ["blue", "green", "red"]:
        return [meanings.index(color) + 1 for color in ("red", "green", "blue")]
    if colors in (["gray"], ["palette"], ["undefined"]):
        return [1]
    raise DataError(
        f"{path} cannot be used: its bands are {', '.join(meanings)}, not red, green and blue.",
        "Select them: gdal_translate -b 3 -b 2 -b 1 -colorinterp red,green,blue INPUT OUTPUT",
    )


def _palette(dataset: Any) -> np.ndarray:
    """The colors of a palette, RGB uint8 (256, 3)."""
    colors = np.zeros((256, 3), np.uint8)
    for value, (red, green, blue, _) in dataset.colormap(1).items():
        colors[value] = red, green, blue
    return colors


def _nodata(source: Raster, ids: np.ndarray) -> int:
    """The value of pixels without data: that of the image, or 255, if they are no ids of classes, or else another."""
    largest = np.iinfo(ids.dtype).max
    candidates = [source.nodata, 255, *range(largest, -1, -1)]
    free = (int(value) for value in candidates if value in range(largest + 1) and value not in ids)
    value = next(free, None)
    if value is None:
        raise DataError(
            f"{source.path} has pixels without data, and the classes use all {largest + 1} values.",
            "Remove its mask: gdal_translate -mask none -a_nodata none INPUT OUTPUT",
        )
    return value


def _check_complete(path: Path, written: Path) -> None:
    """Raise OutputError if blocks are missing: GDAL does not report that the disk was full when it wrote the last."""
    with rasterio().open(written, driver="GTiff") as dataset:
        rows, columns = (-(-length // BLOCK) for length in dataset.shape)
        for row, column in np.ndindex(rows, columns):
            if dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1) is None:
                raise OutputError(f"Cannot write {path}: parts are missing.", "Free some space or use another --out.")


def _slices(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.top, window.bottom), (window.left, window.right)
