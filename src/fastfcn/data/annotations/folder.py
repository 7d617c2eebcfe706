"""The files of an export, and how the names of images in annotations lead to them."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from fastfcn.data.decoding import IMAGE_SUFFIXES
from fastfcn.errors import DataError

PEEK = 2**16  # bytes at both ends of a file that say what is in it
PEEKED = 50  # files per suffix that are looked into
UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the names of uploaded files


class ExportFolder:
    """All files below `root`, and the images below `images_root`, or else below `root`.

    `root` may be a single annotation file; its images are then searched for in its folder. Hidden files are left out;
    links are followed, each folder once.
    """

    def __init__(self, root: Path, images_root: Path | None = None):
        single, self.root = (root.name, root.parent) if root.is_file() else (None, root)
        self._images_root = images_root or self.root
        # The folder of a single file may hold much else.
        names = [root.name] if single and images_root else _walk(self.root)
        self.files = sorted(names if single is None else (n for n in names if n == single or is_image(n)))
        self.images = sorted(filter(is_image, self.files if images_root is None else _walk(images_root)))
        self._peeked: dict[str, str] = {}

    def path(self, name: str) -> Path:
        """The path of a file by its name relative to the folder."""
        return self.root / name

    def image_path(self, name: str) -> Path:
        """The path of an image by its name in `images`."""
        return self._images_root / name

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Names of the files with one of these suffixes, in lower case."""
        return [name for name in self.files if name.lower().endswith(suffixes)]

    def has(self, name: str) -> bool:
        """Whether there is a file with this name relative to the folder."""
        return name in self._files

    def by_stem(self, stem: str) -> list[str]:
        """Images whose file name without suffix is `stem`."""
        return self._by_stem.get(stem, [])

    def named(self, name: str) -> list[str]:
        """Names, relative to the folder, of all files called `name`."""
        return [file for file in self.files if PurePosixPath(file).name == name]

    def peek(self, name: str) -> str:
        """The beginning and the end of a file, without line breaks and spaces; empty if it cannot be read."""
        if name not in self._peeked:
            self._peeked[name] = _peek(self.path(name))
        return self._peeked[name]

    def peeks(self, suffix: str) -> Iterator[tuple[str, str]]:
        """The first files with a suffix, and what is at both ends of each."""
        for name in self.with_suffix(suffix)[:PEEKED]:
            yield name, self.peek(name)

    def image(self, written: str, near: str = "") -> Path:
        """The image that an annotation file, called `near`, refers to by a path, a Windows path or an address.

        The file is searched for by its whole path, then by as much of the end of the path as there is; nothing is
        downloaded. Raises DataError if there is none, or several that fit equally well.
        """
        parts = path_parts(written)
        if not parts:
            raise DataError(f"it names no image ({written[:100]!r})")
        folder = PurePosixPath(near).parent.parts
        for start in range(len(folder), -1, -1):
            exact = "/".join((*folder[:start], *parts))
            if exact in self._images:
                return self.image_path(exact)
        names = [*self._by_name.get(parts[-1], ()), *self._by_name.get(parts[-1].lower(), ())]
        if not names and UPLOAD_PREFIX.match(parts[-1]):
            names = self._by_name.get(UPLOAD_PREFIX.sub("", parts[-1], count=1), [])
        return self.image_path(self._best(list(dict.fromkeys(names)), parts, near, written))

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(self.files)

    @cached_property
    def _images(self) -> frozenset[str]:
        return frozenset(self.images)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for image in self.images:
            names[PurePosixPath(image).stem].append(image)
        return names

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Images by file name, and by file name in lower case."""
        names: dict[str, list[str]] = defaultdict(list)
        for image in self.images:
            name = PurePosixPath(image).name
            for key in {name, name.lower()}:
                names[key].append(image)
        return names

    def _best(self, names: list[str], parts: list[str], near: str, written: str) -> str:
        """The candidate that shares most of the end of its path, then whose folder the annotation file's name has."""
        if not names:
            hint = " Images are not downloaded." if "://" in written else ""
            raise DataError(f"there is no image {written[:200]!r} in the folder.{hint}")
        stem = PurePosixPath(near).stem.lower()

        def fit(name: str) -> tuple[int, int]:
            own = PurePosixPath(name).parts
            shared = next((n for n, (a, b) in enumerate(zip(own[::-1], parts[::-1], strict=False)) if a != b), None)
            shared = min(len(own), len(parts)) if shared is None else shared
            return shared, sum(part.lower() in stem for part in own[:-1])

        ranked = sorted(names, key=fit, reverse=True)
        if len(ranked) > 1 and fit(ranked[0]) == fit(ranked[1]):
            raise DataError(f"several images are called {written[:200]!r}: {ranked[0]}, {ranked[1]}")
        return ranked[0]


def is_image(name: str) -> bool:
    """Whether a file has the suffix of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - a Path costs ten times as much


def path_parts(written: str) -> list[str]:
    """The parts of a path as it is written in an annotation: POSIX or Windows path, address, Label Studio's `?d=`."""
    if "?d=" in written or "://" in written:
        address = urlsplit(written)
        written = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    parts = re.split(r"[/\\]+", re.sub(r"^[A-Za-z]:", "", written))
    return [part for part in parts if part not in ("", ".", "..")]


def _peek(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(PEEK)
            size = path.stat().st_size
            if size > PEEK:
                file.seek(max(PEEK, size - PEEK))
                data += file.read(PEEK)
    except OSError:
        return ""
    return re.sub(r"\s+", "", data.replace(b"\0", b"").decode("utf-8", "replace"))


def _walk(root: Path) -> Iterator[str]:
    """Paths of all files below `root`, relative to it, with slashes."""
    seen = set()
    for folder, below, names in os.walk(root, followlinks=True):
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "__MACOSX")
        relative = Path(folder).relative_to(root).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        yield from (f"{prefix}{name}" for name in names if not name.startswith("."))
