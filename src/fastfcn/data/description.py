"""Dataset descriptions: file patterns, classes, and the meaning of every mask value."""

import re
import string
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastfcn.errors import DataError
from fastfcn.utils.spelling import did_you_mean
from fastfcn.utils.text import read_text

CATALOG = Path(__file__).parent / "catalog"
MAX_CLASSES = 254  # labels are uint8: 255 is ignored, 254 marks unknown values

Byte = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]
RawId = Annotated[int, Field(ge=0, le=65535)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class SegmentationClass(_Strict):
    """A class: its name, its color (red, green, blue) and the mask values that stand for it."""

    name: Text
    color: Color
    ids: tuple[RawId, ...] = ()


class IgnoredValue(_Strict):
    """Mask values (or, in color masks, the color) that are ignored in training and evaluation."""

    name: Text
    color: Color | None = None
    ids: tuple[RawId, ...] = ()


class DatasetDescription(_Strict):
    """A validated dataset description, the content of a dataset's TOML file.

    Patterns are paths relative to the data folder, or to the first of `folders` in it that contains the split (such as
    the folder in an unpacked archive). `{split}` is replaced by the value in `splits`. Every other placeholder matches
    any part of a file or folder name in `images`, and is replaced by what it matched in `labels`. Several patterns are
    alternatives. With `lists` (text files with one name per line), the `{name}` of examples comes from there.

    `home`, `get` (what to download and where to put it) and `license` are printed by `fastfcn check`. `counts` is the
    published number of images per split; several if editions differ.

    `labels_kind` is "index" if masks store ids (grayscale or palette files), and "color" if the color of a pixel is its
    class. A value that is neither in `classes` nor in `ignored` is an error.
    """

    format: Literal[1]
    name: Text
    title: Text
    home: str
    get: str = ""
    license: str = Field("", validation_alias=AliasChoices("license", "licence"))
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
    def _consistent(self) -> "DatasetDescription":
        problems = [*_pattern_problems(self), *_value_problems(self)]
        problems += [f"classes: the name {name!r} occurs twice" for name in _repeated(self.class_names)]
        problems += [f"counts: there is no split {name!r}" for name in self.counts if name not in self.splits]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def description_names() -> list[str]:
    """The names of the datasets that come with the package."""
    return sorted(path.stem for path in CATALOG.glob("*.toml"))


def load_description(name_or_path: str | Path) -> DatasetDescription:
    """Load the description of a known dataset by name, or a description file by path.

    Raises DataError for an unknown name, an unreadable file, and for all mistakes in a file at once.
    """
    name = str(name_or_path)
    is_path = name.endswith(".toml") or "/" in name or "\\" in name
    if not is_path and name not in description_names():
        known = ", ".join(description_names())
        raise DataError(
            f"There is no dataset named {name!r}{did_you_mean(name, description_names())}",
            f"Known datasets: {known}. For your own dataset, give the path of its .toml file.",
        )
    path = Path(name) if is_path else CATALOG / f"{name}.toml"
    return parse_description(read_text(path), str(path))


def parse_description(text: str, source: str) -> DatasetDescription:
    """Validate the TOML `text` of a dataset description; `source` names it in errors. Raises DataError."""
    try:
        return DatasetDescription.model_validate(tomllib.loads(text))
    except RecursionError as error:
        raise DataError(f"{source} is not valid TOML: it is nested too deeply.") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{source} is not valid TOML: {error}.", "Fix that line.") from error
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _validation_lines(error))
        raise DataError(f"The dataset description {source} has mistakes:\n{lines}", "Fix these keys.") from error


def placeholders(pattern: str) -> set[str]:
    """The names in braces in `pattern`; raises ValueError where the braces do not match."""
    names = set()
    for _, name, form, conversion in string.Formatter().parse(pattern):
        if name is not None and (form or conversion or not re.fullmatch(r"[^\W\d]\w*", name)):
            raise ValueError(f"{pattern!r}: a placeholder is a name in braces, such as {{name}}")
        names |= {name} if name else set()
    return names


def _pattern_problems(description: DatasetDescription) -> list[str]:
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
    paths += description.splits.values()
    outside = [path for path in paths if Path(path).is_absolute() or ".." in Path(path).parts]
    return problems + [f"{path!r} is not a path below the data folder" for path in outside]


def _value_problems(description: DatasetDescription) -> list[str]:
    entries = [*description.classes, *description.ignored]
    if description.labels_kind == "index":
        problems = [f"{entry.name!r} needs ids: its mask values" for entry in entries if not entry.ids]
        return problems + [f"the id {value} occurs twice" for value in _repeated(i for e in entries for i in e.ids)]
    problems = [f"{entry.name!r} has ids, but color masks are identified by color" for entry in entries if entry.ids]
    problems += [f"ignored: {entry.name!r} needs a color" for entry in description.ignored if entry.color is None]
    return problems + [f"the color {list(c)} occurs twice" for c in _repeated(e.color for e in entries if e.color)]


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
            return list(DatasetDescription.model_fields)
