"""A walk through a folder: its image files, and what the names of the folders in it say."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fastfcn.checking.folder_names import FolderName, folder_name
from fastfcn.checking.paths import Files, sorted_names, stem_and_suffix

IMAGE_SUFFIXES = frozenset((
    ".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".gif",
    ".jp2", ".avif", ".tga",
))  # fmt: skip
OTHER_LABELS = frozenset([".json", ".xml", ".mat", ".npy", ".npz", ".h5"])  # what labels that are no images come in


@dataclass(frozen=True)
class Place:
    """A folder in the data folder: what the parts of its path say, and its number among the `Files`."""

    number: int
    parts: tuple[FolderName, ...]

    @property
    def role(self) -> str:
        """ "image", "mask", "aside" or "": what the innermost part says that says anything."""
        return next((part.role for part in reversed(self.parts) if part.role), "")

    @property
    def split(self) -> str:
        return next((part.split for part in reversed(self.parts) if part.split), "")

    @property
    def shape(self) -> tuple[str, ...]:
        """The path's pattern, in which a part that says nothing may be anything."""
        return tuple("*" if part.plain else part.pattern for part in self.parts)

    @property
    def plain(self) -> tuple[str, ...]:
        """The parts that say nothing, such as the names of cities."""
        return tuple(part.pattern for part in self.parts if part.plain)


@dataclass
class Contents:
    """What lies in a folder: image files, text files, and how many files of other kinds of labels."""

    files: Files = field(default_factory=Files)
    places: list[Place] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def contents(root: Path) -> Contents:
    """Everything below `root` that is not hidden, symbolic links followed."""
    found = Contents()
    for path, names in _walk(root):
        images = sorted_names(_images(names, path, found))
        if len(images):
            parts = tuple(folder_name(part) for part in path.split("/")) if path else ()
            found.places.append(Place(len(found.files.folders), parts))
            found.files.add_folder(path, images)
    return found


def _images(names: Iterator[str], path: str, found: Contents) -> Iterator[str]:
    """The names of images; those of other files are noted."""
    for name in names:
        suffix = stem_and_suffix(name)[1].lower()
        if suffix in IMAGE_SUFFIXES:
            yield name
        elif suffix == ".txt":
            found.texts.append(f"{path}/{name}" if path else name)
        elif suffix in OTHER_LABELS:
            found.others[suffix] += 1


def _walk(root: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """Each folder with the names of its files, which are to be gone through before the next folder."""
    waiting, seen = [""], {os.path.realpath(root)}
    while waiting:
        path, folders = waiting.pop(), []
        with os.scandir(root / path) as entries:
            yield path, _file_names(entries, folders)
        for name in sorted(folders, reverse=True):
            below = f"{path}/{name}" if path else name
            if (real := os.path.realpath(root / below)) not in seen:
                seen.add(real)
                waiting.append(below)


def _file_names(entries: Iterator[os.DirEntry], folders: list[str]) -> Iterator[str]:
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            folders.append(entry.name)
        else:
            yield entry.name
