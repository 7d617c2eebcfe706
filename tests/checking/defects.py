"""Defects to plant in a clean dataset; each function in `DEFECTS` returns what must be reported and fixed."""

from tests.checking import defects_folders, defects_images, defects_masks, defects_values
from tests.checking.planting import ALL, COLORS, DEFECTS, MASKS

__all__ = ["ALL", "COLORS", "DEFECTS", "MASKS", "defects_folders", "defects_images", "defects_masks", "defects_values"]
