"""Trees, firs and hedges of the drawn streets."""

import math
from dataclasses import dataclass

from fastfcn.demo.streets.canvas import TREE, Canvas
from fastfcn.demo.streets.light import Color, scaled

BARK = (92, 72, 56)


@dataclass(frozen=True)
class Tree:
    """A trunk and a crown of leafy balls, lighter towards the sun; `shape` is how wide the crown is."""

    x: float
    z: float
    height: float
    shape: float
    color: Color

    def cast(self, canvas: Canvas) -> None:
        right, ahead = (0.65 * self.height * reach for reach in canvas.light.shadow)
        radius = 0.35 * self.height * self.shape
        canvas.wall_shadow((self.x - 0.12, self.z), (self.x + 0.12, self.z), 0.65 * self.height)
        canvas.round_shadow(self.x + right, self.z + ahead, radius + 0.05 * abs(right), radius)
        canvas.round_shadow(self.x, self.z, 0.5, 0.3)

    def draw(self, canvas: Canvas) -> None:
        thick, half = 0.035 * self.height, 0.5 * self.height
        trunk = [(-1.2 * thick, 0.0), (1.2 * thick, 0.0), (0.7 * thick, half), (-0.7 * thick, half)]
        canvas.upright((self.x, self.z), trunk, BARK, TREE, 0.3)
        for layer in range(3):
            self._leaves(canvas, layer, count=10 if self.z < 20 else 7 if self.z < 40 else 4)

    def _leaves(self, canvas: Canvas, layer: int, count: int) -> None:
        """Draw the dark leaves (layer 0), or smaller, lighter ones higher up and nearer to the sun."""
        crown, squeeze = 0.34 * self.height, min(1.0, 0.35 + 0.65 * self.shape)
        sunward = -0.12 if canvas.light.shadow[0] > 0 else 0.12
        for ball in range(count):
            turn = 2 * math.pi * ball / count + canvas.uniform(0, 0.7)
            reach = canvas.uniform(0.35, 0.75) if ball % 3 else canvas.uniform(0, 0.35)
            aside = crown * (math.cos(turn) * reach * self.shape + sunward * layer)
            up = 0.66 * self.height + crown * (math.sin(turn) * reach + 0.13 * layer)
            size = crown * canvas.uniform(0.34, 0.5) * (1 - 0.22 * layer)
            leaf = scaled(self.color, canvas.uniform(0.62, 0.74) + 0.19 * layer)
            canvas.ball((self.x + aside, up, self.z), size * squeeze, size, leaf, TREE, 0.2 + 0.4 * layer)


@dataclass(frozen=True)
class Fir:
    """Tiers of branches, each narrower than the one below."""

    x: float
    z: float
    height: float
    color: Color

    def cast(self, canvas: Canvas) -> None:
        right, ahead = (self.height * reach for reach in canvas.light.shadow)
        wide = 0.22 * self.height
        canvas.shadow([(self.x - wide, self.z), (self.x + wide, self.z), (self.x + right, self.z + ahead)])

    def draw(self, canvas: Canvas) -> None:
        foot, sunward = (self.x, self.z), -1 if canvas.light.shadow[0] > 0 else 1
        canvas.upright(foot, [(-0.15, 0), (0.15, 0), (0.15, 1), (-0.15, 1)], BARK, TREE, 0.2)
        for tier in range(5):
            low, top = (0.1 + 0.16 * tier) * self.height, min(1.0, 0.42 + 0.15 * tier) * self.height
            wide = (0.25 - 0.042 * tier) * self.height
            shade = 0.7 + 0.05 * tier + canvas.uniform(-0.05, 0.05)
            canvas.upright(foot, [(-wide, low), (wide, low), (0, top)], scaled(self.color, shade), TREE, 0.2)
            bright = [(sunward * wide, low), (0.1 * sunward * wide, low), (0, top)]
            canvas.upright(foot, bright, scaled(self.color, shade + 0.22), TREE, 0.8)


@dataclass(frozen=True)
class Hedge:
    """A row of bushes along the street, from `z` to `end`."""

    x: float
    z: float
    end: float
    height: float
    color: Color

    def cast(self, canvas: Canvas) -> None:
        left, right = self.x - 0.6, self.x + 0.6
        canvas.shadow([(left, self.z), (right, self.z), (right, self.end), (left, self.end)])

    def draw(self, canvas: Canvas) -> None:
        count = max(2, int((self.end - self.z) / 0.9))
        for bush in reversed(range(count)):
            z = self.z + (self.end - self.z) * bush / count
            size = self.height * canvas.uniform(0.5, 0.65)
            dark, light = (scaled(self.color, canvas.uniform(low, low + 0.15)) for low in (0.6, 0.85))
            canvas.ball((self.x, 0.8 * size, z), size, size, dark, TREE, 0.3)
            canvas.ball((self.x, 1.15 * size, z), 0.6 * size, 0.55 * size, light, TREE, 0.7)
