"""Distinct colors for classes that have none."""

from collections.abc import Sequence
from functools import cache

import numpy as np

Color = tuple[int, int, int]

BACKGROUND: Color = (40, 40, 40)
FIRST: Color = (70, 130, 180)  # blue; each following color is the one farthest from all before it
# Lightness and chroma in OKLab's polar form (Ottosson 2020, https://bottosson.github.io/posts/oklab): neither nearly
# black or white, nor too saturated.
LIGHTNESS, CHROMA, HUES = (0.5, 0.6, 0.7, 0.76, 0.83, 0.4), (0.05, 0.09, 0.13, 0.17), 48
_TO_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                    [0.2119034982, 0.6806995451, 0.1073969566],
                    [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
_TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                    [1.9779984951, -2.4285922050, 0.4505937099],
                    [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


def distinct_colors(count: int, existing: Sequence[Color] = ()) -> list[Color]:
    """`count` distinct colors (up to 254), deterministic, and different from `existing`."""
    colors, points = _candidates()
    chosen: list[Color] = []
    initial = [FIRST] if not existing and count else []
    distance = np.full(len(colors), np.inf)
    for color in (*existing, *initial):
        distance = np.minimum(distance, _distances(points, oklab(np.array([color], float))[0]))
    chosen += initial
    while len(chosen) < count:
        best = int(distance.argmax())
        chosen.append(tuple(int(color) for color in colors[best]))  # type: ignore[arg-type]
        distance = np.minimum(distance, _distances(points, points[best]))
        distance[best] = -1.0
    return chosen


def oklab(colors: np.ndarray) -> np.ndarray:
    """Convert sRGB (N, 3), 0-255, to OKLab (N, 3): lightness 0-1, green to red, blue to yellow."""
    fraction = colors / 255
    linear = np.where(fraction <= 0.04045, fraction / 12.92, ((fraction + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T


@cache
def _candidates() -> tuple[np.ndarray, np.ndarray]:
    """Candidate colors (N, 3) uint8 and their OKLab coordinates; colors outside of sRGB are left out."""
    angles = np.arange(HUES) * 2 * np.pi / HUES
    grid = np.array([
        (light, chroma * np.cos(angle), chroma * np.sin(angle))
        for light in LIGHTNESS for chroma in CHROMA for angle in angles
    ])  # fmt: skip
    linear = (grid @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T
    linear = linear[((linear >= 0) & (linear <= 1)).all(1)]
    fraction = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colors = np.unique(np.rint(255 * fraction).astype(np.uint8), axis=0)
    return colors, oklab(colors.astype(float))


def _distances(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - point, axis=1)
