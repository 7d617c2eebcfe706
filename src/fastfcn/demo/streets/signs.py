"""Traffic signs and lights of the drawn streets."""

import math
from dataclasses import dataclass

from fastfcn.demo.streets.canvas import SIGN, Canvas, Flat
from fastfcn.demo.streets.light import SHINING, scaled

WHITE, RED, BLUE, YELLOW, DARK = (240, 240, 238), (200, 34, 40), (30, 84, 168), (246, 200, 40), (40, 42, 46)
POST, CASE = (135, 138, 142), (34, 38, 40)
LAMPS = ((255, 70, 60), (255, 190, 60), (80, 235, 140))  # from the top
FACES = {  # corners, angle of the first one from the top, layers as (share of the radius, color)
    "warning": (3, 0.0, ((1.1, RED), (0.72, WHITE), (0.2, DARK))),
    "yield": (3, math.pi, ((1.1, RED), (0.66, WHITE))),
    "limit": (16, 0.0, ((1.0, RED), (0.72, WHITE), (0.3, DARK))),
    "no_entry": (16, 0.0, ((1.0, RED), (0.3, WHITE))),
    "ahead": (16, 0.0, ((1.0, WHITE), (0.92, BLUE), (0.35, WHITE))),
    "parking": (4, math.pi / 4, ((1.15, WHITE), (1.02, BLUE), (0.4, WHITE))),
    "stop": (8, math.pi / 8, ((1.05, WHITE), (0.95, RED), (0.3, WHITE))),
    "priority": (4, 0.0, ((1.1, WHITE), (0.85, YELLOW))),
}


@dataclass(frozen=True)
class Sign:
    """A traffic sign on its post; `face` is one of FACES."""

    x: float
    z: float
    height: float
    radius: float
    face: str

    def cast(self, canvas: Canvas) -> None:
        _cast_post(canvas, self.x, self.z, self.height)

    def draw(self, canvas: Canvas) -> None:
        _draw_post(canvas, self.x, self.z, self.height)
        corners, start, layers = FACES[self.face]
        turns = [start + 2 * math.pi * corner / corners for corner in range(corners)]
        for share, color in layers:
            reach = self.radius * share
            disc = [(reach * math.sin(turn), self.height + reach * math.cos(turn)) for turn in turns]
            canvas.upright((self.x, self.z), disc, color, SIGN, 0.6)


@dataclass(frozen=True)
class TrafficLight:
    """Three lamps in a dark case on a post; `shining` is the one that is lit, from the top."""

    x: float
    z: float
    height: float
    radius: float
    shining: int

    def cast(self, canvas: Canvas) -> None:
        _cast_post(canvas, self.x, self.z, self.height)

    def draw(self, canvas: Canvas) -> None:
        _draw_post(canvas, self.x, self.z, self.height)
        wide, low, high = (
            0.62 * self.radius,
            self.height - 1.35 * self.radius,
            self.height + 1.35 * self.radius,
        )
        canvas.upright((self.x, self.z), _bar(wide, low, high), CASE, SIGN, 0.3)
        for lamp, color in enumerate(LAMPS):
            centre = (self.x, self.height + (1 - lamp) * 0.82 * self.radius, self.z)
            lit, glass = (SHINING, color) if lamp == self.shining else (0.3, scaled(color, 0.25))
            canvas.ball(centre, 0.33 * self.radius, 0.33 * self.radius, glass, SIGN, lit)


def _bar(wide: float, low: float, high: float) -> list[Flat]:
    return [(-wide, low), (wide, low), (wide, high), (-wide, high)]


def _draw_post(canvas: Canvas, x: float, z: float, height: float) -> None:
    canvas.upright((x, z), _bar(0.11, 0.0, height), POST, SIGN, 0.5)


def _cast_post(canvas: Canvas, x: float, z: float, height: float) -> None:
    canvas.wall_shadow((x - 0.08, z), (x + 0.08, z), height)
