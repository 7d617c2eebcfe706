"""The light of a drawn street: a time of day, a weather, and what they make of a colour."""

import math
from dataclasses import dataclass

import numpy as np

Color = tuple[float, float, float]  # red, green, blue, 0-255

SHINING = -1.0  # in place of a share of the sun: a lamp, as bright as its own colour whatever the light


@dataclass(frozen=True)
class Light:
    """One time of day; `ambient` and `sun` are factors by which they light red, green and blue."""

    zenith: Color
    low_sky: Color
    ambient: Color
    sun: Color
    shade: float  # how dark a cast shadow is, 0-1
    clouds: float  # how much of the sky they cover, 0-1
    haze: float  # metres at which 63 % of a thing's colour is lost
    lamps: float  # share of windows that are lit, 0-1
    shadow: tuple[float, float]  # metres (right, ahead) that a shadow reaches per metre of height

    def on(self, color: Color, lit: float, distance: float) -> tuple[int, int, int]:
        """Return `color` seen from `distance` metres, on a face that gets a share `lit` of the sun."""
        red, green, blue = color
        if lit != SHINING:
            red *= self.ambient[0] + self.sun[0] * lit
            green *= self.ambient[1] + self.sun[1] * lit
            blue *= self.ambient[2] + self.sun[2] * lit
        clear = math.exp(-distance / self.haze)
        far_red, far_green, far_blue = self.low_sky
        return (
            min(255, int(far_red + (red - far_red) * clear)),
            min(255, int(far_green + (green - far_green) * clear)),
            min(255, int(far_blue + (blue - far_blue) * clear)),
        )

    def facing(self, right: float, ahead: float) -> float:
        """Return the share of the sun on an upright face that looks along the unit vector (right, ahead)."""
        away, along = self.shadow
        return max(0.0, -(away * right + along * ahead)) / math.hypot(away, along)


MOODS = (  # how often, zenith, sky at the horizon, ambient, sun, shade, clouds, haze, lamps
    (0.42, (64, 124, 200), (190, 216, 238), (0.62, 0.66, 0.74), (0.46, 0.42, 0.34), 0.5, 0.35, 320, 0.0),
    (0.2, (96, 138, 196), (252, 214, 164), (0.56, 0.54, 0.58), (0.58, 0.44, 0.24), 0.48, 0.4, 170, 0.05),
    (0.22, (158, 168, 180), (214, 218, 222), (0.84, 0.85, 0.88), (0.06, 0.06, 0.05), 0.14, 0.9, 150, 0.06),
    (0.16, (52, 62, 116), (240, 158, 124), (0.5, 0.47, 0.6), (0.16, 0.08, 0.04), 0.16, 0.5, 150, 0.4),
)  # a clear day, a golden evening, an overcast day, dusk


def choose_light(generator: np.random.Generator) -> Light:
    """Choose a time of day and a weather, and vary them a little."""
    mood = MOODS[int(generator.choice(len(MOODS), p=[mood[0] for mood in MOODS]))]
    _, zenith, low_sky, ambient, sun, shade, clouds, haze, lamps = mood
    side, aside, ahead, bright, cover, mist = generator.random(6)
    shadow = (0.3 + 0.9 * aside) * (-1 if side < 0.5 else 1), ahead - 0.5
    change = 0.94 + 0.12 * bright
    return Light(
        scaled(zenith, change), scaled(low_sky, change), scaled(ambient, change), scaled(sun, change), shade,
        clouds * (0.4 + 1.2 * cover), haze * (0.6 + 0.8 * mist), lamps, shadow,
    )  # fmt: skip


def scaled(color: Color, factor: float) -> Color:
    """Return a lighter (factor > 1) or darker color."""
    return color[0] * factor, color[1] * factor, color[2] * factor
