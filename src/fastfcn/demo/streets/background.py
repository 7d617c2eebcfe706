"""The background of a drawn street: sky, distant skyline and ground."""

import numpy as np
from PIL import Image

from fastfcn.demo.streets.canvas import BUILDING, GRASS, NEAR, PAVEMENT, ROAD, SKY, TREE, Canvas, Color, scaled
from fastfcn.demo.streets.scene import CROSSING, FAR, LANE, VERGE, Street


def draw_sky(canvas: Canvas) -> None:
    """Fill the canvas with sky: a gradient, the glow of a sun ahead of the camera, clouds."""
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
    image = Image.fromarray(np.clip(sky + 0.85 * cover * (cloud - sky), 0, 255).astype(np.uint8))
    image = image.resize(canvas.image.size, Image.Resampling.BILINEAR)
    image.putalpha(Image.new("L", image.size, SKY))
    canvas.image.paste(image)


def draw_skyline(canvas: Canvas) -> None:
    """Draw roofs and trees along the horizon, paled by haze."""
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
    """Return smooth noise (H, W) of `size`: rows x columns normal random numbers, upsampled bicubically."""
    grid = Image.fromarray(generator.standard_normal((rows, columns), np.float32))
    return np.asarray(grid.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _clouds(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Fractal noise (H, W) with zero mean: four octaves, stretched horizontally."""
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        rows, columns = 3 + 3 * 2**octave, 2 + 2**octave + octave
        total += 0.6**octave * smooth_noise(generator, rows, columns, (height, width))
    return total


def _sunshine(canvas: Canvas, height: int, width: int) -> np.ndarray:
    """Return the light (H, W, 3) that the sun adds to the sky."""
    camera, light = canvas.camera, canvas.light
    column = (camera.middle + 0.25 * camera.focal * light.shadow[0] / light.shadow[1]) / 2
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    away = ((columns - column) ** 2 + (rows - 0.175 * camera.horizon) ** 2) / (0.2 * width) ** 2
    glow = 1 / (1 + 3 * away) + 2 / (1 + 60 * away) ** 2
    return glow[..., None] * np.array(light.sun, np.float32) * (0.25 + 0.75 * light.shade) * 210


ASPHALT, STONE, CURB, LAWN, PAINT = (
    (98, 99, 104),
    (172, 164, 154),
    (200, 196, 188),
    (104, 150, 62),
    (226, 226, 220),
)
ENDLESS = 9 * FAR


def draw_ground(canvas: Canvas, street: Street) -> None:
    """Draw the ground up to the horizon."""
    edge, walk = street.road, street.road + street.pavement
    for side, lawn in zip((-1, 1), street.lawns, strict=True):
        _strip(canvas, side * walk, side * ENDLESS, LAWN if lawn else STONE, GRASS if lawn else PAVEMENT)
        _strip(canvas, side * edge, side * walk, STONE, PAVEMENT)
        if lawn:
            _strip(canvas, side * edge, side * (edge + VERGE), LAWN, GRASS)
        _strip(canvas, side * edge, side * (edge + 0.3), CURB, PAVEMENT)
    _strip(canvas, -edge, edge, ASPHALT, ROAD)
    if street.crossing < FAR:
        _patch(canvas, -ENDLESS, ENDLESS, street.crossing, street.crossing + CROSSING, ASPHALT, ROAD)
        _zebra(canvas, street)
    _slabs(canvas, street)
    _repairs(canvas, street)
    _lines(canvas, street)


def _strip(canvas: Canvas, left: float, right: float, color: Color, class_index: int) -> None:
    """Fill the ground between two lines along the street, following its bend, up to the horizon."""
    depths = [NEAR * (4 * FAR / NEAR) ** (step / 12) for step in range(13)]
    canvas.ground([(left, z) for z in depths] + [(right, z) for z in reversed(depths)], color, class_index)


def _patch(canvas: Canvas, left: float, right: float, near: float, far: float, color: Color, class_index: int) -> None:
    canvas.ground([(left, near), (left, far), (right, far), (right, near)], color, class_index)


def _slabs(canvas: Canvas, street: Street) -> None:
    """Draw the joints between the slabs of the pavements."""
    for joint in range(14):
        z = 3 + 1.8 * joint
        if street.is_crossed(z, z):
            continue
        for side in (-1, 1):
            first = street.road + (VERGE if street.lawns[side > 0] else 0.3)
            last = street.road + street.pavement
            _patch(canvas, side * first, side * last, z, z + 0.07, scaled(STONE, 0.86), PAVEMENT)


def _repairs(canvas: Canvas, street: Street) -> None:
    """Draw patches of newer or older asphalt."""
    for _ in range(3):
        x, z = canvas.uniform(-street.road, street.road - 2), canvas.uniform(4, 25)
        color = scaled(ASPHALT, canvas.uniform(0.85, 1.08))
        _patch(canvas, x, x + 1.6, z, z + canvas.uniform(1.5, 5), color, ROAD)


def _lines(canvas: Canvas, street: Street) -> None:
    """Draw dashed lines between lanes and solid lines along parking spaces."""
    last = LANE * street.lanes
    stop = street.crossing - 5 if street.crossing < FAR else FAR
    lines = [(LANE * lane, 3.0) for lane in range(1 - street.lanes, street.lanes)]
    if street.road - last > 1:
        lines += [(-last, 0.0), (last, 0.0)]
    for x, gap in lines:
        z, dash = canvas.uniform(1.5, 4), 3.0 if gap else 9.0
        while z < FAR:
            if z + dash < stop or z > street.crossing + CROSSING + 1:
                _patch(canvas, x - 0.08, x + 0.08, z, z + dash, PAINT, ROAD)
            z += dash + gap


def _zebra(canvas: Canvas, street: Street) -> None:
    x = 0.4 - street.road
    while x < street.road - 0.6:
        _patch(canvas, x, x + 0.5, street.crossing - 4, street.crossing - 1, PAINT, ROAD)
        x += 1.0
