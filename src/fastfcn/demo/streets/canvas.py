"""What a drawn street is drawn with: a camera, and a canvas that keeps picture and label together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fastfcn.demo.streets.light import Color, Light

Flat = tuple[float, float]
Point = tuple[float, float, float]  # metres right of the road's middle, above the ground, ahead of the camera

SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, CAR, PERSON, SIGN = range(9)
NEAR = 1.2  # metres; what is nearer is moved there, far outside of the picture


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in a street that bends; metres in the street, pixels of the canvas in the picture."""

    focal: float
    eye: float  # height above the ground
    aside: float  # metres right of the road's middle
    horizon: float  # row
    middle: float  # column straight ahead
    bend: float  # metres that the road swerves per square metre ahead

    def project(self, point: Point) -> Flat:
        """Return the (column, row) at which `point` is seen."""
        x, y, z = point
        if z < NEAR:  # max() would be slower, and no function is called as often
            z = NEAR
        scale = self.focal / z
        return self.middle + scale * (x - self.aside + self.bend * z * z), self.horizon - scale * (y - self.eye)


class Canvas:
    """Picture and label in one RGBA image at twice the final size: the fourth channel holds the class.

    One call draws both: the label is exact by construction. `kind` is a class, `lit` a share of the sun.
    """

    def __init__(self, size: tuple[int, int], camera: Camera, light: Light, generator: np.random.Generator):
        height, width = size
        self.image = Image.new("RGBA", (2 * width, 2 * height), (0, 0, 0, SKY))
        self.shadows = Image.new("L", self.image.size)
        self.camera, self.light, self.generator = camera, light, generator
        self._pen, self._shadow_pen = ImageDraw.Draw(self.image), ImageDraw.Draw(self.shadows)

    def uniform(self, low: float, high: float) -> float:
        """Return a random number from [low, high)."""
        return low + (high - low) * self.generator.random()

    def polygon(self, points: Sequence[Point], color: Color, kind: int, lit: float = 1.0) -> None:
        """Fill a polygon given in metres."""
        distance = sum(point[2] for point in points) / len(points)
        seen = [self.camera.project(point) for point in points]
        self._pen.polygon(seen, fill=(*self.light.on(color, lit, distance), kind))

    def upright(self, foot: Flat, outline: Sequence[Flat], color: Color, kind: int, lit: float = 1.0) -> None:
        """Fill an `outline` of (right, up) metres that faces the camera and stands at `foot` = (x, z)."""
        x, z = foot
        self.polygon([(x + right, up, z) for right, up in outline], color, kind, lit)

    def ball(self, centre: Point, across: float, up: float, color: Color, kind: int, lit: float = 1.0) -> None:
        """Fill an upright ellipse with the radii `across` and `up` in metres."""
        column, row = self.camera.project(centre)
        scale = self.camera.focal / max(centre[2], NEAR)
        wide, tall = max(0.7, across * scale), max(0.7, up * scale)
        box = (column - wide, row - tall, column + wide, row + tall)
        self._pen.ellipse(box, fill=(*self.light.on(color, lit, centre[2]), kind))

    def ground(self, points: Sequence[Flat], color: Color, kind: int) -> None:
        """Fill a polygon of the ground, given as (right, ahead); its haze comes with `settle_ground`."""
        seen = [self.camera.project((x, 0.0, z)) for x, z in points]
        self._pen.polygon(seen, fill=(*self.light.on(color, 0.85, 0.0), kind))

    def shadow(self, points: Sequence[Flat]) -> None:
        """Darken a polygon of the ground, given as (right, ahead)."""
        self._shadow_pen.polygon([self.camera.project((x, 0.0, z)) for x, z in points], fill=255)

    def wall_shadow(self, start: Flat, stop: Flat, height: float) -> None:
        """Darken what a wall of `height` metres from `start` to `stop` keeps from the sun."""
        right, ahead = (reach * height for reach in self.light.shadow)
        self.shadow([start, stop, (stop[0] + right, stop[1] + ahead), (start[0] + right, start[1] + ahead)])

    def round_shadow(self, x: float, z: float, right: float, ahead: float) -> None:
        """Darken an ellipse of the ground with the radii `right` and `ahead`."""
        turns = [2 * math.pi * step / 14 for step in range(14)]
        self.shadow([(x + right * math.cos(turn), z + ahead * math.sin(turn)) for turn in turns])

    def settle_ground(self) -> None:
        """Lay shadows and haze over all that has been drawn; things that stand up are drawn afterwards."""
        picture, kinds = self.image.convert("RGB"), self.image.getchannel("A")
        dark = [1 - self.light.shade * (1 - 0.12 * channel) for channel in range(3)]  # shadows are bluish
        table = [int(value * factor) for factor in dark for value in range(256)]
        picture.paste(picture.point(table), mask=self.shadows.filter(ImageFilter.GaussianBlur(1.2)))
        veil = Image.frombytes("L", (1, picture.height), bytes(self._veil(row) for row in range(picture.height)))
        red, green, blue = self.light.low_sky
        veil = veil.resize(picture.size, Image.Resampling.NEAREST)
        picture.paste((min(255, int(red)), min(255, int(green)), min(255, int(blue))), (0, 0), veil)
        picture.putalpha(kinds)
        self.image = picture
        self._pen = ImageDraw.Draw(self.image)

    def _veil(self, row: int) -> int:
        below = row + 0.5 - self.camera.horizon
        if below <= 0:
            return 0
        return int(255 * (1 - math.exp(-self.camera.focal * self.camera.eye / below / self.light.haze)))
