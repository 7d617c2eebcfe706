"""Find the files of a dataset: image-mask pairs from the patterns of its description."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from glob import escape, glob
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fastfcn.data.decoding import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from fastfcn.data.description import DatasetDescription, leaves_folder, placeholders
from fastfcn.data.folds import parse_fold
from fastfcn.errors import DataError
from fastfcn.utils.text import decode_legacy, read_lines

Placeholders = dict[str, str]  # placeholder -> value
COLUMN_MARKS = (r"[\t,;]", r"[\t,;]| +")  # between the columns of a split list: names may have spaces


class ExampleFiles(NamedTuple):
    """The files of one example; `name` joins the values of the path placeholders with slashes."""

    name: str
    image_path: Path
    label_path: Path


class Pairs(NamedTuple):
    """The files of one split; `folder` is what the patterns are relative to, `listed` the split's list file, if any.

    `values` has the values of the path placeholders for each image.
    """

    folder: Path
    listed: Path | None
    values: list[Placeholders]
    examples: list[ExampleFiles]
    images_without_mask: list[Path]
    names_without_image: list[str]


def find_examples(description: DatasetDescription, root: str | Path, split: str) -> list[ExampleFiles]:
    """All examples of `split` in the data folder `root`, sorted by path.

    `split`: "train", "train+val" for both, or one of several folds of these, such as "train fold 2/5", or the other
    folds, "train not fold 2/5".

    Raises DataError if the folder or the split is missing or empty, if an image has no mask, or if two files are the
    same example.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(
            f"The data folder {root} does not exist.",
            f"Give the folder that contains {description.title}{_source(description)}.",
        )
    fold = parse_fold(split)[1]
    examples = [
        example for part in split_parts(description, split) for example in _examples_of(description, root, part)
    ]
    if fold is None:
        return examples
    members = fold.select([example.name for example in examples])
    return [example for index, example in enumerate(examples) if index in members]


def split_parts(description: DatasetDescription, split: str) -> list[str]:
    """Split "train+val" into ["train", "val"]. Raises DataError for a split that the dataset does not have."""
    parts = [part.strip() for part in parse_fold(split)[0].split("+")]
    for part in parts:
        if part not in description.splits:
            known = ", ".join(description.splits)
            raise DataError(f"{description.name} has no split {part!r}.", f"Its splits are: {known} (or two: a+b).")
    return parts


def find_pairs(description: DatasetDescription, root: Path, split: str) -> Pairs | None:
    """The files of one `split` in `root`, including unpaired ones; None if there are none.

    Raises DataError if two files are the same example.
    """
    value = description.splits[split]
    for folder in (root / name for name in description.folders):
        listed, unknown = None, []
        if description.is_listed:
            listed = _list_file(description, folder, value)
            lines = read_lines(listed, "surrogateescape") if listed else description.names.get(split, ())
            images, unknown = _listed(description, folder, value, lines)
        else:
            images = _matched(description, folder, value)
        if images or unknown:
            examples, missing = _with_masks(description, folder, images)
            return Pairs(folder, listed, [values for _, values in images], examples, missing, unknown)
    return None


def masks_without_image(description: DatasetDescription, pairs: Pairs, split: str) -> list[Path]:
    """Masks of `split` without an image in it or, if the dataset has split lists, in any other split.

    NAME_labelTrainIds.png, which mmsegmentation's converters write next to a mask, belongs to NAME.
    """
    unmatched: list[Path] = []
    for pattern in description.labels:
        wildcard, expression = _compile(pattern, {"split": description.splits[split]})
        keys = list(expression.groupindex)
        known = {tuple(values.get(key, "") for key in keys) for values in pairs.values}
        for relative in sorted(glob(wildcard, root_dir=pairs.folder)):  # noqa: PTH207
            match = expression.fullmatch(Path(relative).as_posix())
            values = match.groupdict() if match else {}
            origin = values | {"name": values.get("name", "").removesuffix("_labelTrainIds")}
            owners = [tuple(candidate[key] for key in keys) for candidate in (values, origin)] if match else []
            if not match or known.intersection(owners):
                continue
            if not description.is_listed or not _first_file(description.images, pairs.folder, values):
                unmatched.append(pairs.folder / relative)
    return unmatched


def _examples_of(description: DatasetDescription, root: Path, split: str) -> list[ExampleFiles]:
    pairs, value = find_pairs(description, root, split), description.splits[split]
    if pairs is None:
        patterns = " or ".join(pattern.replace("{split}", value) for pattern in description.lists or description.images)
        raise DataError(
            f"{root} contains no images of the split {split!r} of {description.name}: nothing matches {patterns}.",
            f"Give the folder that these paths are relative to{_source(description)}.",
        )
    if pairs.names_without_image:
        listed = pairs.listed or f"The description of {description.name}"
        patterns = " or ".join(str(pairs.folder / pattern) for pattern in description.images)
        raise DataError(
            f"{listed} names {_some(pairs.names_without_image)}, but there is no such image. Searched for {patterns}.",
            "Add the images or remove the names from the list.",
        )
    if pairs.images_without_mask:
        patterns = " or ".join(str(pairs.folder / pattern.replace("{split}", value)) for pattern in description.labels)
        raise DataError(
            f"No mask for {_some([str(path) for path in pairs.images_without_mask])}: searched for {patterns}.",
            "Add the masks, or remove the images without a mask from the folder.",
        )
    return pairs.examples


def _matched(description: DatasetDescription, folder: Path, split: str) -> list[tuple[Path, Placeholders]]:
    """All files in `folder` that match an image pattern and are not the mask of another image."""
    paths: dict[tuple[str, ...], tuple[Path, Placeholders]] = {}
    for pattern in description.images:
        wildcard, expression = _compile(pattern, {"split": split})
        # Not Path.glob, which would also find hidden files, such as the ._NAME.png that macOS leaves.
        for relative in sorted(glob(wildcard, root_dir=folder)):  # noqa: PTH207
            if match := expression.fullmatch(Path(relative).as_posix()):
                path, key = folder / relative, tuple(match.groupdict().values())
                if key in paths:
                    raise DataError(f"{paths[key][0]} and {path} are the same example.", "Remove one of them.")
                paths[key] = (path, match.groupdict() | {"split": split})
    masks = {folder / pattern.format(**values) for _, values in paths.values() for pattern in description.labels}
    return [(path, values) for path, values in paths.values() if path not in masks]


def _list_file(description: DatasetDescription, folder: Path, split: str) -> Path | None:
    paths = [folder / pattern.format(split=split) for pattern in description.lists]
    return next((path for path in paths if path.is_file()), None)


def _listed(
    description: DatasetDescription, folder: Path, split: str, lines: Sequence[str]
) -> tuple[list[tuple[Path, Placeholders]], list[str]]:
    """The images that the `lines` of a list name, each once, and the lines without an image, or outside of `folder`."""
    images: dict[Path, Placeholders] = {}
    missing = []
    expressions = [_compile(pattern, {"split": split})[1] for pattern in description.images]
    for line in lines:
        inside = (entry for entry in _entries(line, expressions) if not any(map(leaves_folder, entry.values())))
        values = (entry | {"split": split} for entry in inside)
        pairs = ((entry, _first_file(description.images, folder, entry)) for entry in values)
        entry, image = next((pair for pair in pairs if pair[1]), (None, None))
        if image and entry:
            _check_mask_column(description, folder, image, entry, line)
            images.setdefault(image, entry)
        else:
            missing.append(line)
    return list(images.items()), missing


def _entries(line: str, expressions: Sequence[re.Pattern[str]]) -> list[Placeholders]:
    """What a line of a split list may mean, the most literal first: a name, a path, or a name with folders."""
    names = list(listed_names(line))
    paths = (path for spelling in spellings(line) for path in _paths(spelling))
    matches = (expression.fullmatch(path) for path in paths for expression in expressions)
    parts = ((list(expression.groupindex), name.split("/")) for expression in expressions for name in names)
    return [
        *({"name": name} for name in names),
        *(match.groupdict() for match in matches if match),
        *(dict(zip(keys, values, strict=True)) for keys, values in parts if len(keys) == len(values) > 1),
    ]


def _check_mask_column(
    description: DatasetDescription, folder: Path, image: Path, entry: Placeholders, line: str
) -> None:
    """Raise DataError if a line names the mask of another image next to `image`: masks are found by their names."""
    columns = [second for first, second in columns_of(line) if PurePosixPath(first).name in (image.name, image.stem)]
    mask = _first_file(description.labels, folder, entry) if columns else None
    for pattern in description.labels if mask else ():
        expression = _compile(PurePosixPath(pattern).name, {"split": entry["split"]})[1]
        for match in filter(None, (expression.fullmatch(PurePosixPath(column).name) for column in columns)):
            other = _first_file((pattern,), folder, entry | match.groupdict())
            if other and other != mask:
                raise DataError(
                    f"A list of the split {entry['split']!r} has the line {line!r}, but by its name the mask of "
                    f"{image} is {mask}.",
                    "Give each mask the name of its image.",
                )


def columns_of(line: str) -> Iterator[tuple[str, str]]:
    """The first two columns of a line of a split list, if they may be the paths of an image and its mask."""
    for spelling in spellings(line):
        for mark in COLUMN_MARKS:
            first, *others = (_plain_path(column) for column in re.split(mark, spelling.strip("\"'")))
            if others and PurePosixPath(others[0]).suffix.lower() in IMAGE_SUFFIXES:
                yield first, others[0]


def _stems(path: str) -> tuple[str, str]:
    """A path without the suffix of an image, and the last part of that."""
    stem, dot, suffix = path.rpartition(".")
    plain = stem if dot and f".{suffix.lower()}" in (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES) else path
    return plain, plain.rsplit("/", 1)[-1]


def _plain_path(text: str) -> str:
    return text.strip("\"'").replace("\\", "/").removeprefix("./").lstrip("/")


def _paths(line: str) -> list[str]:
    """What may be the path of an image in a line of a split list: the whole line, or its first column."""
    firsts = (re.split(mark, line.strip("\"'"), maxsplit=1)[0] for mark in COLUMN_MARKS)
    return list(dict.fromkeys(map(_plain_path, (line, *firsts))))


def listed_names(line: str) -> Iterator[str]:
    """The names that a line of a split list may mean, the most literal first.

    A line is a name, a file name, a path, or the paths of an image and its mask with a space, tab or comma between.
    Accents may be written differently than in file names, as on macOS, or in an older encoding.
    """
    for spelling in spellings(line):
        path, *columns = _paths(spelling)
        stem, name = _stems(path)
        first = [text for column in columns for text in (column, *_stems(column))]
        # The last part of a line of two paths is the name of the second.
        order = [*first, name] if any(_ends_before(column, path) for column in columns) else [name, *first]
        yield from dict.fromkeys(filter(None, (spelling, path, stem, *order)))


def _ends_before(first: str, line: str) -> bool:
    """Whether the first column is a path of its own, and not a name with spaces up to the first of them."""
    return PurePosixPath(first).suffix.lower() in (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES) or "/" in line[len(first) :]


def spellings(line: str) -> list[str]:
    """`line` as it is, its bytes that are not UTF-8 as Windows-1252, and with composed and decomposed accents."""
    if line.isascii():
        return [line]
    legacy = decode_legacy(line)
    return list(dict.fromkeys([line, legacy, *(unicodedata.normalize(form, legacy) for form in ("NFC", "NFD"))]))


def _with_masks(
    description: DatasetDescription, folder: Path, images: list[tuple[Path, Placeholders]]
) -> tuple[list[ExampleFiles], list[Path]]:
    """Pair images with their masks; returns the pairs and the images without a mask."""
    examples, missing = [], []
    for image, values in images:
        mask = _first_file(description.labels, folder, values)
        name = "/".join(value for key, value in values.items() if key != "split")
        examples.append(ExampleFiles(name, image, mask)) if mask else missing.append(image)
    return examples, missing


def _first_file(patterns: tuple[str, ...], folder: Path, values: Placeholders) -> Path | None:
    """The first file that a pattern names; patterns with other placeholders than `values` are skipped."""
    complete = (pattern for pattern in patterns if placeholders(pattern) <= values.keys())
    paths = (folder / pattern.format(**values) for pattern in complete)
    return next((path for path in paths if path.is_file()), None)


def _compile(pattern: str, known: Placeholders) -> tuple[str, re.Pattern[str]]:
    """Translate a pattern to a wildcard for `glob` and a regular expression with a group per placeholder."""
    wildcard, expression, seen = "", "", set()
    for piece in re.split(r"(?<!\{)(\{\w+\})(?!\})", pattern):
        name = piece[1:-1] if re.fullmatch(r"\{\w+\}", piece) else ""
        if not name or name in known:
            text = known[name] if name else piece.replace("{{", "{").replace("}}", "}")
            wildcard, expression = wildcard + escape(text), expression + re.escape(text)
        else:
            wildcard += "*"
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            seen.add(name)
    return wildcard, re.compile(expression)


def matching_placeholders(pattern: str, path: str) -> Placeholders:
    """The values of the placeholders with which `pattern` is `path`; empty if it is not."""
    match = _compile(pattern, {})[1].fullmatch(path)
    return match.groupdict() if match else {}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _source(description: DatasetDescription) -> str:
    return f"; get it from {description.home}" if description.home else ""
