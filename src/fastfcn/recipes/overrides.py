"""Overrides: changes such as `optim.lr=0.02` to a recipe's text, each marked with the original value."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Item, Table, Trivia

from fastfcn.errors import RecipeError
from fastfcn.recipes.validation import ALTERNATIVES, toml_text

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_WORD = re.compile(r"[\w~/.\\][\w~/.\\:@+ -]*")  # names and paths need no quotes
_EXAMPLE = "Write key=value, for example optim.lr=0.02"
_PAIR = re.compile(r"[A-Za-z0-9_-]+ = ")
_ADDED = "added"  # the mark of a new key; all other marks are "was OLD", or "was KEY = OLD" of a key that it replaces

KeysOfKind = Callable[[str, Any], frozenset[str] | None]  # section and kind -> its keys; None if there is no such kind


def apply(text: str, changes: Sequence[str], keys_of_kind: KeysOfKind) -> str:
    """Apply every `key=value` of `changes` to `text`.

    A mark always names the original value, also after a second change; changing back removes the mark. Another `kind`
    drops the keys of the section that this kind does not have. Raises RecipeError for a change that cannot be parsed.
    The result is not validated here.
    """
    document = tomlkit.parse(text)
    for change in changes:
        key, value = _read(change)
        key, value = _with_shared_keys(document, key, value, keys_of_kind)
        _set(document, key, value, change)
    return tomlkit.dumps(document)


def _with_shared_keys(
    document: tomlkit.TOMLDocument, path: str, value: Item, keys_of_kind: KeysOfKind
) -> tuple[str, Item]:
    """For the change of a section's `kind`, the change of the whole section to the keys that both kinds have."""
    section, _, key = path.rpartition(".")
    values, kind = document.unwrap().get(section), value.unwrap()
    if key != "kind" or not isinstance(values, dict) or values.get("kind") == kind:
        return path, value
    keys = keys_of_kind(section, kind)
    if keys is None:
        return path, value
    changed = _value(toml_text({"kind": kind} | {name: values[name] for name in values if name in keys - {"kind"}}))
    assert changed is not None
    return section, changed


def _read(change: str) -> tuple[str, Item]:
    key, equals, text = (part.strip() for part in change.partition("="))
    if not equals:
        raise RecipeError(f"The override '{change}' has no '='.", _EXAMPLE)
    if not _KEY.fullmatch(key):
        raise RecipeError(f"The override '{change}' has no key before its '='.", _EXAMPLE)
    value = _value(text)
    if value is None and _WORD.fullmatch(text):
        value = tomlkit.item(text)
    if value is None:
        raise RecipeError(
            f"The override '{change}' has a value that is not TOML: {text or 'nothing'}",
            'Values look like 3, 0.5, true, "text", [1, 2] or {kind = "none"}; quote it for your shell.',
        )
    return key, value


def _value(text: str) -> Item | None:
    """`text` as one TOML value, or None."""
    try:
        document = tomlkit.parse(f"value = {text}\n")
    except (TOMLKitError, RecursionError):
        return None
    item = document.item("value")
    return item if isinstance(item, Item) and len(document) == 1 else None


def _set(document: tomlkit.TOMLDocument, path: str, value: Item, change: str) -> None:
    section, _, key = path.rpartition(".")
    if not section:
        _put(document, key, value, change)
        return
    table = _child(document, section) if section in document else None
    other = ALTERNATIVES.get(path, "").rpartition(".")[2]
    if isinstance(table, Table):
        if other in table and key not in table:
            _exchange(table, other, key)
        _put(table, key, value, change)
    elif isinstance(table, InlineTable):
        # An inline table can have one comment only, so one mark covers all of it.
        kept = {name: setting for name, setting in table.unwrap().items() if name != other}
        changed = _value(toml_text(kept | {key: value.unwrap()}))
        assert changed is not None
        _put(document, section, changed, change)
    else:
        known = ", ".join(name for name, item in document.items() if isinstance(item, Mapping))
        raise RecipeError(f"The override '{change}' does not name a section of the recipe.", f"Sections: {known}")


def _put(parent: Container | Table, key: str, value: Item, change: str) -> None:
    old = _child(parent, key) if key in parent else None
    if isinstance(old, Table) and not isinstance(value, InlineTable):
        raise RecipeError(
            f"The override '{change}' would replace the section [{key}] by a single value.",
            f'Set one of its keys ({key}.KEY=value), or the whole section: {key}={{kind = "..."}}',
        )
    if old is None:
        if isinstance(value, InlineTable) and isinstance(parent, Container):
            value = _section(value, [])
            parent.append(None, tomlkit.nl())
        _mark(value, _ADDED, "")
        parent.append(key, value)
    elif not _same(old, value):
        _replace(parent, key, old, value)


def _exchange(table: Table, old: str, key: str) -> None:
    """Rename the key `old` to its alternative `key`; a mark keeps the original pair, or value if `key` was it."""
    item = _child(table, old)
    before, (_, comment) = _before(item), _read_mark(item)
    if before:
        pair = before if _PAIR.match(before) else f"{old} = {before}"
        before = pair.removeprefix(f"{key} = ")
    _mark(item, f"was {before}" if before else _ADDED, comment)
    trail = item.trivia.trail
    table.value._insert_after(old, key, item)  # tomlkit's own replacement forgets the key's new name
    item.trivia.trail = trail
    table.remove(old)


def _replace(parent: Container | Table, key: str, old: Item, value: Item) -> None:
    before, (_, comment) = _before(old), _read_mark(old)
    original = _value(before) if before else None
    if original is not None and _same(original, value):
        mark, value = "", original
    else:
        mark = f"was {before}" if before else _ADDED
    # tomlkit copies the old item's comment to a new item without one.
    _mark(old, mark, comment)
    if isinstance(old, Table):
        value = _section(value, _tail(old))
        _mark(value, mark, comment)
        written = len(value.value.body)
        parent[key] = value
        del value.value.body[written:]  # the blank line that tomlkit adds after a comment
    else:
        _mark(value, mark, comment)
        parent[key] = value


def _before(item: Item) -> str | None:
    """The value before any override, as TOML on one line; None for an added key."""
    mark, _ = _read_mark(item)
    if mark:
        return None if mark == _ADDED else mark.removeprefix("was ")
    if isinstance(item, Table):
        pairs = ((key, _before(_child(item, key))) for key in item)
        texts = (text if _PAIR.match(text) else f"{key} = {text}" for key, text in pairs if text)
        return "{" + ", ".join(texts) + "}"
    text = item.as_string()
    return toml_text(item.unwrap()) if "\n" in text else text


def _read_mark(item: Item) -> tuple[str, str]:
    """The mark in an item's comment ("" without one) and the rest of the comment.

    The old value may contain a semicolon, so a mark ends at the first one that leaves valid TOML before it.
    """
    comment = item.trivia.comment
    words = comment.removeprefix("#").strip()
    for end in [match.start() for match in re.finditer("; ", words)] + [len(words)]:
        mark, rest = words[:end], words[end + 2 :]
        value = mark.removeprefix("was ")
        if pair := _PAIR.match(value):
            value = value[pair.end() :]
        if mark == _ADDED or (mark.startswith("was ") and _value(value) is not None):
            return mark, rest and f"# {rest}"
    return "", comment


def _mark(item: Item, mark: str, comment: str) -> None:
    rest = comment.removeprefix("#").strip()
    item.trivia.comment = "# " + "; ".join(part for part in (mark, rest) if part) if mark else comment
    if not item.trivia.comment:
        item.trivia.comment_ws = ""
    elif not item.trivia.comment_ws or mark:
        item.trivia.comment_ws = "  "


def _section(value: Item, tail: list[Item]) -> Table:
    """An inline table as a section with one key per line, followed by the blank lines and comments of `tail`."""
    assert isinstance(value, InlineTable)
    lines = [f"{key} = {_child(value, key).as_string().strip()}\n" for key in value]
    body = tomlkit.parse("".join(lines))
    for item in tail:
        body.append(None, item)
    return Table(body, Trivia(), is_aot_element=False)


def _tail(table: Table) -> list[Item]:
    """Blank lines and comments after a section's last key, which belong to the next section."""
    body = table.value.body
    last = max((index for index, (key, _) in enumerate(body) if key is not None), default=-1)
    return [item for _, item in body[last + 1 :]]


def _child(parent: Container | Table | InlineTable, key: str) -> Item:
    # parent[key] would return a plain bool without its comment.
    item = (parent if isinstance(parent, Container) else parent.value).item(key)
    if not isinstance(item, Item):
        raise RecipeError(f"The recipe has '{key}' in several places.", f"Write one section [{key}].")
    return item


def _same(one: Item, other: Item) -> bool:
    """Equal values of equal types; the order of a table's keys does not matter."""
    values = one.unwrap(), other.unwrap()
    first, second = (sorted(value.items()) if isinstance(value, dict) else value for value in values)
    return repr(first) == repr(second)
