"""What a data set is: where its files lie, its classes, and the meaning of every value of its masks."""

import string
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastfcn.errors import DataError
from fastfcn.utils.spelling import did_you_mean

CATALOG = Path(__file__).parent / "catalog"
MAX_CLASSES = 254  # a label is one byte: 255 is an ignored pixel, 254 marks a value without a meaning

Byte = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]
RawId = Annotated[int, Field(ge=0, le=65535)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class SegmentationClass(_Strict):
    """One class: its name, its colour (red, green, blue) and the mask values that stand for it."""

    name: Text
    color: Color
    ids: tuple[RawId, ...] = ()


class IgnoredValue(_Strict):
    """Mask values (or, in colour masks, the colour) of pixels that are neither trained on nor counted."""

    name: Text
    color: Color | None = None
    ids: tuple[RawId, ...] = ()


class DataSetDescription(_Strict):
    """A data set's TOML file, checked.

    Patterns are paths below the data folder, or below the first of `folders` in it that holds the split (so
    that one may name an unpacked archive or the folder around it). `{split}` stands for what `splits` says;
    every other placeholder matches any part of a file or folder name in `images` and takes what it matched in
    `labels`. Several patterns are alternatives. With `lists` (files with one name a line) an example's
    `{name}` comes from there.

    What `fastfcn check` tells a reader who has not got the data yet: `home`, `get` (what to fetch and where to
    put it) and `licence`. `counts` is how many images each split has, as published; several where editions differ.

    `labels_kind` is "index" where the number stored in a grey or palette mask is the raw id, and "color"
    where a pixel's colour says its class. A value that neither `classes` nor `ignored` names is an error.
    """

    format: Literal[1]
    name: Text
    title: Text
    home: str
    get: str = ""
    licence: str = ""
    counts: dict[Text, Annotated[tuple[Count, ...], Field(min_length=1)]] = {}
    labels_kind: Literal["index", "color"]
    folders: Annotated[tuple[Text, ...], Field(min_length=1)]
    images: Annotated[tuple[Text, ...], Field(min_length=1)]
    labels: Annotated[tuple[Text, ...], Field(min_length=1)]
    lists: tuple[Text, ...]
    splits: Annotated[dict[Text, Text], Field(min_length=1)]
    ignored: tuple[IgnoredValue, ...]
    classes: Annotated[tuple[SegmentationClass, ...], Field(min_length=1, max_length=MAX_CLASSES)]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    @property
    def colors(self) -> tuple[Color, ...]:
        return tuple(entry.color for entry in self.classes)

    @model_validator(mode="after")
    def _consistent(self) -> "DataSetDescription":
        problems = [*_pattern_problems(self), *_value_problems(self)]
        problems += [f"classes: the name {name!r} occurs twice" for name in _repeated(self.class_names)]
        problems += [f"counts: there is no split {name!r}" for name in self.counts if name not in self.splits]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def description_names() -> list[str]:
    """The names of the data sets that come with the package."""
    return sorted(path.stem for path in CATALOG.glob("*.toml"))


def load_description(name_or_path: str | Path) -> DataSetDescription:
    """Read the description of a data set of the catalogue, or a TOML file of one's own.

    Raises DataError for an unknown name, an unreadable file, and for all mistakes in the file at once.
    """
    given = str(name_or_path)
    is_path = given.endswith(".toml") or "/" in given or "\\" in given
    if not is_path and given not in description_names():
        known = ", ".join(description_names())
        raise DataError(
            f"There is no data set named {given!r}{did_you_mean(given, description_names())}",
            f"Known data sets: {known}. For a data set of your own give the path of its .toml file.",
        )
    path = Path(given) if is_path else CATALOG / f"{given}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the data set description {path}: {error}.", "Check the path.") from error
    return parse_description(text, str(path))


def parse_description(text: str, source: str) -> DataSetDescription:
    """Check the TOML `text` of a data set; `source` is what errors call it. Raises DataError."""
    try:
        return DataSetDescription.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{source} is not valid TOML: {error}.", "Correct the line it names.") from error
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _validation_lines(error))
        raise DataError(f"The data set description {source} has mistakes:\n{lines}", "Correct them all.") from error


def placeholders(pattern: str) -> set[str]:
    """The names in braces in `pattern`; raises ValueError where the braces do not match."""
    return {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}


def _pattern_problems(description: DataSetDescription) -> list[str]:
    try:
        images = [placeholders(pattern) for pattern in description.images]
        labels = [placeholders(pattern) for pattern in description.labels]
        lists = [placeholders(pattern) for pattern in description.lists]
    except ValueError as error:
        return [f"images, labels, lists: a pattern's braces do not match ({error})"]
    problems = []
    if not all("name" in names for names in images):
        problems.append("images: every pattern needs the placeholder {name}")
    known = set.intersection(*images) | {"split"}
    known = {"name", "split"} if description.lists else known
    for key, sets in (("labels", labels), ("lists", [names | {"name"} for names in lists])):
        problems += [f"{key}: the placeholder {{{name}}} is not in images" for name in set().union(*sets) - known]
    paths = [*description.folders, *description.images, *description.labels, *description.lists]
    outside = [path for path in paths if Path(path).is_absolute() or ".." in Path(path).parts]
    return problems + [f"{path!r} is not a path below the data folder" for path in outside]


def _value_problems(description: DataSetDescription) -> list[str]:
    entries = [*description.classes, *description.ignored]
    if description.labels_kind == "index":
        problems = [
            f"{entry.name!r} needs ids: the mask values that stand for it" for entry in entries if not entry.ids
        ]
        return problems + [f"the id {value} is named twice" for value in _repeated(i for e in entries for i in e.ids)]
    problems = [f"{entry.name!r} has ids, but colour masks are told by color" for entry in entries if entry.ids]
    problems += [f"ignored: {entry.name!r} needs a color" for entry in description.ignored if entry.color is None]
    return problems + [f"the colour {list(c)} is named twice" for c in _repeated(e.color for e in entries if e.color)]


def _repeated(values: Any) -> list[Any]:
    seen: set[Any] = set()
    return list(dict.fromkeys(value for value in values if value in seen or seen.add(value)))


def _validation_lines(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "value_error":
            lines += str(problem["ctx"]["error"]).splitlines() if "ctx" in problem else [problem["msg"]]
        elif problem["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key{did_you_mean(str(problem['loc'][-1]), _keys_beside(problem['loc']))}")
        elif problem["type"] == "missing":
            lines.append(f"{key}: this key is missing")
        else:
            lines.append(f"{key}: {problem['msg']}, but found {problem['input']!r}")
    return lines


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    match location[0]:
        case "classes" if len(location) > 1:
            return list(SegmentationClass.model_fields)
        case "ignored" if len(location) > 1:
            return list(IgnoredValue.model_fields)
        case _:
            return list(DataSetDescription.model_fields)
