"""Trees, firs and hedges of the drawn streets."""

import math
from dataclasses import dataclass

from fastfcn.data.streets.canvas import TREE, Canvas, Color, tint


@dataclass(frozen=True)
class Tree:
    """A trunk and a crown of many leafy balls, lighter towards the sun; `shape` is its width over its height."""

    x: float
    z: float
    height: float
    shape: float
    color: Color

    def cast(self, canvas: Canvas) -> None:
        right, ahead = canvas.light.shadow
        top, radius = 0.65 * self.height, 0.35 * self.height * self.shape
        canvas.shadow([(self.x - 0.12, self.z), (self.x + 0.12, self.z),
                       (self.x + right * top, self.z + ahead * top)])  # fmt: skip
        canvas.round_shadow(self.x + right * top, self.z + ahead * top, (radius + 0.3 * abs(right), radius))
        canvas.round_shadow(self.x, self.z, (0.5, 0.3))

    def draw(self, canvas: Canvas) -> None:
        thick = 0.035 * self.height
        trunk = [(-1.2, 0.0), (1.2, 0.0), (0.7, 0.5), (-0.7, 0.5)]
        bark = [(self.x + thick * x, self.height * y, self.z) for x, y in trunk]
        canvas.polygon(bark, (92, 72, 56), TREE, 0.3)
        sunward = -0.12 if canvas.light.shadow[0] > 0 else 0.12
        count = 10 if self.z < 20 else 7 if self.z < 40 else 4
        for layer in range(3):
            self._leaves(canvas, layer, sunward, count)

    def _leaves(self, canvas: Canvas, layer: int, sunward: float, count: int) -> None:
        crown = 0.34 * self.height
        for ball in range(count):
            turn = 2 * math.pi * ball / count + canvas.uniform(0, 0.7)
            reach = canvas.uniform(0.35, 0.75) if ball % 3 else canvas.uniform(0, 0.35)
            aside = math.cos(turn) * reach * self.shape + sunward * layer
            up = 0.66 * self.height + crown * (math.sin(turn) * reach + 0.13 * layer)
            size = crown * canvas.uniform(0.34, 0.5) * (1 - 0.22 * layer)
            centre = (self.x + crown * aside, up, self.z)
            leaf = tint(self.color, canvas.uniform(0.62, 0.74) + 0.19 * layer)
            canvas.ball(
                centre, (size * min(1.0, 0.35 + 0.65 * self.shape), size), leaf, TREE, 0.2 + 0.4 * layer
            )


@dataclass(frozen=True)
class Conifer:
    """A fir: tiers of branches, each narrower than the one below."""

    x: float
    z: float
    height: float
    color: Color

    def cast(self, canvas: Canvas) -> None:
        right, ahead = canvas.light.shadow
        wide = 0.22 * self.height
        tip = (self.x + right * self.height, self.z + ahead * self.height)
        canvas.shadow([(self.x - wide, self.z), (self.x + wide, self.z), tip])

    def draw(self, canvas: Canvas) -> None:
        h = self.height
        stem = [
            (self.x + x, y, self.z) for x, y in ((-0.15, 0.0), (0.15, 0.0), (0.15, 0.2 * h), (-0.15, 0.2 * h))
        ]
        canvas.polygon(stem, (80, 62, 50), TREE, 0.2)
        bright = -1 if canvas.light.shadow[0] > 0 else 1
        for tier in range(5):
            low, wide, top = (0.1 + 0.16 * tier) * h, (0.25 - 0.042 * tier) * h, (0.42 + 0.15 * tier) * h
            shade = 0.7 + 0.05 * tier + canvas.uniform(-0.05, 0.05)
            left, right, tip = (
                (self.x - wide, low, self.z),
                (self.x + wide, low, self.z),
                (self.x, min(top, h), self.z),
            )
            canvas.polygon([left, right, tip], tint(self.color, shade), TREE, 0.2)
            lit_edge = (self.x + bright * wide, low, self.z)
            canvas.polygon([lit_edge, (self.x + 0.1 * wide * bright, low, self.z), tip],
                           tint(self.color, shade + 0.22), TREE, 0.8)  # fmt: skip


@dataclass(frozen=True)
class Hedge:
    """A row of bushes along the street, from `z` to `end`."""

    x: float
    z: float
    end: float
    height: float
    color: Color

    def cast(self, canvas: Canvas) -> None:
        canvas.shadow(
            [
                (self.x - 0.6, self.z),
                (self.x + 0.6, self.z),
                (self.x + 0.6, self.end),
                (self.x - 0.6, self.end),
            ]
        )

    def draw(self, canvas: Canvas) -> None:
        count = max(2, int((self.end - self.z) / 0.9))
        for step in reversed(range(count)):
            z = self.z + (self.end - self.z) * step / count
            radius = self.height * canvas.uniform(0.5, 0.65)
            dark, light = canvas.uniform(0.6, 0.75), canvas.uniform(0.85, 1.0)
            canvas.ball((self.x, 0.8 * radius, z), (radius, radius), tint(self.color, dark), TREE, 0.3)
            canvas.ball(
                (self.x, 1.15 * radius, z), (0.6 * radius, 0.55 * radius), tint(self.color, light), TREE, 0.7
            )
