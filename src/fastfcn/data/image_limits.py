"""Limits that keep images of unknown origin from taking much time or memory: sides, estimated memory, JPEG scans.

The number of pixels alone bounds neither. Networks round each side up to whole cells of their coarsest feature map, so
that an image one pixel high takes as much memory as one of 32 pixels. A progressive JPEG can contain tens of thousands
of scans, each of which passes over the whole image.
"""

import re
from io import SEEK_SET
from math import isqrt

from PIL import Image

MAX_SIDE = 65_535  # pixels, as in JPEG; some decoders and layers cannot handle more
CELL = 32  # pixels; the coarsest stride of a backbone
MAX_SCANS = 200  # encoders write about ten; one for each of 64 coefficients of three components are 192
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # of JPEG; the others are part of the compressed data
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WITHOUT_LENGTH = (0x01, 0xD8)


def memory_pixels(height: int, width: int) -> int:
    """The pixels of an image when each side is rounded up to whole cells: the memory of a network is proportional."""
    return (-(-height // CELL) * CELL) * (-(-width // CELL) * CELL)


def needs_too_much_memory(height: int, width: int, max_pixels: int) -> bool:
    """Whether an image needs more than twice the memory of a square one of `max_pixels`."""
    side = isqrt(max(max_pixels, 1) - 1) + 1
    return memory_pixels(height, width) > 2 * memory_pixels(side, side)


def check_limits(image: Image.Image) -> None:
    """Raise ValueError for an opened image, not yet decoded, with too long sides or too many scans."""
    check_sides(image.height, image.width)
    check_scans(image)


def check_sides(height: int, width: int, limit: int = MAX_SIDE) -> None:
    """Raise ValueError for sides longer than `limit`."""
    if max(height, width) > limit:
        raise ValueError(f"it has {width} x {height} pixels; a side may have at most {limit}")


def check_scans(image: Image.Image) -> None:
    """Raise ValueError for an opened JPEG of more than MAX_SCANS scans. The position in the file is kept."""
    stream = getattr(image, "fp", None)
    if image.format not in ("JPEG", "MPO") or stream is None:
        return
    position = stream.tell()
    stream.seek(0)
    data = stream.read()
    stream.seek(position, SEEK_SET)
    if count_scans(data, MAX_SCANS) > MAX_SCANS:
        raise ValueError(
            f"it has more than {MAX_SCANS} scans, which would take very long to decode; save it as a JPEG again"
        )


def count_scans(data: bytes, limit: int) -> int:
    """The number of scans of a JPEG file; counting ends beyond `limit`.

    A scan that holds all components of a sequential JPEG is its only one, and its data are not searched.
    """
    scans, position, components = 0, 2, 0
    while scans <= limit and (match := MARKER.search(data, position)):
        kind, position = data[match.end() - 1], match.end()
        if kind == END_OF_IMAGE:
            break
        if kind in WITHOUT_LENGTH:
            continue
        if kind == START_OF_SCAN:
            scans += 1
            if components and data[position + 2 : position + 3] == bytes([components]):
                break
        elif kind in (0xC0, 0xC1, 0xC9):  # sequential: Huffman, extended, arithmetic
            components = int.from_bytes(data[position + 7 : position + 8], "big")
        elif kind in (0xC2, 0xCA):  # progressive
            components = 0
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return scans
