"""Images of any number of bands with their stored values: GeoTIFF, multi-page TIFF, NumPy arrays and 16-bit PNG.

| file                            | bands                                                              |
|---------------------------------|--------------------------------------------------------------------|
| TIFF, GeoTIFF (extra `geo`)     | bands of the first page, then those of the other pages of its size |
| `.npy`, two axes                | one band                                                           |
| `.npy`, three axes              | the first axis if it is the shortest, else the last                |
| PNG and other images            | gray or colors, and transparency as the last band; not scaled      |

Values are uint8, uint16, int16 or float32; networks get float32, which holds all of them exactly.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from PIL import Image

from fastfcn.data.decoding import ARRAY_SUFFIXES, DECODE_ERRORS, StoredFile, explain, read_bytes, require_regular
from fastfcn.data.description import Bands, BandType
from fastfcn.data.image_limits import check_limits, check_sides
from fastfcn.errors import DataError, MissingExtraError
from fastfcn.utils.sizes import Size
from fastfcn.utils.spelling import did_you_mean

NUMPY, TIFF = b"\x93NUMPY", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # first bytes of files
TYPES: tuple[str, ...] = get_args(BandType)
MAX_BANDS = 1024
HUGE = 1e30  # floats from here on mean missing pixels, such as the smallest float32 that GIS programs write
DISPLAYED = ("red", "green", "blue")  # bands shown in overlays and reports, if they exist
SPREAD = 2.0  # standard deviations below and above the mean that are shown as black and white


class BandFile(NamedTuple):
    """What the header of an image file says: (height, width), number and type of its bands, names ("" without)."""

    size: Size
    bands: int
    dtype: str
    names: tuple[str, ...]
    nodata: float | None


def read_header(source: Path | bytes) -> BandFile:
    """The header of an image file, or of its content. Raises what decoders raise, see `decoding.DECODE_ERRORS`."""
    with _opened(source) as file:
        return file.header


def read_stored(source: Path | bytes) -> tuple[np.ndarray, BandFile]:
    """All bands of an image file as stored, (H, W, bands), and its header. Raises as `read_header` does."""
    with _opened(source) as file:
        return file.pixels(), file.header


class BandReader:
    """Reads chosen bands of the files of a dataset as float32 (H, W, channels); missing pixels get the band's mean.

    `bands`: what the files contain; `chosen`: names, or numbers from 1; `mean`, `std`: of the chosen bands.
    Raises ValueError for a band that does not exist.
    """

    dtype = "float32"

    def __init__(self, bands: Bands, chosen: Sequence[str | int], mean: Sequence[float], std: Sequence[float]):
        self.bands = bands
        self.indices = [_index(bands, band) for band in chosen]
        self.names = tuple(bands.names[index] for index in self.indices)
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        shown = [self.names.index(name) for name in DISPLAYED if name in self.names]
        self.displayed = shown if len(shown) == 3 else list(range(3)) if self.channels >= 3 else [0, 0, 0]

    @property
    def channels(self) -> int:
        return len(self.indices)

    def as_json(self) -> dict[str, Any]:
        """Everything that `from_json` needs to make an equal reader, in another process or on another machine."""
        numbers = {name: [float(value) for value in getattr(self, name)] for name in ("mean", "std")}
        return {"bands": self.bands.model_dump(mode="json"), "chosen": list(self.names), **numbers}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "BandReader":
        """Raises ValueError, TypeError or KeyError for values that `as_json` did not return."""
        return cls(Bands.model_validate(values["bands"]), values["chosen"], values["mean"], values["std"])

    def size(self, path: Path | StoredFile) -> Size:
        """(height, width) of the image at `path`, from its header. Raises DataError."""
        with data_errors(path):
            return read_header(_source(path)).size

    def read(self, path: Path | StoredFile) -> np.ndarray:
        """The image at `path`: float32 (H, W, channels). Raises DataError."""
        with data_errors(path):
            return self.decode(_source(path))

    def decode(self, source: Path | bytes) -> np.ndarray:
        """As `read`, also of the content of a file; raises what decoders raise."""
        with _opened(source) as file:
            self.check(file.header)
            return self.prepare(file.pixels(), file.header.nodata)

    def check(self, file: BandFile) -> None:
        """Raise ValueError for a file with other bands than the dataset: their number, type, or names."""
        bands = self.bands
        if file.bands != len(bands.names):
            listed = f"{len(bands.names)} ({', '.join(bands.names)})"
            raise ValueError(f"it has {_bands(file.bands)}, but the images of the dataset have {listed}")
        if file.dtype != bands.dtype:
            raise ValueError(f"its values are {file.dtype}, but those of the dataset are {bands.dtype}; convert it")
        moved = [name for name, own in zip(bands.names, file.names, strict=True) if own and own != name]
        if moved and set(file.names) == set(bands.names):
            raise ValueError(
                f"its bands have another order ({', '.join(file.names)}) than those of the dataset "
                f"({', '.join(bands.names)})"
            )

    def prepare(self, stored: np.ndarray, nodata: float | None = None) -> np.ndarray:
        """The network's image, float32 (h, w, channels), of stored pixels (h, w, bands), such as a window of a file.

        `nodata`: a value for missing pixels in this file, besides that of the dataset.
        """
        return self.filled(stored[..., self.indices].astype(np.float32), nodata)

    def filled(self, pixels: np.ndarray, nodata: float | None = None) -> np.ndarray:
        """The chosen bands, float32 (..., channels), with the mean of the band in place of missing pixels."""
        missing = missing_pixels(pixels, self.bands.nodata, nodata)
        return np.where(missing, self.mean, pixels) if missing.any() else pixels

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Three bands of (..., channels) as RGB uint8: red, green and blue by name, else the first ones.

        Two standard deviations below the mean become 0, above it 255.
        """
        mean, std = self.mean[self.displayed], self.std[self.displayed]
        levels = (image[..., self.displayed] - mean) * (127.5 / (SPREAD * std)) + 127.5
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def needs_bands(path: Path) -> bool:
    """Whether the file at `path` cannot be an RGB image: a .npy file, or a TIFF of floats or many bands.

    Only the header is read. False for a file that cannot be read, or not without the package rasterio.
    """
    if path.suffix.lower() not in (*ARRAY_SUFFIXES, ".tif", ".tiff"):
        return False
    try:
        file = read_header(path)
    except (*DECODE_ERRORS, MissingExtraError):
        return False
    eight_bits = file.dtype == "uint8" and file.bands in (1, 3, 4)
    return path.suffix.lower() in ARRAY_SUFFIXES or not (
        eight_bits or (file.dtype == "uint16" and file.bands in (1, 3))
    )


def missing_pixels(pixels: np.ndarray, *nodata: float | None) -> np.ndarray:
    """Which values are NaN, infinite, beyond 1e30 or one of `nodata`; bool, in the shape of `pixels`."""
    missing = ~(np.abs(pixels) < HUGE) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, bool)
    for value in nodata:
        if value is not None:
            missing |= pixels == pixels.dtype.type(value) if pixels.dtype.kind == "f" else pixels == value
    return missing


@contextmanager
def data_errors(path: Path | StoredFile | str) -> Iterator[None]:
    """Whatever goes wrong with an image file becomes a DataError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.", "Check the data folder.") from error
    except DECODE_ERRORS as error:
        hint = "Restore the file from an intact copy, or remove it together with its mask."
        if isinstance(error, ValueError) and "of the dataset" in str(error):
            hint = "All images need the bands that dataset.toml describes: `fastfcn check` lists those that differ."
        raise DataError(f"{path} cannot be read: {explain(error)}.", hint) from error


class _Pillow:
    """An image file that Pillow reads."""

    def __init__(self, image: Image.Image):
        self.image = image
        check_limits(image)
        names, dtype = _pillow_bands(image)
        self.header = BandFile((image.height, image.width), len(names), dtype, names, None)

    def pixels(self) -> np.ndarray:
        image, header = self.image, self.header
        if header.dtype == "uint16" and header.bands > 1:
            pixels = _png_16_bits(image)
        else:
            pixels = np.asarray(image).astype(header.dtype)
        return pixels.reshape(*header.size, header.bands)


class _Numpy:
    """A NumPy array."""

    def __init__(self, data: bytes):
        self.stream = io.BytesIO(data)
        major, _ = np.lib.format.read_magic(self.stream)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(self.stream)
        if len(shape) not in (2, 3) or 0 in shape:
            raise ValueError(f"its array has the shape {shape}; an image has (height, width, bands)")
        self.first = len(shape) == 3 and shape[0] < min(shape[1:])
        height, width, count = (*shape, 1)[:3] if not self.first else (shape[1], shape[2], shape[0])
        self.header = _checked(BandFile((height, width), count, dtype.name, ("",) * count, None))

    def pixels(self) -> np.ndarray:
        self.stream.seek(0)
        array = np.load(self.stream, allow_pickle=False).astype(self.header.dtype)  # of the machine's byte order
        array = np.moveaxis(array, 0, -1) if self.first else array
        return np.ascontiguousarray(array).reshape(*self.header.size, self.header.bands)


class _Tiff:
    """A TIFF file; further pages of the first one's size and type are further bands."""

    def __init__(self, dataset: Any):
        self.pages = [dataset]
        for name in dataset.subdatasets[1:]:
            page = rasterio().open(name, driver="GTiff")
            if (page.shape, page.dtypes[0]) == (dataset.shape, dataset.dtypes[0]):
                self.pages.append(page)
            else:
                page.close()
        names = tuple(text or "" for page in self.pages for text in page.descriptions)
        if len({kind for page in self.pages for kind in page.dtypes}) > 1:
            raise ValueError("its bands have different types")
        self.header = _checked(BandFile(dataset.shape, len(names), dataset.dtypes[0], names, dataset.nodata))

    def pixels(self) -> np.ndarray:
        bands = np.concatenate([page.read() for page in self.pages])
        return np.ascontiguousarray(bands.transpose(1, 2, 0))

    def close(self) -> None:
        for page in self.pages[1:]:
            page.close()


@contextmanager
def _opened(source: Path | bytes) -> Iterator[_Pillow | _Numpy | _Tiff]:
    if isinstance(source, Path):
        require_regular(source)
        with source.open("rb") as file:
            head = file.read(8)
    else:
        head = source[:8]
    if head.startswith(NUMPY):
        yield _Numpy(read_bytes(source) if isinstance(source, Path) else source)
    elif head.startswith(TIFF):
        with _open_tiff(source) as file:
            yield file
    else:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as image:
            yield _Pillow(image)


def _source(path: Path | StoredFile) -> Path | bytes:
    return path.content if isinstance(path, StoredFile) else path


@contextmanager
def _open_tiff(source: Path | bytes) -> Iterator[_Tiff]:
    # Only GDAL's driver for TIFF: others follow references to further files and addresses.
    library = rasterio()
    try:
        if isinstance(source, bytes):
            with library.MemoryFile(source) as memory, memory.open(driver="GTiff") as dataset:
                yield from _pages(dataset)
        else:
            with library.open(source.resolve(), driver="GTiff") as dataset:
                yield from _pages(dataset)
    except library.errors.RasterioError as error:
        raise ValueError(f"it is not a TIFF file that can be read ({explain(error)})") from error


def _pages(dataset: Any) -> Iterator[_Tiff]:
    tiff = _Tiff(dataset)
    try:
        yield tiff
    finally:
        tiff.close()


@cache
def rasterio() -> Any:
    """The package rasterio. Raises MissingExtraError without it."""
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise MissingExtraError("rasterio", "geo", "Reading bands or tiles of TIFF and JPEG 2000") from error
    import warnings

    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio


def _checked(file: BandFile) -> BandFile:
    """Raise ValueError for a file that is too large, or whose values have another type."""
    check_sides(*file.size)
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if limit and file.size[0] * file.size[1] > limit:
        raise ValueError(f"it has more pixels than the limit of {limit / 1e6:.0f} million; cut it into tiles")
    if file.bands > MAX_BANDS:
        raise ValueError(f"it has {file.bands} bands; at most {MAX_BANDS} are supported")
    if file.dtype not in TYPES:
        raise ValueError(f"its values are {file.dtype}; convert it to {', '.join(TYPES[:-1])} or {TYPES[-1]}")
    return file


def _pillow_bands(image: Image.Image) -> tuple[tuple[str, ...], str]:
    """Names and type of the bands of an image that Pillow reads."""
    tile = getattr(image, "tile", None)
    stored = str(tile[0][3][0] if tile and isinstance(tile[0][3], tuple) else tile[0][3] if tile else "")
    sixteen = "16" in stored or image.mode.startswith("I")
    match image.mode:
        case "L" | "I" | "I;16" | "I;16B" | "I;16L" | "F":
            return ("",), "float32" if image.mode == "F" else "uint16" if sixteen else "uint8"
        case "LA" if not sixteen:
            return ("", ""), "uint8"
        case "RGB" | "RGBA" | "RGBX" if not sixteen or (image.format == "PNG" and stored == f"{image.mode};16B"):
            names = ("red", "green", "blue", "alpha")[: len(image.getbands())]
            return names, "uint16" if sixteen else "uint8"
    bits = " with 16 bits" if sixteen else ""
    raise ValueError(f"its bands cannot be read from {image.format} of mode {image.mode}{bits}; save it as TIFF")


def _png_16_bits(image: Image.Image) -> np.ndarray:
    """A PNG of 16 bits and several bands, uint16 (H, W, bands).

    Pillow keeps one byte of each value: the first if it is told that values start with the higher byte (as they do in
    PNG), the second if it is told the opposite.
    """
    stream = image.fp  # type: ignore[attr-defined] # of opened images
    assert stream is not None
    stream.seek(0)
    data, halves = stream.read(), []
    for order in ("B", "L"):
        half = Image.open(io.BytesIO(data))
        codec, extents, offset, raw = half.tile[0]
        half.tile = [half.tile[0].__class__(codec, extents, offset, f"{str(raw)[:-1]}{order}")]
        halves.append(np.asarray(half).astype(np.uint16))
    return halves[0] << 8 | halves[1]


def _index(bands: Bands, band: str | int) -> int:
    if isinstance(band, int):
        if band > len(bands.names):
            raise ValueError(f"there is no band {band}; the files have {_bands(len(bands.names))}")
        return band - 1
    if band not in bands.names:
        raise ValueError(f"there is no band {band!r}{did_you_mean(band, bands.names) or '.'}".rstrip("."))
    return bands.names.index(band)


def _bands(count: int) -> str:
    return f"{count} band{'s' if count > 1 else ''}"
