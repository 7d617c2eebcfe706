"""Dataset descriptions: file patterns, classes, and the meaning of every mask value."""

import re
import string
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

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
BandType = Literal["uint8", "uint16", "int16", "float32"]
LATER_KEYS = ("colors", "merge", "drop", "bands")  # not in descriptions of version 0.1


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @model_serializer(mode="wrap")
    def _without_unused_keys(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out keys that earlier versions do not know, if they are empty."""
        return {key: value for key, value in handler(self).items() if value or key not in LATER_KEYS}


class _MaskValues(_Strict):
    color: Color | None
    ids: tuple[RawId, ...]
    colors: tuple[Color, ...]

    def mask_values(self, labels_kind: str) -> tuple[int, ...] | tuple[Color, ...]:
        """The mask values of this entry: ids, or the distinct colors in color masks."""
        return self.ids if labels_kind == "index" else self.mask_colors

    @property
    def mask_colors(self) -> tuple[Color, ...]:
        """The distinct colors of this entry in color masks."""
        return tuple(dict.fromkeys([*([self.color] if self.color else []), *self.colors]))


class SegmentationClass(_MaskValues):
    """A class: its name, its color (red, green, blue) and the mask values that stand for it.

    In color masks, `color` and the further `colors` stand for it.
    """

    name: Text
    color: Color  # type: ignore[assignment] # narrower than in the base class, and frozen
    ids: tuple[RawId, ...] = ()
    colors: tuple[Color, ...] = ()


class IgnoredValue(_MaskValues):
    """Mask values (or, in color masks, colors) that are ignored in training and evaluation."""

    name: Text
    color: Color | None = None
    ids: tuple[RawId, ...] = ()
    colors: tuple[Color, ...] = ()


class Bands(_Strict):
    """What the image files contain, if they are not RGB images of 8 bits.

    `names` of all bands, in the order of the files; `dtype` of the stored values; `nodata`: a value that stands for
    missing pixels (NaN and infinity always do).
    """

    names: Annotated[tuple[Text, ...], Field(min_length=1)]
    dtype: BandType
    nodata: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Bands":
        if repeated := _repeated(self.names):
            raise ValueError("\n".join(f"bands.names: {name!r} occurs twice" for name in repeated))
        return self


class DatasetDescription(_Strict):
    """A validated dataset description, the content of a dataset's TOML file.

    Patterns are paths relative to the data folder, or to the first of `folders` in it that contains the split (such as
    the folder in an unpacked archive). `{split}` is replaced by the value in `splits`. Every other placeholder matches
    any part of a file or folder name in `images`, and is replaced by what it matched in `labels`. Several patterns are
    alternatives. With `lists` (text files with one name per line), the `{name}` of examples comes from there; if
    images have further placeholders, the lines are paths of images. `names` has such lines itself, by split.

    `home`, `get` (what to download and where to put it) and `license` are printed by `fastfcn check`. `counts` is the
    published number of images per split; several if editions differ.

    `labels_kind` is "index" if masks store ids (grayscale or palette files), and "color" if the color of a pixel is its
    class. A value that is neither in `classes` nor in `ignored` is an error.

    `bands` describes image files that are not RGB images of 8 bits (see `Bands`).

    `merge` maps the name of a class to the classes that become part of it, and the pixels of the classes in `drop` are
    ignored. Both are applied when a file is read, so they are empty afterwards.
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
    bands: Bands | None = None
    splits: Annotated[dict[Text, Text], Field(min_length=1)]
    names: dict[Text, Annotated[tuple[Text, ...], Field(min_length=1)]] = {}
    ignored: tuple[IgnoredValue, ...]
    classes: Annotated[tuple[SegmentationClass, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    merge: dict[Text, Annotated[tuple[Text, ...], Field(min_length=1)]] = {}
    drop: tuple[Text, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    @property
    def colors(self) -> tuple[Color, ...]:
        return tuple(entry.color for entry in self.classes)

    @property
    def is_listed(self) -> bool:
        """Whether the names of each split are listed, in files or here."""
        return bool(self.lists or self.names)

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetDescription":
        problems = [*_pattern_problems(self), *_value_problems(self)]
        problems += [f"classes: the name {name!r} occurs twice" for name in _repeated(self.class_names)]
        problems += _name_problems(self)
        problems += [f"counts: there is no split {name!r}" for name in self.counts if name not in self.splits]
        problems += _merge_problems(self)
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
    """Validate the TOML `text` of a dataset description; `source` names it in errors. Raises DataError.

    `merge` and `drop` are applied.
    """
    try:
        return _merged(DatasetDescription.model_validate(tomllib.loads(text)))
    except RecursionError as error:
        raise DataError(f"{source} is not valid TOML: it is nested too deeply.") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{source} is not valid TOML: {error}.", "Fix that line.") from error
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _validation_lines(error))
        raise DataError(f"The dataset description {source} has mistakes:\n{lines}", "Fix these keys.") from error


def _merged(description: DatasetDescription) -> DatasetDescription:
    """Apply `merge` and `drop`.

    A merged class takes the place of its first member. It keeps its own color if a class of its name exists, and has
    the color of the first member in the list otherwise.
    """
    entries = {entry.name: entry for entry in description.classes}
    owner = {name: target for target, members in description.merge.items() for name in (target, *members)}
    classes: dict[str, SegmentationClass] = {}
    for entry in description.classes:
        name = owner.get(entry.name, entry.name)
        if name not in classes and name not in description.drop:
            members = [entries[member] for member in (name, *description.merge.get(name, ())) if member in entries]
            classes[name] = _joined(name, members, description.labels_kind)
    dropped = [
        IgnoredValue(name=entry.name, color=entry.color, ids=entry.ids, colors=entry.colors)
        for entry in (entries[name] for name in description.drop)
    ]
    if not classes:
        raise DataError(f"The dataset description of {description.name} drops all classes.", "Keep at least one.")
    changes = {"classes": tuple(classes.values()), "ignored": (*description.ignored, *dropped), "merge": {}, "drop": ()}
    return description.model_copy(update=changes)


def _joined(name: str, members: Sequence[SegmentationClass], labels_kind: str) -> SegmentationClass:
    """One class with all mask values of `members`, in the color of the first."""
    first = members[0].color
    if labels_kind == "index":
        ids = tuple(dict.fromkeys(value for entry in members for value in entry.ids))
        return SegmentationClass(name=name, color=first, ids=ids)
    colors = dict.fromkeys(color for entry in members for color in entry.mask_colors)
    return SegmentationClass(name=name, color=first, colors=tuple(color for color in colors if color != first))


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
    for key, sets in (("labels", labels), ("lists", [names | {"name"} for names in lists])):
        problems += [f"{key}: the placeholder {{{name}}} is not in images" for name in set().union(*sets) - known]
    paths = [*description.folders, *description.images, *description.labels, *description.lists]
    paths += description.splits.values()
    outside = [path for path in paths if leaves_folder(path)]
    return problems + [f"{path!r} is not a path below the data folder" for path in outside]


def _name_problems(description: DatasetDescription) -> list[str]:
    if not description.names:
        return []
    problems = ["names: there are lists, too; leave one of them empty"] if description.lists else []
    if description.names.keys() != description.splits.keys():
        problems.append(f"names: every split needs them: {', '.join(description.splits)}")
    outside = [name for names in description.names.values() for name in names if leaves_folder(name)]
    return problems + [f"names: {name!r} is not below the data folder" for name in outside[:3]]


def leaves_folder(path: str) -> bool:
    """Whether a relative path can be outside of the folder that it is joined to."""
    return Path(path).is_absolute() or ".." in path.replace("\\", "/").split("/")


def _value_problems(description: DatasetDescription) -> list[str]:
    entries = [*description.classes, *description.ignored]
    if description.labels_kind == "index":
        problems = [f"{entry.name!r} needs ids: its mask values" for entry in entries if not entry.ids]
        problems += [f"{entry.name!r} has colors, but the masks contain ids" for entry in entries if entry.colors]
        return problems + [f"the id {value} occurs twice" for value in _repeated(i for e in entries for i in e.ids)]
    problems = [f"{entry.name!r} has ids, but color masks are identified by color" for entry in entries if entry.ids]
    problems += [f"ignored: {entry.name!r} needs a color" for entry in description.ignored if not entry.mask_colors]
    colors = _repeated(color for entry in entries for color in entry.mask_colors)
    return problems + [f"the color {list(color)} occurs twice" for color in colors]


def _merge_problems(description: DatasetDescription) -> list[str]:
    """Classes in `merge` and `drop` that do not exist, or that occur twice."""
    names = description.class_names
    used = [(f"merge.{target}", name) for target, members in description.merge.items() for name in members]
    used += [("drop", name) for name in description.drop]
    problems = [
        f"{key}: there is no class {name!r}{did_you_mean(name, names)}" for key, name in used if name not in names
    ]
    targets = [target for target in description.merge if target in names]
    members = [name for key, name in used if key != f"merge.{name}"]
    return problems + [f"merge and drop: {name!r} occurs twice" for name in _repeated([*members, *targets])]


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
        case "bands" if len(location) > 1:
            return list(Bands.model_fields)
        case _:
            return list(DatasetDescription.model_fields)
