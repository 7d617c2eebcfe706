"""Cars and vans of the drawn streets: a few flat faces in space, from any side."""

from dataclasses import dataclass

from fastfcn.data.streets.canvas import CAR, SHINING, Canvas, Color, Point, tint

Outline = tuple[tuple[float, float], ...]  # (metres ahead of the car's middle, metres above the ground)

GLASS, TYRE, TRIM = (62, 78, 92), (30, 30, 33), (44, 46, 50)


@dataclass(frozen=True)
class Build:
    """The shape of one kind of car; outlines go round from the lower back corner upwards."""

    half_width: float
    body: Outline
    cabin: Outline
    windows: tuple[Outline, ...]
    wheels: tuple[float, float]


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
    """A car whose middle is at (x, z) and which drives along the unit vector `heading` = (right, ahead)."""

    x: float
    z: float
    heading: tuple[float, float]
    build: Build
    color: Color

    def cast(self, canvas: Canvas) -> None:
        length, wide = self.build.body[-1][0] + 0.1, self.build.half_width + 0.1
        corners = [(-length, -wide), (length, -wide), (length, wide), (-length, wide)]
        foot = [self._at(ahead, 0.0, right) for ahead, right in corners]
        canvas.shadow([(x, z) for x, _, z in foot])
        right, ahead = (1.3 * reach for reach in canvas.light.shadow)
        for first, second in zip(foot, foot[1:] + foot[:1], strict=True):
            canvas.shadow([(first[0], first[2]), (second[0], second[2]),
                           (second[0] + right, second[2] + ahead), (first[0] + right, first[2] + ahead)])  # fmt: skip

    def draw(self, canvas: Canvas) -> None:
        side = self._seen_side(canvas)
        end = -1 if self._seen(canvas, (-1, 0), self.build.body[0][0]) else 1
        self._underneath(canvas, end)
        for outline, inset, shine in ((self.build.body, 0.0, 1.0), (self.build.cabin, 0.1, 1.0)):
            if side:
                self._side(canvas, outline, side, inset, tint(self.color, shine))
            self._end(canvas, end) if outline is self.build.body else self._screen(canvas, end)
        if side:
            self._windows_and_wheels(canvas, side)
        self._lights(canvas, end)

    def _at(self, ahead: float, up: float, right: float) -> Point:
        x, z = self.heading
        return self.x + ahead * x + right * z, up, self.z + ahead * z - right * x

    def _outward(self, normal: tuple[float, float]) -> tuple[float, float]:
        (x, z), (ahead, right) = self.heading, normal
        return ahead * x + right * z, ahead * z - right * x

    def _seen(self, canvas: Canvas, normal: tuple[float, float], reach: float) -> bool:
        """Tell whether the face with `normal` = (ahead, right), `reach` along it, looks at the camera."""
        x, _, z = self._at(normal[0] * abs(reach), 0.0, normal[1] * abs(reach))
        out = self._outward(normal)
        eye = canvas.camera.aside - canvas.camera.bend * z * z
        return out[0] * (eye - x) - out[1] * z > 0

    def _seen_side(self, canvas: Canvas) -> int:
        return next((side for side in (-1, 1) if self._seen(canvas, (0, side), self.build.half_width)), 0)

    def _lit(self, canvas: Canvas, normal: tuple[float, float]) -> float:
        return 0.25 + 0.75 * canvas.light.facing(*self._outward(normal))

    def _side(self, canvas: Canvas, outline: Outline, side: int, inset: float, color: Color) -> None:
        floor = outline[0][1]
        points = [
            self._at(ahead, up, side * (self.build.half_width - inset * (up - floor) / 0.5))
            for ahead, up in outline
        ]
        canvas.polygon(points, color, CAR, self._lit(canvas, (0, side)))

    def _across(self, canvas: Canvas, low: tuple[float, float], high: tuple[float, float],
                wide: tuple[float, float], color: Color, lit: float) -> None:  # fmt: skip
        points = [
            self._at(*low, -wide[0]),
            self._at(*low, wide[0]),
            self._at(*high, wide[1]),
            self._at(*high, -wide[1]),
        ]
        canvas.polygon(points, color, CAR, lit)

    def _end(self, canvas: Canvas, end: int) -> None:
        wide, body, lit = self.build.half_width, self.build.body, self._lit(canvas, (end, 0))
        low, *rise = body[:3] if end < 0 else body[:-4:-1]
        self._across(canvas, low, rise[0], (wide, wide), self.color, lit)
        self._across(canvas, rise[0], rise[1], (wide, wide - 0.04), tint(self.color, 1.1), lit)
        self._across(
            canvas,
            rise[1],
            self.build.cabin[0 if end < 0 else -1],
            (wide - 0.04,) * 2,
            tint(self.color, 1.2),
            0.9,
        )
        bumper = (low[0] + 0.02 * end, low[1] + 0.2)
        self._across(
            canvas, (low[0] + 0.02 * end, low[1]), bumper, (wide * 0.96,) * 2, tint(self.color, 0.55), lit
        )
        plate = (low[0] + 0.03 * end, low[1] + 0.16)
        self._across(canvas, plate, (plate[0], plate[1] + 0.14), (0.26, 0.26), (225, 225, 215), lit)

    def _screen(self, canvas: Canvas, end: int) -> None:
        low, high = self.build.cabin[:2] if end < 0 else self.build.cabin[:-3:-1]
        wide, lit = self.build.half_width, self._lit(canvas, (end, 0))
        back, front = self.build.cabin[1], self.build.cabin[2]
        self._across(canvas, back, front, (wide - 0.1, wide - 0.1), tint(self.color, 1.15), 1.0)
        self._across(canvas, low, high, (wide, wide - 0.1), self.color, lit)
        inner = [
            (low[0] + share * (high[0] - low[0]), low[1] + share * (high[1] - low[1]))
            for share in (0.12, 0.86)
        ]
        self._across(canvas, inner[0], inner[1], (wide - 0.12, wide - 0.19), GLASS, 0.3 + 0.5 * lit)

    def _windows_and_wheels(self, canvas: Canvas, side: int) -> None:
        for outline in self.build.windows:
            self._side(canvas, outline, side, 0.1, tint(GLASS, 0.85))
        for wheel in self.build.wheels:
            for radius, color in ((0.36, TYRE), (0.2, (150, 152, 156))):
                points = [
                    self._at(
                        wheel + radius * along, 0.35 + radius * up, side * (self.build.half_width + 0.01)
                    )
                    for along, up in CIRCLE
                ]
                canvas.polygon(points, color, CAR, 0.4)

    def _underneath(self, canvas: Canvas, end: int) -> None:
        reach, wide = abs(self.build.body[0][0]) - 0.15, self.build.half_width
        self._across(canvas, (end * reach, 0.2), (end * reach, 0.45), (wide - 0.05,) * 2, TRIM, 0.0)
        for left, right in ((-wide + 0.04, -wide + 0.28), (wide - 0.28, wide - 0.04)):
            tyre = [
                self._at(end * reach, up, across)
                for up, across in ((0, left), (0, right), (0.4, right), (0.4, left))
            ]
            canvas.polygon(tyre, TYRE, CAR, 0.2)

    def _lights(self, canvas: Canvas, end: int) -> None:
        ahead, up = self.build.body[1] if end < 0 else self.build.body[-2]
        color = (216, 40, 36) if end < 0 else (250, 246, 226)
        lit = SHINING if canvas.light.lamps > 0.3 else 0.7
        for side in (-1, 1):
            outer, inner = side * (self.build.half_width - 0.03), side * (self.build.half_width - 0.34)
            lamp = [self._at(ahead + 0.03 * end, up + high, across)
                    for high, across in ((-0.16, outer), (-0.16, inner), (0.0, inner), (0.0, outer))]  # fmt: skip
            canvas.polygon(lamp, color, CAR, lit)


CIRCLE = tuple((round(x, 3), round(y, 3)) for x, y in (
    (1, 0), (0.866, 0.5), (0.5, 0.866), (0, 1), (-0.5, 0.866), (-0.866, 0.5),
    (-1, 0), (-0.866, -0.5), (-0.5, -0.866), (0, -1), (0.5, -0.866), (0.866, -0.5),
))  # fmt: skip
