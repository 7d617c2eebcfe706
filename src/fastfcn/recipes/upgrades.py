"""Upgrades of recipes from an older format to the current one.

Each step edits a document in place and keeps its comments. Missing or malformed sections are left alone: validation
reports them afterwards.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import tomlkit
from tomlkit.container import Container
from tomlkit.items import AbstractTable, InlineTable, Item, Table, Trivia

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
ADDED_IN_4 = (
    Added("optim", "head_lr_factor", "layer_decay", 1.0),
    Added("optim", "weight_decay", "decay_norm_and_bias", True),
)
# Keys of [optim] that moved to [schedule], in its order, with their new names.
SCHEDULE_IN_4 = {"warmup_steps": "warmup_steps", "min_lr": "min_lr", "power": "power", "schedule_end": "end"}
SECTIONS_IN_4 = ("freeze", "drop_path", "early_stop", "crops", "colors", "mix")  # after [schedule], as kind = "none"


def to_format_2(document: tomlkit.TOMLDocument) -> None:
    """Format 2 added what FastFCN's official code does differently; format 1 implied what mmsegmentation does."""
    _add(document, ADDED_IN_2)


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


def to_format_4(document: tomlkit.TOMLDocument) -> None:
    """Format 4 has a section for the schedule, and sections for what earlier versions could not do."""
    _add(document, ADDED_IN_4)
    optim = _section(document, "optim")
    if table := _plain_table(document, "optim"):
        _split_optim(document, table)
        return
    sections = {name: {"kind": "none"} for name in SECTIONS_IN_4}
    if optim is not None:  # on one line or with dotted keys: written anew, as plain sections
        values = dict(optim.unwrap())
        schedule = {new: values.pop(old) for old, new in SCHEDULE_IN_4.items() if old in values}
        sections = {"optim": values, "schedule": {"kind": "poly"} | schedule} | sections
        document.remove("optim")
    for name, section in sections.items():
        document.append(None, tomlkit.nl())
        document.append(name, tomlkit.item(section))


def _split_optim(document: tomlkit.TOMLDocument, optim: Table) -> None:
    """Move the schedule's lines, with the comments above them, from a plain section [optim] to one of their own."""
    entries, tail = _entries(optim)
    newline = "\r\n" if any(text.endswith("\r\n") for text in entries.values()) else "\n"
    moved = {new: entries.pop(old) for old, new in SCHEDULE_IN_4.items() if old in entries}
    if "momentum" in entries:  # of SGD alone, so it follows the keys that all optimizers have
        entries["momentum"] = entries.pop("momentum")
    if "end" in moved:
        moved["end"] = re.sub(r"""(?m)^(\s*)["']?schedule_end["']?(\s*=)""", r"\1end\2", moved["end"])
    sections = {"optim": list(entries.values()), "schedule": [f'kind = "poly"{newline}', *moved.values()]}
    sections |= {name: [f'kind = "none"{newline}'] for name in SECTIONS_IN_4}
    before = ""
    for name, lines in sections.items():
        body = "".join(line if line.endswith("\n") else line + newline for line in lines)
        last = tail if name == SECTIONS_IN_4[-1] else newline
        trivia = optim.trivia if name == "optim" else Trivia(trail=newline)
        table = Table(tomlkit.parse(body + last), trivia, is_aot_element=False)
        if name == "optim":
            document._replace("optim", "optim", table)
        else:
            document._insert_after(before, name, table)
        before = name


UPGRADES: dict[int, Callable[[tomlkit.TOMLDocument], None]] = {1: to_format_2, 2: to_format_3, 3: to_format_4}


def renamed_keys() -> dict[str, str]:
    """Old dotted key -> what replaced it, for messages."""
    keys = {}
    for section, old, new, values in RENAMED_IN_3:
        prefix = f"{section}." if section else ""
        mapping = ", ".join(f'"{now}" instead of "{before}"' for before, now in values)
        if old != new:
            keys[prefix + old] = f"{prefix}{new}" + (f" ({mapping})" if mapping else "")
    keys |= {f"loss.{old}": f"{section}.{new}" for old, section, _, new in MOVED_IN_3}
    return keys | {f"optim.{old}": f"schedule.{new}" for old, new in SCHEDULE_IN_4.items()}


def _section(document: tomlkit.TOMLDocument, name: str) -> Any:
    """The section, or the document itself for ""; None if it is missing or not a table."""
    section = document.get(name) if name else document
    return section if isinstance(section, dict) else None


def _add(document: tomlkit.TOMLDocument, keys: tuple[Added, ...]) -> None:
    for section, after, key, value in keys:
        parent = _section(document, section)
        if parent is not None and key not in parent:
            _insert(parent, after, key, tomlkit.item(value))


def _plain_table(document: tomlkit.TOMLDocument, name: str) -> Table | None:
    """The section if it is written under its header `[name]`: not on one line, with dotted keys, or in parts."""
    tables = [(key, item) for key, item in document.body if key is not None and key.key == name]
    if len(tables) != 1:
        return None
    key, table = tables[0]
    if not isinstance(table, Table):
        return None
    simple = not any(isinstance(item, AbstractTable) for _, item in table.value.body)
    return None if key.is_dotted() or table.is_super_table() or not simple else table


def _entries(table: Table) -> tuple[dict[str, str], str]:
    """The text of each key with everything between it and the key before; and what follows the last key."""
    entries, before = {}, ""
    for key, item in table.value.body:
        if key is None:
            before += item.as_string()
        else:
            entries[key.key] = before + table.value._render_simple_item(key, item)
            before = ""
    return entries, before


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
