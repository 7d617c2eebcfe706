"""Small files that take much time or memory to decode or to process."""

import io
import struct
import zlib

from PIL import Image


def many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive gray JPEG whose first scan of higher frequencies is there `scans` + 1 times: 20 bytes for each."""
    stream = io.BytesIO()
    Image.new("L", (width, height), 128).save(stream, "JPEG", progressive=True, quality=50)
    data = stream.getvalue()
    start = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    end = data.index(b"\xff", start + 2)
    return data[:end] + data[start:end] * scans + b"\xff\xd9"


def thin_png(width: int, height: int = 1) -> bytes:
    """A black gray PNG: a kilobyte for each million pixels."""
    return png_file(width, height, zlib.compress(bytes((width + 1) * height), 9))


def png_file(width: int, height: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A gray PNG with these compressed data, and more `chunks` before them."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), *chunks, (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def many_profiles(count: int, width: int = 64, height: int = 64) -> bytes:
    """A PNG with `count` color profiles of a megabyte each, which take a kilobyte of the file."""
    profile = b"a\0\0" + zlib.compress(bytes(10**6 - 100), 9)
    return png_file(width, height, zlib.compress(bytes((width + 1) * height)), *([(b"iCCP", profile)] * count))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
