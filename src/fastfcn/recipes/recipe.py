"""Recipes: everything that determines training and evaluation, in one TOML file.

The text of a recipe is kept as written, including comments. Overridden values are marked with the original one, as in
`lr = 0.02  # was 0.01`.
"""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
from pydantic import Field, PrivateAttr, ValidationError
from tomlkit.exceptions import ParseError, TOMLKitError

from fastfcn.errors import DataError, RecipeError
from fastfcn.recipes.overrides import apply
from fastfcn.recipes.schema import (
    Auxiliary,
    Backbone,
    Colors,
    Crops,
    Data,
    DropPath,
    EarlyStop,
    Eval,
    Freeze,
    Head,
    Loss,
    Mix,
    Neck,
    NonNegativeInt,
    Optim,
    Published,
    Schedule,
    Section,
    Text,
    TextList,
    allowed,
)
from fastfcn.recipes.upgrades import UPGRADES
from fastfcn.recipes.validation import field_lines, flatten, kind_of, models_in, rule_lines
from fastfcn.utils.files import replace_file
from fastfcn.utils.spelling import did_you_mean
from fastfcn.utils.text import read_text

FORMAT = 4

_WHOLE_SECTION = (
    'Another kind has other keys; set the missing ones too, or give the whole section, for example neck={kind="none"}'
)


class Recipe(Section):
    """One recipe. Attributes are the sections of the file, e.g. `recipe.data.crop` or `recipe.head.kind`."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT), allowed(str(FORMAT))]
    name: Text
    aliases: TextList
    summary: Text
    seed: NonNegativeInt
    load_from: Text  # a weights file of the whole network to start from, or "none"
    weight_init: Literal["openmmlab", "pytorch"]  # whose random initialization outside the backbone
    data: Data
    backbone: Backbone
    neck: Neck
    head: Head
    auxiliary: Auxiliary
    loss: Loss
    optim: Optim
    schedule: Schedule
    freeze: Freeze
    drop_path: DropPath
    early_stop: EarlyStop
    crops: Crops
    colors: Colors
    mix: Mix
    eval: Eval
    published: Published | None = None

    _text: str = PrivateAttr(default="")
    _folder: Path | None = PrivateAttr(default=None)  # of the recipe's file, for a relative `data.dataset`

    @property
    def text(self) -> str:
        """The recipe as TOML: the loaded text, byte for byte, with overridden values marked `# was OLD`."""
        return self._text

    def override(self, changes: Sequence[str]) -> "Recipe":
        """A copy with `changes` such as `optim.lr=0.02` or `neck={kind="none"}`. Raises RecipeError."""
        if not changes:
            return self
        try:
            changed = parse(apply(self.text, changes, _keys_of_kind), f"Recipe '{self.name}' with {' '.join(changes)}")
        except RecipeError as error:
            if any(change.partition("=")[0].strip().endswith(".kind") for change in changes):
                raise RecipeError(error.message, _WHOLE_SECTION) from None
            raise
        if changed.data.dataset == self.data.dataset:
            changed._folder = self._folder
        return changed

    @property
    def steps(self) -> int:
        """`optim.steps`. Raises RecipeError if the recipe has `optim.epochs` instead (see `build.with_steps`)."""
        if self.optim.steps is None:
            raise RecipeError(
                f"{self.name}: optim.epochs = {self.optim.epochs:g} is a number of steps only for a dataset.",
                "Set optim.steps instead.",
            )
        return self.optim.steps

    @property
    def channels(self) -> int:
        """Channels of the images: the number of bands, 3 for RGB."""
        return len(self.data.bands) if self.data.bands else 3

    @property
    def dataset(self) -> str:
        """`data.dataset`; a TOML path relative to the recipe's file is resolved."""
        path = self._folder / self.data.dataset if self._folder else None
        is_there = path is not None and self.data.dataset.endswith(".toml") and path.is_file()
        return str(path) if is_there else self.data.dataset

    def save(self, path: str | Path) -> None:
        """Write the text to `path`; raises OutputError."""
        with replace_file(path) as temporary:
            temporary.write_bytes(self.text.encode())

    def differences(self, other: "Recipe") -> list[tuple[str, Any, Any]]:
        """(dotted key, value here, value in `other`) for each difference; None for a key that only one has."""
        mine, theirs = flatten(self.model_dump()), flatten(other.model_dump())
        sections = list(type(self).model_fields)
        keys = sorted(dict.fromkeys([*mine, *theirs]), key=lambda key: sections.index(key.split(".")[0]))
        return [(key, mine.get(key), theirs.get(key)) for key in keys if mine.get(key) != theirs.get(key)]

    def __eq__(self, other: object) -> bool:
        """Equal in every value; comments and layout do not count."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.seed))


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, alias or path (ending in .toml), with `overrides` applied.

    Raises RecipeError for an unknown name, or with all errors in the file.
    """
    loaded = parse(*_find(name_or_path))
    if str(name_or_path).endswith(".toml"):
        loaded._folder = Path(name_or_path).expanduser().parent
    return loaded.override(overrides)


def parse(text: str, source: str) -> Recipe:
    """Parse the text of a recipe; `source` is its name in error messages.

    Raises RecipeError with all errors, one line each.
    """
    try:
        document = tomlkit.parse(text)
        document.unwrap()  # finds keys that occur twice in parts of a section
    except RecursionError:
        raise RecipeError(f"{source} is not TOML: it is nested too deeply") from None
    except ParseError as error:
        where = f"line {error.line}, column {error.col + 1}"
        reason = str(error).removesuffix(f" at line {error.line} col {error.col}")
        raise RecipeError(f"{source} is not TOML: {where}: {reason}") from None
    except TOMLKitError as error:  # such as a key that occurs twice in a table
        reason = str(error).rstrip(".")
        raise RecipeError(f"{source} is not TOML: {_where(text)}{reason}") from None
    if _upgrade(document, source):
        text = tomlkit.dumps(document)
    values = _tuples(document.unwrap())
    try:
        recipe, wrong = Recipe.model_validate(values), {}
    except ValidationError as error:
        recipe, wrong = None, field_lines(error, Recipe)
    lines = [*wrong.values(), *rule_lines(values, wrong)]
    if recipe is None or lines:
        raise RecipeError("\n  ".join([f"{source} is not a valid recipe:", *lines]))
    recipe._text = text
    return recipe


def _keys_of_kind(section: str, kind: Any) -> frozenset[str] | None:
    field = Recipe.model_fields.get(section)
    models = models_in(field.annotation) if field else []
    return next((frozenset(model.model_fields) for model in models if kind == kind_of(model)), None)


def _where(text: str) -> str:
    """The line of an error that tomlkit does not locate, such as a key that occurs twice, from Python's own parser."""
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as located:
        match = re.search(r"\(at (line \d+)", str(located))
        return f"{match[1]}: " if match else ""
    return ""


def names() -> list[str]:
    """Names of the recipes in the package, sorted."""
    return sorted(_shipped())


def is_known(name: str) -> bool:
    """Whether `name` is the name or an alias of a recipe that comes with the package."""
    return name in _shipped() or name in _aliases()


def _upgrade(document: tomlkit.TOMLDocument, source: str) -> bool:
    """Upgrade a document of an older format in place; returns whether anything changed."""
    written = document.get("format")
    if not isinstance(written, int) or isinstance(written, bool) or written == FORMAT:
        return False  # the schema refuses other values
    if written > FORMAT:
        raise RecipeError(
            f"{source} has format {written}; this version of fastfcn reads formats up to {FORMAT}.",
            "Install a newer fastfcn: pip install --upgrade fastfcn",
        )
    for old in range(written, FORMAT):
        if old not in UPGRADES:
            raise RecipeError(f"{source} has format {written}, which does not exist; allowed: 1 to {FORMAT}")
        UPGRADES[old](document)
    document["format"] = FORMAT
    return True


def _find(name_or_path: str | Path) -> tuple[str, str]:
    """Text of a recipe and its name in error messages."""
    if str(name_or_path).endswith(".toml"):
        return _file_text(Path(name_or_path)), str(name_or_path)
    name, shipped = str(name_or_path), _shipped()
    aliases = _aliases()
    if name not in shipped and name not in aliases:
        raise RecipeError(
            f"There is no recipe '{name}'{did_you_mean(name, [*shipped, *aliases])}",
            "`fastfcn recipes` lists them; for your own recipe, pass the path of its .toml file",
        )
    name = aliases.get(name, name)
    return shipped[name], f"Recipe '{name}'"


def _file_text(path: Path) -> str:
    try:
        return read_text(path.expanduser())
    except DataError as error:
        raise RecipeError(error.message.replace("Cannot read", "Cannot read the recipe", 1), error.hint) from None


@cache
def _shipped() -> dict[str, str]:
    """Name -> text of every recipe in the package."""
    folder = files("fastfcn") / "recipes" / "shipped"
    return {
        file.name.removesuffix(".toml"): file.read_bytes().decode()
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }


@cache
def _aliases() -> dict[str, str]:
    """Alias -> name. The recipes are parsed but not validated here, which is faster."""
    return {alias: name for name, text in _shipped().items() for alias in tomllib.loads(text)["aliases"]}


def _tuples(value: Any) -> Any:
    """Lists as tuples, so that all values of a frozen recipe are immutable."""
    match value:
        case dict():
            return {key: _tuples(inner) for key, inner in value.items()}
        case list():
            return tuple(_tuples(inner) for inner in value)
        case _:
            return value
