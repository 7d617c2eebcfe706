"""Small datasets of five bands in every form of file, and 16-bit PNG files, which Pillow does not write."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.data.bands import rasterio

NAMES = ("blue", "green", "red", "nir", "swir")
SIZE = (32, 48)
NODATA = 0


def scene(seed: int, dtype: str = "uint16") -> tuple[np.ndarray, np.ndarray]:
    """Bands (H, W, 5) and a mask (H, W) of three classes, which only near and short-wave infrared tell apart."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SIZE, np.uint8)
    top, left = rng.integers(2, 12, 2)
    mask[top : top + 14, left : left + 20] = 1
    mask[-5:] = 2
    values = np.array([600, 900, 1100, 2500, 1800]) + rng.normal(0, 90, (*SIZE, 5))
    values[..., 3] += 1500 * (mask == 1)
    values[..., 4] -= 900 * (mask == 2)
    return (values / 10000 if dtype == "float32" else values).astype(dtype), mask


def write_tiff(path: Path, pixels: np.ndarray, names: tuple[str, ...] = NAMES, nodata: float | None = None) -> Path:
    """A GeoTIFF with one band per channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = pixels.shape
    with rasterio().open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=pixels.dtype.name, nodata=nodata,
        compress="lzw", transform=rasterio().Affine(1, 0, 100, 0, -1, 100),
    ) as file:  # fmt: skip
        file.write(pixels.transpose(2, 0, 1))
        if names:
            file.descriptions = names
    return path


def write_set(root: Path, dtype: str = "uint16", suffix: str = ".tif", train: int = 4, val: int = 2) -> Path:
    """Images and masks in folders of the same names, with train and val below them; one image has missing pixels."""
    for number in range(train + val):
        split = "train" if number < train else "val"
        pixels, mask = scene(number, dtype)
        if number == 0:
            pixels[:2, :3] = NODATA if dtype != "float32" else np.nan
        image = root / "images" / split / f"scene{number}{suffix}"
        image.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(image, pixels)
        else:
            write_tiff(image, pixels, nodata=NODATA if dtype == "uint16" else None)
        target = root / "masks" / split / f"scene{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    return root


def png_16_bits(pixels: np.ndarray, filter: int = 0) -> bytes:
    """A PNG of (H, W, 1 to 4) uint16 whose rows use one of PNG's filters: 0 (none), 1 (left) or 2 (above)."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    shifted = np.zeros_like(rows)
    if filter == 1:
        shifted[:, 2 * channels :] = rows[:, : -2 * channels]
    elif filter == 2:
        shifted[1:] = rows[:-1]
    content = b"".join(bytes([filter]) + row.tobytes() for row in rows - shifted)
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">LLBBBBB", width, height, 16, color, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(content)), (b"IEND", b""))
    chunks = (
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
