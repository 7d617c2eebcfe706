"""People of the drawn streets."""

from dataclasses import dataclass

from fastfcn.data.streets.canvas import PERSON, Canvas, Color, Point, tint


@dataclass(frozen=True)
class Person:
    """Somebody walking, seen from the front, the back or the side."""

    x: float
    z: float
    height: float
    stride: float  # how far the legs are apart, 0-1
    coat: Color
    trousers: Color
    skin: Color
    hair: Color

    def cast(self, canvas: Canvas) -> None:
        right, ahead = canvas.light.shadow
        top = (self.x + right * self.height, self.z + ahead * self.height)
        canvas.shadow(
            [(self.x - 0.2, self.z), (self.x + 0.2, self.z), (top[0] + 0.15, top[1]), (top[0] - 0.15, top[1])]
        )
        canvas.round_shadow(self.x, self.z, (0.35, 0.2))

    def draw(self, canvas: Canvas) -> None:
        self._legs(canvas)
        body = [
            (-0.25, 0.8),
            (-0.27, 0.56),
            (-0.17, 0.44),
            (0.17, 0.44),
            (0.27, 0.56),
            (0.25, 0.8),
            (0.12, 0.85),
            (-0.12, 0.85),
        ]
        canvas.polygon([self._at(x, y) for x, y in body], self.coat, PERSON, 0.6)
        for side in (-1, 1):
            swing = 0.08 * self.stride * side
            arm = [
                (0.22 * side, 0.81),
                (0.33 * side + swing, 0.5),
                (0.25 * side + swing, 0.47),
                (0.14 * side, 0.7),
            ]
            canvas.polygon([self._at(x, y) for x, y in arm], tint(self.coat, 0.8), PERSON, 0.4)
            canvas.ball(self._at(0.29 * side + swing, 0.47), (0.055, 0.055), self.skin, PERSON, 0.6)
        canvas.ball(self._at(0, 0.935), (0.13, 0.15), self.hair, PERSON, 0.5)
        canvas.ball(self._at(0, 0.915), (0.1, 0.12), self.skin, PERSON, 0.7)

    def _legs(self, canvas: Canvas) -> None:
        for side in (-1, 1):
            foot = side * (0.09 + 0.2 * self.stride)
            leg = [
                (-0.05 * side, 0.5),
                (0.2 * side, 0.5),
                (foot + 0.08 * side, 0.02),
                (foot - 0.08 * side, 0.02),
            ]
            canvas.polygon(
                [self._at(x, y) for x, y in leg], tint(self.trousers, 0.85 + 0.15 * side), PERSON, 0.5
            )
            canvas.ball(self._at(foot, 0.02), (0.12, 0.05), (40, 36, 36), PERSON, 0.3)

    def _at(self, x: float, y: float) -> Point:
        return self.x + x, y * self.height, self.z
