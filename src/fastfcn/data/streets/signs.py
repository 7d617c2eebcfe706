"""Traffic signs and lights of the drawn streets."""

import math
from dataclasses import dataclass

from fastfcn.data.streets.canvas import SHINING, SIGN, Canvas, Point, tint


@dataclass(frozen=True)
class Sign:
    """A traffic sign or light on its post; `face` is one of FACES."""

    x: float
    z: float
    height: float
    radius: float
    face: str

    def cast(self, canvas: Canvas) -> None:
        right, ahead = canvas.light.shadow
        end = (self.x + right * self.height, self.z + ahead * self.height)
        canvas.shadow(
            [
                (self.x - 0.08, self.z),
                (self.x + 0.08, self.z),
                (end[0] + 0.08, end[1]),
                (end[0] - 0.08, end[1]),
            ]
        )

    def draw(self, canvas: Canvas) -> None:
        post = [(-0.09, 0.0), (0.09, 0.0), (0.09, self.height), (-0.09, self.height)]
        canvas.polygon([(self.x + x, y, self.z) for x, y in post], (135, 138, 142), SIGN, 0.5)
        if self.face == "light":
            self._traffic_light(canvas)
            return
        corners, start, layers = FACES[self.face]
        for share, color in layers:
            canvas.polygon(self._disc(corners, start, share), color, SIGN, 0.6)

    def _disc(self, corners: int, start: float, share: float) -> list[Point]:
        turns = [start + 2 * math.pi * corner / corners for corner in range(corners)]
        reach = self.radius * share
        return [
            (self.x + reach * math.sin(turn), self.height + reach * math.cos(turn), self.z) for turn in turns
        ]

    def _traffic_light(self, canvas: Canvas) -> None:
        wide, tall = 0.62 * self.radius, 1.35 * self.radius
        box = [(-wide, -tall), (wide, -tall), (wide, tall), (-wide, tall)]
        canvas.polygon([(self.x + x, self.height + y, self.z) for x, y in box], (34, 38, 40), SIGN, 0.3)
        shining = int(canvas.generator.integers(3))
        for lamp, color in enumerate(((255, 70, 60), (255, 190, 60), (80, 235, 140))):
            centre = (self.x, self.height + (1 - lamp) * 0.82 * self.radius, self.z)
            if lamp == shining:
                canvas.ball(centre, (0.34 * self.radius,) * 2, color, SIGN, SHINING)
            else:
                canvas.ball(centre, (0.3 * self.radius,) * 2, tint(color, 0.25), SIGN, 0.3)


WHITE, RED, BLUE, YELLOW, DARK = (240, 240, 238), (200, 34, 40), (30, 84, 168), (246, 200, 40), (40, 42, 46)
HALF, QUARTER = math.pi, math.pi / 4
FACES = {  # corners, angle of the first corner, layers of (share of the radius, color)
    "warning": (3, 0.0, ((1.1, RED), (0.72, WHITE), (0.2, DARK))),
    "yield": (3, HALF, ((1.1, RED), (0.66, WHITE))),
    "limit": (16, 0.0, ((1.0, RED), (0.72, WHITE), (0.3, DARK))),
    "no_entry": (16, 0.0, ((1.0, RED), (0.3, WHITE))),
    "ahead": (16, 0.0, ((1.0, WHITE), (0.92, BLUE), (0.35, WHITE))),
    "parking": (4, QUARTER, ((1.15, WHITE), (1.02, BLUE), (0.4, WHITE))),
    "stop": (8, math.pi / 8, ((1.05, WHITE), (0.95, RED), (0.3, WHITE))),
    "priority": (4, 0.0, ((1.1, WHITE), (0.85, YELLOW))),
}
