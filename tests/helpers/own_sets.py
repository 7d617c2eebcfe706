"""Small custom datasets in typical layouts, for `fastfcn init`."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.tiny import picture

RED, GREEN, BLACK = (220, 20, 60), (107, 142, 35), (0, 0, 0)


def stripes(values: tuple[int, ...], seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A mask of `values` in upright stripes whose borders depend on `seed`."""
    borders = np.sort(np.random.default_rng(seed).permutation(np.arange(4, width - 4))[: len(values) - 1])
    return np.tile(np.array(values, np.uint8)[np.searchsorted(borders, np.arange(width), side="right")], (height, 1))


def save(path: Path, pixels: np.ndarray, palette: dict[int, tuple[int, int, int]] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image = image.convert("P")
        image.putpalette([channel for value in range(256) for channel in palette.get(value, BLACK)])
        image.paste(Image.fromarray(pixels), (0, 0))
    image.save(path)


def photo(path: Path, seed: int) -> None:
    save(path, picture(48, 64, seed))


def rgb_set(root: Path) -> Path:
    """Color masks with CVAT's class list, no splits, file names of three sequences."""
    table = np.array([BLACK, RED, GREEN], np.uint8)
    for number in range(12):
        name = f"{'abc'[number // 4]}_{number:03}"
        photo(root / f"images/{name}.jpg", number)
        save(root / f"masks/{name}.png", table[stripes((0, 1, 2), number)])
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nperson:220,20,60::\ngrass:107,142,35::\n"
    )
    return root


def binary_set(root: Path) -> Path:
    """Masks of 0 and 255 in folders for train and val."""
    for number in range(6):
        split = "train" if number < 4 else "val"
        photo(root / f"{split}/images/{number}.png", number)
        save(root / f"{split}/masks/{number}.png", stripes((0, 255), number))
    return root


def palette_set(root: Path) -> Path:
    """Palette masks, names with spaces and accents, no splits, one damaged image."""
    palette = {1: RED, 2: GREEN}
    for number in range(8):
        photo(root / f"images/jardín {number}é.jpg", number)
        save(root / f"masks/jardín {number}é.png", stripes((0, 1, 2, 255), number), palette)
    broken = root / "images/jardín 3é.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    return root


def retina_set(root: Path) -> Path:
    """DRIVE's folders: vessels of the training images, and the field of view of all images."""
    for number in range(12):
        split, kind = ("training", "training") if number < 8 else ("test", "test")
        photo(root / f"{split}/images/{number:02}_{kind}.tif", number)
        save(root / f"{split}/mask/{number:02}_{kind}_mask.gif", stripes((0, 255, 0), 3))
        if split == "training":
            save(root / f"{split}/1st_manual/{number:02}_manual1.gif", stripes((0, 255), number))
    return root


def defect_set(root: Path) -> Path:
    """A folder for each kind of defect, as the magnetic tile set has them: 0 and 255, image and mask side by side."""
    for number, kind in enumerate(["Blowhole", "Break", "Crack", "Free"] * 8):
        name = f"MT_{kind}/Imgs/exp{number % 3}_num_{number * 37}"
        photo(root / f"{name}.jpg", number)
        save(root / f"{name}.png", stripes((0,) if kind == "Free" else (0, 255), number))
    return root


def video_set(root: Path, videos: int = 3, frames: int = 16) -> Path:
    """Frames of several videos, numbered on: a window that moves over a different wide image in each video."""
    for number in range(videos * frames):
        video, frame = divmod(number, frames)
        wide = Image.fromarray(picture(48, 64, video)).resize((640, 320), Image.Resampling.BICUBIC)
        pixels = np.asarray(wide.crop((2 * frame, 40, 2 * frame + 480, 280)).resize((64, 48)))
        noise = np.random.default_rng(number).integers(-3, 4, pixels.shape)
        save(root / f"images/frame_{number:04}.png", np.clip(pixels + noise, 0, 255).astype(np.uint8))
        save(root / f"masks/frame_{number:04}.png", stripes((0, 1), video))
    return root


def voc_set(root: Path) -> Path:
    """Pascal VOC's folders and lists, with three custom classes."""
    for number in range(6):
        photo(root / f"JPEGImages/2020_{number:06}.jpg", number)
        save(root / f"SegmentationClass/2020_{number:06}.png", stripes((0, 1, 2), number), {1: RED, 2: GREEN})
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"2020_{number:06}\n" for number in range(4)))
    (lists / "val.txt").write_text("2020_000004\n2020_000005\n")
    return root
