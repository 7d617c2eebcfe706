"""`fastfcn check`: is this folder the data set it should be, and if there is none yet, where does one get it?"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastfcn.checking.problem import Problem
from fastfcn.data.dataset import Dataset
from fastfcn.data.description import DataSetDescription
from fastfcn.data.layout import Pairs, find_pairs, masks_without_image, split_parts
from fastfcn.errors import DataError
from fastfcn.utils.progress import progress_bar

NEEDED = ("train", "val")  # splits whose absence is a problem without being asked for

COPY = "Unpack the archives again, or copy the folder again from where it is whole."
MASK = "Mend or replace these masks, or name their values in `classes` or `ignored` of the data set's .toml file."


@dataclass(frozen=True)
class SplitFound:
    """What there is of a split: `published` is how many images it should have, where that is known."""

    split: str
    images: int
    pairs: int
    published: tuple[int, ...]
    example: dict[str, Any] | None


@dataclass
class Report:
    """What a check found; `problems` is empty where the folder can be used."""

    description: DataSetDescription
    root: Path
    splits: list[SplitFound] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, files: Iterable[Path], message: str, advice: str) -> None:
        """Note a problem with `files`, or with the folder as a whole where there are none."""
        names = tuple(relative(path, self.root) for path in files)
        self.problems.append(Problem(kind, "error", len(names) or 1, names, message, advice))

    def as_json(self) -> dict:
        """`pairs`, `problems` and `splits` for machines."""
        return {
            "dataset": self.description.name,
            "pairs": sum(each.pairs for each in self.splits),
            "problems": [each.as_json() for each in self.problems],
            "splits": [asdict(each) for each in self.splits],
        }

    def refuse(self) -> None:
        """Raise DataError with everything that was found, unless that is nothing."""
        if self.problems:
            lines = "\n".join(f"  {each.message}" for each in self.problems)
            name = self.description.name
            raise DataError(
                f"{self.root} cannot be used as {name}:\n{lines}",
                f"{self.problems[0].advice}\nMore of it: fastfcn check {self.root} --dataset {name}",
            )


def relative(path: Path, root: Path) -> str:
    """`path` as it is called from `root`, with slashes."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def check(
    description: DataSetDescription, root: str | Path, splits: Sequence[str] = (), values: bool = False,
    workers: int = 1,
) -> Report:  # fmt: skip
    """Check the data folder `root`: images per split, missing halves of pairs, and one example pair of each split.

    `splits` are those that must be there ("train+val" is two); without any, all of the data set's are looked at and
    train and val must be there. `values` reads every mask on `workers` threads as well. Raises DataError for a split
    that the data set does not have.
    """
    report = Report(description, Path(root))
    asked = [part for split in splits for part in split_parts(description, split)]
    if not report.root.is_dir() or not any(report.root.iterdir()):
        what = "is empty" if report.root.is_dir() else "does not exist"
        report.add("no_data", [], f"The folder {root} {what}.", f"Put {description.title} there.")
        return report
    for split in dict.fromkeys(asked or description.splits):
        _check_split(report, split, bool(asked) or split in NEEDED, values, workers)
    return report


def _check_split(report: Report, split: str, needed: bool, values: bool, workers: int) -> None:
    about, root = report.description, report.root
    try:
        pairs = find_pairs(about, root, split)
    except DataError as error:
        report.add("same_example_twice", [], f"{split}: {error.message}", error.hint)
        return
    published = about.counts.get(split, ())
    if pairs is None and needed:
        patterns = " or ".join(each.replace("{split}", about.splits[split]) for each in about.lists or about.images)
        advice = f"Name the folder in which these paths begin. {COPY}"
        report.add("no_split", [], f"{split}: nothing in {root} matches {patterns}.", advice)
    if pairs is None:
        report.splits.append(SplitFound(split, 0, 0, published, None))
        return
    images = len(pairs.values) + len(pairs.names_without_image)
    if published and images not in published:
        wanted = " or ".join(map(str, published))
        report.add("wrong_count", [], f"{split}: {images} images, published are {wanted}.", COPY)
    _missing_halves(report, split, pairs)
    unusable = _wrong_masks(report, split, pairs, workers) if values else set()
    example = _example(report, split, pairs, unusable) if pairs.examples else None
    report.splits.append(SplitFound(split, images, len(pairs.examples), published, example))


def _missing_halves(report: Report, split: str, pairs: Pairs) -> None:
    about = report.description
    if names := pairs.names_without_image:
        images = [pairs.folder / about.images[0].format(name=name, split=about.splits[split]) for name in names]
        listed = relative(pairs.listed, report.root) if pairs.listed else "the list"
        report.add("image_missing", images, f"{split}: {len(names)} names in {listed} have no image.", COPY)
    if images := pairs.images_without_mask:
        report.add("mask_missing", images, f"{split}: {len(images)} images have no mask.", COPY)
    known = {name for problem in report.problems for name in problem.files}
    lonely = masks_without_image(about, pairs, split)
    if lonely := [path for path in lonely if relative(path, report.root) not in known]:  # lists share their masks
        report.add("mask_without_image", lonely, f"{split}: {len(lonely)} masks have no image.", COPY)


def _wrong_masks(report: Report, split: str, pairs: Pairs, workers: int) -> set[Path]:
    """Read all masks; note those that cannot be used, and return them."""
    dataset = Dataset(report.description, report.root, split, examples=pairs.examples)
    with progress_bar() as bar:
        task = bar.add_task(f"Reading {split} masks", total=len(dataset))
        _, problems = dataset.survey_labels(workers, lambda done, _: bar.update(task, completed=done))
        bar.update(task, visible=False)
    files = {problem.path: None for problem in problems if problem.path}
    if problems:
        more = f", and of {len(problems) - 1} more" if len(problems) > 1 else ""
        report.add("wrong_mask", files, f"{split}: {problems[0].message}{more}.", MASK)
    return set(files)


def _example(report: Report, split: str, pairs: Pairs, unusable: set[Path]) -> dict[str, Any] | None:
    """The first pair, opened: its files, size (height, width) and how many classes it shows."""
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
