"""The random plan of a street scene: road, camera and the position of every object."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastfcn.demo.streets.buildings import Building
from fastfcn.demo.streets.canvas import Camera, Canvas, Color, scaled
from fastfcn.demo.streets.objects import FACES, HATCHBACK, SEDAN, VAN, Car, Fir, Hedge, Person, Sign, TrafficLight, Tree

LANE, PARKING, VERGE, CROSSING = (
    3.1,
    2.2,
    1.6,
    8.0,
)  # widths in meters; the verge is a strip of grass
FAR = 90.0  # meters to the last house
CAR_MODELS = (SEDAN, HATCHBACK, HATCHBACK, VAN)
WALLS = (
    (178, 96, 76), (206, 188, 158), (222, 214, 196), (196, 160, 112), (150, 152, 156), (214, 178, 160),
    (168, 182, 186), (226, 206, 150), (140, 104, 88), (190, 198, 186), (232, 228, 222), (120, 128, 138),
)  # fmt: skip
ROOFS = ((150, 74, 56), (122, 66, 56), (88, 84, 88), (104, 92, 84))
PAINTS = (
    (232, 232, 234), (28, 30, 34), (150, 154, 160), (176, 34, 36), (36, 72, 138), (70, 74, 80),
    (206, 178, 60), (52, 104, 84), (200, 200, 196), (186, 92, 40), (106, 150, 190),
)  # fmt: skip
GREENS = ((88, 132, 58), (72, 118, 62), (112, 146, 64), (64, 104, 66), (128, 142, 60))
AUTUMN = ((196, 138, 52), (180, 96, 50))
COATS = (
    (188, 44, 48), (40, 66, 120), (224, 190, 62), (60, 62, 68), (230, 228, 222), (70, 130, 100),
    (150, 80, 130), (226, 120, 50), (96, 150, 190),
)  # fmt: skip
TROUSERS = ((46, 52, 74), (36, 36, 40), (110, 96, 80), (70, 90, 120), (130, 130, 128))
SKINS = ((240, 200, 170), (222, 176, 140), (176, 126, 92), (120, 82, 60))
HAIRS = ((44, 32, 28), (96, 66, 42), (190, 150, 90), (150, 148, 146))


class StreetObject(Protocol):
    """A standing object, `z` meters ahead, that can draw its shadow and itself."""

    @property
    def z(self) -> float: ...

    def cast_shadow(self, canvas: Canvas) -> None: ...

    def draw(self, canvas: Canvas) -> None: ...


@dataclass(frozen=True)
class Street:
    """The road and its surroundings, in meters."""

    road: float  # half of its width
    lanes: int  # in each direction
    pavement: float
    crossing: float  # distance to a crossing street; beyond FAR if there is none
    lawns: tuple[bool, bool]  # whether grass lies behind the left and the right pavement

    def is_crossed(self, z: float, end: float) -> bool:
        """Return whether the interval from `z` to `end` overlaps the crossing street."""
        return z < self.crossing + CROSSING + 2 and end > self.crossing - 2


class Planner:
    """Draws a random street, camera, `plots` (behind the pavements) and `objects` (in front of them)."""

    def __init__(self, size: tuple[int, int], generator: np.random.Generator):
        self.generator = generator
        self.lanes = 2 if self.bernoulli(0.3) else 1
        self.parked = self.bernoulli(0.45)
        road = LANE * self.lanes + (PARKING if self.parked else 0.3)
        crossing = self.uniform(14, 34) if self.bernoulli(0.4) else 2 * FAR
        lawns = (self.bernoulli(0.6), self.bernoulli(0.6))
        self.street = Street(road, self.lanes, self.uniform(2.8, 4.6), crossing, lawns)
        self.camera = self._camera(size)
        self.plots: list[StreetObject] = []
        self.objects: list[StreetObject] = []
        for side in (-1, 1):
            self._plots(side)
            self._row_of_trees(side)
            self._signs(side)
            self._people(side)
            self._traffic(side)
        if crossing < FAR:
            self._junction()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.generator.random()

    def bernoulli(self, share: float) -> bool:
        return self.generator.random() < share

    def pick(self, colors: tuple[Color, ...]) -> Color:
        return scaled(colors[int(self.generator.integers(len(colors)))], self.uniform(0.9, 1.1))

    def _camera(self, size: tuple[int, int]) -> Camera:
        height, width = size
        lane = self.uniform(-0.8, self.lanes + 0.3) // 1  # sometimes on the wrong side or at the curb
        return Camera(
            focal=2 * width * self.uniform(0.85, 1.1),
            eye_height=self.uniform(1.4, 2.3),
            offset=(lane + 0.5) * LANE + self.uniform(-0.6, 0.6),
            horizon=2 * height * self.uniform(0.42, 0.56),
            middle=width * self.uniform(0.85, 1.15),
            curvature=self.uniform(-0.0016, 0.0016),
        )

    def _plots(self, side: int) -> None:
        """Place buildings along one side, with a few groups of trees in between."""
        lawn, z = self.street.lawns[side > 0], self.uniform(-4, 4)
        while z < FAR:
            length = self.uniform(7, 12) if lawn else self.uniform(8, 17)
            if self.street.is_crossed(z, z + length):
                z += 1
                continue
            if self.bernoulli(0.3 if lawn else 0.08):
                self._grove(side, z, length)
            elif z + length > 2:
                self._house(side, max(z, 1.3), z + length, lawn)
            gap = self.uniform(1.5, 6) if lawn else 0.0 if self.bernoulli(0.7) else self.uniform(1, 4)
            z += length + gap

    def _house(self, side: int, z: float, end: float, lawn: bool) -> None:
        line = self.street.road + self.street.pavement
        gable = self.uniform(2, 4) if self.bernoulli(0.85 if lawn else 0.2) else 0.0
        house = Building(
            side=side, z=z, end=end, gable=gable, color=self.pick(WALLS), roof=self.pick(ROOFS),
            x=side * (line + (self.uniform(4, 9) if lawn else self.uniform(0, 0.6))),
            height=self.uniform(4.5, 7.5) if lawn else self.uniform(8, 21),
            ribbons=not lawn and self.bernoulli(0.2), shops=not lawn and self.bernoulli(0.6),
        )  # fmt: skip
        self.plots.append(house)
        if lawn and self.bernoulli(0.5) and z > 5:
            x, far = side * (line + self.uniform(1.2, 2.5)), z + 0.7 * (end - z)
            self.objects.append(Hedge(x, z, far, self.uniform(0.7, 1.3), self.pick(GREENS)))

    def _grove(self, side: int, z: float, length: float) -> None:
        for _ in range(int(self.generator.integers(2, 5))):
            x = side * (self.street.road + self.street.pavement + self.uniform(2.5, 9))
            place, height = z + self.uniform(0.1, 0.9) * length, self.uniform(5, 10)
            if place < 6:
                continue
            if self.bernoulli(0.2):
                self.plots.append(Fir(x, place, height, self.pick(GREENS[3:4])))
            else:
                self.plots.append(Tree(x, place, height, self.uniform(0.75, 1.2), self.pick(GREENS + AUTUMN)))

    def _row_of_trees(self, side: int) -> None:
        if self.bernoulli(0.4):
            return
        step, z, color = self.uniform(7, 12), self.uniform(7, 13), self.pick(GREENS + AUTUMN)
        while z < 0.7 * FAR:
            if not self.street.is_crossed(z, z):
                x, height = side * (self.street.road + 0.7), self.uniform(4.5, 6.5)
                self.objects.append(Tree(x, z, height, self.uniform(0.8, 1.05), color))
            z += step

    def _signs(self, side: int) -> None:
        for near in (5.5, 7.8, 10.8):  # far enough apart to be readable
            if not self.bernoulli(0.45):
                continue
            x, z = side * (self.street.road + self.uniform(0.3, 0.6)), near + self.uniform(0, 1.2)
            height, radius = self.uniform(2.1, 2.7), self.uniform(0.52, 0.7)
            face = int(self.generator.integers(len(FACES) + 1))
            if face < len(FACES):
                self.objects.append(Sign(x, z, height, radius, list(FACES)[face]))
            else:
                self.objects.append(TrafficLight(x, z, height, radius, int(self.generator.integers(3))))

    def _people(self, side: int) -> None:
        for _ in range(int(self.generator.poisson(2.6))):
            curb = VERGE if self.street.lawns[side > 0] else 0.5
            x = side * (self.street.road + self.uniform(curb, self.street.pavement - 0.3))
            z = self.uniform(4.5, 12)
            self._person(x, z)
            if self.bernoulli(0.35):
                self._person(x + self.uniform(0.6, 0.8), z + self.uniform(-0.3, 0.3))

    def _person(self, x: float, z: float) -> None:
        colors = (self.pick(choices) for choices in (COATS, TROUSERS, SKINS, HAIRS))
        self.objects.append(Person(x, z, self.uniform(1.55, 1.9), self.uniform(0.1, 1.0), *colors))

    def _traffic(self, side: int) -> None:
        """Place cars on the lanes of one side (driving on the right) and parked ones at the curb."""
        for lane in range(self.lanes):
            z = self.uniform(9, 26)
            while z < 70:
                if self.bernoulli(0.55):
                    self._car(side * LANE * (lane + 0.5) + self.uniform(-0.3, 0.3), z, (0, side))
                z += self.uniform(9, 26)
        z = self.uniform(5, 10) if self.parked else FAR
        while z < 60:
            if self.bernoulli(0.6) and not self.street.is_crossed(z - 3, z + 3):
                self._car(side * (self.street.road - 1.05), z, (0, side))
            z += self.uniform(5.4, 7)

    def _car(self, x: float, z: float, heading: tuple[float, float]) -> None:
        build = CAR_MODELS[int(self.generator.integers(len(CAR_MODELS)))]
        self.objects.append(Car(x, z, heading, build, self.pick(PAINTS)))

    def _junction(self) -> None:
        """Place a crossing car and pedestrians at the junction."""
        crossing, road = self.street.crossing, self.street.road
        if self.bernoulli(0.5):
            right = 1 if self.bernoulli(0.5) else -1
            z = crossing + CROSSING * (0.3 if right > 0 else 0.7)
            in_its_way = [item for item in self.objects if isinstance(item, Car) and abs(item.z - z) < 4]
            self.objects = [item for item in self.objects if item not in in_its_way]
            self._car(self.uniform(-road - 2, road + 2), z, (right, 0))
        for _ in range(int(self.generator.poisson(0.8))):
            self._person(self.uniform(-road, road), crossing - self.uniform(1.5, 3.5))
