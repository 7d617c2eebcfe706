"""The dataset of one split: examples as stored or augmented for training, and a check of all masks."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch.utils.data
from torch import Tensor

from fastfcn.data.decoding import StoredFile
from fastfcn.data.description import DatasetDescription
from fastfcn.data.images import RGB, ImageReader
from fastfcn.data.layout import ExampleFiles
from fastfcn.data.masks import UNNAMED, class_table, describe_value, read_mask
from fastfcn.data.mixing import Mixing
from fastfcn.data.packed import Examples, PackedExamples, StoredExample, open_examples, root_text
from fastfcn.data.sampler import SampleKey
from fastfcn.data.transforms import TrainTransform
from fastfcn.errors import DataError, UserError
from fastfcn.utils.sizes import IGNORE_INDEX

SHOWN = 20  # problems listed in an error
PARTNER_TRIES = 5  # masks that are read to find one with the classes of copy-paste
# In messages of PyTorch: a worker met a full /dev/shm, in its memory (bus error) or when it made a file there.
SHARED_MEMORY = ("shared memory", "file </torch_")
FIX_MASKS = "Fix the masks, or add their values to `classes` or `ignored` in the dataset's .toml file."


@dataclass(frozen=True)
class Example:
    """An image as its reader returns it, and its label: uint8 (H, W) of class indices, 255 = ignored."""

    image: np.ndarray
    label: np.ndarray
    name: str
    image_path: Path | StoredFile
    label_path: Path | StoredFile


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of a split: per class, int64 (classes,), and ignored."""

    classes: np.ndarray
    ignored: int


class LabelProblem(NamedTuple):
    """A problem of the mask at `path`, or, if None, of all masks together."""

    path: Path | None
    message: str


class Dataset(torch.utils.data.Dataset):
    """The examples of one split in the data folder `root`, in a fixed order. It may be packed, or a URL.

    `dataset[3]` is an Example as stored; `dataset[SampleKey(...)]` is an image and a label tensor from `transform`,
    with the random generator of the key, so the sample is a pure function of the key. Raises DataError if files are
    missing, unreadable or of different sizes, or if a mask contains values that are not in the description.
    """

    def __init__(
        self,
        description: DatasetDescription,
        root: str | Path,
        split: str,
        transform: TrainTransform | None = None,
        examples: Examples | None = None,
        mixing: Mixing | None = None,
        images: ImageReader = RGB,
    ):
        """`examples`: the files of the split, if they are known already; `mixing`: applied after `transform`;
        `images`: reads the image files."""
        self.description = description
        self.root = root_text(root)
        self.split = split
        self.transform, self.mixing, self.images = transform, mixing, images
        self.table = class_table(description)
        self.examples = open_examples(description, root, split) if examples is None else examples

    def __len__(self) -> int:
        return len(self.examples)

    def packed(self) -> "Dataset":
        """The same samples, with images that are normalized later (see `transforms.pack`)."""
        dataset = copy(self)
        dataset.transform = copy(self.transform)
        if dataset.transform:
            dataset.transform.packed = True
        return dataset

    @overload
    def __getitem__(self, key: SampleKey) -> tuple[Tensor, Tensor]: ...

    @overload
    def __getitem__(self, key: int) -> Example: ...

    def __getitem__(self, key: SampleKey | int) -> tuple[Tensor, Tensor] | Example:
        files = self.examples[key.index if isinstance(key, SampleKey) else key]
        image, label = self.images.read(files.image_path), self.read_label(files.label_path)
        if problem := _size_problem(files, image.shape[:2], label.shape):
            raise DataError(f"{problem}.", "Image and mask must have the same height and width.")
        if not isinstance(key, SampleKey):
            return Example(image, label, *files)
        if self.transform is None:
            raise TypeError("a sample key needs a dataset with a transform")
        sample = self.transform(image, label, key.generator())
        return self.mixing(sample, self._partner, key.mixing_generator()) if self.mixing else sample

    def __getitems__(self, keys: list[SampleKey] | list[int]) -> list[Any]:
        """The samples of a batch, which a DataLoader asks for at once."""
        if isinstance(self.examples, PackedExamples):
            self.examples.prefetch(key if isinstance(key, int) else key.index for key in keys)
        return [self[key] for key in keys]

    def _partner(self, generator: np.random.Generator, classes: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """A random image of the split, transformed; with `classes`, cropped around one, or None if it is not found."""
        assert self.transform is not None
        for index in generator.integers(len(self), size=PARTNER_TRIES if classes else 1).tolist():
            if classes and not np.isin(self.read_label(self.examples[index].label_path), classes).any():
                continue
            example = self[index]
            return self.transform(example.image, example.label, generator, classes)
        return None

    def read_label(self, path: Path | StoredFile) -> np.ndarray:
        """Read the mask at `path` as a label: uint8 (H, W) of class indices, 255 = ignored."""
        values = read_mask(path, self.description.labels_kind)
        label = self.table[values]
        if (label == UNNAMED).any():
            unnamed = self._unnamed(values[label == UNNAMED])
            raise DataError(
                f"{path}: {unnamed}, which are not in the description of {self.description.name}.", FIX_MASKS
            )
        return label

    def check_labels(self, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> PixelCounts:
        """Read every mask once, on `workers` threads, and count the pixels of each class; of packed data, by its index.

        `progress` is called with (masks done, total masks). Raises one DataError with all problems: unreadable masks,
        sizes that differ from the image, unknown values, and a dataset with one class or none besides ignored pixels.
        """
        return self.checked_counts(*self._totals(workers, progress))

    def checked_counts(self, totals: np.ndarray, problems: list[LabelProblem]) -> PixelCounts:
        """The counts of the whole split from the sums of `count_labels`. Raises DataError as `check_labels` does."""
        counts, problems = self._conclude(totals, problems)
        if problems:
            raise DataError(_summary(self, [problem.message for problem in problems]), FIX_MASKS)
        return counts

    def inspect_labels(
        self, workers: int = 1, progress: Callable[[int, int], None] | None = None
    ) -> tuple[PixelCounts, list[LabelProblem]]:
        """Like `check_labels`, but return the problems instead of raising an error."""
        return self._conclude(*self._totals(workers, progress))

    def known_totals(self) -> np.ndarray | None:
        """The sums of `count_labels` over all examples, if the data is packed and its index has them."""
        return self.examples.pixel_counts(self.description) if isinstance(self.examples, PackedExamples) else None

    def _totals(
        self, workers: int, progress: Callable[[int, int], None] | None
    ) -> tuple[np.ndarray, list[LabelProblem]]:
        known = self.known_totals()
        return self.count_labels(range(len(self)), workers, progress) if known is None else (known, [])

    def count_labels(
        self, indices: range, workers: int = 1, progress: Callable[[int, int], None] | None = None
    ) -> tuple[np.ndarray, list[LabelProblem]]:
        """Read the masks of some examples: pixels by value of the label, int64 (256,), and the problems of each."""
        totals, problems = np.zeros(256, np.int64), []
        pool = ThreadPoolExecutor(max(workers, 1))
        try:
            for done, (counts, mask_problems) in enumerate(pool.map(self._check, indices), start=1):
                totals += counts
                problems += mask_problems
                if progress:
                    progress(done, len(indices))
        finally:
            pool.shutdown(cancel_futures=True)
        return totals, problems

    def _conclude(self, totals: np.ndarray, problems: list[LabelProblem]) -> tuple[PixelCounts, list[LabelProblem]]:
        counts = PixelCounts(totals[: len(self.description.classes)], int(totals[IGNORE_INDEX]))
        return counts, problems or [LabelProblem(None, message) for message in _single_class(self.description, counts)]

    def _check(self, index: int) -> tuple[np.ndarray, list[LabelProblem]]:
        return self.check_example(self.examples[index])

    def check_example(self, files: ExampleFiles | StoredExample) -> tuple[np.ndarray, list[LabelProblem]]:
        """Read a mask: pixels by label, int64 (256,), and its problems."""
        try:
            values = read_mask(files.label_path, self.description.labels_kind)
            problem = _size_problem(files, self.images.size(files.image_path), values.shape)
        except DataError as error:
            return np.zeros(256, np.int64), [LabelProblem(Path(str(files.label_path)), error.message.rstrip("."))]
        label = self.table[values]
        counts = np.bincount(label.ravel(), minlength=256)
        problems = [problem] if problem else []
        if counts[UNNAMED]:
            problems.append(f"{files.label_path}: {self._unnamed(values[label == UNNAMED])}")
        return counts, [LabelProblem(Path(str(files.label_path)), message) for message in problems]

    def _unnamed(self, values: np.ndarray) -> str:
        """Describe the distinct `values`, the most frequent first."""
        unique, counts = np.unique(values, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        kind = self.description.labels_kind
        parts = [f"value {describe_value(int(unique[i]), kind)} in {counts[i]} pixels" for i in order[:5]]
        return ", ".join(parts) + (f" and {len(unique) - 5} more values" if len(unique) > 5 else "")


def worker_context(dataset: Dataset, workers: int) -> BaseContext | None:
    """How a DataLoader of `dataset` starts its workers; None for the default.

    The threads that read from object storage do not survive a fork, so those workers come from a server process.
    """
    remote = isinstance(dataset.examples, PackedExamples) and dataset.examples.packed.folder.is_remote
    if not remote or not workers or multiprocessing.get_start_method() != "fork":
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fastfcn.data.dataset"])
    return context


def read_batches(loader: Iterable[Any]) -> Iterator[Any]:
    """Iterate over `loader`; a DataError raised in a worker process loses that process's traceback.

    Raises UserError if the worker processes run out of shared memory, or are killed.
    """
    try:
        yield from loader
    except (RuntimeError, OSError) as error:
        raise _worker_error(error) or error from error
    except DataError as error:
        _, marker, text = str(error).rpartition(f"{DataError.__module__}.{DataError.__qualname__}: ")
        if not marker:
            raise
        message, _, hint = text.strip().rpartition("\n")
        raise DataError(message or hint, hint if message else "") from None


def _worker_error(error: Exception) -> UserError | None:
    """Explain the end of a worker process of a DataLoader; None for other errors."""
    text = str(error)
    if any(sign in text for sign in SHARED_MEMORY):
        return UserError(
            "The shared memory (/dev/shm) is too small for the dataloader workers.",
            "Use --workers 0, or a larger shared memory; in Docker: docker run --shm-size=1g.",
        )
    if "DataLoader worker" in text and ("killed by signal" in text or "exited unexpectedly" in text):
        return UserError(
            f"{text.splitlines()[0].split('. ')[0].rstrip('. ')}; memory may be short.", "Use fewer --workers."
        )
    return None


def _size_problem(files: ExampleFiles | StoredExample, image: tuple[int, ...], label: tuple[int, ...]) -> str:
    if image == label:
        return ""
    return f"{files.label_path} is {label[0]} x {label[1]} (height x width), its image {image[0]} x {image[1]}"


def _single_class(description: DatasetDescription, counts: PixelCounts) -> list[str]:
    """Masks with 0 and 255 for two classes, while 255 is ignored."""
    present = [name for name, pixels in zip(description.class_names, counts.classes, strict=True) if pixels]
    if not counts.ignored or len(present) > 1 or len(present) == len(description.classes):
        return []
    names = ", ".join(repr(entry.name) for entry in description.ignored)
    what = f"{present[0]!r} is the only class" if present else "no pixel belongs to a class"
    return [f"{what}, but {counts.ignored} pixels are ignored as {names}, which may be a class"]


def _summary(dataset: Dataset, problems: list[str]) -> str:
    listed = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
    more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    title = f"The split {dataset.split!r} of {dataset.description.name} in {dataset.root} cannot be used"
    return f"{title}; problems found: {len(problems)}.\n{listed}{more}"
