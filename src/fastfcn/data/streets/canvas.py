"""What a drawn street is drawn with: a camera, the light of the day, and a canvas that keeps picture and label together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Color = tuple[float, float, float]
Point = tuple[
    float, float, float
]  # metres: right of the road's middle, above the ground, ahead of the camera

SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, CAR, PERSON, SIGN = range(9)

SHINING = -1.0
GROUND_LIT = 0.85
NEAR = 1.2  # metres; everything nearer is moved there, far outside of the picture


def tint(color: Color, factor: float) -> Color:
    """Return a lighter (factor > 1) or darker color."""
    return color[0] * factor, color[1] * factor, color[2] * factor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera on a street that bends: all lengths on the ground in metres, in the picture in pixels."""

    focal: float
    eye: float  # height above the ground
    aside: float  # metres right of the road's middle
    horizon: float  # row of the horizon
    middle: float  # column the camera looks along
    bend: float  # sideways metres of the road per square metre ahead

    def project(self, point: Point) -> tuple[float, float]:
        """Return the (column, row) at which `point` is seen."""
        x, y, z = point
        if z < NEAR:
            z = NEAR
        scale = self.focal / z
        return self.middle + scale * (x - self.aside + self.bend * z * z), self.horizon - scale * (
            y - self.eye
        )


@dataclass(frozen=True)
class Light:
    """One time of day. Colours are 0-255; `ambient` and `sun` multiply them."""

    zenith: Color
    low_sky: Color
    ambient: Color
    sun: Color
    shadow: tuple[float, float]  # metres (right, ahead) that a shadow reaches per metre of height
    shade: float  # how dark a cast shadow is, 0-1
    clouds: float  # share of the sky, 0-1
    haze: float  # distance in metres at which 63 % of a thing is lost in the haze
    lamps: float  # share of windows and headlights that are lit, 0-1

    def on(self, color: Color, lit: float, distance: float) -> tuple[int, int, int]:
        """Return `color` as seen at `distance` metres on a face that gets `lit` (0-1) of the sun.

        A lamp, which shines by itself, is SHINING.
        """
        clear = math.exp(-distance / self.haze)
        sky_red, sky_green, sky_blue = self.low_sky
        red, green, blue = color
        if lit != SHINING:
            red *= self.ambient[0] + self.sun[0] * lit
            green *= self.ambient[1] + self.sun[1] * lit
            blue *= self.ambient[2] + self.sun[2] * lit
        return (
            min(255, int(sky_red + (red - sky_red) * clear)),
            min(255, int(sky_green + (green - sky_green) * clear)),
            min(255, int(sky_blue + (blue - sky_blue) * clear)),
        )

    def facing(self, x: float, z: float) -> float:
        """Return the sun (0-1) on an upright face that looks along the unit vector (x right, z ahead)."""
        right, ahead = self.shadow
        return max(0.0, -(right * x + ahead * z)) / max(0.2, math.hypot(right, ahead))


class Canvas:
    """Picture and label in one RGBA image at twice the final size: the fourth channel holds the class.

    One drawing call sets both, so that the label is exact by construction.
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
        """Fill a flat polygon given in metres."""
        distance = sum(point[2] for point in points) / len(points)
        seen = [self.camera.project(point) for point in points]
        self._pen.polygon(seen, fill=(*self.light.on(color, lit, distance), kind))

    def flat(self, points: Sequence[tuple[float, float]], color: Color, kind: int) -> None:
        """Fill a polygon of the open ground, given as (column, row); its haze comes with `settle_ground`."""
        self._pen.polygon(points, fill=(*self.light.on(color, GROUND_LIT, 0.0), kind))

    def ball(
        self, centre: Point, radius: tuple[float, float], color: Color, kind: int, lit: float = 1.0
    ) -> None:
        """Fill an upright ellipse with `radius` (across, up) in metres."""
        column, row = self.camera.project(centre)
        scale = self.camera.focal / max(centre[2], NEAR)
        across, up = max(0.7, radius[0] * scale), max(0.7, radius[1] * scale)
        box = (column - across, row - up, column + across, row + up)
        self._pen.ellipse(box, fill=(*self.light.on(color, lit, centre[2]), kind))

    def shadow(self, points: Sequence[tuple[float, float]]) -> None:
        """Darken a polygon on the ground, given as (right, ahead) in metres."""
        self._shadow_pen.polygon([self.camera.project((x, 0.0, z)) for x, z in points], fill=255)

    def round_shadow(self, x: float, z: float, radius: tuple[float, float]) -> None:
        """Darken an ellipse on the ground with `radius` (right, ahead) in metres."""
        turns = [2 * math.pi * step / 14 for step in range(14)]
        self.shadow([(x + radius[0] * math.cos(turn), z + radius[1] * math.sin(turn)) for turn in turns])

    def settle_ground(self) -> None:
        """Lay the shadows and the haze on all that has been drawn; things that stand up are drawn afterwards."""
        picture, kinds = self.image.convert("RGB"), self.image.getchannel("A")
        dark = [1 - self.light.shade * (1 - 0.12 * channel) for channel in range(3)]  # shadows are bluish
        table = [int(value * factor) for factor in dark for value in range(256)]
        picture.paste(picture.point(table), mask=self.shadows.filter(ImageFilter.GaussianBlur(1.2)))
        veil = Image.new("L", (1, picture.height))
        veil.putdata([self._veil(row) for row in range(picture.height)])
        low_sky = tuple(int(channel) for channel in self.light.low_sky)
        picture.paste(low_sky, (0, 0), veil.resize(picture.size, Image.Resampling.NEAREST))
        picture.putalpha(kinds)
        self.image = picture
        self._pen = ImageDraw.Draw(self.image)

    def _veil(self, row: int) -> int:
        below = row + 0.5 - self.camera.horizon
        if below <= 0:
            return 0
        return int(255 * (1 - math.exp(-self.camera.focal * self.camera.eye / below / self.light.haze)))
