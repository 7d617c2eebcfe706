"""Resize images and labels bit for bit as OpenCV does, and compute target sizes as OpenMMLab does.

The published models were trained and evaluated with `cv2.resize` (versions 3.4 to 5.0 give the same results). The same
integer arithmetic is used here, so scores depend neither on OpenCV nor, as with torch's interpolation, on the CPU.
"""

import numpy as np

from fastfcn.utils.sizes import Size

Window = tuple[slice, slice]  # rows and columns

WHOLE = (slice(None), slice(None))
WEIGHT_SCALE = 2048  # interpolation weights are integers in 1/2048
STRIP = 32  # output rows computed at a time, so that they stay in the CPU cache


def keep_ratio_size(size: Size, bounds: Size) -> Size:
    """The largest (height, width) with the aspect ratio of `size` that fits into `bounds`, in either orientation.

    Rounds as OpenMMLab does (mmcv `rescale_size`), so sizes agree to the pixel.
    """
    factor = min(max(bounds) / max(size), min(bounds) / min(size))
    return max(int(size[0] * factor + 0.5), 1), max(int(size[1] * factor + 0.5), 1)


def scaled_size(size: Size, scale: float) -> Size:
    """(height, width) of `scale` times `size`, for multi-scale testing.

    OpenMMLab (mmcv `Resize` with a scale factor) rounds both sides, then keeps the aspect ratio within these
    bounds: 203 x 214 times 0.75 is 152 x 160, while plain rounding would give 161.
    """
    return keep_ratio_size(size, (int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)))


def resize_image(image: np.ndarray, size: Size, window: Window = WHOLE) -> np.ndarray:
    """Resize `image` (H, W, C), uint8 or float32, to `size`, bilinear without antialiasing.

    Only the `window` of the result is computed. For uint8 it equals OpenCV's INTER_LINEAR, including its weights in
    1/2048 and the truncation by 4 and 16 bits in between (for images with at least two columns).
    """
    if image.shape[:2] == tuple(size):
        return image[window]
    if image.dtype != np.uint8:
        return _resize_floats(image, size, window)
    channels = image.shape[2]
    left, right = _neighbors(image.shape[1], size[1], window[1])
    upper, lower = _neighbors(image.shape[0], size[0], window[0])
    columns = [(_interleaved(at, channels), weight.repeat(channels)) for at, weight in (left, right)]
    pixels = image.reshape(len(image), -1)
    resized = np.empty((len(upper[0]), len(columns[0][0])), np.uint8)
    for top in range(0, len(resized), STRIP):
        strip = slice(top, top + STRIP)
        first, last = upper[0][strip][0], lower[0][strip][-1]
        source = pixels[first : last + 1]
        near, far = (source.take(at, 1) * weight for at, weight in columns)
        mixed = (near + far) >> 4
        parts = [(mixed.take(at[strip] - first, 0) * weight[strip, None]) >> 16 for at, weight in (upper, lower)]
        resized[strip] = (parts[0] + parts[1] + 2) >> 2
    return resized.reshape(len(resized), -1, channels)


def _resize_floats(image: np.ndarray, size: Size, window: Window) -> np.ndarray:
    """As `resize_image`, in float32 with the same positions: columns first, then rows."""
    (left, left_weight), (right, right_weight) = _neighbors(image.shape[1], size[1], window[1])
    (upper, upper_weight), (lower, lower_weight) = _neighbors(image.shape[0], size[0], window[0])
    scale = np.float32(1 / WEIGHT_SCALE)
    columns = [weight.astype(np.float32)[:, None] * scale for weight in (left_weight, right_weight)]
    rows = [weight.astype(np.float32)[:, None, None] * scale for weight in (upper_weight, lower_weight)]
    resized = np.empty((len(upper), len(left), image.shape[2]), np.float32)
    for top in range(0, len(resized), STRIP):
        strip = slice(top, top + STRIP)
        source = image[upper[strip][0] : lower[strip][-1] + 1]
        mixed = source.take(left, 1) * columns[0] + source.take(right, 1) * columns[1]
        first = upper[strip][0]
        resized[strip] = mixed.take(upper[strip] - first, 0) * rows[0][strip]
        resized[strip] += mixed.take(lower[strip] - first, 0) * rows[1][strip]
    return resized


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """Resize `label` (H, W) to `size` with nearest neighbor, as OpenCV's INTER_NEAREST.

    It truncates coordinates after a floating-point multiplication, whose result can be just below a whole number.
    """
    if label.shape == tuple(size):
        return label
    rows, columns = (
        np.minimum((np.arange(after) * _step(before, after)).astype(np.int64), before - 1)
        for before, after in zip(label.shape, size, strict=True)
    )
    return label[rows[:, None], columns]


def _neighbors(before: int, after: int, part: slice) -> list[tuple[np.ndarray, np.ndarray]]:
    """For the pixels `part` of `after`: indices of the two neighboring pixels of `before`, and weights in 1/2048."""
    position = ((np.arange(after)[part] + 0.5) * _step(before, after) - 0.5).astype(np.float32)
    low = np.floor(position)
    weight = position - low
    indices = low.astype(np.int64)
    weights = (np.rint(fraction * WEIGHT_SCALE).astype(np.int32) for fraction in (1 - weight, weight))
    return [(np.clip(indices + step, 0, before - 1), scaled) for step, scaled in enumerate(weights)]


def _step(before: int, after: int) -> float:
    """Input pixels per output pixel, rounded twice, as OpenCV computes it."""
    return 1 / (after / before)


def _interleaved(columns: np.ndarray, channels: int) -> np.ndarray:
    """Indices of all channels of `columns` in rows of (W * channels,)."""
    return (columns[:, None] * channels + np.arange(channels)).ravel()
