"""Houses of the drawn streets: a wall along the street, a wall towards the camera, and a roof."""

from dataclasses import dataclass

from fastfcn.data.streets.canvas import BUILDING, SHINING, Canvas, Color, Point, tint

GLASS, FRAME, LAMPLIGHT = (74, 90, 106), (214, 208, 198), (255, 206, 128)


@dataclass(frozen=True)
class Wall:
    """An upright rectangle from (x, z) `start` to `stop` on the ground; `outward` is its unit normal."""

    start: tuple[float, float]
    stop: tuple[float, float]
    outward: tuple[float, float]

    @property
    def length(self) -> float:
        return abs(self.stop[0] - self.start[0]) + abs(self.stop[1] - self.start[1])

    def at(self, share: float, height: float) -> Point:
        (x, z), (far_x, far_z) = self.start, self.stop
        return x + share * (far_x - x), height, z + share * (far_z - z)

    def panel(self, first: float, last: float, low: float, high: float) -> list[Point]:
        """Return the corners of the part between two shares of the length and two heights."""
        return [self.at(first, low), self.at(last, low), self.at(last, high), self.at(first, high)]


@dataclass(frozen=True)
class Building:
    """A house on the `side` (-1 left, 1 right) of the street, whose wall stands at `x` from `z` to `end`."""

    side: int
    x: float
    z: float
    end: float
    height: float
    depth: float
    color: Color
    roof: Color
    gable: float  # height of the roof above the wall; 0 = flat
    bands: bool  # windows in ribbons, as in offices
    shop: bool

    def cast(self, canvas: Canvas) -> None:
        reach = canvas.light.shadow[0] * self.height
        ahead = canvas.light.shadow[1] * self.height
        foot = [(self.x, self.z), (self.x, self.end)]
        canvas.shadow([*foot, (self.x + reach, self.end + ahead), (self.x + reach, self.z + ahead)])
        back = self.x + self.side * self.depth
        canvas.shadow(
            [
                (self.x, self.z),
                (back, self.z),
                (back + reach, self.z + ahead),
                (self.x + reach, self.z + ahead),
            ]
        )

    def draw(self, canvas: Canvas) -> None:
        street = Wall((self.x, self.z), (self.x, self.end), (-self.side, 0))
        gable_end = Wall((self.x, self.z), (self.x + self.side * self.depth, self.z), (0, -1))
        if self.gable:
            self._roof(canvas)
        for wall in (gable_end, street):
            self._wall(canvas, wall)

    def _roof(self, canvas: Canvas) -> None:
        ridge, top = self.x + self.side * self.depth / 2, self.height + self.gable
        eave, over = self.x - 0.4 * self.side, 0.4
        slope = [(eave, self.height - 0.2, self.z - over), (eave, self.height - 0.2, self.end + over),
                 (ridge, top, self.end + over), (ridge, top, self.z - over)]  # fmt: skip
        back = self.x + self.side * self.depth
        front = [(self.x, self.height, self.z), (ridge, top, self.z), (back, self.height, self.z)]
        lit = canvas.light.facing(-self.side, 0)
        canvas.polygon(front, tint(self.color, 0.95), BUILDING, canvas.light.facing(0, -1))
        canvas.polygon(slope, self.roof, BUILDING, 0.4 + 0.6 * lit)

    def _wall(self, canvas: Canvas, wall: Wall) -> None:
        lit = canvas.light.facing(*wall.outward)
        canvas.polygon(wall.panel(0, 1, 0, self.height), self.color, BUILDING, lit)
        canvas.polygon(wall.panel(0, 1, 0, 0.5), tint(self.color, 0.7), BUILDING, lit)
        columns = [canvas.camera.project(wall.at(share, 0))[0] for share in (0, 1)]
        ground = 3.4 if self.shop else 0.8
        if abs(columns[0] - columns[1]) > 8:
            floors = max(1, round((self.height - ground) / 3.0))
            draw = self._ribbons if self.bands else self._windows
            draw(
                canvas,
                wall,
                lit,
                [ground + (self.height - ground) * floor / floors for floor in range(floors + 1)],
            )
            if self.shop and not wall.outward[1]:
                self._shop(canvas, wall, lit)
        if not self.gable:
            canvas.polygon(
                wall.panel(0, 1, self.height - 0.45, self.height), tint(self.color, 1.16), BUILDING, lit
            )
            canvas.polygon(
                wall.panel(0, 1, self.height - 0.6, self.height - 0.45), tint(self.color, 0.72), BUILDING, lit
            )

    def _windows(self, canvas: Canvas, wall: Wall, lit: float, floors: list[float]) -> None:
        bays = max(1, round(wall.length / 2.5))
        for bay in range(bays):
            edges = [(bay + share) / bays for share in (0.25, 0.75)]
            left, right = (canvas.camera.project(wall.at(edge, 0))[0] for edge in edges)
            if abs(right - left) < 1.4 or max(left, right) < 0 or min(left, right) > canvas.image.width:
                continue
            for low, high in zip(floors, floors[1:], strict=False):
                bottom, top = low + 0.28 * (high - low), low + 0.8 * (high - low)
                if abs(right - left) > 5:
                    rim = 0.06 / bays
                    frame = wall.panel(edges[0] - rim, edges[1] + rim, bottom - 0.18, top + 0.1)
                    canvas.polygon(frame, FRAME, BUILDING, lit)
                self._pane(canvas, wall.panel(*edges, bottom, top), lit)

    def _ribbons(self, canvas: Canvas, wall: Wall, lit: float, floors: list[float]) -> None:
        for low, high in zip(floors, floors[1:], strict=False):
            self._pane(
                canvas, wall.panel(0.03, 0.97, low + 0.3 * (high - low), low + 0.85 * (high - low)), lit
            )
        mullions = max(1, round(wall.length / 3))
        for mullion in range(1, mullions):
            share = mullion / mullions
            post = wall.panel(share - 0.012, share + 0.012, floors[0], floors[-1])
            canvas.polygon(post, tint(self.color, 0.9), BUILDING, lit)

    def _pane(self, canvas: Canvas, panel: list[Point], lit: float) -> None:
        if canvas.uniform(0, 1) < canvas.light.lamps:
            canvas.polygon(panel, tint(LAMPLIGHT, canvas.uniform(0.75, 1.0)), BUILDING, SHINING)
            return
        mirrored, shade = canvas.uniform(0.1, 0.5), canvas.uniform(0.75, 1.1)
        zenith = canvas.light.zenith
        red, green, blue = (
            shade * (own + mirrored * (sky - own)) for own, sky in zip(GLASS, zenith, strict=True)
        )
        canvas.polygon(panel, (red, green, blue), BUILDING, 0.3 + 0.5 * lit)

    def _shop(self, canvas: Canvas, wall: Wall, lit: float) -> None:
        bays = max(1, round(wall.length / 4.5))
        for bay in range(bays):
            first, last = (bay + 0.1) / bays, (bay + 0.9) / bays
            self._pane(canvas, wall.panel(first, last, 0.5, 2.7), lit)
            door = wall.panel(first, first + 0.22 * (last - first), 0.0, 2.4)
            canvas.polygon(door, (96, 74, 58), BUILDING, lit)
            cloth = AWNINGS[int(canvas.generator.integers(len(AWNINGS)))]
            near, far = wall.at(first, 3.2), wall.at(last, 3.2)
            out = -0.9 * self.side
            awning = [near, far, (far[0] + out, 2.5, far[2]), (near[0] + out, 2.5, near[2])]
            canvas.polygon(awning, cloth, BUILDING, 0.7)


AWNINGS = ((176, 58, 52), (52, 110, 88), (60, 92, 140), (214, 160, 70), (226, 220, 206), (120, 66, 90))
