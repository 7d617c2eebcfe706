"""A folder of bounded size with the parts of remote shards that were read before."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fastfcn.errors import OutputError, UserError
from fastfcn.utils.files import make_folder
from fastfcn.utils.progress import warn

LIMIT = "FASTFCN_CACHE_GB"  # environment variable
DEFAULT_GB = 20.0
BLOCK = 512  # bytes; every file in a tar archive starts at a multiple of it


class ShardCache:
    """Ranges of shards, below `root`; at most `limit` bytes, or else the least recently used shards are deleted.

    A shard is a sparse file of its size, followed by one byte per block: 1 if the range that starts there is present.
    Processes share the files without locks: all write the same bytes to the same place, the mark after the range.
    """

    def __init__(self, root: Path, key: str, limit: int):
        """`key`: the name of the dataset's folder; its version is part of it."""
        self.root, self.folder, self.limit = root, root / key, limit

    def fitting(self, sizes: Sequence[int]) -> list[bool]:
        """Which of the shards of a dataset to keep: the first ones, as many as fit.

        In random order, any selection is read equally often, and the shards of one that changes are downloaded again.
        """
        total, fits = 0, []
        for size in sizes:
            total += _file_size(size)
            fits.append(total <= self.limit)
        return fits

    def read(self, name: str, size: int, start: int, length: int) -> bytes | None:
        """A range of the shard `name` of `size` bytes, or None if it is not present."""
        path = self.folder / name
        try:
            with path.open("rb") as file:
                file.seek(size + start // BLOCK)
                if file.read(1) != b"\1":
                    return None
                file.seek(start)
                data = file.read(length)
            os.utime(path)
        except OSError:
            return None
        return data if len(data) == length else None

    def write(self, name: str, size: int, start: int, data: bytes) -> None:
        """Keep a range of the shard `name`; if the disk is full, nothing is kept from then on."""
        if not self.limit:
            return
        path = self.folder / name
        try:
            if not path.exists():
                make_folder(self.folder)
                self._make_room(_file_size(size))
            with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b") as file:
                file.truncate(_file_size(size))
                file.seek(start)
                file.write(data)
                file.flush()
                file.seek(size + start // BLOCK)
                file.write(b"\1")
        except (OSError, OutputError) as error:
            self.limit = 0
            warn(f"Cannot write to the cache {path}: {error}. Images are downloaded again each time.")

    def _make_room(self, needed: int) -> None:
        """Delete the least recently used shards of all datasets, until `needed` more bytes fit."""
        found = []
        for path in self.root.glob("*/*.tar"):
            with suppress(OSError):  # another process deletes them, too
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total + needed <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= size


def cache_limit() -> int:
    """The size of the cache in bytes, from the environment. Raises UserError."""
    text = os.environ.get(LIMIT) or str(DEFAULT_GB)
    try:
        limit = float(text) * 1e9
        return int(limit) if limit >= 0 else int("")
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{LIMIT}={text} is not a size in GB.", f"Set it to a number, such as {DEFAULT_GB:g}."
        ) from error


def _file_size(shard: int) -> int:
    return shard + -(-shard // BLOCK)
