"""Decoding image files with Pillow: the one place that knows what each pixel format becomes.

Images become RGB, uint8 (H, W, 3), as viewers show them. Masks keep the numbers that are stored in the file, which
Pillow changes in several formats: it scales 2- and 4-bit gray to 0-255, inverts "white is zero" TIFF, scales PNM by its
maxval, and drops the lower half of 16-bit files with several channels.

| stored as                              | image               | mask                                  |
|----------------------------------------|---------------------|---------------------------------------|
| 1-bit, 8-bit gray, palette             | gray or colors      | stored numbers                        |
| 2- and 4-bit gray (PNG, TIFF)          | scaled to 0-255     | stored numbers, 0-3 or 0-15           |
| TIFF "white is zero"                   | inverted            | stored numbers, not inverted          |
| PNM with a maxval other than 255       | scaled to 0-255     | stored numbers, 0-maxval              |
| 16-bit gray (PNG, TIFF, PNM)           | upper 8 bits, or error if dark | stored numbers             |
| 32-bit integers                        | upper 8 of 16 bits if they fit 16 bits, else error | the same, else error |
| 16-bit with several channels           | upper 8 bits, or error if dark | error: the lower 8 bits are lost |
| floating point                         | error: no known range | error                               |
| RGB, RGBA of equal channels            | colors              | the first channel                     |
| gray or palette with transparency      | transparency dropped | numbers, transparency dropped        |
| CMYK, YCbCr, Lab                       | converted to RGB    | error                                 |

A 16-bit image is dark if at least 99 % of its values are below 4096: it has 12 bits or fewer, or physical units, and
its upper 8 bits would be almost black. Images of other bands and types are read by `fastfcn.data.bands`, unchanged.
"""

import errno
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from fastfcn.data.image_limits import check_limits
from fastfcn.errors import DataError, first_line

# What Pillow raises for files that it cannot decode, whatever is wrong with them.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, AttributeError),
    *(OverflowError, MemoryError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".gif", ".jp2", ".j2k", ".avif", ".tga", ".jfif"),
)
ARRAY_SUFFIXES = (".npy",)  # of images of bands; elsewhere these may be anything
# Images that Pillow cannot read without other packages.
UNSUPPORTED_SUFFIXES = (
    *(".heic", ".heif", ".jxl", ".svg", ".exr", ".hdr", ".dcm", ".nii", ".raw"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)
TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
TRANSFORMS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DARK_LEVEL = 16  # of 256, and 4096 of 65536
DARK = (
    "at least 99 % of its 16-bit values are below 4096, so that its upper 8 bits are almost black; convert it to "
    "8 bits, or use its values as they are (`fastfcn init --bands red,green,blue`)"
)
MAX_BYTES = 2**30  # of a file; larger ones have more pixels than Pillow's limit, or are sparse


@dataclass(frozen=True)
class StoredFile:
    """The content of an image file that is part of another file; `place` says where, for messages."""

    place: str
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.place


@contextmanager
def open_image(source: Path | StoredFile | BinaryIO, name: str | Path | None = None) -> Iterator[Image.Image]:
    """Open an image file; whatever goes wrong while it is open becomes a DataError that names the file.

    `name`: what to call it in errors, if `source` is a stream.
    """
    name = str(source) if name is None else name
    try:
        if isinstance(source, Path):
            require_regular(source)
        if isinstance(source, StoredFile):
            source = BytesIO(source.content)
        with Image.open(source) as image:
            check_limits(image)
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist.", "Check the data folder.") from error
    except DataError:
        raise
    except DECODE_ERRORS as error:
        raise DataError(f"{name} cannot be read: {explain(error)}.", _advice(error)) from error


@contextmanager
def any_number_of_pixels() -> Iterator[None]:
    """Let Pillow decode images of any size, in all threads: for images that the user says are large."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def require_regular(path: Path) -> None:
    """Raise OSError for a folder, and ValueError for a pipe, device or socket: reading these may never end."""
    mode = os.stat(path).st_mode  # noqa: PTH116 - this runs for every image
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise ValueError("it is not a regular file")


def read_bytes(path: Path) -> bytes:
    """The content of an image file. Raises OSError or ValueError, also if it has more than MAX_BYTES."""
    require_regular(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 2**30} GiB")
    return path.read_bytes()


def explain(error: Exception) -> str:
    """Why decoding failed, in one line without a period at its end."""
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        return f"it has more pixels than the limit of {limit:.0f} million"
    if isinstance(error, Image.UnidentifiedImageError):
        return "its format is not an image format that Pillow can read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return first_line(error).rstrip(".")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied, 1-8; 1 for none.

    Pillow applies that of a TIFF file itself when it decodes it, and its `size` is the upright one already. An image
    that was made from another one (`format` is None) is used as it is.
    """
    if image.format in (None, "TIFF"):
        return 1
    try:
        # The general reader, because the one for PNG decodes the whole image to look for EXIF data at its end.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:  # damaged EXIF data; the pixels may be valid
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says. EXIF data need not be valid, and are not kept."""
    transform = TRANSFORMS.get(orientation(image))
    return image.transpose(transform) if transform is not None else image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened image when it is upright, from its header alone."""
    width, height = image.size
    return (width, height) if orientation(image) in TRANSPOSED else (height, width)


def as_rgb(image: Image.Image) -> np.ndarray:
    """An opened image as RGB, uint8 (H, W, 3), upright; transparency is dropped. See the table above.

    Raises ValueError for values without a known range: floating point, integers beyond 16 bits, and dark 16-bit images.
    """
    in_memory, deep = image.format is None, has_16_bits(image)
    image = upright(image)
    if image.mode.startswith("I"):
        values = _integers(image)
        if image.mode == "I" and in_memory and values.size and values.max() < 256:
            raise ValueError("its 32-bit values are all below 256, so their range is not known; convert it to mode L")
        if is_dark(values >> 8):
            raise ValueError(DARK)
        image, deep = Image.fromarray((values >> 8).astype(np.uint8)), False
    if image.mode == "F":
        raise ValueError("it contains floating-point values, whose range is not known; convert it to 8 bits")
    pixels = np.array(image.convert("RGB"))
    if deep and is_dark(pixels):
        raise ValueError(DARK)
    return pixels


def is_dark(upper: np.ndarray) -> bool:
    """Whether the `upper` 8 bits of a 16-bit image show that it uses the lower bits only; not if all are black."""
    return bool(upper.any() and np.count_nonzero(upper >= DARK_LEVEL) < 0.01 * upper.size)


def as_numbers(image: Image.Image) -> np.ndarray:
    """The numbers that a gray or palette mask stores, (H, W) uint8 or uint16. See the table above.

    Raises ValueError for colors, and where the stored numbers cannot be known for certain.
    """
    raw, largest = _raw_mode(image), _pnm_maxval(image)
    if has_16_bits(image) and image.mode in ("RGB", "RGBA", "LA", "RGBX"):
        raise ValueError("it has 16 bits in several channels, of which only the upper 8 can be read; save it as 8-bit")
    match image.mode:
        case "1" | "L" | "P":
            values = np.array(image, dtype=np.uint8)
            return _stored_numbers(values, raw, largest)
        case "LA" | "PA":
            return np.array(image, dtype=np.uint8)[..., 0]
        case "RGB" | "RGBA" | "RGBX":
            channels = np.array(image)
            if (channels[..., 0] == channels[..., 1]).all() and (channels[..., 0] == channels[..., 2]).all():
                return _stored_numbers(channels[..., 0], raw, largest)
            raise ValueError(
                "it is a color mask, but the dataset's masks contain ids; convert it to class ids, or write "
                'labels_kind = "color" if all masks have colors'
            )
        case mode if mode.startswith("I"):
            values = _integers(image)
            return np.rint(values * (largest / 65535)).astype(np.uint16) if largest else values.astype(np.uint16)
        case mode:
            raise ValueError(f"masks cannot have Pillow's mode {mode!r}; save it as an 8-bit gray or palette PNG")


def as_colors(image: Image.Image) -> np.ndarray:
    """The colors of a mask as red * 65536 + green * 256 + blue, uint32 (H, W). Raises ValueError for other modes."""
    if has_16_bits(image) or image.mode.startswith(("I", "F")):
        raise ValueError("it has more than 8 bits per channel, so its colors cannot be compared; save it as 8-bit")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        raise ValueError(
            f"its colors are stored as {image.mode}, which does not convert to RGB exactly; save it as RGB"
        )
    red, green, blue = (np.array(band, dtype=np.uint32) for band in image.convert("RGB").split())
    return red << 16 | green << 8 | blue


def _stored_numbers(values: np.ndarray, raw: str, largest: int | None) -> np.ndarray:
    """Undo what Pillow did to `values` (H, W), decoded by the raw mode `raw`, e.g. "L;4I": 4 bits, inverted."""
    kind, _, variant = raw.partition(";")
    bits = next((count for count in (1, 2, 4) if variant.startswith(str(count))), 8)
    if variant.rstrip("R").endswith("I") and kind in ("1", "L"):
        return (1 if kind == "1" else 255 // _STEP[bits]) - values // np.uint8(1 if kind == "1" else _STEP[bits])
    if kind == "L" and bits < 8:
        return values // np.uint8(_STEP[bits])
    if largest is not None and largest < 255:
        return np.rint(values * (largest / 255)).astype(np.uint8)
    return values


_STEP = {1: 255, 2: 85, 4: 17, 8: 1}  # Pillow multiplies numbers of so many bits by this


def _integers(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError(
            f"its values range from {values.min()} to {values.max()}, more than 16 bits can hold; convert it"
        )
    return values


def has_16_bits(image: Image.Image) -> bool:
    """Whether the file stores 16 bits per channel; known until the image is decoded, except for gray ones."""
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) == 16
    return image.mode.startswith("I;16") or "16" in _raw_mode(image) or (_pnm_maxval(image) or 0) > 255


def _raw_mode(image: Image.Image) -> str:
    """How pixels are stored in the file, e.g. "L;4"; known until the image is decoded."""
    tile = getattr(image, "tile", None)
    if not tile:
        return ""
    arguments = tile[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _pnm_maxval(image: Image.Image) -> int | None:
    """The largest value that a PNM file declares, where Pillow scales by it."""
    tile = getattr(image, "tile", None)
    if image.format != "PPM" or not tile or not isinstance(tile[0][3], tuple) or len(tile[0][3]) < 2:
        return None
    largest = tile[0][3][1]
    return largest if isinstance(largest, int) and 0 < largest < 65536 else None


def _advice(error: Exception) -> str:
    if "a side may have at most" in str(error):
        return "Convert it to a GeoTIFF and process it in tiles: fastfcn predict --tile 2048"
    if isinstance(error, Image.DecompressionBombError):
        return "Process it in tiles: fastfcn predict --tile 2048"
    if isinstance(error, Image.UnidentifiedImageError):
        return "Restore the file from an intact copy, convert it to PNG or JPEG, or remove it together with its mask."
    if isinstance(error, PermissionError):
        return "Change its permissions, or leave it out."
    if isinstance(error, IsADirectoryError):
        return "Name a file."
    if isinstance(error, ValueError) and any(verb in str(error) for verb in ("save it as", "convert it")):
        return "The file is complete, but its pixels cannot be used as they are."
    return "Restore the file from an intact copy, or remove it together with its mask."
