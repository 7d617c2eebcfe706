"""Image files written byte by byte, in forms that Pillow reads but does not write."""

import struct
import zlib

import numpy as np

Label = np.ndarray  # (H, W), small integers


def png(values: Label, depth: int, color: int, alpha: int | None = None) -> bytes:
    """A PNG of `depth` bits per sample and PNG's color type 0 (gray), 2 (RGB), 3 (palette), 4 (gray + alpha), 6."""
    height, width = values.shape
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    full = np.repeat(values[..., None].astype(np.int64), channels, 2)
    if color in (4, 6):
        full[..., -1] = 2**depth - 1 if alpha is None else alpha
    rows = b"".join(b"\0" + packed(row.reshape(-1), depth) for row in full)
    palette = _chunk(b"PLTE", bytes(range(256))[: 3 * 2**depth] * (3 if depth == 8 else 1)) if color == 3 else b""
    head = _chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + palette + _chunk(b"IDAT", zlib.compress(rows)) + _end()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def _end() -> bytes:
    return _chunk(b"IEND", b"")


def tiff(values: Label, bits: int, photometric: int = 1, tags: dict[int, tuple[int, int]] | None = None) -> bytes:
    """An uncompressed little-endian TIFF of one channel; `photometric` 0 is "white is zero", 1 "black is zero"."""
    height, width = values.shape
    data = b"".join(packed(row, bits, little=True) for row in values.astype(np.int64))
    entries = {256: (4, width), 257: (4, height), 258: (3, bits), 259: (3, 1), 262: (3, photometric), 273: (4, 0)}
    entries |= {277: (3, 1), 278: (4, height), 279: (4, len(data))} | (tags or {})
    entries[273] = (4, 8 + 2 + 12 * len(entries) + 4)
    body = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, (kind, value) in sorted(entries.items()))
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + body + struct.pack("<L", 0) + data


def pnm(values: Label, largest: int, plain: bool = False) -> bytes:
    """A PGM file with the maxval `largest`, binary or as text."""
    height, width = values.shape
    head = f"{'P2' if plain else 'P5'}\n{width} {height}\n{largest}\n".encode()
    if plain:
        return head + b"\n".join(b" ".join(str(value).encode() for value in row) for row in values) + b"\n"
    return head + values.astype(">u2" if largest > 255 else "u1").tobytes()


def packed(row: np.ndarray, bits: int, little: bool = False) -> bytes:
    """Values as consecutive `bits`, the first in the highest bits; each row ends at a byte boundary."""
    if bits == 16:
        return row.astype("<u2" if little else ">u2").tobytes()
    if bits == 32:
        return row.astype("<u4" if little else ">u4").tobytes()
    if bits == 8:
        return row.astype(np.uint8).tobytes()
    ones = ((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
    return np.packbits(ones.reshape(-1)).tobytes()


def jpeg_with_exif(jpeg: bytes, *tags: tuple[int, int, int, bytes]) -> bytes:
    """A JPEG file with an EXIF segment of (tag, type, count, value), valid or not."""
    tail, base = b"", 8 + 2 + 12 * len(tags) + 4
    body = struct.pack("<H", len(tags))
    for tag, kind, count, value in sorted(tags):
        fits = len(value) <= 4
        body += struct.pack("<HHL", tag, kind, count)
        body += value.ljust(4, b"\0") if fits else struct.pack("<L", base + len(tail))
        tail += b"" if fits else value
    exif = b"Exif\0\0II*\0" + struct.pack("<L", 8) + body + struct.pack("<L", 0) + tail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
