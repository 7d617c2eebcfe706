"""Cars and vans of the drawn streets: a few flat faces in space, seen from any side."""

from dataclasses import dataclass

from fastfcn.demo.streets.canvas import CAR, Canvas, Flat, Point
from fastfcn.demo.streets.light import SHINING, Color, scaled

Outline = tuple[Flat, ...]  # (metres ahead of the car's middle, metres above the ground)

GLASS, TYRE, HUB, PLATE = (62, 78, 92), (30, 30, 33), (150, 152, 156), (225, 225, 215)
TAIL_LAMP, HEADLAMP = (216, 40, 36), (250, 246, 226)
CIRCLE = ((1, 0), (0.87, 0.5), (0.5, 0.87), (0, 1), (-0.5, 0.87), (-0.87, 0.5),
          (-1, 0), (-0.87, -0.5), (-0.5, -0.87), (0, -1), (0.5, -0.87), (0.87, -0.5))  # fmt: skip


@dataclass(frozen=True)
class Build:
    """The shape of one kind of car, seen from its right; outlines go clockwise from the lower back corner."""

    half_width: float
    body: Outline  # 7 corners: 3 at the back, 1 at the foot of the windscreen, 3 at the front
    cabin: Outline  # 4 corners
    windows: tuple[Outline, ...]
    wheels: Flat


SEDAN = Build(
    half_width=0.92,
    body=((-2.2, 0.3), (-2.22, 0.82), (-2.05, 0.96), (0.95, 0.96), (2.0, 0.8), (2.15, 0.62), (2.12, 0.3)),
    cabin=((-1.75, 0.94), (-1.15, 1.42), (0.15, 1.45), (0.98, 0.94)),
    windows=(
        ((-1.45, 0.98), (-1.05, 1.33), (-0.5, 1.36), (-0.5, 0.98)),
        ((-0.4, 0.98), (-0.4, 1.36), (0.1, 1.37), (0.7, 0.98)),
    ),
    wheels=(-1.35, 1.35),
)
HATCHBACK = Build(
    half_width=0.88,
    body=((-1.85, 0.3), (-1.9, 0.9), (-1.8, 0.98), (0.95, 0.98), (1.75, 0.82), (1.9, 0.6), (1.88, 0.3)),
    cabin=((-1.78, 0.96), (-1.5, 1.5), (0.05, 1.54), (1.0, 0.96)),
    windows=(
        ((-1.4, 1.0), (-1.28, 1.4), (-0.45, 1.44), (-0.45, 1.0)),
        ((-0.35, 1.0), (-0.35, 1.44), (0.0, 1.45), (0.7, 1.0)),
    ),
    wheels=(-1.2, 1.2),
)
VAN = Build(
    half_width=1.0,
    body=((-2.4, 0.35), (-2.42, 1.2), (-2.4, 1.3), (1.5, 1.3), (2.2, 1.05), (2.35, 0.7), (2.32, 0.35)),
    cabin=((-2.4, 1.28), (-2.32, 2.1), (0.7, 2.14), (1.55, 1.28)),
    windows=(((0.0, 1.32), (0.0, 1.95), (0.6, 1.97), (1.2, 1.32)),),
    wheels=(-1.5, 1.5),
)


@dataclass(frozen=True)
class Car:
    """A car with its middle at (x, z) that drives along the unit vector `heading` = (right, ahead)."""

    x: float
    z: float
    heading: Flat
    build: Build
    color: Color

    def cast(self, canvas: Canvas) -> None:
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

    def _at(self, place: Flat, right: float) -> Point:
        (x, z), (ahead, up) = self.heading, place
        return self.x + ahead * x + right * z, up, self.z + ahead * z - right * x

    def _outward(self, normal: Flat) -> Flat:
        (x, z), (ahead, right) = self.heading, normal
        return ahead * x + right * z, ahead * z - right * x

    def _sees(self, canvas: Canvas, normal: Flat, reach: float) -> bool:
        """Tell whether the camera sees the face `reach` metres along `normal` = (ahead, right)."""
        x, _, z = self._at((normal[0] * reach, 0.0), normal[1] * reach)
        right, ahead = self._outward(normal)
        return right * (canvas.camera.aside - canvas.camera.bend * z * z - x) - ahead * z > 0

    def _lit(self, canvas: Canvas, normal: Flat) -> float:
        return 0.25 + 0.75 * canvas.light.facing(*self._outward(normal))

    def _side(self, canvas: Canvas, outline: Outline, side: int, lean: float, color: Color) -> None:
        """Fill an outline on one side, which leans inwards by `lean` metres in half a metre of height."""
        low, wide = outline[0][1], self.build.half_width
        points = [self._at(place, side * (wide - lean * (place[1] - low) / 0.5)) for place in outline]
        canvas.polygon(points, color, CAR, self._lit(canvas, (0, side)))

    def _across(self, canvas: Canvas, low: Flat, high: Flat, wide: Flat, color: Color, lit: float) -> None:
        """Fill a face across the car, from `low` with half width wide[0] to `high` with wide[1]."""
        lower, upper = (
            [self._at(low, side * wide[0]) for side in (-1, 1)],
            [self._at(high, side * wide[1]) for side in (1, -1)],
        )
        canvas.polygon(lower + upper, color, CAR, lit)

    def _end(self, canvas: Canvas, end: int) -> None:
        """Draw the back (end = -1) or the front, the boot or bonnet above it, the bumper and the plate."""
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
        """Draw the roof, and the rear window or windscreen below it."""
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
            for radius, color in ((0.36, TYRE), (0.2, HUB)):
                rim = [self._at((wheel + radius * ahead, 0.35 + radius * up), out) for ahead, up in CIRCLE]
                canvas.polygon(rim, color, CAR, 0.4)

    def _underside(self, canvas: Canvas, end: int) -> None:
        place, wide = end * (abs(self.build.body[0][0]) - 0.15), self.build.half_width
        self._across(canvas, (place, 0.2), (place, 0.45), (wide - 0.05, wide - 0.05), TYRE, 0.3)
        self._pair(canvas, place, (0.0, 0.4), (wide - 0.28, wide - 0.04), TYRE, 0.2)

    def _lamps(self, canvas: Canvas, end: int) -> None:
        ahead, up = self.build.body[1] if end < 0 else self.build.body[-2]
        color, lit = TAIL_LAMP if end < 0 else HEADLAMP, SHINING if canvas.light.lamps > 0.3 else 0.7
        wide = self.build.half_width
        self._pair(canvas, ahead + 0.03 * end, (up - 0.16, up), (wide - 0.34, wide - 0.03), color, lit)

    def _pair(self, canvas: Canvas, ahead: float, up: Flat, across: Flat, color: Color, lit: float) -> None:
        """Fill the same rectangle on the left and on the right of an end."""
        (low, high), (inner, outer) = up, across
        for side in (-1, 1):
            corners = ((low, inner), (low, outer), (high, outer), (high, inner))
            canvas.polygon([self._at((ahead, y), side * x) for y, x in corners], color, CAR, lit)
