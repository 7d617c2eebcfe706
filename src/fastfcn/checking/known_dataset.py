"""`fastfcn check --dataset`: compare a folder with the description of a known dataset."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastfcn.checking.problem import Problem
from fastfcn.data.dataset import Dataset
from fastfcn.data.description import DatasetDescription
from fastfcn.data.layout import Pairs, find_pairs, masks_without_image, split_parts
from fastfcn.errors import DataError
from fastfcn.utils.progress import progress_bar

REQUIRED = ("train", "val")  # splits that must exist unless specific splits are requested

COPY = "Unpack the archives again, or copy the folder again from an intact copy."
MASK = "Fix or replace these masks, or add their values to `classes` or `ignored` in the dataset's .toml file."


@dataclass(frozen=True)
class SplitReport:
    """The files of one split; `published` lists the official numbers of images, if known."""

    split: str
    images: int
    pairs: int
    published: tuple[int, ...]
    example: dict[str, Any] | None


@dataclass
class KnownDatasetReport:
    """The result of the comparison; `problems` is empty if the folder can be used."""

    description: DatasetDescription
    root: Path
    splits: list[SplitReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, files: Iterable[Path], message: str, advice: str) -> None:
        """Add a problem with `files`, or with the whole folder if there are none."""
        names = tuple(relative(path, self.root) for path in files)
        self.problems.append(Problem(kind, "error", len(names) or 1, names, message, advice))

    def as_json(self) -> dict:
        """The report as an object for JSON."""
        return {
            "dataset": self.description.name,
            "pairs": sum(split.pairs for split in self.splits),
            "problems": [problem.as_json() for problem in self.problems],
            "splits": [asdict(split) for split in self.splits],
        }

    def raise_problems(self) -> None:
        """Raise DataError with all problems, if there are any."""
        if self.problems:
            lines = "\n".join(f"  {problem.message}" for problem in self.problems)
            name = self.description.name
            raise DataError(
                f"{self.root} cannot be used as {name}:\n{lines}",
                f"{self.problems[0].advice}\nDetails: fastfcn check {self.root} --dataset {name}",
            )


def relative(path: Path, root: Path) -> str:
    """`path` relative to `root`, with slashes."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def check_known_dataset(
    description: DatasetDescription, root: str | Path, splits: Sequence[str] = (), values: bool = False,
    workers: int = 1,
) -> KnownDatasetReport:  # fmt: skip
    """Compare the folder `root` with a dataset: images per split, missing files, and one example pair per split.

    `splits` are those that must exist ("train+val" is two); by default all of the dataset's splits are checked and
    train and val must exist. `values` also reads every mask, on `workers` threads. Raises DataError for a split that
    the dataset does not have.
    """
    report = KnownDatasetReport(description, Path(root))
    requested = [part for split in splits for part in split_parts(description, split)]
    if not report.root.is_dir() or not any(report.root.iterdir()):
        what = "is empty" if report.root.is_dir() else "does not exist"
        report.add("no_data", [], f"The folder {root} {what}.", f"Put the files of {description.title} there.")
        return report
    for split in dict.fromkeys(requested or description.splits):
        _check_split(report, split, bool(requested) or split in REQUIRED, values, workers)
    return report


def _check_split(report: KnownDatasetReport, split: str, required: bool, values: bool, workers: int) -> None:
    description, root = report.description, report.root
    try:
        pairs = find_pairs(description, root, split)
    except DataError as error:
        report.add("duplicate_example", [], f"{split}: {error.message}", error.hint)
        return
    published = description.counts.get(split, ())
    if pairs is None and required:
        patterns = " or ".join(
            pattern.replace("{split}", description.splits[split]) for pattern in description.lists or description.images
        )
        advice = f"Give the folder that these paths are relative to. {COPY}"
        report.add("no_split", [], f"{split}: nothing in {root} matches {patterns}.", advice)
    if pairs is None:
        report.splits.append(SplitReport(split, 0, 0, published, None))
        return
    images = len(pairs.values) + len(pairs.names_without_image)
    if published and images not in published:
        expected = " or ".join(map(str, published))
        report.add("wrong_count", [], f"{split}: found {images} images, expected {expected}.", COPY)
    _missing_files(report, split, pairs)
    unusable = _wrong_masks(report, split, pairs, workers) if values else set()
    example = _example(report, split, pairs, unusable) if pairs.examples else None
    report.splits.append(SplitReport(split, images, len(pairs.examples), published, example))


def _missing_files(report: KnownDatasetReport, split: str, pairs: Pairs) -> None:
    description = report.description
    if names := pairs.names_without_image:
        images = [
            pairs.folder / description.images[0].format(name=name, split=description.splits[split]) for name in names
        ]
        listed = relative(pairs.listed, report.root) if pairs.listed else "the list"
        report.add("image_missing", images, f"{split}: {len(names)} names in {listed} have no image.", COPY)
    if images := pairs.images_without_mask:
        report.add("mask_missing", images, f"{split}: {len(images)} images have no mask.", COPY)
    known = {name for problem in report.problems for name in problem.files}
    # Splits with lists share one masks folder.
    unmatched = masks_without_image(description, pairs, split)
    if unmatched := [path for path in unmatched if relative(path, report.root) not in known]:
        report.add("mask_without_image", unmatched, f"{split}: {len(unmatched)} masks have no image.", COPY)


def _wrong_masks(report: KnownDatasetReport, split: str, pairs: Pairs, workers: int) -> set[Path]:
    """Read all masks; report and return those that cannot be used."""
    dataset = Dataset(report.description, report.root, split, examples=pairs.examples)
    with progress_bar() as bar:
        task = bar.add_task(f"Reading masks ({split})", total=len(dataset))
        _, problems = dataset.inspect_labels(workers, lambda done, _: bar.update(task, completed=done))
        bar.update(task, visible=False)
    files = {problem.path: None for problem in problems if problem.path}
    if problems:
        more = f", and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        report.add("wrong_mask", files, f"{split}: {problems[0].message}{more}.", MASK)
    return set(files)


def _example(report: KnownDatasetReport, split: str, pairs: Pairs, unusable: set[Path]) -> dict[str, Any] | None:
    """Open the first pair: its files, size (height, width) and number of classes."""
    files = pairs.examples[0]
    if files.label_path in unusable:
        return None
    try:
        example = Dataset(report.description, report.root, split, examples=[files])[0]
    except DataError as error:
        report.add("wrong_pair", [files.image_path, files.label_path], f"{split}: {error.message}", error.hint)
        return None
    classes = len(set(example.label.ravel().tolist()) - {255})
    paths = {"image": relative(files.image_path, report.root), "mask": relative(files.label_path, report.root)}
    return paths | {"size": list(example.label.shape), "classes": classes}
