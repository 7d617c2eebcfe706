"""How defects are planted in a clean dataset, and what `check` must report."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.checking.clean import mask_path, names, save, stored

ONE, TWO = "train_03", "val_01"
ALL = names("train") + names("val")
COLORS = np.array([[0, 0, 0], [128, 64, 128], [220, 20, 60], [70, 130, 180]], np.uint8)
MASKS = [mask_path(name) for name in ALL]
TURN_RIGHT = 6  # EXIF orientation: rotate by 90 degrees for display


class Planted(NamedTuple):
    """The problem to report with all of its `files`; `outcome` is what --fix does: "fixed", "left out" (of
    the copy) or "kept" (unchanged, because the user has to decide)."""

    kind: str
    severity: str
    files: list[str]
    outcome: str


DEFECTS: dict[str, Callable[[Path], Planted]] = {}


def defect(plant: Callable[[Path], Planted]) -> Callable[[Path], Planted]:
    DEFECTS[plant.__name__] = plant
    return plant


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def all_masks(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in MASKS:
        save(root / path, change(stored(root / path)))


def enlarged(values: np.ndarray) -> np.ndarray:
    """Resized to two thirds and back with bilinear interpolation, a common mistake."""
    height, width = values.shape[:2]
    small = Image.fromarray(values).resize((width * 2 // 3, height * 2 // 3), Image.Resampling.BILINEAR)
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))


def write_palette(path: Path, values: np.ndarray, colors: np.ndarray) -> None:
    image = Image.fromarray(values)
    image.putpalette(colors.ravel().tolist())
    image.save(path)
