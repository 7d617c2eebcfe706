"""Draw single street scenes, and write a dataset of them to disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from fastfcn.data.description import load_description
from fastfcn.demo.streets.background import draw_ground, draw_sky, draw_skyline, smooth_noise
from fastfcn.demo.streets.canvas import Canvas, choose_light
from fastfcn.demo.streets.scene import Planner
from fastfcn.utils.files import make_folder, replace_file

# Texture strength per class: sky, building, road, pavement, grass, tree, car, person, sign.
GRAIN = np.array([0.0, 0.012, 0.03, 0.025, 0.08, 0.09, 0.006, 0.015, 0.008], np.float32)


def draw(seed: int, size: tuple[int, int] = (128, 192)) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street scene; a pure function of `seed` and `size`.

    `size` is (height, width), at least (32, 32). Returns the image (H, W, 3) uint8 RGB and the label (H, W) uint8
    with the class indices of the dataset `streets`; no pixel is ignored.
    """
    generator = np.random.default_rng(seed)
    plan = Planner(size, generator)
    canvas = Canvas(size, plan.camera, choose_light(generator), generator)
    draw_sky(canvas)
    draw_skyline(canvas)
    draw_ground(canvas, plan.street)
    for item in (*plan.plots, *plan.objects):
        item.cast_shadow(canvas)
    canvas.finish_ground()
    for layer in (plan.plots, plan.objects):
        for item in sorted(layer, key=lambda item: -item.z):
            item.draw(canvas)
    label = np.asarray(canvas.image.getchannel("A"))[::2, ::2].copy()
    return _camera_effects(canvas.image, label, generator), label


def _camera_effects(drawing: Image.Image, label: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Downsample the drawing by two, then add texture, lens blur, vignetting and sensor noise."""
    height, width = label.shape
    rough = generator.standard_normal((height, width), np.float32)
    rough += 0.8 * smooth_noise(generator, height // 5, width // 5, (height, width))
    clean = np.asarray(drawing.convert("RGB").reduce(2), np.float32)
    textured = np.clip(clean * (1 + GRAIN[label] * rough)[..., None], 0, 255).astype(np.uint8)
    soft = Image.fromarray(textured).filter(ImageFilter.GaussianBlur(0.3 + 0.35 * generator.random()))
    noise = generator.standard_normal((height, width, 3), np.float32) * (1.5 + 1.5 * generator.random())
    image = np.asarray(soft, np.float32) * _dark_corners(height, width) + noise
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _dark_corners(height: int, width: int) -> np.ndarray:
    rows, columns = (np.linspace(-1, 1, length, dtype=np.float32) for length in (height, width))
    return (1.03 - 0.09 * (rows[:, None] ** 2 + columns[None] ** 2))[..., None]


def write_dataset(
    folder: str | Path, train: int, val: int, seed: int = 0, size: tuple[int, int] = (128, 192),
    progress: Callable[[int, int], None] | None = None,
) -> Path:  # fmt: skip
    """Draw `train` and `val` scenes of `size` = (height, width) into `folder`, as the dataset `streets`.

    The files are images/{split}/NNNN.png (RGB) and labels/{split}/NNNN.png (palette). The same `seed` gives
    the same pixels, and no scene is in both splits. `progress` is called with (scenes done, total scenes).
    Raises OutputError if the files cannot be written.
    """
    palette = bytes(channel for color in load_description("streets").colors for channel in color)
    done, total = 0, train + val
    for split, count in (("train", train), ("val", val)):
        folders = [make_folder(Path(folder) / kind / split) for kind in ("images", "labels")]
        for index in range(count):
            image, label = draw(scene_seed(seed, split, index), size)
            mask = Image.fromarray(label)
            mask.putpalette(palette)
            for file_image, path in zip((Image.fromarray(image), mask), folders, strict=True):
                with replace_file(path / f"{index:04d}.png") as temporary:
                    file_image.save(temporary, compress_level=1)
            done += 1
            if progress:
                progress(done, total)
    return Path(folder)


def scene_seed(seed: int, split: str, index: int) -> int:
    """Return the seed of one scene; every scene of a dataset has a different one."""
    return int(np.random.SeedSequence([seed, ("train", "val").index(split), index]).generate_state(1, np.uint64)[0])
