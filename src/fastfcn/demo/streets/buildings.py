"""Buildings: a wall along the street, a wall facing the camera, and a roof."""

from dataclasses import dataclass
from itertools import pairwise

from fastfcn.demo.streets.canvas import BUILDING, EMISSIVE, Canvas, Color, Vector2, Vector3, scaled

GLASS, FRAME, LAMPLIGHT, DOOR = (74, 90, 106), (214, 208, 198), (255, 206, 128), (96, 74, 58)
AWNINGS = ((176, 58, 52), (52, 110, 88), (60, 92, 140), (214, 160, 70), (226, 220, 206), (120, 66, 90))


@dataclass(frozen=True)
class Wall:
    """A vertical rectangle above the line from `start` to `stop` = (x, z); `lit` is its fraction of sunlight (0-1)."""

    start: Vector2
    stop: Vector2
    lit: float

    @property
    def length(self) -> float:
        return abs(self.stop[0] - self.start[0]) + abs(self.stop[1] - self.start[1])  # along x or along z

    def at(self, share: float, height: float) -> Vector3:
        (x, z), (far_x, far_z) = self.start, self.stop
        return x + share * (far_x - x), height, z + share * (far_z - z)

    def fill(self, canvas: Canvas, across: Vector2, up: Vector2, color: Color) -> None:
        """Fill a rectangle on the wall: `across` in fractions of its length, `up` in meters."""
        self.shine(canvas, across, up, color, self.lit)

    def shine(self, canvas: Canvas, across: Vector2, up: Vector2, color: Color, lit: float) -> None:
        """Fill a rectangle like `fill`, with its own fraction of sunlight."""
        (first, last), (low, high) = across, up
        corners = [self.at(first, low), self.at(last, low), self.at(last, high), self.at(first, high)]
        canvas.polygon(corners, color, BUILDING, lit)

    def columns(self, canvas: Canvas, across: Vector2) -> Vector2:
        """Return the image columns of two positions along the wall (fractions of its length), left one first."""
        first, last = (canvas.camera.project(self.at(share, 0.0))[0] for share in across)
        return min(first, last), max(first, last)

    def pane(self, canvas: Canvas, across: Vector2, up: Vector2) -> None:
        """Draw a window pane: dark with a reflection of the sky, or lit from inside."""
        if canvas.generator.random() < canvas.light.lamps:
            self.shine(canvas, across, up, scaled(LAMPLIGHT, canvas.uniform(0.75, 1.0)), EMISSIVE)
            return
        mirrored, shade = canvas.uniform(0.1, 0.5), canvas.uniform(0.75, 1.1)
        sky = canvas.light.zenith
        red, green, blue = (shade * (own + mirrored * (sky[i] - own)) for i, own in enumerate(GLASS))
        self.shine(canvas, across, up, (red, green, blue), 0.3 + 0.5 * self.lit)


@dataclass(frozen=True)
class Building:
    """A building on one `side` (-1 left, 1 right) of the street; its street wall is at `x`, from `z` to `end`."""

    side: int
    x: float
    z: float
    end: float
    height: float
    color: Color
    roof: Color
    gable: float  # meters from the wall's top to the ridge; 0 for a flat roof
    ribbons: bool  # windows in horizontal bands, as in office buildings
    shops: bool

    @property
    def back(self) -> float:
        return self.x + 9 * self.side

    def cast_shadow(self, canvas: Canvas) -> None:
        canvas.wall_shadow((self.x, self.z), (self.x, self.end), self.height)
        canvas.wall_shadow((self.x, self.z), (self.back, self.z), self.height)

    def draw(self, canvas: Canvas) -> None:
        facing = canvas.light.facing
        street = Wall((self.x, self.z), (self.x, self.end), facing(-self.side, 0))
        towards = Wall((self.x, self.z), (self.back, self.z), facing(0, -1))
        if self.gable:
            self._roof(canvas, street.lit, towards.lit)
        for wall in (towards, street):
            self._wall(canvas, wall)
        if self.shops:
            self._shops(canvas, street)

    def _roof(self, canvas: Canvas, street_lit: float, towards_lit: float) -> None:
        ridge, top = (self.x + self.back) / 2, self.height + self.gable
        front = [(self.x, self.height, self.z), (ridge, top, self.z), (self.back, self.height, self.z)]
        canvas.polygon(front, scaled(self.color, 0.95), BUILDING, towards_lit)
        eave, low, near, far = self.x - 0.4 * self.side, self.height - 0.2, self.z - 0.4, self.end + 0.4
        slope = [(eave, low, near), (eave, low, far), (ridge, top, far), (ridge, top, near)]
        canvas.polygon(slope, self.roof, BUILDING, 0.4 + 0.6 * street_lit)

    def _wall(self, canvas: Canvas, wall: Wall) -> None:
        wall.fill(canvas, (0, 1), (0, self.height), self.color)
        wall.fill(canvas, (0, 1), (0, 0.5), scaled(self.color, 0.7))
        left, right = wall.columns(canvas, (0, 1))
        if right - left > 8:
            ground = 3.4 if self.shops else 0.8
            count = max(1, round((self.height - ground) / 3.0))
            floors = [ground + (self.height - ground) * floor / count for floor in range(count + 1)]
            self._ribbons(canvas, wall, floors) if self.ribbons else self._windows(canvas, wall, floors)
        if not self.gable:
            wall.fill(canvas, (0, 1), (self.height - 0.45, self.height), scaled(self.color, 1.16))
            wall.fill(canvas, (0, 1), (self.height - 0.6, self.height - 0.45), scaled(self.color, 0.72))

    def _windows(self, canvas: Canvas, wall: Wall, floors: list[float]) -> None:
        bays = max(1, round(wall.length / 2.5))
        for bay in range(bays):
            pane, frame = (
                ((bay + 0.25) / bays, (bay + 0.75) / bays),
                ((bay + 0.19) / bays, (bay + 0.81) / bays),
            )
            left, right = wall.columns(canvas, pane)
            if right - left < 1.4 or right < 0 or left > canvas.image.width:
                continue
            for low, high in pairwise(floors):
                bottom, top = low + 0.28 * (high - low), low + 0.8 * (high - low)
                if right - left > 5:
                    wall.fill(canvas, frame, (bottom - 0.18, top + 0.1), FRAME)
                wall.pane(canvas, pane, (bottom, top))

    def _ribbons(self, canvas: Canvas, wall: Wall, floors: list[float]) -> None:
        for low, high in pairwise(floors):
            wall.pane(canvas, (0.03, 0.97), (low + 0.3 * (high - low), low + 0.85 * (high - low)))
        posts = max(1, round(wall.length / 3))
        for post in range(1, posts):
            across = (post / posts - 0.012, post / posts + 0.012)
            wall.fill(canvas, across, (floors[0], floors[-1]), scaled(self.color, 0.9))

    def _shops(self, canvas: Canvas, wall: Wall) -> None:
        bays = max(1, round(wall.length / 4.5))
        for bay in range(bays):
            first, last = (bay + 0.1) / bays, (bay + 0.9) / bays
            wall.pane(canvas, (first, last), (0.5, 2.7))
            wall.fill(canvas, (first, first + 0.22 * (last - first)), (0.0, 2.4), DOOR)
            near, far, out = wall.at(first, 3.2), wall.at(last, 3.2), -0.9 * self.side
            awning = [near, far, (far[0] + out, 2.5, far[2]), (near[0] + out, 2.5, near[2])]
            cloth = AWNINGS[int(canvas.generator.integers(len(AWNINGS)))]
            canvas.polygon(awning, cloth, BUILDING, 0.7)
