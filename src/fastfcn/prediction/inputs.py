"""The inputs of `predict`: images, videos and cameras, given by name, folder or pattern."""

import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

from fastfcn.data.decoding import ARRAY_SUFFIXES, IMAGE_SUFFIXES, UNSUPPORTED_SUFFIXES
from fastfcn.errors import DataError, UserError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".gif"),
)
SUFFIXES = {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}


@dataclass(frozen=True)
class Inputs:
    """Image files, video files, and cameras ("webcam", "webcam:1"), without duplicates and in order.

    `problems`: an error for each file of a suitable name that cannot be an image or a video, such as a FIFO.
    """

    images: list[Path]
    videos: list[Path]
    cameras: list[str]
    problems: tuple[UserError, ...] = ()


def find_inputs(arguments: list[str]) -> Inputs:
    """Find files, folders (searched recursively), glob patterns and cameras.

    A file that is named directly counts as an image unless its suffix is that of a video. Links to folders are
    followed, but each folder is searched once, and none that contains the one that is searched. Raises DataError for an
    argument that matches nothing. Images of formats that cannot be read, such as .heic, are among the problems.
    """
    cameras: dict[str, None] = {}
    paths: dict[Path, None] = {}
    unreadable: dict[Path, None] = {}
    for argument in arguments:
        if is_camera(argument):
            cameras[argument] = None
            continue
        matches, others = _expand(argument)
        unreadable |= dict.fromkeys(others)
        if not matches and not others:
            images = [suffix for suffix in IMAGE_SUFFIXES if suffix not in VIDEO_SUFFIXES]
            raise DataError(
                f"{argument}: no image or video has this name or matches this folder or pattern.",
                f"Images end in {', '.join(images)}; videos in {', '.join(VIDEO_SUFFIXES)}. "
                "Put patterns in quotes: 'photos/*.jpg'.",
            )
        paths |= dict.fromkeys(matches)
    problems = {path: problem for path in paths if (problem := _problem(path))}
    skipped = [_unsupported(list(unreadable))] if unreadable else []
    paths = {path: None for path in paths if path not in problems}
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    images = [path for path in paths if path.suffix.lower() not in VIDEO_SUFFIXES]
    return Inputs(images, videos, list(cameras), (*problems.values(), *skipped))


def is_camera(argument: str) -> bool:
    """Whether the argument is `webcam` or `webcam:NUMBER`, and not the name of an existing file."""
    return (argument == "webcam" or argument.startswith("webcam:")) and not Path(argument).exists()


def _expand(argument: str) -> tuple[list[Path], list[Path]]:
    """Files that an argument means, sorted; of folders and patterns those whose suffix is that of an image or video.

    Arrays (.npy) count if there is nothing else: next to images, they rather are labels.

    The second list has their images in formats that cannot be read.
    """
    path = Path(argument)
    if path.exists() and not path.is_dir():
        return [path], []
    matches = {match for match in (_files_below(path) if path.is_dir() else _matches(path.parts)) if not match.is_dir()}
    readable, others, arrays = (
        sorted(match for match in matches if match.suffix.lower() in suffixes)
        for suffixes in (SUFFIXES, UNSUPPORTED_SUFFIXES, ARRAY_SUFFIXES)
    )
    return readable or arrays, others


def _unsupported(paths: list[Path]) -> DataError:
    counts = Counter(path.suffix.lower() for path in paths)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    return DataError(
        f"{paths[0]} and other files of formats that cannot be read were skipped: {kinds}."
        if len(paths) > 1
        else f"{paths[0]} was skipped: {paths[0].suffix} files cannot be read.",
        "Convert them to JPEG or PNG.",
    )


def _matches(parts: Sequence[str]) -> Iterator[Path]:
    """Files that match a pattern, given as the parts of its path; `**` stands for any number of folders.

    Hidden files, such as the ._NAME.jpg that macOS creates, are left out, as by glob.glob (unlike Path.glob). That
    function follows a link to a folder above it again and again.
    """
    before = parts.index("**") if "**" in parts else len(parts)
    bases = sorted(Path(match) for match in glob(str(Path(*parts[:before])))) if before else [Path()]  # noqa: PTH207
    if before == len(parts):
        yield from bases
        return
    after = parts[before + 1 :]
    for base in bases:
        if not after:
            yield from _files_below(base)
            continue
        for folder in _folders_below(base):
            yield from _matches([*(escape(part) for part in folder.parts), *after])


def _files_below(top: Path) -> Iterator[Path]:
    """All files below a folder, hidden ones and the contents of hidden folders left out."""
    for folder in _folders_below(top):
        yield from (path for path in _entries(folder) if not path.is_dir())


def _folders_below(top: Path) -> Iterator[Path]:
    """`top` and all folders below it, each once, even if links lead to it.

    Links to folders come last, so that a folder keeps its own path if it is below `top`; a link to a folder that
    contains `top` is not followed.
    """
    if not top.is_dir():
        return
    seen = {os.path.realpath(above) for above in Path(os.path.realpath(top)).parents}
    waiting, links = deque([top]), deque()
    while waiting or links:
        folder = waiting.popleft() if waiting else links.popleft()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        yield folder
        for path in _entries(folder):
            if path.is_dir():
                (links if path.is_symlink() else waiting).append(path)


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder that are not hidden; none if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _problem(path: Path) -> DataError | None:
    """Why `path` cannot be an image or a video, without opening it: reading from a FIFO can wait for ever."""
    if path.is_file():
        return None
    if path.is_symlink() and not path.exists():
        return DataError(f"{path} was skipped: it is a link to a file that does not exist.")
    return DataError(f"{path} was skipped: it is not a regular file, but a FIFO, a socket or a device.")


def output_names(inputs: Sequence[Path], endings: Sequence[str] = ("",)) -> list[str]:
    """A unique name without suffix for each file: a number is added to names that occur more than once.

    `endings`: what the names of outputs with the same suffix add; all of them are unique, also where the file system
    does not distinguish them (a and A, accents as one letter or as two).
    """
    names, taken = [], {"legend"}
    numbers: Counter[str] = Counter()  # the last one that was added to each name
    for path in inputs:
        name, stem = path.stem, _spelling(path.stem)
        while any(_spelling(f"{name}{ending}") in taken for ending in endings):
            numbers[stem] = max(numbers[stem], 1) + 1
            name = f"{path.stem}_{numbers[stem]}"
        taken.update(_spelling(f"{name}{ending}") for ending in endings)
        names.append(name)
    return names


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
