"""A clean folder of images and masks, in which tests plant defects."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (48, 64)  # (height, width)
TRAIN, VAL = 10, 4


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth image, different for every seed; RGB uint8."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(blocks).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def label(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Ids of nested boxes: 0 outside, then 1 and 2, and 3 in every other mask; uint8."""
    random = np.random.default_rng(1000 + seed)
    values = np.zeros(size, np.uint8)
    top, left = random.integers(2, 8, 2)
    values[top : top + 30, left : left + 40] = 1
    values[top + 6 : top + 20, left + 8 : left + 24] = 2
    if seed % 2:
        values[-6:, -20:] = 3
    return values


def names(split: str) -> list[str]:
    return [f"{split}_{number:02}" for number in range(TRAIN if split == "train" else VAL)]


def image_path(name: str) -> str:
    return f"images/{name.split('_')[0]}/{name}.jpg"


def mask_path(name: str) -> str:
    return f"masks/{name.split('_')[0]}/{name}.png"


def seed_of(name: str) -> int:
    return int(name.split("_")[1]) + (100 if name.startswith("val") else 0)


def save(path: Path, pixels: np.ndarray, **settings: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)


def write_clean(root: Path) -> Path:
    """images/{split}/{name}.jpg with masks/{split}/{name}.png with ids 0 to 3."""
    for name in names("train") + names("val"):
        save(root / image_path(name), picture(seed_of(name)), quality=92)
        save(root / mask_path(name), label(seed_of(name)))
    return root


def stored(path: Path) -> np.ndarray:
    """The stored pixels of a file."""
    with Image.open(path) as image:
        return np.array(image)
