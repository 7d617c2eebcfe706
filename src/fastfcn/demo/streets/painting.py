"""A drawn street from its seed: everything in its order from far to near, then what a camera adds."""

import numpy as np
from PIL import Image, ImageFilter

from fastfcn.demo.streets.canvas import Canvas
from fastfcn.demo.streets.ground import draw_ground
from fastfcn.demo.streets.light import choose_light
from fastfcn.demo.streets.scene import Planner
from fastfcn.demo.streets.sky import draw_sky, draw_skyline, smooth_noise

# How rough each class is: sky, building, road, pavement, grass, tree, car, person, sign.
GRAIN = np.array([0.0, 0.012, 0.03, 0.025, 0.08, 0.09, 0.006, 0.015, 0.008], np.float32)


def draw(seed: int, size: tuple[int, int] = (128, 192)) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street: (image (H, W, 3) uint8 RGB, label (H, W) uint8), a pure function of `seed` and `size`.

    `size` is (height, width), at least (32, 32). The values of the label are the class indices of the
    data set `streets`; no pixel is ignored.
    """
    generator = np.random.default_rng(seed)
    plan = Planner(size, generator)
    canvas = Canvas(size, plan.camera, choose_light(generator), generator)
    draw_sky(canvas)
    draw_skyline(canvas)
    draw_ground(canvas, plan.street)
    for thing in (*plan.plots, *plan.things):
        thing.cast(canvas)
    canvas.settle_ground()
    for layer in (plan.plots, plan.things):
        for thing in sorted(layer, key=lambda thing: -thing.z):
            thing.draw(canvas)
    label = np.asarray(canvas.image.getchannel("A"))[::2, ::2].copy()
    return _photograph(canvas.image, label, generator), label


def _photograph(drawing: Image.Image, label: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Halve the drawing, and add texture, a lens's softness and dark corners, and a sensor's noise."""
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
