"""The files of a folder: compact storage of very many paths, and the walk that finds them."""

import heapq
import os
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from fastfcn.checking.folder_names import FolderName, folder_name
from fastfcn.data.decoding import ARRAY_SUFFIXES, IMAGE_SUFFIXES, UNSUPPORTED_SUFFIXES
from fastfcn.errors import DataError

LIST_SUFFIXES = (".txt", ".lst", ".csv")  # of files that may list the images of a split
CHUNK = 512  # names sorted at a time


class Names:
    """File names stored back to back in one block of bytes, with the end of each."""

    def __init__(self, names: Iterable[str] = ()):
        self._bytes = bytearray()
        self._ends = array("I")
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        self._bytes += os.fsencode(name)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._bytes[start : self._ends[index]]))

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


def sorted_names(names: Iterable[str]) -> Names:
    """Sort `names`, with at most CHUNK of them as Python strings at any time."""
    chunks, chunk = [], []
    for name in names:
        chunk.append(name)
        if len(chunk) == CHUNK:
            chunks.append(Names(sorted(chunk)))
            chunk = []
    return Names(heapq.merge(*chunks, sorted(chunk)))


def stem_and_suffix(name: str) -> tuple[str, str]:
    """Split "a.b.png" into ("a.b", ".png")."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a Path costs ten times as much
    return stem, suffix


class Files:
    """The files below a root folder, addressed by number; the files of one folder have consecutive numbers."""

    def __init__(self) -> None:
        self.folder_paths: list[str] = []  # relative to the root, with slashes; "" is the root itself
        self._starts: list[int] = []
        self._names = Names()

    def add_folder(self, path: str, names: Iterable[str]) -> None:
        """Add the image files of a folder; `names` must be sorted."""
        self.folder_paths.append(path)
        self._starts.append(len(self._names))
        for name in names:
            self._names.append(name)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names[index]

    def folder(self, index: int) -> str:
        return self.folder_paths[bisect_right(self._starts, index) - 1]

    def path(self, index: int) -> str:
        """The path of a file relative to the root, with slashes."""
        folder = self.folder(index)
        return f"{folder}/{self.name(index)}" if folder else self.name(index)

    def of_folder(self, number: int) -> range:
        """The numbers of the files in a folder."""
        ends = [*self._starts[1:], len(self._names)]
        return range(self._starts[number], ends[number])


class Paths(Sequence[str]):
    """A sequence of paths, stored as file numbers and created on access."""

    def __init__(self, files: Files, numbers: Iterable[int]):
        self._files = files
        self._numbers = array("I", numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "Paths": ...

    def __getitem__(self, index: int | slice) -> "str | Paths":
        if isinstance(index, slice):
            return Paths(self._files, self._numbers[index])
        return self._files.path(self._numbers[index])


OTHER_LABELS = frozenset([".json", ".xml", ".mat", ".npy", ".npz", ".h5"])  # label formats other than images


@dataclass(frozen=True)
class Folder:
    """A folder below the root: its number in `Files`, and what the parts of its path mean."""

    number: int
    parts: tuple[FolderName, ...]

    @property
    def role(self) -> str:
        """The role of the innermost part that has one: "image", "mask", "other" or ""."""
        return next((part.role for part in reversed(self.parts) if part.role), "")

    @property
    def split(self) -> str:
        return next((part.split for part in reversed(self.parts) if part.split), "")

    @property
    def shape(self) -> tuple[str, ...]:
        """The path's pattern, with * for parts without a role or split."""
        return tuple("*" if part.plain else part.pattern for part in self.parts)

    @property
    def plain(self) -> tuple[str, ...]:
        """The parts without a role or split, such as city names."""
        return tuple(part.pattern for part in self.parts if part.plain)


@dataclass
class FolderContents:
    """The contents of a root folder: image files, text files, and the number of label files in other formats."""

    files: Files = field(default_factory=Files)
    folders: list[Folder] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)  # "PATH (reason)": folders and files that are never read


def read_contents(root: Path) -> FolderContents:
    """List everything below `root` except hidden files; symbolic links are followed."""
    contents = FolderContents()
    for path, names in _walk(root, contents.skipped):
        images = sorted_names(_images(names, path, contents))
        if len(images):
            parts = tuple(folder_name(part) for part in path.split("/")) if path else ()
            contents.folders.append(Folder(len(contents.files.folder_paths), parts))
            contents.files.add_folder(path, images)
    return contents


def _images(names: Iterator[str], path: str, contents: FolderContents) -> Iterator[str]:
    """Yield the names of images; note text files and other labels in `contents`.

    Arrays are images in a folder whose name says so, else labels.
    """
    roles = [folder_name(part).role for part in path.split("/")]
    arrays = ARRAY_SUFFIXES if next((role for role in reversed(roles) if role), "") == "image" else ()
    for name in names:
        suffix = stem_and_suffix(name)[1].lower()
        if suffix in IMAGE_SUFFIXES or suffix in arrays:
            yield name
        elif suffix in LIST_SUFFIXES:
            contents.texts.append(f"{path}/{name}" if path else name)
        elif suffix in OTHER_LABELS or suffix in UNSUPPORTED_SUFFIXES:
            contents.others[suffix] += 1


def _walk(root: Path, skipped: list[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield each folder with an iterator over its file names, which must be consumed before the next folder."""
    waiting, seen = [""], {os.path.realpath(root)}
    while waiting:
        path, folders = waiting.pop(), []
        try:
            entries = os.scandir(root / path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if not path:
                raise DataError(f"The folder {root} cannot be read: {reason}.", "Change its permissions.") from error
            skipped.append(f"{path} ({reason})")
            continue
        with entries:
            yield path, _file_names(entries, path, folders, skipped)
        for name in sorted(folders, reverse=True):
            below = f"{path}/{name}" if path else name
            if (real := os.path.realpath(root / below)) not in seen:
                seen.add(real)
                waiting.append(below)


def _file_names(entries: Iterator[os.DirEntry], path: str, folders: list[str], skipped: list[str]) -> Iterator[str]:
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        try:
            if entry.is_dir():
                folders.append(entry.name)
                continue
            # A dangling link is kept: it is reported as a file that cannot be read.
            reason = "" if entry.is_file() or not os.path.exists(entry.path) else "not a regular file"  # noqa: PTH110
        except OSError as error:  # for example a link to itself
            reason = (error.strerror or str(error)).lower()
        if reason:
            skipped.append(f"{path}/{entry.name} ({reason})" if path else f"{entry.name} ({reason})")
        else:
            yield entry.name
