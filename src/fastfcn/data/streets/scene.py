"""What stands where in a drawn street: everything that chance decides before the first line is drawn."""

from dataclasses import dataclass, field

import numpy as np

from fastfcn.data.streets.buildings import Building
from fastfcn.data.streets.canvas import Camera, Color, Light
from fastfcn.data.streets.cars import HATCHBACK, SEDAN, VAN, Car
from fastfcn.data.streets.people import Person
from fastfcn.data.streets.plants import Conifer, Hedge, Tree
from fastfcn.data.streets.signs import FACES, Sign

LANE, PARKING, FAR = 3.1, 2.2, 90.0  # metres
WALLS = ((178, 96, 76), (206, 188, 158), (222, 214, 196), (196, 160, 112), (150, 152, 156), (214, 178, 160),
         (168, 182, 186), (226, 206, 150), (140, 104, 88), (190, 198, 186), (232, 228, 222), (120, 128, 138))  # fmt: skip
ROOFS = ((150, 74, 56), (122, 66, 56), (88, 84, 88), (104, 92, 84))
PAINTS = ((232, 232, 234), (28, 30, 34), (150, 154, 160), (176, 34, 36), (36, 72, 138), (70, 74, 80), (206, 178, 60),
          (52, 104, 84), (200, 200, 196), (186, 92, 40), (106, 150, 190))  # fmt: skip
LEAVES = (
    (88, 132, 58),
    (72, 118, 62),
    (112, 146, 64),
    (64, 104, 66),
    (128, 142, 60),
    (196, 138, 52),
    (180, 96, 50),
)
COATS = ((188, 44, 48), (40, 66, 120), (224, 190, 62), (60, 62, 68), (230, 228, 222), (70, 130, 100), (150, 80, 130),
         (226, 120, 50), (96, 150, 190))  # fmt: skip
TROUSERS = ((46, 52, 74), (36, 36, 40), (110, 96, 80), (70, 90, 120), (130, 130, 128))
SKINS, HAIRS = (
    ((240, 200, 170), (222, 176, 140), (176, 126, 92), (120, 82, 60)),
    ((44, 32, 28), (96, 66, 42), (190, 150, 90), (150, 148, 146)),
)


@dataclass
class Scene:
    """A street: its measures in metres and the things along it."""

    camera: Camera
    light: Light
    road: float  # half its width
    lanes: int  # in each direction
    pavement: float
    crossing: float  # where a street crosses, or beyond FAR
    grass: tuple[bool, bool]  # whether lawn lies behind the left and the right pavement
    plots: list[Building | Tree | Conifer] = field(default_factory=list)
    street: list[Car | Person | Sign | Tree | Conifer | Hedge] = field(default_factory=list)


def plan(size: tuple[int, int], generator: np.random.Generator) -> Scene:
    """Choose a street for pictures of `size` = (height, width)."""
    return _Planner(size, generator).scene


class _Planner:
    def __init__(self, size: tuple[int, int], generator: np.random.Generator):
        self.generator = generator
        lanes, parked = (2 if self.chance(0.3) else 1), self.chance(0.45)
        self.parked = parked
        road = LANE * lanes + (PARKING if parked else 0.3)
        crossing = self.uniform(14, 34) if self.chance(0.4) else 2 * FAR
        grass = (self.chance(0.5), self.chance(0.5))
        lane = self.uniform(-0.8, lanes + 0.3) // 1  # at times on the other side, or at the kerb
        aside = (lane + 0.5) * LANE + self.uniform(-0.6, 0.6)
        camera = self._camera(size, aside)
        self.scene = Scene(camera, light(generator), road, lanes, self.uniform(2.6, 4.5), crossing, grass)
        for side in (-1, 1):
            self._plots(side)
            self._pavement(side)
            self._cars(side)
        self._junction()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.generator.random()

    def chance(self, share: float) -> bool:
        return self.generator.random() < share

    def pick(self, choices: tuple[Color, ...]) -> Color:
        red, green, blue = choices[int(self.generator.integers(len(choices)))]
        change = self.uniform(0.9, 1.1)
        return red * change, green * change, blue * change

    def _camera(self, size: tuple[int, int], aside: float) -> Camera:
        height, width = size
        return Camera(
            focal=2 * width * self.uniform(0.85, 1.1), eye=self.uniform(1.4, 2.3), aside=aside,
            horizon=2 * height * self.uniform(0.42, 0.56), middle=width * self.uniform(0.85, 1.15),
            bend=self.uniform(-0.0016, 0.0016),
        )  # fmt: skip

    def _at_crossing(self, z: float, end: float) -> bool:
        return z < self.scene.crossing + 10 and end > self.scene.crossing - 2

    def _plots(self, side: int) -> None:
        lawn = self.scene.grass[side > 0]
        line = self.scene.road + self.scene.pavement
        z = self.uniform(-4, 4)
        while z < FAR:
            length = self.uniform(7, 12) if lawn else self.uniform(8, 17)
            if self._at_crossing(z, z + length):
                z = max(z + 1, self.scene.crossing + 10) if z > self.scene.crossing - 12 else z + 1
                continue
            if self.chance(0.3 if lawn else 0.08):
                self._grove(side, line, z, length)
            else:
                self._house(side, line, z, length, lawn)
            z += length + (self.uniform(1.5, 6) if lawn else 0 if self.chance(0.7) else self.uniform(1, 4))

    def _house(self, side: int, line: float, z: float, length: float, lawn: bool) -> None:
        back = self.uniform(3, 7) if lawn else self.uniform(0, 0.6)
        height = self.uniform(4.5, 7.5) if lawn else self.uniform(8, 21)
        gable = self.uniform(2, 4) if self.chance(0.85 if lawn else 0.2) else 0.0
        color, roof = self.pick(WALLS), self.pick(ROOFS)
        bands, shop = not lawn and self.chance(0.2), not lawn and self.chance(0.6)
        if z + length > 2:
            house = Building(
                side,
                side * (line + back),
                max(z, 1.3),
                z + length,
                height,
                9,
                color,
                roof,
                gable,
                bands,
                shop,
            )
            self.scene.plots.append(house)
        if lawn and self.chance(0.5) and z > 5:
            x = side * (line + self.uniform(1.2, 2.5))
            self.scene.street.append(
                Hedge(x, z, z + 0.7 * length, self.uniform(0.7, 1.3), self.pick(LEAVES[:5]))
            )

    def _grove(self, side: int, line: float, z: float, length: float) -> None:
        for _ in range(int(self.generator.integers(2, 5))):
            x, where = side * (line + self.uniform(2.5, 9)), z + self.uniform(0.1, 0.9) * length
            if where > 6:
                self.scene.plots.append(self._tree(x, where, self.uniform(5, 10)))

    def _tree(self, x: float, z: float, height: float) -> Tree | Conifer:
        if self.chance(0.2):
            return Conifer(x, z, height, self.pick(LEAVES[3:4]))
        return Tree(x, z, height, self.uniform(0.75, 1.2), self.pick(LEAVES))

    def _pavement(self, side: int) -> None:
        edge, width = self.scene.road, self.scene.pavement
        if self.chance(0.6):
            step, z, color = self.uniform(7, 12), self.uniform(7, 13), self.pick(LEAVES)
            while z < FAR * 0.7:
                if not self._at_crossing(z, z):
                    height, shape = self.uniform(4.5, 6.5), self.uniform(0.8, 1.05)
                    self.scene.street.append(Tree(side * (edge + 0.7), z, height, shape, color))
                z += step
        for near in (6.5, 9.0, 12.5):  # far enough from each other to be read
            if self.chance(0.4):
                self._sign(side, near + self.uniform(0, 1.2))
        for _ in range(int(self.generator.poisson(2.2))):
            z, x = self.uniform(4.5, 14), side * (edge + self.uniform(0.5, width - 0.3))
            self._person(x, z)
            if self.chance(0.35):
                self._person(x + self.uniform(0.6, 0.8), z + self.uniform(-0.3, 0.3))

    def _sign(self, side: int, z: float) -> None:
        faces = [*FACES, "light"]
        face = faces[int(self.generator.integers(len(faces)))]
        x = side * (self.scene.road + self.uniform(0.3, 0.6))
        self.scene.street.append(Sign(x, z, self.uniform(2.1, 2.9), self.uniform(0.45, 0.6), face))

    def _person(self, x: float, z: float) -> None:
        person = Person(x, z, self.uniform(1.55, 1.9), self.uniform(0.1, 1.0), self.pick(COATS), self.pick(TROUSERS),
                        self.pick(SKINS), self.pick(HAIRS))  # fmt: skip
        self.scene.street.append(person)

    def _cars(self, side: int) -> None:
        builds = (SEDAN, HATCHBACK, HATCHBACK, VAN)
        for lane in range(self.scene.lanes):
            x = side * LANE * (lane + 0.5)
            z = self.uniform(9, 26)
            while z < 70:
                build = builds[int(self.generator.integers(4))]
                if self.chance(0.55):
                    self.scene.street.append(
                        Car(x + self.uniform(-0.3, 0.3), z, (0, side), build, self.pick(PAINTS))
                    )
                z += self.uniform(9, 26)
        if self.parked:
            z = self.uniform(4, 9)
            while z < 60:
                build = builds[int(self.generator.integers(4))]
                if self.chance(0.6) and not self._at_crossing(z - 3, z + 3):
                    place = side * (self.scene.road - 1.05)
                    self.scene.street.append(Car(place, z, (0, side), build, self.pick(PAINTS)))
                z += self.uniform(5.4, 7)

    def _junction(self) -> None:
        crossing = self.scene.crossing
        if crossing > FAR:
            return
        if self.chance(0.5):
            heading = (1, 0) if self.chance(0.5) else (-1, 0)
            z = crossing + (2.0 if heading[0] > 0 else 5.2)
            clear = [
                thing for thing in self.scene.street if not (isinstance(thing, Car) and abs(thing.z - z) < 4)
            ]
            x = self.uniform(-self.scene.road - 2, self.scene.road + 2)
            self.scene.street = [*clear, Car(x, z, heading, SEDAN, self.pick(PAINTS))]
        for _ in range(int(self.generator.poisson(0.8))):
            self._person(self.uniform(-self.scene.road, self.scene.road), crossing - self.uniform(1.5, 3.5))


def light(generator: np.random.Generator) -> Light:
    """Choose a time of day and a weather."""
    draw = generator.random(6)
    moods = list(MOODS.values())
    mood = moods[int(generator.choice(len(moods), p=[0.42, 0.2, 0.22, 0.16]))]
    side = -1 if draw[0] < 0.5 else 1
    reach = side * (0.3 + 0.9 * draw[1]), -0.5 + 1.0 * draw[2]
    change = 0.94 + 0.12 * draw[3]
    zenith, low_sky, ambient, sun, shade, clouds, haze, lamps = mood
    brighter = [tuple(channel * change for channel in color) for color in (zenith, low_sky, ambient, sun)]
    return Light(*brighter, reach, shade, clouds * (0.4 + 1.2 * draw[4]), haze * (0.6 + 0.8 * draw[5]), lamps)


MOODS = {  # zenith, sky at the horizon, ambient, sun, shade, clouds, haze (m), lamps
    "clear": ((64, 124, 200), (190, 216, 238), (0.62, 0.66, 0.74), (0.46, 0.42, 0.34), 0.5, 0.35, 320, 0.0),
    "golden": ((96, 138, 196), (252, 214, 164), (0.56, 0.54, 0.58), (0.58, 0.44, 0.24), 0.48, 0.4, 170, 0.05),
    "overcast": (
        (158, 168, 180),
        (214, 218, 222),
        (0.84, 0.85, 0.88),
        (0.06, 0.06, 0.05),
        0.14,
        0.9,
        150,
        0.06,
    ),
    "dusk": ((52, 62, 116), (240, 158, 124), (0.5, 0.47, 0.6), (0.16, 0.08, 0.04), 0.16, 0.5, 150, 0.4),
}
