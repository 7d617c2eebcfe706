"""Upgrades of recipes from an older format to the current one.

Each step edits a document in place and keeps its comments. Missing or malformed sections are left alone: validation
reports them afterwards.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tomlkit
from tomlkit.container import Container
from tomlkit.items import InlineTable, Item, Table

START = ""  # in place of a key: before the first key of the section


class Added(NamedTuple):
    """A key that a format introduced, placed after another one, with the value that older formats implied."""

    section: str
    after: str
    key: str
    value: Any


class Renamed(NamedTuple):
    """A key that a format renamed, with its renamed values."""

    section: str
    old: str
    new: str
    values: tuple[tuple[str, str], ...] = ()


ADDED_IN_2 = (
    Added("", "seed", "start", "none"),
    Added("", "start", "init", "openmmlab"),
    Added("data", "std", "scale_by", "box"),
    Added("data", "scale_range", "interpolation", "opencv"),
    Added("data", "interpolation", "rotate", 0.0),
    Added("data", "crop", "padding", "mean"),
    Added("data", "distort", "blur", 0.0),
    Added("optim", "min_lr", "schedule_end", "last_step"),
    Added("optim", "batch", "clip_norm", 0.0),
    Added("optim", "clip_norm", "ema", 0.0),
    Added("eval", START, "kind", "whole"),
)
RENAMED_IN_3 = (
    Renamed("", "start", "load_from"),
    Renamed("", "init", "weight_init"),
    Renamed("data", "max_class_share", "cat_max_ratio"),
    Renamed("data", "distort", "photometric_distortion"),
    Renamed("backbone", "stride_in", "style", (("conv2", "pytorch"), ("conv1", "caffe"))),
    Renamed("head", "codes", "codewords"),
    Renamed("loss", "mean_over", "mean_over", (("labelled", "labeled"),)),
    Renamed("loss", "at_least", "min_kept"),
)
# The weight of an extra loss moved to the part that has it: (old key of [loss], section, its kinds, new key).
MOVED_IN_3 = (
    ("auxiliary", "auxiliary", "fcn", "loss_weight"),
    ("presence", "head", "enc", "se_loss_weight"),
)


def to_format_2(document: tomlkit.TOMLDocument) -> None:
    """Format 2 added what FastFCN's official code does differently; format 1 implied what mmsegmentation does."""
    for section, after, key, value in ADDED_IN_2:
        parent = _section(document, section)
        if parent is not None and key not in parent:
            _insert(parent, after, key, tomlkit.item(value))


def to_format_3(document: tomlkit.TOMLDocument) -> None:
    """Format 3 uses the names of mmsegmentation and timm; each head states the weights of its own extra losses."""
    for section, old, new, values in RENAMED_IN_3:
        parent = _section(document, section)
        if parent is not None and old in parent:
            _rename(parent, old, new, dict(values))
    loss = _section(document, "loss")
    for old, section, kind, new in MOVED_IN_3:
        part = _section(document, section)
        if loss is None or part is None or old not in loss:
            continue
        if part.get("kind") == kind:
            item = _item(loss, old)
            loss.remove(old)
            _insert(part, list(part)[-1], new, item)
        elif loss[old] == 0:
            loss.remove(old)


UPGRADES: dict[int, Callable[[tomlkit.TOMLDocument], None]] = {1: to_format_2, 2: to_format_3}


def renamed_keys() -> dict[str, str]:
    """Old dotted key -> what replaced it, for messages."""
    keys = {}
    for section, old, new, values in RENAMED_IN_3:
        prefix = f"{section}." if section else ""
        mapping = ", ".join(f'"{now}" instead of "{before}"' for before, now in values)
        if old != new:
            keys[prefix + old] = f"{prefix}{new}" + (f" ({mapping})" if mapping else "")
    return keys | {f"loss.{old}": f"{section}.{new}" for old, section, _, new in MOVED_IN_3}


def _section(document: tomlkit.TOMLDocument, name: str) -> Any:
    """The section, or the document itself for ""; None if it is missing or not a table."""
    section = document.get(name) if name else document
    return section if isinstance(section, dict) else None


def _container(parent: Any) -> Container | None:
    container = parent.value if isinstance(parent, Table | InlineTable) else parent
    return container if isinstance(container, Container) else None


def _item(parent: Any, key: str) -> Item:
    container = _container(parent)
    item = container.item(key) if container is not None else None
    return item if isinstance(item, Item) else tomlkit.item(parent[key])


def _rename(parent: Any, old: str, new: str, values: dict[str, str]) -> None:
    item = _item(parent, old)
    value = item.unwrap()
    if isinstance(value, str) and value in values:
        trivia, item = item.trivia, tomlkit.item(values[value])
        item._trivia = trivia
    for before, now in values.items():  # in the mark of an override: `# was "conv1"`
        item.trivia.comment = item.trivia.comment.replace(f'was "{before}"', f'was "{now}"')
    container = _container(parent)
    if container is None:
        del parent[old]
        parent[new] = item
    else:
        container._replace(old, new, item)


def _insert(parent: Any, after: str, key: str, item: Item) -> None:
    """Put `key` after the key `after`, with the same line end; at the end if there is no such key."""
    keys = list(parent)
    container = None if isinstance(parent, InlineTable) else _container(parent)
    if container is None or not keys or (after and after not in keys):
        parent[key] = item.unwrap()  # an inline table has no room for a comment
        return
    neighbor = container.item(after or keys[0])
    item.trivia.trail = neighbor.trivia.trail if isinstance(neighbor, Item) else "\n"
    if after:
        container._insert_after(after, key, item)
    else:
        container._insert_at(0, key, item)
