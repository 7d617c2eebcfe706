"""Packed datasets: tar shards with an index, in a folder or in object storage, read by the number of the example.

A packed dataset has the files
- packed.json: the dataset description, the shards and the totals of each split; written last;
- SPLIT-00000.tar, ...: image and mask of each example one after the other, as in webdataset: NAME.jpg and NAME.png;
- SPLIT.index.npy: one row per example, see `ROW`; SPLIT.counts.npy: pixels of each class and ignored, per example;
- SPLIT.names.txt: the names of the examples.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastfcn.data.decoding import StoredFile
from fastfcn.data.description import DatasetDescription
from fastfcn.data.folds import parse_fold
from fastfcn.data.layout import ExampleFiles, find_examples
from fastfcn.data.shard_cache import ShardCache, cache_limit
from fastfcn.errors import DataError
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.utils.storage import Bucket, LocalFolder, cache_folder, open_folder, url_of

MANIFEST = "packed.json"
ROW = np.dtype(
    [("shard", "<u4"), ("length", "<u4"), ("offset", "<u8"), ("height", "<u4"), ("width", "<u4"),
     ("image_bytes", "<u4"), ("mask_bytes", "<u4")]
)  # fmt: skip # 32 bytes; offset and length of both files with their tar headers
READS = 8  # requests at the same time, per dataloader worker
DAMAGED = "Copy it again from an intact copy, or pack the dataset again."


class Shard(BaseModel):
    """A tar file of a packed dataset."""

    model_config = ConfigDict(frozen=True)
    name: str = Field(pattern=r"^[A-Za-z0-9_.%~-]+\.tar$")
    bytes: int = Field(ge=0)
    sha256: str


class SplitTotals(BaseModel):
    """Sums over the examples of a split; `names` is the hash of their names, `pixels` has one number per class."""

    model_config = ConfigDict(frozen=True)
    images: int = Field(ge=1)
    names: str
    image_bytes: int
    mask_bytes: int
    pixels: tuple[int, ...]
    ignored: int


class Manifest(BaseModel):
    """The content of packed.json."""

    model_config = ConfigDict(frozen=True)
    format: Literal[1]
    description: DatasetDescription
    shards: tuple[Shard, ...]
    splits: dict[str, SplitTotals]


class StoredExample(NamedTuple):
    """The content of one example, like `ExampleFiles` for files in a folder."""

    name: str
    image_path: StoredFile
    label_path: StoredFile


class Packed:
    """A packed dataset in a folder or in object storage."""

    def __init__(self, folder: LocalFolder | Bucket, content: bytes):
        """`content`: of packed.json. Raises DataError if it is damaged."""
        self.folder, self.content = folder, content
        self.key = hashlib.sha256(content).hexdigest()[:24]  # the hashes of all shards are in it
        try:
            self.manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(f"{folder}/{MANIFEST} cannot be used: {where}: {first['msg']}.", DAMAGED) from error
        self.cache = ShardCache(cache_folder() / "shards", self.key, cache_limit()) if folder.is_remote else None
        self._cached = self.cache.fitting([shard.bytes for shard in self.manifest.shards]) if self.cache else []

    def __reduce__(self) -> tuple[type["Packed"], tuple[LocalFolder | Bucket, bytes]]:
        return Packed, (self.folder, self.content)

    def rows(self, split: str) -> np.ndarray:
        """The index of a split, (images,) of `ROW`, as a memory map. Raises DataError."""
        return self._array(split, "index", ROW, ())

    def counts(self, split: str) -> np.ndarray:
        """Pixels of each class, and last of ignored ones: uint32 (images, classes + 1), a memory map."""
        return self._array(split, "counts", np.dtype("<u4"), (len(self.manifest.description.classes) + 1,))

    def names(self, split: str) -> list[str]:
        """The names of the examples of a split."""
        path = self.folder.local(split_file(split, "names.txt"), self.key)
        try:
            names = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]
        except (OSError, ValueError) as error:
            raise DataError(f"Cannot read {path}: {error}.", DAMAGED) from error
        return _expected(names, self.manifest.splits[split].images, path)

    def read(self, row: np.void, again: bool = False) -> bytes:
        """The bytes of an example: both files with their tar headers. `again`: not from the cache. Raises DataError."""
        number, start, length = (int(row[name]) for name in ("shard", "offset", "length"))
        shard = self.manifest.shards[number] if number < len(self.manifest.shards) else None
        if shard is None or start + length > shard.bytes:
            raise DataError(f"The index of {self.folder} does not fit its shards.", DAMAGED)
        cache = self.cache if self.cache and self._cached[number] else None
        if cache and not again and (data := cache.read(shard.name, shard.bytes, start, length)):
            return data
        data = self.folder.read_range(shard.name, start, length)
        if cache:
            cache.write(shard.name, shard.bytes, start, data)
        return data

    def example(self, row: np.void, data: bytes | None = None) -> StoredExample:
        """The files of an example; `data`: what `read` returned for it, if it was called already. Raises DataError."""
        data = data or self.read(row)
        place = f"{self.folder}/{self.manifest.shards[int(row['shard'])].name}"
        try:
            return unpack(data, place)
        except tarfile.TarError:
            pass  # a cached range that was lost when the system crashed
        try:
            return unpack(self.read(row, again=True), place)
        except tarfile.TarError as error:
            raise DataError(f"{place} is damaged at byte {int(row['offset'])}: {error}.", DAMAGED) from error

    def _array(self, split: str, what: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder.local(split_file(split, f"{what}.npy"), self.key)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            raise DataError(f"Cannot read {path}: {error}.", DAMAGED) from error
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape[1:] != shape or not array.ndim:
            raise DataError(f"{path} is not an index of a packed dataset.", DAMAGED)
        return _expected(array, self.manifest.splits[split].images, path)


class PackedExamples(Sequence[StoredExample]):
    """The examples of a split, in the order of the folder that was packed.

    `split`: as for `find_examples`; folds, and several splits joined, read the names of all examples.
    """

    def __init__(self, packed: Packed, split: str):
        self.packed, self.split = packed, split
        base, fold = parse_fold(split)
        self.parts = [part.strip() for part in base.split("+")]
        for part in self.parts:
            if part not in packed.manifest.splits:
                known = ", ".join(packed.manifest.splits)
                raise DataError(f"{packed.folder} has no split {part!r}.", f"Its splits are: {known} (or two: a+b).")
        self._members = np.array(sorted(fold.select(self._all_names()))) if fold else None
        self._rows = self._selected(packed.rows)
        self._reads: dict[int, Future[bytes]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[type["PackedExamples"], tuple[Packed, str]]:
        return PackedExamples, (self.packed, self.split)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> StoredExample:  # type: ignore[override] # no slices
        row = self._rows[index]
        read = self._reads.pop(index, None)
        return self.packed.example(row, read.result() if read else None)

    @property
    def names(self) -> list[str]:
        """The names of all examples."""
        names = self._all_names()
        return names if self._members is None else [names[index] for index in self._members]

    def totals(self) -> dict[str, Any]:
        """Number of images, hash of their names, bytes of all images and of all masks."""
        if len(self.parts) == 1 and self._members is None:
            split = self.packed.manifest.splits[self.parts[0]]
            names, sizes = split.names, (split.image_bytes, split.mask_bytes)
        else:
            names = names_hash(self.names)
            sizes = tuple(int(self._rows[key].sum(dtype=np.int64)) for key in ("image_bytes", "mask_bytes"))
        return {"images": len(self), "names": names, "image_bytes": sizes[0], "mask_bytes": sizes[1]}

    def pixel_counts(self, description: DatasetDescription) -> np.ndarray | None:
        """Pixels by label, int64 (256,), from the index; None if it was made for other classes than `description`."""
        if class_facts(description) != class_facts(self.packed.manifest.description):
            return None
        if self._members is None:
            splits = [self.packed.manifest.splits[part] for part in self.parts]
            counts = np.array([[*split.pixels, split.ignored] for split in splits], np.int64).sum(0)
        else:
            counts = self._selected(self.packed.counts).sum(0, dtype=np.int64)
        totals = np.zeros(256, np.int64)
        totals[: len(description.classes)], totals[IGNORE_INDEX] = counts[:-1], counts[-1]
        return totals

    def prefetch(self, indices: Iterable[int]) -> None:
        """Start to read remote examples that are needed next, several at the same time."""
        if not self.packed.folder.is_remote:
            return
        self._pool = self._pool or ThreadPoolExecutor(READS, thread_name_prefix="prefetch")
        for index in indices:
            if index not in self._reads:
                self._reads[index] = self._pool.submit(self.packed.read, self._rows[index])

    def _all_names(self) -> list[str]:
        return [name for part in self.parts for name in self.packed.names(part)]

    def _selected(self, of_split: Any) -> np.ndarray:
        arrays = [of_split(part) for part in self.parts]
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return joined if self._members is None else joined[self._members]


Examples = Sequence[ExampleFiles] | PackedExamples


def is_packed(root: str | Path) -> bool:
    """Whether `root` is a URL or the folder of a packed dataset."""
    return bool(url_of(root)) or (Path(root) / MANIFEST).is_file()


def open_packed(root: str | Path) -> Packed:
    """The packed dataset at a path or a URL. Raises DataError."""
    folder = open_folder(root)
    try:
        return Packed(folder, folder.read(MANIFEST))
    except DataError as error:
        if not error.message.endswith("does not exist."):
            raise
        raise DataError(
            f"{root_text(root)} contains no packed dataset: {MANIFEST} is missing.",
            f"Write one with: fastfcn pack DIR --out {root_text(root)}",
        ) from error


def root_text(root: str | Path) -> str:
    """`root` for messages and files: a URL as it was given, which pathlib changes."""
    return url_of(root) or str(root)


def open_examples(description: DatasetDescription, root: str | Path, split: str) -> Examples:
    """The examples of `split` in a folder of files, or in a packed dataset at a path or URL. Raises DataError."""
    if is_packed(root):
        return PackedExamples(open_packed(root), split)
    return find_examples(description, root, split)


def unpack(data: bytes, place: str) -> StoredExample:
    """Image and mask from a part of a tar file; `place`: the tar file, for messages. Raises tarfile.TarError."""
    files = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() and member.size <= len(data) else None
            if stream is None:
                raise tarfile.ReadError(f"{member.name} is not a file")
            files.append(StoredFile(f"{place}: {member.name}", stream.read()))
    if len(files) != 2:
        raise tarfile.ReadError(f"{len(files)} files instead of an image and its mask")
    first = files[0].place.removeprefix(f"{place}: ")
    return StoredExample(unquote(first.rpartition(".")[0], errors="surrogateescape"), files[0], files[1])


def file_names(example: ExampleFiles) -> tuple[str, str]:
    """The names of image and mask in a shard: webdataset takes what is before the first dot as the common name."""
    key = example.name.replace("%", "%25").replace(".", "%2E")
    image, mask = example.image_path.suffix, example.label_path.suffix
    return f"{key}{image}", f"{key}{'.mask' if image == mask else ''}{mask}"


def split_file(split: str, ending: str) -> str:
    """The name of a file that belongs to a split."""
    return f"{quote(split, safe='')}.{ending}"


def names_hash(names: Iterable[str]) -> str:
    """The hash by which the names of two splits are compared."""
    text = "\n".join(names).encode("utf-8", "surrogateescape")
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def class_facts(description: DatasetDescription) -> dict[str, Any]:
    """What decides the label of a mask value, and the names and colors of the classes."""
    content = description.model_dump(mode="json", include={"classes", "ignored", "labels_kind", "bands"})
    return {key: content[key] for key in ("labels_kind", "bands", "classes", "ignored") if key in content}


def _expected(values: Any, number: int, path: Path) -> Any:
    if len(values) != number:
        raise DataError(f"{path} has {len(values)} entries, but {MANIFEST} says {number}.", DAMAGED)
    return values
