"""Sizes of images and labels, and resizing to them as OpenCV does it, to the bit.

The published networks were trained and scored on what `cv2.resize` gave (versions 3.4 to 5.0 give the same). The
same whole numbers are computed here, so scores depend neither on OpenCV nor, as torch's do, on the processor.
"""

import numpy as np

from fastfcn.utils.types import Size

Window = tuple[slice, slice]  # rows and columns

WHOLE = (slice(None), slice(None))
SHARES = 2048  # a pixel is made of whole 2048ths of two neighbours
STRIP = 32  # output rows made at a time; so many stay in the processor's cache


def keep_ratio_size(size: Size, bounds: Size) -> Size:
    """The largest (height, width) with the proportions of `size` that fits into `bounds`, laid either way.

    The rounding is OpenMMLab's (mmcv `rescale_size`), so sizes agree to the pixel.
    """
    factor = min(max(bounds) / max(size), min(bounds) / min(size))
    return max(int(size[0] * factor + 0.5), 1), max(int(size[1] * factor + 0.5), 1)


def scaled_size(size: Size, scale: float) -> Size:
    """(height, width) of `scale` times `size`, as multi-scale testing has it.

    OpenMMLab (mmcv `Resize` with a scale factor) rounds both sides, then keeps the proportions within these
    bounds: 203 x 214 times 0.75 is 152 x 160, where plain rounding says 161.
    """
    return keep_ratio_size(size, (int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)))


def resize_image(image: np.ndarray, size: Size, window: Window = WHOLE) -> np.ndarray:
    """`image` (H, W, C) uint8 at `size`, bilinear between the four nearest pixels, without antialiasing.

    Of the result only the `window` is made. Equals OpenCV's INTER_LINEAR, with its shares in 2048ths and its
    cut-offs of 4 and 16 bits between them (for images of at least two columns).
    """
    if image.shape[:2] == tuple(size):
        return image[window]
    channels = image.shape[2]
    left, right = _neighbours(image.shape[1], size[1], window[1])
    upper, lower = _neighbours(image.shape[0], size[0], window[0])
    columns = [(_interleaved(at, channels), share.repeat(channels)) for at, share in (left, right)]
    pixels = image.reshape(len(image), -1)
    resized = np.empty((len(upper[0]), len(columns[0][0])), np.uint8)
    for top in range(0, len(resized), STRIP):
        strip = slice(top, top + STRIP)
        first, last = upper[0][strip][0], lower[0][strip][-1]
        source = pixels[first : last + 1]
        near, far = (source.take(at, 1) * share for at, share in columns)
        mixed = (near + far) >> 4
        parts = [(mixed.take(at[strip] - first, 0) * share[strip, None]) >> 16 for at, share in (upper, lower)]
        resized[strip] = (parts[0] + parts[1] + 2) >> 2
    return resized.reshape(len(resized), -1, channels)


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """`label` (H, W) at `size`, each pixel copied from one: OpenCV's INTER_NEAREST.

    It cuts coordinates off, after a multiplication in floating point that can fall short of a whole number.
    """
    if label.shape == tuple(size):
        return label
    rows, columns = (
        np.minimum((np.arange(after) * _step(before, after)).astype(np.int64), before - 1)
        for before, after in zip(label.shape, size, strict=True)
    )
    return label[rows[:, None], columns]


def _neighbours(before: int, after: int, part: slice) -> list[tuple[np.ndarray, np.ndarray]]:
    """For the pixels `part` of `after`, the two pixels of `before` next to each: indices, and shares in 2048ths."""
    place = ((np.arange(after)[part] + 0.5) * _step(before, after) - 0.5).astype(np.float32)
    low = np.floor(place)
    share = place - low
    indices = low.astype(np.int64)
    shares = (np.rint(each * SHARES).astype(np.int32) for each in (1 - share, share))
    return [(np.clip(indices + step, 0, before - 1), each) for step, each in enumerate(shares)]


def _step(before: int, after: int) -> float:
    """Pixels of `before` to a pixel of `after`, rounded twice, as OpenCV computes it."""
    return 1 / (after / before)


def _interleaved(columns: np.ndarray, channels: int) -> np.ndarray:
    """Indices into rows of (W * channels,) of all channels of `columns`."""
    return (columns[:, None] * channels + np.arange(channels)).ravel()
