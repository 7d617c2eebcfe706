"""What happens to an image, and to its label with it, on the way into the network."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastfcn.data import pillow_resize as pillow
from fastfcn.data import resize
from fastfcn.data.resize import Window, keep_ratio_size
from fastfcn.utils.types import IGNORE_INDEX, Size

CROP_TRIES = 10
BRIGHTNESS = 32.0  # added, in grey levels
CONTRAST = SATURATION = (0.5, 1.5)  # multiplied
HUE = 18  # added, in steps of two degrees: the unit of OpenCV's 8-bit hue
RESIZING = {"opencv": resize, "pillow": pillow}

ScaleBy = Literal["box", "short_side"]


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`image` (H, W, 3) RGB uint8 -> float32 (3, H, W): (image - mean) / std, both in grey levels 0-255."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    pixels = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    mean_, std_ = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
    return pixels.sub_(mean_).div_(std_)


def normalise_batch(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """RGB images (B, 3, H, W) of values 0-255 as a network reads them: float32, normalised, channels last."""
    batch, _, height, width = images.shape
    pixels = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
    # Whole rows of pixels at a time: with three values at a time torch takes ten times as long.
    rows = pixels.permute(0, 2, 3, 1).view(batch, height, 3 * width)
    center, spread = (_row(tuple(each), width, images.device) for each in (mean, std))
    rows.sub_(center).div_(spread)
    return pixels


@lru_cache(maxsize=32)
def _row(color: tuple[float, ...], width: int, device: torch.device) -> Tensor:
    """`color` for each pixel of a row. Kept, as making it takes as long as its use."""
    with torch.inference_mode(False):
        return torch.tensor(color, device=device).repeat(width)


class TrainTransform:
    """Random scale, crop, mirroring and colours of one image and its label.

    As mmsegmentation 1.2.2 trains: `base_size` (height, width) times a factor drawn from `scale_range` bounds the
    scaled image, which keeps its proportions. A crop in which one class fills `cat_max_ratio` of the labeled
    pixels or more is drawn again, ten times at most (1.0: any crop is accepted). `flip` and `photometric_distortion`
    are probabilities.

    As FastFCN's own code trains (wuhuikai/FastFCN), with the later arguments: by "short_side" the shorter side is a
    whole number of pixels, drawn between the bounds of `scale_range` times that of `base_size`; resizing is
    "pillow"'s; the scaled image is turned by up to `rotate` degrees; what it lacks is "black" before normalisation;
    and with the probability `blur` the crop goes through a Gaussian of up to one pixel.

    All chance comes from the generator that the caller passes, so the result is a pure function of its arguments.
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
    ):
        self.scale_by: ScaleBy = scale_by
        self.base_size, self.scale_range, self.interpolation = base_size, scale_range, interpolation
        self.rotate, self.crop, self.cat_max_ratio = rotate, crop, cat_max_ratio
        self.flip, self.photometric_distortion, self.blur = flip, photometric_distortion, blur
        self.padding, self.mean, self.std = padding, mean, std

    def __call__(self, image: np.ndarray, label: np.ndarray, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(H, W, 3) uint8 and (H, W) uint8 -> float32 (3, h, w) and uint8 (h, w), where (h, w) is `crop`.

        What the scaled image lacks at the right and the bottom is 0 in the normalised image, or black in the image,
        and 255 in the label.
        """
        image, label = self._window_of_both(image, label, generator)
        if generator.random() < self.flip:
            image, label = image[:, ::-1], label[:, ::-1]
        image = distorted(image, self.photometric_distortion, generator)
        missing = self.crop[0] - label.shape[0], self.crop[1] - label.shape[1]
        classes = functional.pad(
            torch.from_numpy(np.ascontiguousarray(label)), _right_below(missing), value=IGNORE_INDEX
        )
        if self.padding == "black":
            image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)))
            missing = (0, 0)
        if self.blur and generator.random() < self.blur:
            image = pillow.blur_image(image, generator.random())
        return functional.pad(normalise(image, self.mean, self.std), _right_below(missing)), classes

    def _window_of_both(
        self, image: np.ndarray, label: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image and label scaled, turned and cropped; smaller than the crop where the scaled image is."""
        size = self._scaled_size(label.shape, generator)
        resizing = RESIZING[self.interpolation]
        label = resizing.resize_label(label, size)
        if not self.rotate:
            window = self._window(label, generator)
            return resizing.resize_image(image, size, window), label[window]
        degrees = generator.uniform(-self.rotate, self.rotate)
        fill = (0, 0, 0) if self.padding == "black" else [round(value) for value in self.mean]
        image = pillow.rotate_image(resizing.resize_image(image, size), degrees, fill)
        label = pillow.rotate_label(label, degrees, IGNORE_INDEX)
        window = self._window(label, generator)
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

    def _window(self, label: np.ndarray, generator: np.random.Generator) -> Window:
        window = _random_window(label.shape, self.crop, generator)
        if self.cat_max_ratio < 1.0:
            for _ in range(CROP_TRIES):
                if largest_class_share(label[window]) < self.cat_max_ratio:
                    break
                window = _random_window(label.shape, self.crop, generator)
        return window


def short_side_size(size: Size, length: int) -> Size:
    """(height, width) with the proportions of `size` whose shorter side is `length`; the other is cut off."""
    height, width = size
    if height > width:
        return int(height * length / width), length
    return length, int(width * length / height)


def largest_class_share(label: np.ndarray) -> float:
    """The part of the labelled pixels that the most frequent class holds; 1.0 where nothing is labelled."""
    counts = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def distorted(image: np.ndarray, probability: float, generator: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue of `image` (H, W, 3) uint8, each with `probability`.

    Order and ranges are those of SSD (Liu et al., 2016) as mmsegmentation has them: contrast comes second or
    last. Each change ends in 8 bits again, as there; brightness and contrast are therefore tables of 256
    entries.
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


def shift_colors(image: np.ndarray, saturation: float, hue: float) -> np.ndarray:
    """`image` (H, W, 3) uint8 with its HSV saturation multiplied and its hue turned by `hue` degrees.

    The colour circle in closed form: with value V, chroma C and hue h in sixths of the circle, a channel is
    V - C * clip(min(k, 4 - k), 0, 1) where k = (start + h) mod 6 and start is 5, 3, 1 for red, green, blue.
    """
    if saturation == 1.0 and hue == 0.0:
        return image
    red, green, blue = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    sixth = 1 / np.maximum(chroma, 1)  # grey has no hue; any will do
    turn = np.where(value == green, (blue - red) * sixth + 2, (red - green) * sixth + 4)
    turn = np.where(value == red, (green - blue) * sixth, turn) + np.float32(hue / 60)
    chroma = np.minimum(chroma * np.float32(saturation), value)  # saturation = chroma / value, at most 1
    shifted = np.empty_like(image)
    for channel, start in enumerate((5.0, 3.0, 1.0)):
        place = turn + np.float32(start)
        place -= np.floor(place * np.float32(1 / 6)) * np.float32(6)
        np.clip(np.minimum(place, 4 - place), 0, 1, out=place)
        shifted[..., channel] = value - chroma * place + np.float32(0.5)
    return shifted


def _byte_table(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _random_window(size: tuple[int, ...], crop: Size, generator: np.random.Generator) -> Window:
    top, left = (int(generator.integers(max(whole - part, 0) + 1)) for whole, part in zip(size, crop, strict=True))
    return slice(top, top + crop[0]), slice(left, left + crop[1])


def _right_below(missing: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rows and columns as torch's `pad` takes them: left, right, top, bottom."""
    return 0, missing[1], 0, missing[0]
