"""People of the drawn streets."""

from dataclasses import dataclass

from fastfcn.demo.streets.canvas import PERSON, Canvas, Flat
from fastfcn.demo.streets.light import Color, scaled

SHOES = (40, 36, 36)
COAT = (
    (-0.25, 0.8), (-0.27, 0.56), (-0.17, 0.44), (0.17, 0.44),
    (0.27, 0.56), (0.25, 0.8), (0.12, 0.85), (-0.12, 0.85),
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Somebody who walks or stands; outlines are (metres right, share of the height)."""

    x: float
    z: float
    height: float
    stride: float  # how far the legs are apart, 0-1
    coat: Color
    trousers: Color
    skin: Color
    hair: Color

    def cast(self, canvas: Canvas) -> None:
        canvas.wall_shadow((self.x - 0.2, self.z), (self.x + 0.2, self.z), self.height)
        canvas.round_shadow(self.x, self.z, 0.35, 0.2)

    def draw(self, canvas: Canvas) -> None:
        for side in (-1, 1):
            self._leg(canvas, side)
        self._fill(canvas, COAT, self.coat)
        for side in (-1, 1):
            self._arm(canvas, side)
        self._dot(canvas, 0, 0.935, 0.13, 0.15, self.hair)
        self._dot(canvas, 0, 0.915, 0.1, 0.12, self.skin)

    def _leg(self, canvas: Canvas, side: int) -> None:
        foot = side * (0.09 + 0.2 * self.stride)
        leg = ((-0.05 * side, 0.5), (0.2 * side, 0.5), (foot + 0.08 * side, 0.02), (foot - 0.08 * side, 0.02))
        self._fill(canvas, leg, scaled(self.trousers, 0.85 + 0.15 * side))
        self._dot(canvas, foot, 0.02, 0.12, 0.05, SHOES)

    def _arm(self, canvas: Canvas, side: int) -> None:
        swing = 0.08 * self.stride
        arm = (
            (0.22 * side, 0.81),
            ((0.33 + swing) * side, 0.5),
            ((0.25 + swing) * side, 0.47),
            (0.14 * side, 0.7),
        )
        self._fill(canvas, arm, scaled(self.coat, 0.78))
        self._dot(canvas, (0.29 + swing) * side, 0.47, 0.055, 0.055, self.skin)

    def _fill(self, canvas: Canvas, outline: tuple[Flat, ...], color: Color) -> None:
        canvas.upright((self.x, self.z), [(x, y * self.height) for x, y in outline], color, PERSON, 0.6)

    def _dot(self, canvas: Canvas, x: float, y: float, across: float, up: float, color: Color) -> None:
        canvas.ball((self.x + x, y * self.height, self.z), across, up, color, PERSON, 0.6)
