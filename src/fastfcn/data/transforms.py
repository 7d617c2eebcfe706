"""What happens to an image, and to its label with it, on the way into the network."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastfcn.data.masks import IGNORED

CROP_TRIES = 10
BRIGHTNESS = 32.0  # added, in grey levels
CONTRAST = SATURATION = (0.5, 1.5)  # multiplied
HUE = 18  # added, in steps of two degrees: the unit of OpenCV's 8-bit hue

Size = tuple[int, int]


def keep_ratio_size(size: Size, base_size: Size) -> Size:
    """The largest (height, width) with the proportions of `size` that fits into `base_size`, laid either way.

    The rounding is OpenMMLab's (mmcv `rescale_size`), so sizes agree to the pixel.
    """
    factor = min(max(base_size) / max(size), min(base_size) / min(size))
    return max(int(size[0] * factor + 0.5), 1), max(int(size[1] * factor + 0.5), 1)


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """`image` (H, W, 3) uint8 at `size`, bilinear between the four nearest pixels.

    Without antialiasing, because the published networks were trained and scored on OpenCV's plain bilinear
    interpolation; torch agrees with it to one grey level.
    """
    if image.shape[:2] == tuple(size):
        return image
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    resized = functional.interpolate(pixels, size, mode="bilinear", align_corners=False)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """`label` (H, W) at `size`, each pixel copied from one: OpenCV's nearest, which cuts coordinates off."""
    if label.shape == tuple(size):
        return label
    rows = np.arange(size[0]) * label.shape[0] // size[0]
    columns = np.arange(size[1]) * label.shape[1] // size[1]
    return label[rows[:, None], columns]


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`image` (H, W, 3) RGB uint8 -> float32 (3, H, W): (image - mean) / std, both in grey levels 0-255."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    pixels = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    mean_, std_ = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
    return pixels.sub_(mean_).div_(std_)


def normalise_batch(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """RGB images (B, 3, H, W) of values 0-255 as a network reads them: float32, normalised, channels last."""
    shape = (1, 3, 1, 1)
    center, spread = (torch.tensor(each, device=images.device).reshape(shape) for each in (mean, std))
    return ((images.float() - center) / spread).contiguous(memory_format=torch.channels_last)


class TrainTransform:
    """Random scale, crop, mirroring and colours of one image and its label, as mmsegmentation 1.2.2 trains.

    `base_size` (height, width) times a factor drawn from `scale_range` bounds the scaled image, which keeps
    its proportions. A crop in which one class fills `max_class_share` of the labelled pixels or more is drawn
    again, ten times at most (1.0: any crop will do). `flip` and `distort` are probabilities. All chance comes
    from the generator that the caller passes, so the result is a pure function of its arguments.
    """

    def __init__(
        self,
        base_size: Size,
        scale_range: tuple[float, float],
        crop: Size,
        max_class_share: float,
        flip: float,
        distort: float,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        self.base_size, self.scale_range = base_size, scale_range
        self.crop, self.max_class_share = crop, max_class_share
        self.flip, self.distort = flip, distort
        self.mean, self.std = mean, std

    def __call__(self, image: np.ndarray, label: np.ndarray, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(H, W, 3) uint8 and (H, W) uint8 -> float32 (3, h, w) and uint8 (h, w), where (h, w) is `crop`.

        What the scaled image lacks at the right and the bottom is 0 in the normalised image and 255 in the
        label.
        """
        image, label = self._scaled(image, label, generator)
        window = self._window(label, generator)
        image, label = image[window], label[window]
        if generator.random() < self.flip:
            image, label = image[:, ::-1], label[:, ::-1]
        pixels = normalise(distorted(image, self.distort, generator), self.mean, self.std)
        missing = (0, self.crop[1] - label.shape[1], 0, self.crop[0] - label.shape[0])
        classes = torch.from_numpy(np.ascontiguousarray(label))
        return functional.pad(pixels, missing), functional.pad(classes, missing, value=IGNORED)

    def _scaled(
        self, image: np.ndarray, label: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        ratio = generator.uniform(*self.scale_range)
        bounds = (int(self.base_size[0] * ratio), int(self.base_size[1] * ratio))
        size = keep_ratio_size(label.shape, bounds)
        return resize_image(image, size), resize_label(label, size)

    def _window(self, label: np.ndarray, generator: np.random.Generator) -> tuple[slice, slice]:
        window = _random_window(label.shape, self.crop, generator)
        if self.max_class_share < 1.0:
            for _ in range(CROP_TRIES):
                if largest_class_share(label[window]) < self.max_class_share:
                    break
                window = _random_window(label.shape, self.crop, generator)
        return window


def largest_class_share(label: np.ndarray) -> float:
    """The part of the labelled pixels that the most frequent class holds; 1.0 where nothing is labelled."""
    counts = np.bincount(label.ravel(), minlength=IGNORED + 1)[:IGNORED]
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


def _random_window(size: tuple[int, ...], crop: Size, generator: np.random.Generator) -> tuple[slice, slice]:
    top, left = (int(generator.integers(max(whole - part, 0) + 1)) for whole, part in zip(size, crop, strict=True))
    return slice(top, top + crop[0]), slice(left, left + crop[1])
