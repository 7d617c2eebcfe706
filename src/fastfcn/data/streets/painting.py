"""A drawn street from its seed: the sky, the ground, the things on it, and what a lens adds."""

import numpy as np
from PIL import Image, ImageFilter

from fastfcn.data.streets.canvas import (
    BUILDING,
    GRASS,
    NEAR,
    PAVEMENT,
    ROAD,
    SKY,
    TREE,
    Canvas,
    Color,
    Light,
    tint,
)
from fastfcn.data.streets.scene import FAR, LANE, Scene, plan

ASPHALT, STONE, CURB, LAWN, PAINT = (
    (98, 99, 104),
    (172, 164, 154),
    (200, 196, 188),
    (112, 146, 70),
    (226, 226, 220),
)
GRAIN = np.array(
    [0.0, 0.012, 0.03, 0.025, 0.08, 0.09, 0.006, 0.015, 0.008], np.float32
)  # texture of each class


def draw(seed: int, size: tuple[int, int] = (128, 192)) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street: (image (H, W, 3) uint8 RGB, label (H, W) uint8), a pure function of `seed` and `size`.

    The values of the label are the indices of the data set `streets` (nothing is ignored).
    """
    generator = np.random.default_rng(seed)
    scene = plan(size, generator)
    canvas = Canvas(size, scene.camera, scene.light, generator)
    _sky(canvas)
    _skyline(canvas)
    _ground(canvas, scene)
    for thing in (*scene.plots, *scene.street):
        thing.cast(canvas)
    canvas.settle_ground()
    for row in (scene.plots, scene.street):
        for thing in sorted(row, key=lambda thing: -thing.z):
            thing.draw(canvas)
    return _photograph(canvas)


def _clouds(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Smooth noise (H, W) of mean 0: four grids of random numbers, each finer and fainter, flat like clouds."""
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(4):
        grid = generator.standard_normal((3 + 3 * 2**octave, 2 + 2**octave + octave)).astype(np.float32)
        total += (
            np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)) * 0.6**octave
        )
    return total


def _sky(canvas: Canvas) -> None:
    width, height = canvas.image.width // 2, canvas.image.height // 2
    light, horizon = canvas.light, canvas.camera.horizon / 2
    rise = np.clip((horizon - np.arange(height, dtype=np.float32) - 0.5) / horizon, 0, 1)[:, None, None]
    low, zenith = (np.array(color, np.float32) for color in (light.low_sky, light.zenith))
    rise = rise * (1.6 - 0.6 * rise)
    sky = low + (zenith - low) * rise
    if light.shadow[1] < 0:
        sky = sky + _sunshine(canvas, height, width)
    cover = _clouds((height, width), canvas.generator) - 1.6 + 2.6 * min(1.0, light.clouds)
    cover = np.clip(cover * 0.9, 0, 1)[..., None] * np.clip(3 * rise, 0, 1)
    power = np.array([a + 0.7 * s for a, s in zip(light.ambient, light.sun, strict=True)], np.float32)
    cloud = np.minimum(255, 250 * power + 0.15 * low) * (1 - 0.22 * np.clip(cover - 0.5, 0, 1))
    picture = Image.fromarray(np.clip(sky + (cloud - sky) * 0.85 * cover, 0, 255).astype(np.uint8))
    picture = picture.resize(canvas.image.size, Image.Resampling.BILINEAR)
    picture.putalpha(Image.new("L", picture.size, SKY))
    canvas.image.paste(picture)


def _sunshine(canvas: Canvas, height: int, width: int) -> np.ndarray:
    """The glow around a sun that stands ahead: warm light to add to the sky (H, W, 3)."""
    camera, light = canvas.camera, canvas.light
    column = (camera.middle + 0.25 * camera.focal * light.shadow[0] / light.shadow[1]) / 2
    row = camera.horizon / 2 * 0.35
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    near = ((columns - column) ** 2 + (rows - row) ** 2) / (0.2 * width) ** 2
    glow = 1 / (1 + 3 * near) + 2 / (1 + 60 * near) ** 2
    strength = np.array(light.sun, np.float32) * (0.25 + 0.75 * light.shade) * 210
    return glow[..., None] * strength


def _skyline(canvas: Canvas) -> None:
    """Far roofs and trees at the horizon, pale with distance."""
    half = FAR * 1.6 * canvas.image.width / canvas.camera.focal
    x = -half
    while x < half:
        wide, z = canvas.uniform(6, 22), canvas.uniform(1.3, 1.6) * FAR
        if canvas.uniform(0, 1) < 0.6:
            top = canvas.uniform(6, 26)
            corners = [(x, -3.0, z), (x + wide, -3.0, z), (x + wide, top, z), (x, top, z)]
            canvas.polygon(corners, (134, 130, 134), BUILDING, 0.4)
        else:
            for ball in range(4):
                radius = canvas.uniform(4, 7)
                canvas.ball((x + wide * ball / 4, 1.0, z), (radius, radius), (92, 118, 84), TREE, 0.4)
        x += wide * canvas.uniform(0.6, 1.0)


def _strip(
    canvas: Canvas,
    left: float,
    right: float,
    color: Color,
    kind: int,
    near: float = NEAR,
    far: float = 4 * FAR,
) -> None:
    """Paint the ground between `left` and `right` metres of the road's middle, along its bend."""
    steps = 12 if far > FAR else 2
    depths = [near * (far / near) ** (step / steps) for step in range(steps + 1)]
    points = [(left, 0.0, z) for z in depths] + [(right, 0.0, z) for z in reversed(depths)]
    seen = [canvas.camera.project(point) for point in points]
    canvas.flat(seen, color, kind)


def _ground(canvas: Canvas, scene: Scene) -> None:
    edge, walk = scene.road, scene.road + scene.pavement
    for side, lawn in zip((-1, 1), scene.grass, strict=True):
        _strip(canvas, side * walk, side * 9 * FAR, LAWN if lawn else STONE, GRASS if lawn else PAVEMENT)
        _strip(canvas, side * edge, side * walk, STONE, PAVEMENT)
        _strip(canvas, side * edge, side * (edge + 0.3), CURB, PAVEMENT)
    _strip(canvas, -edge, edge, ASPHALT, ROAD)
    if scene.crossing < FAR:
        _strip(canvas, -9 * FAR, 9 * FAR, ASPHALT, ROAD, scene.crossing, scene.crossing + 8)
    _joints(canvas, scene)
    _markings(canvas, scene)


def _joints(canvas: Canvas, scene: Scene) -> None:
    """Slabs of the pavement, and patches of newer asphalt."""
    for side in (-1, 1):
        for slab in range(14):
            z = 3 + 1.8 * slab
            if not scene.crossing - 1 < z < scene.crossing + 8:
                first, last = side * (scene.road + 0.3), side * (scene.road + scene.pavement)
                _strip(canvas, first, last, tint(STONE, 0.86), PAVEMENT, z, z + 0.07)
    for _ in range(3):
        x, z = canvas.uniform(-scene.road, scene.road - 2), canvas.uniform(4, 25)
        _strip(
            canvas, x, x + 1.6, tint(ASPHALT, canvas.uniform(0.85, 1.08)), ROAD, z, z + canvas.uniform(1.5, 5)
        )


def _markings(canvas: Canvas, scene: Scene) -> None:
    """Lines between the lanes, the middle of the road, and a zebra before a crossing street."""
    stop = scene.crossing - 5 if scene.crossing < FAR else FAR
    lines = [LANE * lane for lane in range(1 - scene.lanes, scene.lanes)]
    if scene.road - LANE * scene.lanes > 1:
        lines += [-LANE * scene.lanes, LANE * scene.lanes]
    for x in lines:
        dash, gap = (3.0, 3.0) if abs(x) < LANE * scene.lanes else (9.0, 0.0)
        z = canvas.uniform(1.5, 4)
        while z < FAR:
            if z + dash < stop or z > scene.crossing + 9:
                _strip(canvas, x - 0.08, x + 0.08, PAINT, ROAD, z, z + dash)
            z += dash + gap
    if scene.crossing < FAR:
        x = 0.4 - scene.road
        while x < scene.road - 0.6:
            _strip(canvas, x, x + 0.5, PAINT, ROAD, scene.crossing - 4, scene.crossing - 1)
            x += 1.0


def _photograph(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Halve the canvas, add texture, softness, vignetting and noise; return image and label."""
    label = np.asarray(canvas.image.getchannel("A"))[::2, ::2].copy()
    picture = canvas.image.convert("RGB").reduce(2)
    generator = canvas.generator
    height, width = label.shape
    rough = generator.standard_normal((height, width), np.float32)
    mottled = generator.standard_normal((height // 5, width // 5), np.float32)
    rough += 0.8 * np.asarray(Image.fromarray(mottled).resize((width, height), Image.Resampling.BICUBIC))
    textured = np.asarray(picture, np.float32) * (1 + GRAIN[label] * rough)[..., None]
    soft = Image.fromarray(np.clip(textured, 0, 255).astype(np.uint8))
    soft = soft.filter(ImageFilter.GaussianBlur(0.3 + 0.35 * generator.random()))
    noise = generator.standard_normal((height, width, 3), np.float32) * (1.5 + 1.5 * generator.random())
    image = np.asarray(soft, np.float32) * _vignette(height, width) + noise
    return np.clip(image + 0.5, 0, 255).astype(np.uint8), label


def _vignette(height: int, width: int) -> np.ndarray:
    rows, columns = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    return (1.03 - 0.09 * (rows[:, None] ** 2 + columns[None] ** 2))[..., None]
