"""Cars, people, plants and traffic signs of a drawn street."""

import math
from dataclasses import dataclass

from fastfcn.demo.streets.canvas import CAR, EMISSIVE, PERSON, SIGN, TREE, Canvas, Color, Vector2, Vector3, scaled

Outline = tuple[Vector2, ...]  # (meters ahead of the car's middle, meters above the ground)

GLASS, TIRE, HUB, PLATE = (62, 78, 92), (30, 30, 33), (150, 152, 156), (225, 225, 215)
TAIL_LAMP, HEADLAMP = (216, 40, 36), (250, 246, 226)
CIRCLE = ((1, 0), (0.87, 0.5), (0.5, 0.87), (0, 1), (-0.5, 0.87), (-0.87, 0.5),
          (-1, 0), (-0.87, -0.5), (-0.5, -0.87), (0, -1), (0.5, -0.87), (0.87, -0.5))  # fmt: skip


@dataclass(frozen=True)
class CarModel:
    """The shape of one car model, seen from its right; outlines go clockwise from the lower rear corner."""

    half_width: float
    body: Outline  # 7 corners: 3 at the rear, 1 at the base of the windshield, 3 at the front
    cabin: Outline  # 4 corners
    windows: tuple[Outline, ...]
    wheels: Vector2


SEDAN = CarModel(
    half_width=0.92,
    body=((-2.2, 0.3), (-2.22, 0.82), (-2.05, 0.96), (0.95, 0.96), (2.0, 0.8), (2.15, 0.62), (2.12, 0.3)),
    cabin=((-1.75, 0.94), (-1.15, 1.42), (0.15, 1.45), (0.98, 0.94)),
    windows=(
        ((-1.45, 0.98), (-1.05, 1.33), (-0.5, 1.36), (-0.5, 0.98)),
        ((-0.4, 0.98), (-0.4, 1.36), (0.1, 1.37), (0.7, 0.98)),
    ),
    wheels=(-1.35, 1.35),
)
HATCHBACK = CarModel(
    half_width=0.88,
    body=((-1.85, 0.3), (-1.9, 0.9), (-1.8, 0.98), (0.95, 0.98), (1.75, 0.82), (1.9, 0.6), (1.88, 0.3)),
    cabin=((-1.78, 0.96), (-1.5, 1.5), (0.05, 1.54), (1.0, 0.96)),
    windows=(
        ((-1.4, 1.0), (-1.28, 1.4), (-0.45, 1.44), (-0.45, 1.0)),
        ((-0.35, 1.0), (-0.35, 1.44), (0.0, 1.45), (0.7, 1.0)),
    ),
    wheels=(-1.2, 1.2),
)
VAN = CarModel(
    half_width=1.0,
    body=((-2.4, 0.35), (-2.42, 1.2), (-2.4, 1.3), (1.5, 1.3), (2.2, 1.05), (2.35, 0.7), (2.32, 0.35)),
    cabin=((-2.4, 1.28), (-2.32, 2.1), (0.7, 2.14), (1.55, 1.28)),
    windows=(((0.0, 1.32), (0.0, 1.95), (0.6, 1.97), (1.2, 1.32)),),
    wheels=(-1.5, 1.5),
)


@dataclass(frozen=True)
class Car:
    """A car centered at (x, z) that drives along the unit vector `heading` = (right, ahead)."""

    x: float
    z: float
    heading: Vector2
    build: CarModel
    color: Color

    def cast_shadow(self, canvas: Canvas) -> None:
        length, wide = self.build.body[-1][0] + 0.1, self.build.half_width + 0.1
        corners = [self._at((ahead, 0), right) for ahead in (-length, length) for right in (-wide, wide)]
        left_back, right_back, left_front, right_front = [(x, z) for x, _, z in corners]
        canvas.shadow([left_back, right_back, right_front, left_front])
        for start, stop in ((left_back, right_back), (right_back, right_front), (right_front, left_front)):
            canvas.wall_shadow(start, stop, 1.3)
        canvas.wall_shadow(left_front, left_back, 1.3)

    def draw(self, canvas: Canvas) -> None:
        end = -1 if self._sees(canvas, (-1, 0), abs(self.build.body[0][0])) else 1
        sides = [side for side in (-1, 1) if self._sees(canvas, (0, side), self.build.half_width)]
        self._underside(canvas, end)
        for side in sides:
            self._side(canvas, self.build.body, side, 0.0, self.color)
        self._end(canvas, end)
        for side in sides:
            self._side(canvas, self.build.cabin, side, 0.1, self.color)
        self._screen(canvas, end)
        for side in sides:
            self._windows_and_wheels(canvas, side)
        self._lamps(canvas, end)

    def _at(self, place: Vector2, right: float) -> Vector3:
        (x, z), (ahead, up) = self.heading, place
        return self.x + ahead * x + right * z, up, self.z + ahead * z - right * x

    def _outward(self, normal: Vector2) -> Vector2:
        (x, z), (ahead, right) = self.heading, normal
        return ahead * x + right * z, ahead * z - right * x

    def _sees(self, canvas: Canvas, normal: Vector2, reach: float) -> bool:
        """Return whether the camera sees the face `reach` meters along `normal` = (ahead, right)."""
        x, _, z = self._at((normal[0] * reach, 0.0), normal[1] * reach)
        right, ahead = self._outward(normal)
        return right * (canvas.camera.offset - canvas.camera.curvature * z * z - x) - ahead * z > 0

    def _lit(self, canvas: Canvas, normal: Vector2) -> float:
        return 0.25 + 0.75 * canvas.light.facing(*self._outward(normal))

    def _side(self, canvas: Canvas, outline: Outline, side: int, lean: float, color: Color) -> None:
        """Fill an outline on one side, which leans inward by `lean` meters per half meter of height."""
        low, wide = outline[0][1], self.build.half_width
        points = [self._at(place, side * (wide - lean * (place[1] - low) / 0.5)) for place in outline]
        canvas.polygon(points, color, CAR, self._lit(canvas, (0, side)))

    def _across(self, canvas: Canvas, low: Vector2, high: Vector2, wide: Vector2, color: Color, lit: float) -> None:
        """Fill a face across the car, from `low` with half width wide[0] to `high` with wide[1]."""
        lower, upper = (
            [self._at(low, side * wide[0]) for side in (-1, 1)],
            [self._at(high, side * wide[1]) for side in (1, -1)],
        )
        canvas.polygon(lower + upper, color, CAR, lit)

    def _end(self, canvas: Canvas, end: int) -> None:
        """Draw the rear (end = -1) or the front with the trunk lid or hood, bumper and license plate."""
        wide, lit = self.build.half_width, self._lit(canvas, (end, 0))
        bottom, belt, edge = self.build.body[:3] if end < 0 else self.build.body[:-4:-1]
        deck = self.build.cabin[0 if end < 0 else -1]
        self._across(canvas, bottom, belt, (wide, wide), self.color, lit)
        self._across(canvas, belt, edge, (wide, wide - 0.04), scaled(self.color, 1.1), lit)
        self._across(canvas, edge, deck, (wide - 0.04, wide - 0.04), scaled(self.color, 1.2), 0.9)
        out, low = bottom[0] + 0.02 * end, bottom[1]
        self._across(canvas, (out, low), (out, low + 0.2), (0.96 * wide, 0.96 * wide), scaled(self.color, 0.55), lit)
        self._across(canvas, (out, low + 0.16), (out, low + 0.3), (0.26, 0.26), PLATE, lit)

    def _screen(self, canvas: Canvas, end: int) -> None:
        """Draw the roof, and the rear window or windshield."""
        wide, lit = self.build.half_width, self._lit(canvas, (end, 0))
        roof = (wide - 0.1, wide - 0.1)
        self._across(canvas, self.build.cabin[1], self.build.cabin[2], roof, scaled(self.color, 1.15), 1.0)
        low, high = self.build.cabin[:2] if end < 0 else self.build.cabin[:-3:-1]
        self._across(canvas, low, high, (wide, wide - 0.1), self.color, lit)
        sill, top = ((low[0] + s * (high[0] - low[0]), low[1] + s * (high[1] - low[1])) for s in (0.12, 0.86))
        self._across(canvas, sill, top, (wide - 0.12, wide - 0.19), GLASS, 0.3 + 0.5 * lit)

    def _windows_and_wheels(self, canvas: Canvas, side: int) -> None:
        for outline in self.build.windows:
            self._side(canvas, outline, side, 0.1, scaled(GLASS, 0.85))
        out = side * (self.build.half_width + 0.01)
        for wheel in self.build.wheels:
            for radius, color in ((0.36, TIRE), (0.2, HUB)):
                rim = [self._at((wheel + radius * ahead, 0.35 + radius * up), out) for ahead, up in CIRCLE]
                canvas.polygon(rim, color, CAR, 0.4)

    def _underside(self, canvas: Canvas, end: int) -> None:
        place, wide = end * (abs(self.build.body[0][0]) - 0.15), self.build.half_width
        self._across(canvas, (place, 0.2), (place, 0.45), (wide - 0.05, wide - 0.05), TIRE, 0.3)
        self._pair(canvas, place, (0.0, 0.4), (wide - 0.28, wide - 0.04), TIRE, 0.2)

    def _lamps(self, canvas: Canvas, end: int) -> None:
        ahead, up = self.build.body[1] if end < 0 else self.build.body[-2]
        color, lit = TAIL_LAMP if end < 0 else HEADLAMP, EMISSIVE if canvas.light.lamps > 0.3 else 0.7
        wide = self.build.half_width
        self._pair(canvas, ahead + 0.03 * end, (up - 0.16, up), (wide - 0.34, wide - 0.03), color, lit)

    def _pair(self, canvas: Canvas, ahead: float, up: Vector2, across: Vector2, color: Color, lit: float) -> None:
        """Fill the same rectangle on the left and the right of one end."""
        (low, high), (inner, outer) = up, across
        for side in (-1, 1):
            corners = ((low, inner), (low, outer), (high, outer), (high, inner))
            canvas.polygon([self._at((ahead, y), side * x) for y, x in corners], color, CAR, lit)


SHOES = (40, 36, 36)
COAT = (
    (-0.25, 0.8), (-0.27, 0.56), (-0.17, 0.44), (0.17, 0.44),
    (0.27, 0.56), (0.25, 0.8), (0.12, 0.85), (-0.12, 0.85),
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A pedestrian; outlines are (meters right, fraction of the height)."""

    x: float
    z: float
    height: float
    stride: float  # distance between the legs, 0-1
    coat: Color
    trousers: Color
    skin: Color
    hair: Color

    def cast_shadow(self, canvas: Canvas) -> None:
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

    def _fill(self, canvas: Canvas, outline: tuple[Vector2, ...], color: Color) -> None:
        canvas.upright((self.x, self.z), [(x, y * self.height) for x, y in outline], color, PERSON, 0.6)

    def _dot(self, canvas: Canvas, x: float, y: float, across: float, up: float, color: Color) -> None:
        canvas.ball((self.x + x, y * self.height, self.z), across, up, color, PERSON, 0.6)


BARK = (92, 72, 56)


@dataclass(frozen=True)
class Tree:
    """A trunk and a crown of balls, lighter towards the sun; `shape` is the relative width of the crown."""

    x: float
    z: float
    height: float
    shape: float
    color: Color

    def cast_shadow(self, canvas: Canvas) -> None:
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
        """Draw dark leaves (layer 0), or smaller, lighter ones higher up and closer to the sun."""
        crown, squeeze = 0.34 * self.height, min(1.0, 0.35 + 0.65 * self.shape)
        sunward = -0.12 if canvas.light.shadow[0] > 0 else 0.12
        for ball in range(count):
            turn = 2 * math.pi * ball / count + canvas.uniform(0, 0.7)
            reach = canvas.uniform(0.35, 0.75) if ball % 3 else canvas.uniform(0, 0.35)
            offset = crown * (math.cos(turn) * reach * self.shape + sunward * layer)
            up = 0.66 * self.height + crown * (math.sin(turn) * reach + 0.13 * layer)
            size = crown * canvas.uniform(0.34, 0.5) * (1 - 0.22 * layer)
            leaf = scaled(self.color, canvas.uniform(0.62, 0.74) + 0.19 * layer)
            canvas.ball((self.x + offset, up, self.z), size * squeeze, size, leaf, TREE, 0.2 + 0.4 * layer)


@dataclass(frozen=True)
class Fir:
    """A fir: tiers of branches, each narrower than the one below."""

    x: float
    z: float
    height: float
    color: Color

    def cast_shadow(self, canvas: Canvas) -> None:
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

    def cast_shadow(self, canvas: Canvas) -> None:
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


WHITE, RED, BLUE, YELLOW, DARK = (240, 240, 238), (200, 34, 40), (30, 84, 168), (246, 200, 40), (40, 42, 46)
POST, CASE = (135, 138, 142), (34, 38, 40)
LAMPS = ((255, 70, 60), (255, 190, 60), (80, 235, 140))  # from top to bottom
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

    def cast_shadow(self, canvas: Canvas) -> None:
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
    """Three lamps in a dark case on a post; `shining` is the index of the lit one, from the top."""

    x: float
    z: float
    height: float
    radius: float
    shining: int

    def cast_shadow(self, canvas: Canvas) -> None:
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
            center = (self.x, self.height + (1 - lamp) * 0.82 * self.radius, self.z)
            lit, glass = (EMISSIVE, color) if lamp == self.shining else (0.3, scaled(color, 0.25))
            canvas.ball(center, 0.33 * self.radius, 0.33 * self.radius, glass, SIGN, lit)


def _bar(wide: float, low: float, high: float) -> list[Vector2]:
    return [(-wide, low), (wide, low), (wide, high), (-wide, high)]


def _draw_post(canvas: Canvas, x: float, z: float, height: float) -> None:
    canvas.upright((x, z), _bar(0.11, 0.0, height), POST, SIGN, 0.5)


def _cast_post(canvas: Canvas, x: float, z: float, height: float) -> None:
    canvas.wall_shadow((x - 0.08, z), (x + 0.08, z), height)
