"""One image: whether it is whole, what it is, and a fingerprint that a copy of it shares."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from fastfcn.checking.flags import Sign
from fastfcn.data.images import BROKEN, TURNED
from fastfcn.utils.types import Size

CELLS = 5  # a fingerprint is the brightness of CELLS x CELLS parts
TEXTURE = 6.0  # standard deviation of a picture's parts below which it is too flat to be told from others


class ImageSeen(NamedTuple):
    """What an image is: `stored` is its (height, width) in the file, `upright` as its EXIF orientation says.

    `digest` is that of the file's bytes; `fingerprint` the brightness of its parts without its mean and in units of
    its spread, int8 (CELLS * CELLS,) in steps of 1/32, or all -128 where there is none.
    """

    signs: Sign
    stored: Size = (0, 0)
    upright: Size = (0, 0)
    digest: int = 0
    fingerprint: np.ndarray = np.full(CELLS * CELLS, -128, np.int8)
    trouble: str = ""


def see_image(path: Path) -> ImageSeen:
    """Read the image at `path` as far as is needed to know that it is whole; never raises for a broken file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return ImageSeen(Sign.IMAGE_UNREADABLE, trouble=error.strerror or str(error))
    digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _see(image)._replace(digest=digest)
    except BROKEN as error:
        trouble = reason(data, error)
        return ImageSeen(broken(trouble, Sign.IMAGE_TRUNCATED, Sign.IMAGE_UNREADABLE), digest=digest, trouble=trouble)


def reason(data: bytes, error: Exception) -> str:
    """Why a file cannot be decoded, as a person would say it."""
    if not data:
        return "the file is empty"
    if data.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself (run: git lfs pull)"
    if data.lstrip()[:1] == b"<":
        return "it is a web page or XML, not an image"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image that Pillow knows"
    return str(error)


def broken(trouble: str, truncated: Sign, unreadable: Sign) -> Sign:
    """The sign of a file that cannot be decoded."""
    cut = ("truncated", "unexpected end", "not enough image data", "broken data stream")
    return truncated if any(word in trouble.lower() for word in cut) else unreadable


def _see(image: Image.Image) -> ImageSeen:
    signs, (width, height) = _kind(image), image.size
    orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        signs |= Sign.IMAGE_TURNED
    if image.format == "JPEG":
        image.draft("L", (8 * CELLS, 8 * CELLS))  # an eighth of the size: every bit is still decoded
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        signs |= _depth(image)
    small = _brightness(image)
    low, high = small.getextrema()
    if low == high:
        signs |= Sign.IMAGE_BLANK
    upright = (width, height) if orientation in TURNED else (height, width)
    return ImageSeen(signs, (height, width), upright, fingerprint=_fingerprint(small))


def _kind(image: Image.Image) -> Sign:
    signs = Sign(0)
    if image.mode in ("RGBA", "LA", "PA", "CMYK", "RGBa", "La") or "transparency" in image.info:
        signs |= Sign.IMAGE_CHANNELS
    tile = getattr(image, "tile", None)
    if image.mode.startswith("I") or (tile and "16" in str(tile[0][3])):
        signs |= Sign.IMAGE_16_BIT
    if image.format != "MPO" and getattr(image, "is_animated", False):
        signs |= Sign.IMAGE_FRAMES
    return signs


def _depth(image: Image.Image) -> Sign:
    """What is wrong with numbers of more than 8 bits, of which readers keep bits 8 to 15."""
    low, high = image.getextrema()
    if image.mode == "F" or not 0 <= float(low) <= float(high) <= 65535:  # type: ignore[arg-type]
        return Sign.IMAGE_MODE
    return Sign.IMAGE_DARK if float(high) < 4096 else Sign(0)  # type: ignore[arg-type]


def _brightness(image: Image.Image) -> Image.Image:
    """The image in grey, 8 bits, and not much larger than it has to be."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        span = values.max() - values.min()
        return Image.fromarray(((values - values.min()) * (255 / span if span else 0)).astype(np.uint8))
    factor = min(image.size) // (4 * CELLS)
    if factor > 1 and image.mode in ("L", "RGB", "RGBA", "CMYK"):
        image = image.reduce(factor)
    return image if image.mode == "L" else image.convert("RGB").convert("L")


def _fingerprint(image: Image.Image) -> np.ndarray:
    parts = np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX), np.float32).ravel()
    spread = float(parts.std())
    if spread < TEXTURE:
        return np.full(CELLS * CELLS, -128, np.int8)
    return np.clip(np.rint((parts - parts.mean()) / spread * 32), -127, 127).astype(np.int8)
