"""Training transforms of images and labels: random scale, crop, flip, colors, rotation and blur; normalization."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastfcn.data import opencv_resize as opencv
from fastfcn.data import pillow_resize as pillow
from fastfcn.data.class_crops import ClassCrops, class_window
from fastfcn.data.opencv_resize import Window, keep_ratio_size
from fastfcn.data.rand_augment import RandAugment
from fastfcn.utils.sizes import IGNORE_INDEX, Size

CROP_TRIES = 10
BRIGHTNESS = 32.0  # added, in gray levels
CONTRAST = SATURATION = (0.5, 1.5)  # multiplied
BAND_BRIGHTNESS = 0.25  # added, in standard deviations of the band
BAND_CONTRAST = (0.75, 1.25)  # multiplied
HUE = 18  # added, in steps of two degrees, the unit of OpenCV's 8-bit hue
RESIZING = {"opencv": opencv, "pillow": pillow}

ScaleBy = Literal["box", "short_side"]


def normalize(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`image` (H, W, C) -> float32 (C, H, W): (image - mean) / std, for RGB uint8 both in gray levels 0-255."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    pixels = pixels.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    mean_, std_ = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
    return pixels.sub_(mean_).div_(std_)


def normalize_batch(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalize a batch of images (B, C, H, W), RGB of 0-255 or bands, to float32 in channels-last layout."""
    batch, channels, height, width = images.shape
    pixels = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
    # Normalize whole rows: broadcasting over few channels takes PyTorch ten times as long.
    rows = pixels.permute(0, 2, 3, 1).view(batch, height, channels * width)
    center, spread = (_row(tuple(color), width, images.device) for color in (mean, std))
    rows.sub_(center).div_(spread)
    return pixels


@lru_cache(maxsize=32)
def _row(color: tuple[float, ...], width: int, device: torch.device) -> Tensor:
    """`color` repeated for a row of pixels; cached, because creating it takes as long as using it."""
    with torch.inference_mode(False):
        return torch.tensor(color, device=device).repeat(width)


def pack(image: np.ndarray, missing: Size) -> Tensor:
    """An image (H, W, 3) RGB uint8, padded at the right and bottom, as uint8 (4, h, w); the last channel is 255 inside.

    It travels in a third of the bytes of its normalized form, and `unpack` computes that from it.
    """
    inside = np.full((*image.shape[:2], 1), 255, np.uint8)
    pixels = torch.from_numpy(np.concatenate([image, inside], axis=2)).permute(2, 0, 1).contiguous()
    return functional.pad(pixels, _padding(missing))


def unpack(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """A batch of `pack` (B, 4, h, w) -> normalized float32 (B, 3, h, w), channels last; 0 in the padding."""
    return normalize_batch(images[:, :3], mean, std).masked_fill_(images[:, 3:] == 0, 0.0)


class TrainTransform:
    """Random scale, crop, flip and color changes of one image and its label.

    The first arguments follow mmsegmentation 1.2.2: `base_size` (height, width) times a factor from `scale_range`
    bounds the scaled image, which keeps its aspect ratio. A crop in which one class fills `cat_max_ratio` of the
    labeled pixels or more is redrawn, at most ten times (1.0: every crop is accepted). `flip` and
    `photometric_distortion` are probabilities.

    The last arguments follow FastFCN's own code (wuhuikai/FastFCN): `scale_by` "short_side" draws the length of the
    shorter side in whole pixels, from `scale_range` times that of `base_size`; `interpolation` can be "pillow"; the
    scaled image is rotated by up to `rotate` degrees; `padding` is "mean" or "black" before normalization; with
    probability `blur` the crop is blurred with a Gaussian of up to one pixel.

    Images are RGB uint8, or bands in float32: for these, the photometric distortion changes each band by itself
    (`distorted_bands`), and there is neither `blur` nor `colors`.

    `crops` centers some crops on a class, with no regard to `cat_max_ratio`; `colors` follows the photometric
    distortion. `packed`, an attribute, chooses the form of images: normalized, or as `pack` makes it.

    All randomness comes from the generator passed by the caller, so the result is a pure function of its arguments.
    """

    def __init__(
        self,
        base_size: Size,
        scale_range: tuple[float, float],
        crop: Size,
        cat_max_ratio: float,
        flip: float,
        photometric_distortion: float,
        mean: Sequence[float],
        std: Sequence[float],
        scale_by: ScaleBy = "box",
        interpolation: Literal["opencv", "pillow"] = "opencv",
        rotate: float = 0.0,
        padding: Literal["mean", "black"] = "mean",
        blur: float = 0.0,
        crops: ClassCrops | None = None,
        colors: RandAugment | None = None,
    ):
        self.crops, self.colors = crops, colors
        self.scale_by: ScaleBy = scale_by
        self.base_size, self.scale_range, self.interpolation = base_size, scale_range, interpolation
        self.rotate, self.crop, self.cat_max_ratio = rotate, crop, cat_max_ratio
        self.flip, self.photometric_distortion, self.blur = flip, photometric_distortion, blur
        self.padding, self.mean, self.std = padding, mean, std
        self.packed = False

    def __call__(
        self, image: np.ndarray, label: np.ndarray, generator: np.random.Generator, center_on: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        """(H, W, C) and uint8 (H, W) -> float32 (C, h, w) and uint8 (h, w), where (h, w) is `crop`.

        With `packed`, the image is uint8 (4, h, w).

        If the scaled image is smaller than the crop, it is padded at the right and bottom: with 0 after normalization
        or with black before it, and with 255 in the label. With `center_on`, the crop is centered on one of
        these classes.
        """
        image, label = self._scale_and_crop(image, label, generator, center_on)
        if generator.random() < self.flip:
            # Copies, because torch refuses the negative strides that views of images one pixel wide keep.
            image, label = image[:, ::-1].copy(), label[:, ::-1].copy()
        if image.dtype == np.uint8:
            image = distorted(image, self.photometric_distortion, generator)
        else:
            image = distorted_bands(image, self.photometric_distortion, generator, self.mean, self.std)
        image = self.colors(image, generator) if self.colors else image
        missing = self.crop[0] - label.shape[0], self.crop[1] - label.shape[1]
        classes = functional.pad(torch.from_numpy(np.ascontiguousarray(label)), _padding(missing), value=IGNORE_INDEX)
        if self.padding == "black":
            image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)))
            missing = (0, 0)
        if self.blur and generator.random() < self.blur:
            image = pillow.blur_image(image, generator.random())
        if self.packed:
            return pack(image, missing), classes
        return functional.pad(normalize(image, self.mean, self.std), _padding(missing)), classes

    def _scale_and_crop(
        self, image: np.ndarray, label: np.ndarray, generator: np.random.Generator, classes: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scale, rotate and crop image and label; the result is smaller than the crop if the scaled image is."""
        size = self._scaled_size(label.shape, generator)
        resizing = RESIZING[self.interpolation]
        label = resizing.resize_label(label, size)
        if not self.rotate:
            window = self._choose_window(label, generator, classes)
            return resizing.resize_image(image, size, window), label[window]
        degrees = generator.uniform(-self.rotate, self.rotate)
        fill = [0.0 if self.padding == "black" else value for value in self.mean]
        image = pillow.rotate_image(resizing.resize_image(image, size), degrees, fill)
        label = pillow.rotate_label(label, degrees, IGNORE_INDEX)
        window = self._choose_window(label, generator, classes)
        return image[window], label[window]

    def _scaled_size(self, size: tuple[int, ...], generator: np.random.Generator) -> Size:
        match self.scale_by:
            case "box":
                ratio = generator.uniform(*self.scale_range)
                bounds = (int(self.base_size[0] * ratio), int(self.base_size[1] * ratio))
                return keep_ratio_size((size[0], size[1]), bounds)
            case "short_side":
                low, high = (int(min(self.base_size) * factor) for factor in self.scale_range)
                return short_side_size((size[0], size[1]), int(generator.integers(low, high + 1)))

    def _choose_window(self, label: np.ndarray, generator: np.random.Generator, classes: Sequence[int]) -> Window:
        centered = None
        if classes:
            centered = class_window(label, self.crop, 0.0, generator, classes)
        elif self.crops and generator.random() < self.crops.probability:
            centered = class_window(label, self.crop, self.crops.power, generator)
        if centered:
            return centered
        window = _random_window(label.shape, self.crop, generator)
        if self.cat_max_ratio < 1.0:
            for _ in range(CROP_TRIES):
                if largest_class_share(label[window]) < self.cat_max_ratio:
                    break
                window = _random_window(label.shape, self.crop, generator)
        return window


def short_side_size(size: Size, length: int) -> Size:
    """(height, width) with the aspect ratio of `size` and a shorter side of `length`; the other is rounded down."""
    height, width = size
    if height > width:
        return int(height * length / width), length
    return length, int(width * length / height)


def largest_class_share(label: np.ndarray) -> float:
    """The fraction of labeled pixels of the most frequent class; 1.0 if no pixel is labeled."""
    counts = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def distorted(image: np.ndarray, probability: float, generator: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue of `image` (H, W, 3) uint8, each with `probability`.

    Order and ranges are those of SSD (Liu et al., 2016) as in mmsegmentation: contrast comes second or last. As
    there, the result of each change is rounded to 8 bits, so brightness and contrast are tables of 256 entries.
    """
    if not probability:
        return image
    levels = np.arange(256, dtype=np.float32)
    if generator.random() < probability:
        image = _byte_table(levels + generator.uniform(-BRIGHTNESS, BRIGHTNESS))[image]
    contrast = generator.uniform(*CONTRAST) if generator.random() < probability else 1.0
    contrast_first = generator.random() < 0.5
    if contrast_first and contrast != 1.0:
        image = _byte_table(levels * contrast)[image]
    saturation = generator.uniform(*SATURATION) if generator.random() < probability else 1.0
    hue = int(generator.integers(-HUE, HUE)) if generator.random() < probability else 0
    image = shift_colors(image, saturation, hue * 2.0)
    if not contrast_first and contrast != 1.0:
        image = _byte_table(levels * contrast)[image]
    return image


def distorted_bands(
    image: np.ndarray, probability: float, generator: np.random.Generator, mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """Change brightness and contrast of each band of `image` (H, W, C) float32, each change with `probability`.

    A band is (image - mean) * contrast + mean + brightness, where contrast is drawn from BAND_CONTRAST and brightness
    from -BAND_BRIGHTNESS to BAND_BRIGHTNESS standard deviations.
    """
    if not probability:
        return image
    channels, changed = len(mean), generator.random((2, len(mean))) < probability
    contrast = np.where(changed[0], generator.uniform(*BAND_CONTRAST, channels), 1.0)
    shift = np.where(changed[1], generator.uniform(-BAND_BRIGHTNESS, BAND_BRIGHTNESS, channels), 0.0)
    offset = np.asarray(mean) * (1 - contrast) + np.asarray(std) * shift
    return image * contrast.astype(np.float32) + offset.astype(np.float32)


def shift_colors(image: np.ndarray, saturation: float, hue: float) -> np.ndarray:
    """`image` (H, W, 3) uint8 with its HSV saturation multiplied and its hue turned by `hue` degrees.

    The color circle in closed form: with value V, chroma C and hue h in sixths of the circle, a channel is
    V - C * clip(min(k, 4 - k), 0, 1) where k = (start + h) mod 6 and start is 5, 3, 1 for red, green, blue.
    """
    if saturation == 1.0 and hue == 0.0:
        return image
    red, green, blue = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    sixth = 1 / np.maximum(chroma, 1)  # hue is undefined for gray; any value works
    turn = np.where(value == green, (blue - red) * sixth + 2, (red - green) * sixth + 4)
    turn = np.where(value == red, (green - blue) * sixth, turn) + np.float32(hue / 60)
    chroma = np.minimum(chroma * np.float32(saturation), value)  # saturation = chroma / value, at most 1
    shifted = np.empty_like(image)
    for channel, start in enumerate((5.0, 3.0, 1.0)):
        position = turn + np.float32(start)
        position -= np.floor(position * np.float32(1 / 6)) * np.float32(6)
        np.clip(np.minimum(position, 4 - position), 0, 1, out=position)
        shifted[..., channel] = value - chroma * position + np.float32(0.5)
    return shifted


def _byte_table(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _random_window(size: tuple[int, ...], crop: Size, generator: np.random.Generator) -> Window:
    top, left = (
        int(generator.integers(max(side - crop_side, 0) + 1)) for side, crop_side in zip(size, crop, strict=True)
    )
    return slice(top, top + crop[0]), slice(left, left + crop[1])


def _padding(missing: tuple[int, int]) -> tuple[int, int, int, int]:
    """Padding as torch's `pad` expects it: left, right, top, bottom."""
    return 0, missing[1], 0, missing[0]
