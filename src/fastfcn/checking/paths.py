"""Very many file names in little memory: their own bytes and four more for each."""

import heapq
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

CHUNK = 512  # names that are sorted at a time


class Names:
    """Names one after the other in one block of bytes, and where each ends."""

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
    """`names` in order; no more than CHUNK of them are Python strings at any time."""
    chunks, some = [], []
    for name in names:
        some.append(name)
        if len(some) == CHUNK:
            chunks.append(Names(sorted(some)))
            some = []
    return Names(heapq.merge(*chunks, sorted(some)))


def stem_and_suffix(name: str) -> tuple[str, str]:
    """("a.b", ".png") of "a.b.png"."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a Path costs ten times as much
    return stem, suffix


class Files:
    """Files of a folder by number: those of each folder in it stand together."""

    def __init__(self) -> None:
        self.folders: list[str] = []  # paths below the root with slashes; "" is the root itself
        self._starts: list[int] = []
        self._names = Names()

    def add_folder(self, path: str, names: Iterable[str]) -> None:
        """The image files of a folder, which come in order."""
        self.folders.append(path)
        self._starts.append(len(self._names))
        for name in names:
            self._names.append(name)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names[index]

    def folder(self, index: int) -> str:
        return self.folders[bisect_right(self._starts, index) - 1]

    def path(self, index: int) -> str:
        """Path below the root, with slashes."""
        folder = self.folder(index)
        return f"{folder}/{self.name(index)}" if folder else self.name(index)

    def of_folder(self, number: int) -> range:
        """The numbers of a folder's files."""
        ends = [*self._starts[1:], len(self._names)]
        return range(self._starts[number], ends[number])


class Paths(Sequence[str]):
    """Some of the files, by number, made into paths when they are asked for."""

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
