"""Lighting, camera and canvas of a drawn street; the canvas draws image and label together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Color = tuple[float, float, float]  # red, green, blue, 0-255
Vector2 = tuple[float, float]
Vector3 = tuple[float, float, float]  # meters right of the road center, above the ground, ahead of the camera

EMISSIVE = -1.0  # value of `lit` for lamps: drawn in their own color, whatever the light


@dataclass(frozen=True)
class Light:
    """Lighting conditions; `ambient` and `sun` are factors for red, green and blue."""

    zenith: Color
    low_sky: Color
    ambient: Color
    sun: Color
    shade: float  # darkness of cast shadows, 0-1
    clouds: float  # fraction of the sky covered, 0-1
    haze: float  # distance in meters at which 63 % of an object's color is lost
    lamps: float  # fraction of lit windows, 0-1
    shadow: tuple[float, float]  # length of a shadow (right, ahead) per meter of height

    def on(self, color: Color, lit: float, distance: float) -> tuple[int, int, int]:
        """Return `color` seen from `distance` meters, on a face that gets the fraction `lit` of sunlight."""
        red, green, blue = color
        if lit != EMISSIVE:
            red *= self.ambient[0] + self.sun[0] * lit
            green *= self.ambient[1] + self.sun[1] * lit
            blue *= self.ambient[2] + self.sun[2] * lit
        clear = math.exp(-distance / self.haze)
        far_red, far_green, far_blue = self.low_sky
        return (
            min(255, int(far_red + (red - far_red) * clear)),
            min(255, int(far_green + (green - far_green) * clear)),
            min(255, int(far_blue + (blue - far_blue) * clear)),
        )

    def facing(self, right: float, ahead: float) -> float:
        """Return the fraction of sunlight on a vertical face with the unit normal (right, ahead)."""
        away, along = self.shadow
        return max(0.0, -(away * right + along * ahead)) / math.hypot(away, along)


CONDITIONS = (  # probability, zenith, sky at the horizon, ambient, sun, shade, clouds, haze, lamps
    (0.42, (64, 124, 200), (190, 216, 238), (0.62, 0.66, 0.74), (0.46, 0.42, 0.34), 0.5, 0.35, 320, 0.0),
    (0.2, (96, 138, 196), (252, 214, 164), (0.56, 0.54, 0.58), (0.58, 0.44, 0.24), 0.48, 0.4, 170, 0.05),
    (0.22, (158, 168, 180), (214, 218, 222), (0.84, 0.85, 0.88), (0.06, 0.06, 0.05), 0.14, 0.9, 150, 0.06),
    (0.16, (52, 62, 116), (240, 158, 124), (0.5, 0.47, 0.6), (0.16, 0.08, 0.04), 0.16, 0.5, 150, 0.4),
)  # clear day, golden hour, overcast, dusk


def choose_light(generator: np.random.Generator) -> Light:
    """Draw random lighting conditions: one of CONDITIONS, slightly varied."""
    condition = CONDITIONS[int(generator.choice(len(CONDITIONS), p=[condition[0] for condition in CONDITIONS]))]
    _, zenith, low_sky, ambient, sun, shade, clouds, haze, lamps = condition
    side, offset, ahead, bright, cover, mist = generator.random(6)
    shadow = (0.3 + 0.9 * offset) * (-1 if side < 0.5 else 1), ahead - 0.5
    change = 0.94 + 0.12 * bright
    return Light(
        scaled(zenith, change), scaled(low_sky, change), scaled(ambient, change), scaled(sun, change), shade,
        clouds * (0.4 + 1.2 * cover), haze * (0.6 + 0.8 * mist), lamps, shadow,
    )  # fmt: skip


def scaled(color: Color, factor: float) -> Color:
    """Return a lighter (factor > 1) or darker color."""
    return color[0] * factor, color[1] * factor, color[2] * factor


SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, CAR, PERSON, SIGN = range(9)
NEAR = 1.2  # meters; nearer points are moved here, far outside the image


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in a curved street; lengths in meters, image coordinates in canvas pixels."""

    focal: float
    eye_height: float  # height above the ground
    offset: float  # meters right of the road center
    horizon: float  # row
    middle: float  # column straight ahead
    curvature: float  # sideways meters per square meter ahead

    def project(self, point: Vector3) -> Vector2:
        """Project `point` to (column, row)."""
        x, y, z = point
        if z < NEAR:  # max() is slower, and this is the most frequently called function
            z = NEAR
        scale = self.focal / z
        column = self.middle + scale * (x - self.offset + self.curvature * z * z)
        return column, self.horizon - scale * (y - self.eye_height)


class Canvas:
    """Image and label in one RGBA image at twice the final size; the alpha channel holds the class index.

    Each call draws both, so labels are exact. `lit` is the fraction of sunlight a face gets (0-1).
    """

    def __init__(self, size: tuple[int, int], camera: Camera, light: Light, generator: np.random.Generator):
        height, width = size
        self.image = Image.new("RGBA", (2 * width, 2 * height), (0, 0, 0, SKY))
        self.shadows = Image.new("L", self.image.size)
        self.camera, self.light, self.generator = camera, light, generator
        self._pen, self._shadow_pen = ImageDraw.Draw(self.image), ImageDraw.Draw(self.shadows)

    def uniform(self, low: float, high: float) -> float:
        """Draw a random number from [low, high)."""
        return low + (high - low) * self.generator.random()

    def polygon(self, points: Sequence[Vector3], color: Color, class_index: int, lit: float = 1.0) -> None:
        """Fill a polygon given in meters."""
        distance = sum(point[2] for point in points) / len(points)
        seen = [self.camera.project(point) for point in points]
        self._pen.polygon(seen, fill=(*self.light.on(color, lit, distance), class_index))

    def upright(
        self, foot: Vector2, outline: Sequence[Vector2], color: Color, class_index: int, lit: float = 1.0
    ) -> None:
        """Fill an `outline` of (right, up) in meters that faces the camera, standing at `foot` = (x, z)."""
        x, z = foot
        self.polygon([(x + right, up, z) for right, up in outline], color, class_index, lit)

    def ball(self, center: Vector3, across: float, up: float, color: Color, class_index: int, lit: float = 1.0) -> None:
        """Fill an upright ellipse with the radii `across` and `up` in meters."""
        column, row = self.camera.project(center)
        scale = self.camera.focal / max(center[2], NEAR)
        wide, tall = max(0.7, across * scale), max(0.7, up * scale)
        box = (column - wide, row - tall, column + wide, row + tall)
        self._pen.ellipse(box, fill=(*self.light.on(color, lit, center[2]), class_index))

    def ground(self, points: Sequence[Vector2], color: Color, class_index: int) -> None:
        """Fill a polygon of the ground, given as (right, ahead); its haze comes with `finish_ground`."""
        seen = [self.camera.project((x, 0.0, z)) for x, z in points]
        self._pen.polygon(seen, fill=(*self.light.on(color, 0.85, 0.0), class_index))

    def shadow(self, points: Sequence[Vector2]) -> None:
        """Darken a polygon of the ground, given as (right, ahead)."""
        self._shadow_pen.polygon([self.camera.project((x, 0.0, z)) for x, z in points], fill=255)

    def wall_shadow(self, start: Vector2, stop: Vector2, height: float) -> None:
        """Darken the ground shaded by a wall of `height` meters from `start` to `stop`."""
        right, ahead = (reach * height for reach in self.light.shadow)
        self.shadow([start, stop, (stop[0] + right, stop[1] + ahead), (start[0] + right, start[1] + ahead)])

    def round_shadow(self, x: float, z: float, right: float, ahead: float) -> None:
        """Darken an ellipse of the ground with the radii `right` and `ahead`."""
        turns = [2 * math.pi * step / 14 for step in range(14)]
        self.shadow([(x + right * math.cos(turn), z + ahead * math.sin(turn)) for turn in turns])

    def finish_ground(self) -> None:
        """Apply shadows and haze to the ground; standing objects are drawn afterwards."""
        image, labels = self.image.convert("RGB"), self.image.getchannel("A")
        dark = [1 - self.light.shade * (1 - 0.12 * channel) for channel in range(3)]  # shadows are bluish
        table = [int(value * factor) for factor in dark for value in range(256)]
        image.paste(image.point(table), mask=self.shadows.filter(ImageFilter.GaussianBlur(1.2)))
        veil = Image.frombytes("L", (1, image.height), bytes(self._veil(row) for row in range(image.height)))
        red, green, blue = self.light.low_sky
        veil = veil.resize(image.size, Image.Resampling.NEAREST)
        image.paste((min(255, int(red)), min(255, int(green)), min(255, int(blue))), (0, 0), veil)
        image.putalpha(labels)
        self.image = image
        self._pen = ImageDraw.Draw(self.image)

    def _veil(self, row: int) -> int:
        below = row + 0.5 - self.camera.horizon
        if below <= 0:
            return 0
        return int(255 * (1 - math.exp(-self.camera.focal * self.camera.eye_height / below / self.light.haze)))
