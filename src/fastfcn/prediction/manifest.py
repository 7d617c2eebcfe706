"""manifest.jsonl of `fastfcn predict`: what became of each image, so that a stopped run continues where it was."""

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from fastfcn.errors import DataError, OutputError, UserError
from fastfcn.utils.cluster import Job
from fastfcn.utils.files import make_folder, output_errors, remove_temporary_files_of, write_text
from fastfcn.utils.lock import locked

FORMAT = "fastfcn-predictions-1"
LOCK_SECONDS = 120.0  # for the lock of a process that was killed, or lost with its machine, to be released


@dataclass(frozen=True)
class Shard:
    """Part `index`, from 0, of `count` parts of all images."""

    index: int = 0
    count: int = 1

    @property
    def suffix(self) -> str:
        """Of the names of its files: "-3-of-16", or "" if there is only one part."""
        return f"-{self.index + 1}-of-{self.count}" if self.count > 1 else ""


def find_shard(text: str | None, job: Job | None) -> Shard:
    """The shard `text`, such as "3/16", divided among the processes of `job`, if any. Raises UserError."""
    index, count = 1, 1
    if text is not None:
        first, _, second = text.partition("/")
        if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
            raise UserError(f"{text!r} is not a shard.", "Write --shard I/N with I from 1 to N, such as 3/16.")
        index, count = int(first), int(second)
    rank, processes = (job.rank, job.processes) if job else (0, 1)
    return Shard((index - 1) * processes + rank, count * processes)


def fingerprint(images: Sequence[Path], names: Sequence[str]) -> str:
    """A hash of all images and their names, which must be the same in all shards."""
    digest = hashlib.sha256()
    for image, name in zip(images, names, strict=True):
        digest.update(os.fsencode(f"{image}\0{name}\n"))
    return digest.hexdigest()


class Manifest:
    """One JSON line with `settings`, then one per image: path, name, and pixels of each class or the error.

    Outputs are written before their line, each file atomically, so an image with a line is complete.
    """

    def __init__(self, folder: Path, shard: Shard, settings: dict[str, Any]):
        self.path = folder / f"manifest{shard.suffix}.jsonl"
        self.header = {"format": FORMAT, "shard": f"{shard.index + 1}/{shard.count}", **settings}
        self.entries: dict[str, dict[str, Any]] = {}  # by image; of finished ones

    @contextmanager
    def open(self, resume: bool, restarted: bool = False) -> Iterator[None]:
        """Start the manifest, or continue it if `resume`, while no other process writes it.

        `restarted`: a scheduler may have started this process while the one before it is still ending: wait for it.
        Raises OutputError, and UserError to resume with other settings.
        """
        make_folder(self.path.parent)
        lock = self.path.with_name(f".{self.path.stem}.lock")
        with locked(lock, "prediction", LOCK_SECONDS if restarted else 0.0):
            if resume and self.path.exists():
                self._read()
            lines = [self.header, *self.entries.values()]
            write_text(self.path, "".join(f"{json.dumps(line)}\n" for line in lines))
            yield

    def remaining(self, images: Sequence[Path], names: Sequence[str], files: Sequence[list[str]]) -> list[int]:
        """Indices of the images that are not finished, or whose `files` are gone; removes what was half-written."""
        present = {entry.name for entry in os.scandir(self.path.parent)}
        result = []
        for index, (image, name) in enumerate(zip(images, names, strict=True)):
            entry = self.entries.get(str(image))
            if not (entry and entry["name"] == name and present.issuperset(files[index])):
                result.append(index)
        remove_temporary_files_of(self.path.parent, {file for index in result for file in files[index]}, present)
        return result

    def add(self, image: Path, name: str, result: dict[str, int] | UserError) -> None:
        """Append the line of an image: its pixels of each class, or its error."""
        entry: dict[str, Any] = {"image": str(image), "name": name}
        if isinstance(result, UserError):
            entry["error"] = result.message
        else:
            entry["pixels"] = result
            self.entries[str(image)] = entry
        with output_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(entry)}\n")

    def write_shares(self, path: Path, classes: Sequence[str]) -> None:
        """Write the share of each class, 0-1, in each finished image as CSV, sorted by image."""
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "name", *classes])
        for image, entry in sorted(self.entries.items()):
            pixels = entry["pixels"]
            total = max(sum(pixels.values()), 1)
            writer.writerow([image, entry["name"], *(f"{pixels.get(name, 0) / total:.6f}" for name in classes)])
        write_text(path, text.getvalue())

    def _read(self) -> None:
        """Read the header and the finished images; a line that was cut off by a kill counts as missing."""
        lines = [_parse(line) for line in self.path.read_bytes().split(b"\n")]
        header = lines[0]
        if not header or header.get("format") != FORMAT:
            raise DataError(f"{self.path} is not a manifest of predictions.", "Choose another --out.")
        if changed := [name for name in self.header if header.get(name) != self.header[name]]:
            values = (f"{name}: {header.get(name)} before, {self.header[name]} now" for name in changed)
            raise OutputError(
                f"{self.path} was written with other settings: {'; '.join(values)}.",
                "Resume with the same command, start again without --resume, or choose another --out.",
            )
        for entry in lines[1:]:
            if entry and isinstance(entry.get("pixels"), dict) and {"image", "name"} <= entry.keys():
                self.entries[entry["image"]] = {key: entry[key] for key in ("image", "name", "pixels")}


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
