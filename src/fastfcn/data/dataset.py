"""One reader for every data set: examples as they are or augmented, and a check of all masks."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch.utils.data
from torch import Tensor

from fastfcn.data.description import DataSetDescription
from fastfcn.data.images import image_size, read_image
from fastfcn.data.layout import ExampleFiles, find_examples
from fastfcn.data.masks import UNNAMED, class_table, describe_value, read_mask
from fastfcn.data.sampler import SampleKey
from fastfcn.data.transforms import TrainTransform
from fastfcn.errors import DataError
from fastfcn.utils.types import IGNORE_INDEX

SHOWN = 20  # problems that an error lists before it only counts


@dataclass(frozen=True)
class Example:
    """An image with its label: RGB uint8 (H, W, 3), and uint8 (H, W) of class indices, 255 where ignored."""

    image: np.ndarray
    label: np.ndarray
    name: str
    image_path: Path
    label_path: Path


@dataclass(frozen=True)
class PixelCounts:
    """How many pixels a split has of each class, int64 (classes,), and how many that are ignored."""

    classes: np.ndarray
    ignored: int


class LabelProblem(NamedTuple):
    """What is wrong with the mask at `path`, or, where that is None, with all masks together."""

    path: Path | None
    message: str


class Dataset(torch.utils.data.Dataset):
    """The examples of one split below the data folder `root`, in a fixed order.

    `dataset[3]` is an Example as it is on disk; `dataset[SampleKey(...)]` an image and label tensor that
    `transform` made with the key's own random generator, so that training reads are a pure function of the
    key. Raises DataError where files are missing, cannot be read, do not fit each other or hold values that
    the description does not name.
    """

    def __init__(
        self,
        description: DataSetDescription,
        root: str | Path,
        split: str,
        transform: TrainTransform | None = None,
        examples: list[ExampleFiles] | None = None,
    ):
        """`examples` are the split's files where they have been found already."""
        self.description = description
        self.root = Path(root)
        self.split = split
        self.transform = transform
        self.table = class_table(description)
        self.examples = find_examples(description, root, split) if examples is None else examples

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, key: SampleKey) -> tuple[Tensor, Tensor]: ...

    @overload
    def __getitem__(self, key: int) -> Example: ...

    def __getitem__(self, key: SampleKey | int) -> tuple[Tensor, Tensor] | Example:
        files = self.examples[key.index if isinstance(key, SampleKey) else key]
        image, label = read_image(files.image_path), self.read_label(files.label_path)
        if problem := _size_problem(files, image.shape[:2], label.shape):
            raise DataError(f"{problem}.", "Image and mask must have the same height and width.")
        if not isinstance(key, SampleKey):
            return Example(image, label, *files)
        if self.transform is None:
            raise TypeError("a sample key needs a data set with a transform")
        return self.transform(image, label, key.generator())

    def read_label(self, path: Path) -> np.ndarray:
        """The mask at `path` as a label: uint8 (H, W) of class indices, 255 where ignored."""
        values = read_mask(path, self.description.labels_kind)
        label = self.table[values]
        if (label == UNNAMED).any():
            unnamed = self._unnamed(values[label == UNNAMED])
            raise DataError(f"{path}: {unnamed}, which {self.description.name} does not name.", _NAME_THEM)
        return label

    def check_labels(self, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> PixelCounts:
        """Read every mask once, on `workers` threads, and count the pixels of each class.

        `progress` is called with (masks done, masks in all). Raises one DataError that tells of every mask
        that cannot be read, is of another size than its image, or holds unnamed values, and where ignoring
        leaves no pixel at all or one class alone.
        """
        counts, problems = self.survey_labels(workers, progress)
        if problems:
            raise DataError(_summary(self, [problem.message for problem in problems]), _NAME_THEM)
        return counts

    def survey_labels(
        self, workers: int = 1, progress: Callable[[int, int], None] | None = None
    ) -> tuple[PixelCounts, list[LabelProblem]]:
        """What `check_labels` counts, and all that is wrong instead of an error."""
        totals, problems = np.zeros(256, np.int64), []
        pool = ThreadPoolExecutor(max(workers, 1))
        try:
            for done, (counts, found) in enumerate(pool.map(self._check, self.examples), start=1):
                totals += counts
                problems += found
                if progress:
                    progress(done, len(self))
        finally:
            pool.shutdown(cancel_futures=True)
        counts = PixelCounts(totals[: len(self.description.classes)], int(totals[IGNORE_INDEX]))
        return counts, problems or [LabelProblem(None, each) for each in _lopsided(self.description, counts)]

    def _check(self, files: ExampleFiles) -> tuple[np.ndarray, list[LabelProblem]]:
        try:
            values = read_mask(files.label_path, self.description.labels_kind)
            problem = _size_problem(files, image_size(files.image_path), values.shape)
        except DataError as error:
            return np.zeros(256, np.int64), [LabelProblem(files.label_path, error.message.rstrip("."))]
        label = self.table[values]
        counts = np.bincount(label.ravel(), minlength=256)
        problems = [problem] if problem else []
        if counts[UNNAMED]:
            problems.append(f"{files.label_path}: {self._unnamed(values[label == UNNAMED])}")
        return counts, [LabelProblem(files.label_path, each) for each in problems]

    def _unnamed(self, values: np.ndarray) -> str:
        """The distinct `values` in words, the most frequent first."""
        found, counts = np.unique(values, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        kind = self.description.labels_kind
        parts = [f"value {describe_value(int(found[i]), kind)} in {counts[i]} pixels" for i in order[:5]]
        return ", ".join(parts) + (f" and {len(found) - 5} more values" if len(found) > 5 else "")


def read_batches(loader: Iterable[Any]) -> Iterator[Any]:
    """What `loader` gives; a DataError that a worker process sends comes without that process's traceback."""
    try:
        yield from loader
    except DataError as error:
        _, marker, text = str(error).rpartition(f"{DataError.__module__}.{DataError.__qualname__}: ")
        if not marker:
            raise
        message, _, hint = text.strip().rpartition("\n")
        raise DataError(message or hint, hint if message else "") from None


_NAME_THEM = "Mend the masks, or name their values in `classes` or `ignored` of the data set's .toml file."


def _size_problem(files: ExampleFiles, image: tuple[int, ...], label: tuple[int, ...]) -> str:
    if image == label:
        return ""
    return f"{files.label_path} is {label[0]} x {label[1]} (height x width), its image {image[0]} x {image[1]}"


def _lopsided(description: DataSetDescription, counts: PixelCounts) -> list[str]:
    """The well-known trap of masks with 0 and 255 for two classes where 255 is ignored."""
    present = [name for name, pixels in zip(description.class_names, counts.classes, strict=True) if pixels]
    if not counts.ignored or len(present) > 1 or len(present) == len(description.classes):
        return []
    names = ", ".join(repr(entry.name) for entry in description.ignored)
    what = f"{present[0]!r} is the only class" if present else "there is no pixel of any class"
    return [f"{what}, while {counts.ignored} pixels are ignored as {names}: one of these may be a class"]


def _summary(dataset: Dataset, problems: list[str]) -> str:
    listed = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
    more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    title = f"The split {dataset.split!r} of {dataset.description.name} in {dataset.root} cannot be used"
    return f"{title}; problems found: {len(problems)}.\n{listed}{more}"
