"""Kinds of damage, each planted in a clean folder; `DAMAGE` names what must be found, and what --fix makes of it."""

from tests.checking import damage_folders, damage_images, damage_masks, damage_values
from tests.checking.planting import ALL, COLORS, DAMAGE, MASKS

__all__ = ["ALL", "COLORS", "DAMAGE", "MASKS", "damage_folders", "damage_images", "damage_masks", "damage_values"]
