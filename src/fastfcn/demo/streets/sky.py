"""The sky of a drawn street, and what is too far away to be told apart."""

import numpy as np
from PIL import Image

from fastfcn.demo.streets.canvas import BUILDING, SKY, TREE, Canvas
from fastfcn.demo.streets.scene import FAR


def draw_sky(canvas: Canvas) -> None:
    """Fill the canvas with sky: a gradient, the sun's glow where it stands ahead, clouds."""
    width, height = canvas.image.width // 2, canvas.image.height // 2
    light, horizon = canvas.light, canvas.camera.horizon / 2
    up = np.clip((horizon - np.arange(height, dtype=np.float32) - 0.5) / horizon, 0, 1)[:, None, None]
    up = up * (1.6 - 0.6 * up)
    low, zenith = (np.array(color, np.float32) for color in (light.low_sky, light.zenith))
    sky = low + (zenith - low) * up
    if light.shadow[1] < 0:
        sky = sky + _sunshine(canvas, height, width)
    cover = np.clip(0.9 * (_clouds(height, width, canvas.generator) - 1.6 + 2.6 * light.clouds), 0, 1)[..., None]
    cover *= np.clip(3 * up, 0, 1)
    bright = np.array(light.ambient, np.float32) + 0.7 * np.array(light.sun, np.float32)
    cloud = np.minimum(255, 250 * bright + 0.15 * low) * (1 - 0.22 * np.clip(cover - 0.5, 0, 1))
    picture = Image.fromarray(np.clip(sky + 0.85 * cover * (cloud - sky), 0, 255).astype(np.uint8))
    picture = picture.resize(canvas.image.size, Image.Resampling.BILINEAR)
    picture.putalpha(Image.new("L", picture.size, SKY))
    canvas.image.paste(picture)


def draw_skyline(canvas: Canvas) -> None:
    """Draw roofs and trees along the horizon, pale with distance."""
    half = 1.6 * FAR * canvas.image.width / canvas.camera.focal
    x = -half
    while x < half:
        wide, z = canvas.uniform(6, 22), canvas.uniform(1.3, 1.6) * FAR
        if canvas.generator.random() < 0.6:
            top = canvas.uniform(6, 26)
            block = [(0, -3), (wide, -3), (wide, top), (0, top)]
            canvas.upright((x, z), block, (134, 130, 134), BUILDING, 0.4)
        else:
            for ball in range(4):
                radius = canvas.uniform(4, 7)
                canvas.ball((x + wide * ball / 4, 1.0, z), radius, radius, (92, 118, 84), TREE, 0.4)
        x += wide * canvas.uniform(0.6, 1.0)


def smooth_noise(generator: np.random.Generator, rows: int, columns: int, size: tuple[int, int]) -> np.ndarray:
    """Return a field (H, W) of `size` that runs smoothly through rows x columns normal random numbers."""
    grid = Image.fromarray(generator.standard_normal((rows, columns), np.float32))
    return np.asarray(grid.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _clouds(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Noise (H, W) of mean 0: four fields, each finer and fainter than the last, wider than high."""
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        rows, columns = 3 + 3 * 2**octave, 2 + 2**octave + octave
        total += 0.6**octave * smooth_noise(generator, rows, columns, (height, width))
    return total


def _sunshine(canvas: Canvas, height: int, width: int) -> np.ndarray:
    """Return the warm light (H, W, 3) that a sun ahead adds to the sky."""
    camera, light = canvas.camera, canvas.light
    column = (camera.middle + 0.25 * camera.focal * light.shadow[0] / light.shadow[1]) / 2
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    away = ((columns - column) ** 2 + (rows - 0.175 * camera.horizon) ** 2) / (0.2 * width) ** 2
    glow = 1 / (1 + 3 * away) + 2 / (1 + 60 * away) ** 2
    return glow[..., None] * np.array(light.sun, np.float32) * (0.25 + 0.75 * light.shade) * 210
