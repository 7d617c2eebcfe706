"""How a recipe of an older format becomes one of the next: what was implied is written down.

Each step changes a document in place and keeps its comments. A section that is missing or is none stays so: what a
recipe lacks, the check of the new format says.
"""

from collections.abc import Callable
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.items import Item, Table

START = ""  # in place of a key: before the first one of the section

# Keys that came with format 2: (section, key before the new one, new key, what format 1 did).
ADDED_IN_2: tuple[tuple[str, str, str, Any], ...] = (
    ("", "seed", "start", "none"),
    ("", "start", "init", "openmmlab"),
    ("data", "std", "scale_by", "box"),
    ("data", "scale_range", "interpolation", "opencv"),
    ("data", "interpolation", "rotate", 0.0),
    ("data", "crop", "padding", "mean"),
    ("data", "distort", "blur", 0.0),
    ("optim", "min_lr", "schedule_end", "last_step"),
    ("optim", "batch", "clip_norm", 0.0),
    ("optim", "clip_norm", "ema", 0.0),
    ("eval", START, "kind", "whole"),
)


def to_format_2(document: tomlkit.TOMLDocument) -> None:
    """Format 2 can also say how the official code of FastFCN trains and tests; format 1 knew OpenMMLab's way alone."""
    for section, before, key, value in ADDED_IN_2:
        parent: Any = document.get(section) if section else document
        if isinstance(parent, dict) and key not in parent:
            _insert(parent, before, key, tomlkit.item(value))


UPGRADES: dict[int, Callable[[tomlkit.TOMLDocument], None]] = {1: to_format_2}


def _insert(parent: Any, before: str, key: str, item: Item) -> None:
    """Put `key` behind the key `before`, on a line that ends as the other lines do; else at the end."""
    keys = list(parent)
    container = parent.value if isinstance(parent, Table) else parent
    if not isinstance(container, Container) or not keys or (before and before not in keys):
        parent[key] = item
        return
    neighbour = container.item(before or keys[0])
    item.trivia.trail = neighbour.trivia.trail if isinstance(neighbour, Item) else "\n"
    if before:
        container._insert_after(before, key, item)
    else:
        container._insert_at(0, key, item)
