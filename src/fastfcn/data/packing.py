"""Write a packed dataset (see `packed`) from a folder of images and masks, to a folder or to object storage."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastfcn.data.bands import BandReader
from fastfcn.data.dataset import Dataset, LabelProblem
from fastfcn.data.decoding import StoredFile, explain, read_bytes
from fastfcn.data.description import DatasetDescription
from fastfcn.data.images import RGB, ImageReader
from fastfcn.data.layout import ExampleFiles, find_pairs
from fastfcn.data.packed import (
    MANIFEST,
    ROW,
    Manifest,
    Shard,
    SplitTotals,
    StoredExample,
    file_names,
    names_hash,
    root_text,
    split_file,
)
from fastfcn.errors import DataError, OutputError, UserError
from fastfcn.utils.lock import locked
from fastfcn.utils.progress import progress_bar
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.utils.storage import Bucket, LocalFolder, open_folder

LOCK = "pack.lock"
SHARD_MB = 256
MAX_SHARDS = 100_000  # numbers have five digits


@dataclass(frozen=True)
class PackResult:
    """What `pack` has written to `place`: images per split, shards and their bytes.

    `kept`: shards that an interrupted call had written.
    """

    place: str
    images: dict[str, int]
    shards: int
    bytes: int
    kept: int


class _Plan(NamedTuple):
    """The examples of one shard; `key` changes with them, with their files and with the classes."""

    split: str
    number: int
    examples: Sequence[ExampleFiles]
    key: str

    @property
    def shard(self) -> str:
        return split_file(self.split, "tar").replace(".tar", f"-{self.number:05d}.tar")

    @property
    def part(self) -> str:
        """The file with the index of this shard, until all shards are written."""
        return f"parts/{self.shard.removesuffix('.tar')}.npz"


class _Packed(NamedTuple):
    """An example that was read: its files and their sizes, or its problems."""

    files: StoredExample
    size: tuple[int, int]
    counts: np.ndarray
    problems: list[LabelProblem]


def pack(
    description: DatasetDescription, root: str | Path, out: str | Path, splits: Sequence[str] = (),
    shard_mb: float = SHARD_MB, workers: int = 1,
) -> PackResult:  # fmt: skip
    """Pack the dataset in the folder `root` into `out`, a folder or a URL.

    `splits`: default all that the folder has; `shard_mb`: size of a shard in MB; `workers`: threads that read files.
    All masks are checked. Shards that an interrupted call with the same files has written are kept; packed.json is
    written last. Raises DataError with all problems of the masks, and OutputError if `out` is packed already.
    """
    folder = open_folder(out, write=True)
    if isinstance(folder, LocalFolder) and folder.path.resolve() == Path(root).resolve():
        raise UserError(f"{out} is the dataset itself.", "Choose another --out.")
    if folder.size(MANIFEST) is not None:
        raise OutputError(f"{folder} already contains a packed dataset.", "Choose another --out.")
    names = splits or [name for name in description.splits if find_pairs(description, Path(root), name)]
    images = _reader(description)
    datasets = {name: Dataset(description, root, name, images=images) for name in names}
    if not datasets:
        Dataset(description, root, next(iter(description.splits)))  # raises the error that says what is missing
    for split in names:
        if "+" in split or " fold " in split:
            raise UserError(
                f"--split {split}: pack the splits themselves.", f"They are: {', '.join(description.splits)}"
            )
    with _lock(folder):
        packer = _Packer(description, datasets, folder, int(shard_mb * 1e6), max(workers, 1))
        return packer.run()


def _reader(description: DatasetDescription) -> ImageReader:
    """Reads the images of the dataset, with all of their bands."""
    if description.bands is None:
        return RGB
    names = description.bands.names
    return BandReader(description.bands, names, [0.0] * len(names), [1.0] * len(names))


def _lock(folder: LocalFolder | Bucket) -> AbstractContextManager[None]:
    if isinstance(folder, Bucket):
        return nullcontext()
    folder.path.mkdir(parents=True, exist_ok=True)
    return locked(folder.path / LOCK, "packing")


class _Packer:
    def __init__(
        self, description: DatasetDescription, datasets: dict[str, Dataset], folder: LocalFolder | Bucket,
        shard_bytes: int, workers: int,
    ):  # fmt: skip
        self.description, self.datasets, self.folder = description, datasets, folder
        self.shard_bytes, self.workers = shard_bytes, workers
        self.columns = [*range(len(description.classes)), IGNORE_INDEX]  # of the counts of an example
        self.kept = 0

    def run(self) -> PackResult:
        plans = {split: list(self._plans(split, dataset)) for split, dataset in self.datasets.items()}
        problems: dict[str, list[LabelProblem]] = {}
        with progress_bar() as bar:
            for split, shards in plans.items():
                task = bar.add_task(f"Packing {split}", total=len(self.datasets[split]))
                problems[split] = []
                for plan in shards:
                    problems[split] += self._write_shard(plan)
                    bar.advance(task, len(plan.examples))
                bar.update(task, visible=False)
        for split, found in problems.items():
            if found:  # raises the error that lists them
                self.datasets[split].checked_counts(np.zeros(256, np.int64), found)
        manifest = self._finish(plans)
        images = {split: totals.images for split, totals in manifest.splits.items()}
        size = sum(shard.bytes for shard in manifest.shards)
        return PackResult(root_text(str(self.folder)), images, len(manifest.shards), size, self.kept)

    def _plans(self, split: str, dataset: Dataset) -> Iterator[_Plan]:
        """Divide the examples of a split into shards, in order."""
        examples: list[ExampleFiles] = list(dataset.examples)  # type: ignore[arg-type] # a folder of files
        for example in examples:
            if "\n" in example.name:
                raise DataError(
                    f"{example.image_path!r}: a name with a line break cannot be packed.", "Rename the file."
                )
        shard, states, size, number = [], [], 0, 0
        for example in examples:
            state = [path.stat() for path in example[1:]]
            length = sum(file.st_size + 1024 for file in state)
            if shard and size + length > self.shard_bytes:
                yield self._plan(split, number, shard, states)
                shard, states, size, number = [], [], 0, number + 1
            shard.append(example)
            states.append(state)
            size += length
        if number >= MAX_SHARDS:
            raise UserError(f"{split} would have {number + 1} shards.", "Choose a larger --shard-size.")
        yield self._plan(split, number, shard, states)

    def _plan(self, split: str, number: int, examples: list[ExampleFiles], states: list[list[os.stat_result]]) -> _Plan:
        """The plan of a shard; `states` of the files of each example."""
        key = hashlib.sha256(self.description.model_dump_json().encode())
        for example, state in zip(examples, states, strict=True):
            facts = [example.name, *((file.st_size, file.st_mtime_ns) for file in state)]
            key.update(repr(facts).encode("utf-8", "surrogateescape"))
        return _Plan(split, number, examples, key.hexdigest())

    def _write_shard(self, plan: _Plan) -> list[LabelProblem]:
        """Write a shard and its part of the index, unless both are there; or return the problems of its masks."""
        if self._is_written(plan):
            self.kept += 1
            return []
        with ThreadPoolExecutor(self.workers) as pool:
            packed = list(pool.map(self._read(plan.split), plan.examples))
        problems = [problem for entry in packed for problem in entry.problems]
        if problems:
            return problems
        rows = np.zeros(len(packed), ROW)
        with self.folder.writing(plan.shard) as path:
            _write_tar(path, plan.examples, packed, rows)
            size = path.stat().st_size
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        counts = np.stack([entry.counts[self.columns] for entry in packed]).astype("<u4")
        with self.folder.writing(plan.part) as path, path.open("wb") as file:
            np.savez(file, rows=rows, counts=counts, bytes=size, sha256=digest, key=plan.key)
        return []

    def _read(self, split: str) -> Callable[[ExampleFiles], _Packed]:
        dataset = self.datasets[split]

        def read(example: ExampleFiles) -> _Packed:
            stored, problems = [], []
            for path in example[1:]:
                try:
                    stored.append(StoredFile(str(path), read_bytes(path)))
                except (OSError, ValueError) as error:
                    stored.append(StoredFile(str(path), b""))
                    problems.append(LabelProblem(path, f"{path} cannot be read: {explain(error)}"))
            files = StoredExample(example.name, *stored)
            if problems:
                return _Packed(files, (0, 0), np.zeros(256, np.int64), problems)
            counts, problems = dataset.check_example(files)
            size = (0, 0) if problems else dataset.images.size(files.image_path)
            return _Packed(files, size, counts, problems)

        return read

    def _is_written(self, plan: _Plan) -> bool:
        if self.folder.size(plan.part) is None:
            return False
        part = self._part(plan)
        return str(part["key"]) == plan.key and self.folder.size(plan.shard) == int(part["bytes"])

    def _part(self, plan: _Plan) -> dict[str, np.ndarray]:
        try:
            with np.load(io.BytesIO(self.folder.read(plan.part)), allow_pickle=False) as part:
                return {name: part[name] for name in ("rows", "counts", "bytes", "sha256", "key")}
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise DataError(f"{self.folder}/{plan.part} is damaged: {error}.", "Delete it, and pack again.") from error

    def _finish(self, plans: dict[str, list[_Plan]]) -> Manifest:
        """Join the parts, write the index of each split and packed.json, and delete the parts."""
        shards: list[Shard] = []
        splits = {split: self._join(split, of_split, shards) for split, of_split in plans.items()}
        manifest = Manifest(format=1, description=self.description, shards=tuple(shards), splits=splits)
        with self.folder.writing(MANIFEST) as path:
            path.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        self.folder.delete([plan.part for of_split in plans.values() for plan in of_split])
        if isinstance(self.folder, LocalFolder):
            with suppress(OSError):  # parts of other splits, from an interrupted call
                (self.folder.path / "parts").rmdir()
        return manifest

    def _join(self, split: str, plans: list[_Plan], shards: list[Shard]) -> SplitTotals:
        """Write the index, the counts and the names of a split; append its shards to `shards`."""
        names = [example.name for plan in plans for example in plan.examples]
        rows, pixels = np.zeros(len(names), ROW), np.zeros(len(self.columns), np.int64)
        with self.folder.writing(split_file(split, "counts.npy")) as path:
            counts = np.lib.format.open_memmap(
                path, mode="w+", dtype=np.dtype("<u4"), shape=(len(names), len(self.columns))
            )
            end = 0
            for plan in plans:
                part = self._part(plan)
                start, end = end, end + len(part["rows"])
                rows[start:end], counts[start:end] = part["rows"], part["counts"]
                rows["shard"][start:end] = len(shards)
                pixels += part["counts"].sum(0, dtype=np.int64)
                shards.append(Shard(name=plan.shard, bytes=int(part["bytes"]), sha256=str(part["sha256"])))
            counts.flush()
            del counts  # closes the file
        with self.folder.writing(split_file(split, "index.npy")) as path, path.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        with self.folder.writing(split_file(split, "names.txt")) as path:
            path.write_bytes("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
        labels = np.zeros(256, np.int64)
        labels[self.columns] = pixels
        self.datasets[split].checked_counts(labels, [])
        return SplitTotals(
            images=len(names),
            names=names_hash(names),
            image_bytes=int(rows["image_bytes"].sum(dtype=np.int64)),
            mask_bytes=int(rows["mask_bytes"].sum(dtype=np.int64)),
            pixels=tuple(pixels[:-1].tolist()),
            ignored=int(pixels[-1]),
        )


def _write_tar(path: Path, examples: Sequence[ExampleFiles], packed: Sequence[_Packed], rows: np.ndarray) -> None:
    """Write the files of a shard and fill its `rows`; the same files always give the same bytes."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for row, example, entry in zip(rows, examples, packed, strict=True):
            row["offset"] = archive.offset
            for name, file in zip(file_names(example), entry.files[1:], strict=True):
                header = tarfile.TarInfo(name)
                header.size, header.mtime = len(file.content), 0
                archive.addfile(header, io.BytesIO(file.content))
            row["length"] = archive.offset - row["offset"]
            row["height"], row["width"] = entry.size
            row["image_bytes"], row["mask_bytes"] = (len(file.content) for file in entry.files[1:])
