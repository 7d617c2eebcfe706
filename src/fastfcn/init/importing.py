"""`fastfcn import`: write a dataset from the annotations of a labeling tool."""

import io
import os
import re
import shutil
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from fastfcn.checking.folder_names import canonical_split, folder_name
from fastfcn.checking.images import ImageInfo, inspect_image
from fastfcn.data.annotations.export import IGNORED, Entry, Export, Format, Problem
from fastfcn.data.annotations.folder import ExportFolder
from fastfcn.data.annotations.painting import Painted, Rules, paint
from fastfcn.data.annotations.registry import FORMATS, find_format, recognize
from fastfcn.data.decoding import TRANSFORMS, open_image, orientation, upright_size
from fastfcn.data.description import MAX_CLASSES, SegmentationClass
from fastfcn.errors import DataError
from fastfcn.init.classes import NOT_CLASSES, class_colors
from fastfcn.init.groups import Looks
from fastfcn.init.import_report import ImportedClass, ImportOptions, ImportReport, refuse_broken, rules_text
from fastfcn.init.imported_toml import imported_toml
from fastfcn.init.splits import LISTS, draw
from fastfcn.utils.files import write_text
from fastfcn.utils.new_folder import complete_folder
from fastfcn.utils.progress import with_progress
from fastfcn.utils.sizes import IGNORE_INDEX, Size
from fastfcn.visualize import palette_image

BACKGROUND = "background"
DATASET = "dataset.toml"
WAITING = 4  # entries per thread whose results are not collected yet
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
SPLITS = ("train", "val", "test")
IMAGES, MASKS = "images", "masks"


def import_annotations(root: str | Path, out: str | Path, options: ImportOptions, workers: int = 1) -> ImportReport:
    """Write the dataset folder `out` from the export in the folder, or file, `root`: images, masks and dataset.toml.

    It appears when it is complete; an interrupted import leaves nothing, or a hidden folder that the next one removes.
    Raises DataError for an unknown format and for broken annotations, and OutputError if `out` is not empty.
    """
    root, out = Path(root), Path(out)
    if root.suffix.lower() in ARCHIVES and root.is_file():
        raise DataError(f"{root} is an archive.", "Unpack it, and give the folder.")
    if not root.exists():
        raise DataError(f"{root} does not exist.", "Give the folder of the export, or its annotation file.")
    if options.images and not options.images.is_dir():
        raise DataError(f"The folder {options.images} does not exist.", "Give the folder of the images.")
    folder = ExportFolder(root, options.images)
    chosen = choose_format(folder, options.format)
    export = chosen.read(folder)
    report = ImportReport(root, out, chosen, options, export.objects, notes=export.notes, problems=export.problems)
    if not export.entries:
        refuse_broken(report)
    with complete_folder(root, out, "import") as work:
        _Import(report, export, work, workers).run()
    return report


def choose_format(folder: ExportFolder, name: str = "") -> Format:
    """The format `name`, or the one that the folder has. Raises DataError if there is none, or several."""
    if name:
        return find_format(name)
    formats = recognize(folder)
    if len(formats) == 1:
        return formats[0]
    if formats:
        listed = ", ".join(f"{entry.name} ({entry.title})" for entry in formats)
        raise DataError(f"{folder.root} may have several formats: {listed}.", "Choose one with --format.")
    known = ", ".join(entry.title for entry in FORMATS.values())
    raise DataError(f"No known annotation format was found in {folder.root}.", f"Known are: {known}.")


class _Result(NamedTuple):
    """What was painted for an entry, the pixels per mask value, (256,), and its image, if a split is to be drawn."""

    painted: Painted
    pixels: np.ndarray
    image: ImageInfo | None


class _Import:
    def __init__(self, report: ImportReport, export: Export, work: Path, workers: int):
        self.report, self.work, self.workers = report, work, max(workers, 1)
        self.options = report.options
        self.entries, self.splits = _by_image(export.entries, report)
        self.names = unique_names([entry.image for entry in self.entries])
        self.own_classes = export.classes.keys()
        self.classes, self.rules = _classes(export, self.options)
        self.colors = {entry.info.ids[0]: entry.info.color for entry in self.classes}
        self.values: dict[str, set[int]] = {}  # the classes of every image that was written
        self.looks: dict[str, ImageInfo] = {}  # of the same images, if a split is to be drawn

    def run(self) -> None:
        """Write everything. Raises DataError if something is broken and must not be skipped."""
        for name, result in self._results():
            self._add(name, result)
        report = self.report
        refuse_broken(report)
        if not any(entry.objects for entry in self.classes) and report.without_area:
            kinds = ", ".join(f"{kind} ({count})" for kind, count in report.without_area.items())
            raise DataError(
                f"No shape in {report.root} has an area: {kinds}.", "Export polygons or masks instead of boxes."
            )
        if len(self.values) < 2:
            raise DataError(
                f"{report.root} has {len(self.values)} image(s) with annotations; training and validation need 2.",
                "Are the images in another folder? Give it with --images DIR.",
            )
        # Masks that cover everything need no background besides their own classes.
        report.classes = [entry for entry in self.classes if entry.pixels or entry.info.name in self.own_classes]
        self._write_description()

    def _results(self) -> Iterator[tuple[str, _Result]]:
        """Write the image and mask of every entry, on threads; a few at a time, so that few masks are in memory."""
        jobs = list(zip(self.entries, self.names, self.splits, strict=True))
        with ThreadPoolExecutor(self.workers) as pool:
            results = _in_order(pool, self._write, jobs, WAITING * self.workers)
            progress = with_progress(results, len(jobs), f"Importing {self.report.format.title}")
            for (entry, name, _), result in zip(jobs, progress, strict=True):
                if isinstance(result, _Result):
                    yield name, result
                else:
                    self.report.problems.append(Problem(entry.where, result.message.rstrip(".")))

    def _write(self, job: tuple[Entry, str, str]) -> _Result | DataError:
        """Write one image and its mask; an error is returned, because the other entries are read all the same."""
        entry, name, split = job
        try:
            data = entry.embedded() if entry.embedded else None
            painted, mask = self._paint(entry, data)
        except DataError as error:
            return error
        painted.mask = np.zeros((0, 0), np.uint8)  # many results may wait to be counted
        pixels = np.bincount(mask.ravel(), minlength=256)
        refused = self.report.problems and not self.options.skip_broken  # nothing will be kept
        if refused or pixels[IGNORE_INDEX] == mask.size:
            return _Result(painted, pixels, None)
        target = self.work / IMAGES / split / f"{name}{entry.image.suffix}"
        for kind in (IMAGES, MASKS):
            (self.work / kind / split).mkdir(parents=True, exist_ok=True)
        palette_image(mask, self.colors).save(self.work / MASKS / split / f"{name}.png")
        if data is not None:
            target.write_bytes(data)
        elif self.options.link:
            os.symlink(entry.image.resolve(), target)  # noqa: PTH211
        else:
            shutil.copyfile(entry.image, target)
        return _Result(painted, pixels, None if split else inspect_image(target))

    def _paint(self, entry: Entry, data: bytes | None) -> tuple[Painted, np.ndarray]:
        """Paint the mask of an entry, as its image is shown by viewers."""
        source = entry.image if data is None else io.BytesIO(data)
        with open_image(source, entry.image) as image:
            stored, upright, turn = (image.height, image.width), upright_size(image), orientation(image)
        size = _frame(entry.size, stored, upright)
        painted = paint(entry.shapes(size), size, self.rules)
        if size == upright:
            return painted, painted.mask
        return painted, np.asarray(Image.fromarray(painted.mask).transpose(TRANSFORMS[turn]))

    def _add(self, name: str, result: _Result) -> None:
        report, painted = self.report, result.painted
        report.without_area += painted.without_area
        report.empty += painted.empty
        report.overlapping += painted.overlapping
        report.images_with_overlap += painted.overlapping > 0
        if result.pixels[IGNORE_INDEX] == result.pixels.sum():
            report.unlabeled_images += 1
            return
        report.images_without_shapes += not painted.objects
        if result.image:
            self.looks[name] = result.image
        self.values[name] = set(np.flatnonzero(result.pixels[:IGNORE_INDEX]).tolist())
        report.ignored_pixels += int(result.pixels[IGNORE_INDEX])
        for entry in self.classes:
            pixels = int(result.pixels[entry.info.ids[0]])
            entry.pixels += pixels
            entry.images += pixels > 0
            entry.objects += painted.objects[entry.info.name]

    def _write_description(self) -> None:
        """Write dataset.toml and, if the export has no splits, lists of drawn ones."""
        report = self.report
        entries = [
            (name, split, entry.image.suffix)
            for name, split, entry in zip(self.names, self.splits, self.entries, strict=True)
            if name in self.values
        ]
        counts = Counter(split for _, split, _ in entries)
        suffixes = [suffix for suffix, _ in Counter(suffix for *_, suffix in entries).most_common()]
        reasons = ["The splits of the export."]
        report.drawn = set(counts) == {""}
        if report.drawn:
            names = sorted(self.values)
            looks = Looks(*(np.array([getattr(self.looks[name], key) for name in names])
                            for key in ("fingerprint", "gradients")))  # fmt: skip
            drawn, reasons = draw(names, looks, self._classes_of, self.options.seed)
            counts = Counter({split: len(names) for split, names in drawn.items()})
            for split, names in drawn.items():
                lines = "".join(f"{name}\n" for name in names)
                write_text(self.work / LISTS.format(split=split), lines, "surrogateescape")
        report.images = {split: counts[split] for split in SPLITS if counts[split]}
        if lost := [split for split in SPLITS if split in self.splits and split not in report.images]:
            raise DataError(f"No image of the split {lost[0]} of {report.root} is left.", "Add annotated images to it.")
        text = imported_toml(report.out, report.format.title, report.classes, suffixes, report.images, reasons,
                             LISTS if report.drawn else "", rules_text(self.options))  # fmt: skip
        write_text(self.work / DATASET, text)

    def _classes_of(self, units: list[list[str]]) -> list[set]:
        return [set().union(*(self.values[name] for name in unit)) for unit in units]


def _frame(written: Size | None, stored: Size, upright: Size) -> Size:
    """The size (height, width) that the coordinates are for: that of the visible image, else of the stored one."""
    if written in (None, upright):
        return upright
    if written == stored:
        return stored
    raise DataError(
        f"the annotations are for {written[0]} x {written[1]} pixels (height x width), but the image has "
        f"{upright[0]} x {upright[1]}"
    )


def _in_order(pool: ThreadPoolExecutor, work: Callable, jobs: Iterable, waiting: int) -> Iterator:
    """The results of `work` for `jobs`, of which at most `waiting` are in progress."""
    futures: deque[Future] = deque()
    try:
        for job in jobs:
            futures.append(pool.submit(work, job))
            if len(futures) >= waiting:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()


def _by_image(entries: Sequence[Entry], report: ImportReport) -> tuple[list[Entry], list[str]]:
    """One entry per image with the shapes of all its entries, and the split of each; "" for all if there are none."""
    by_image: dict[Path, list[Entry]] = defaultdict(list)
    for number, entry in enumerate(entries):
        # Embedded images may have equal names.
        by_image[entry.image if entry.embedded is None else Path(str(number)) / entry.image].append(entry)
    merged, splits = [], []
    for group in by_image.values():
        names = {split_of(entry.split) for entry in group}
        if len(names) > 1 or len({entry.size for entry in group}) > 1:
            what = "in several splits" if len(names) > 1 else "of several sizes"
            others = ", ".join(entry.where for entry in group[1:3])
            report.problems.append(Problem(group[0].where, f"its image is also {what} in {others}"))
            continue
        merged.append(group[0] if len(group) == 1 else replace(group[0], shapes=_chained(group)))
        splits.append(names.pop())
    if "train" not in splits or len(set(splits) - {""}) < 2:
        return merged, [""] * len(merged)
    if "" in splits:
        report.notes.append(f"{splits.count('')} images that are in no split are used for training.")
    return merged, [split or "train" for split in splits]


def _chained(group: list[Entry]) -> Callable:
    return lambda size: chain.from_iterable(entry.shapes(size) for entry in group)


def split_of(text: str) -> str:
    """The split that the last part of a path names: "a/valid/b" is "val"; "" if none does."""
    for part in reversed(re.split(r"[/\\]+", text)):
        if split := folder_name(PurePosixPath(part).stem).split:
            split = canonical_split(split)
            return split if split in SPLITS else ""
    return ""


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each image: its stem; where several would be equal, with the folders in which they differ."""
    names = [_plain(path.stem) for path in paths]
    for depth in (1, 2, 4, 8, 64):
        taken = Counter(name.casefold() for name in names)
        repeated = [taken[name.casefold()] > 1 for name in names]
        if not any(repeated):
            return names
        names = [
            _plain("__".join([*path.parent.parts[-depth:], path.stem]).replace("/", "")) if again else name
            for path, name, again in zip(paths, names, repeated, strict=True)
        ]
    taken, result = Counter(), []
    for name in names:  # such as a.jpg and a.png
        taken[name.casefold()] += 1
        result.append(f"{name}__{taken[name.casefold()]}" if taken[name.casefold()] > 1 else name)
    return result


def _plain(name: str) -> str:
    """A name that a line of a split list can hold."""
    return re.sub(r"\s+", " ", name).strip() or "image"


def _classes(export: Export, options: ImportOptions) -> tuple[list[ImportedClass], Rules]:
    """The classes in order, and the mask value of every label. Raises DataError if there are too many."""
    names = list(export.classes)
    ignored = {name for name in names if name.lower() in NOT_CLASSES} | {IGNORED}
    names = [name for name in names if name not in ignored]
    if options.unlabeled == BACKGROUND:
        known = next((name for name in names if name.lower().strip("_") == BACKGROUND), BACKGROUND)
        names = [known, *(name for name in names if name != known)]
    if not names[options.unlabeled == BACKGROUND :]:
        raise DataError("The export has no classes.", "Is this the right folder?")
    if len(names) > MAX_CLASSES:
        raise DataError(f"The export has {len(names)} classes; at most {MAX_CLASSES} are possible.", "Export fewer.")
    ids = {name: value for value, name in enumerate(names)}
    palette = {ids[name]: color for name in names if (color := export.classes.get(name))}
    colors = class_colors(list(ids.values()), names, palette)
    classes = [
        ImportedClass(SegmentationClass(name=name, color=color, ids=(value,)))
        for (name, value), color in zip(ids.items(), colors, strict=True)
    ]
    fill = 0 if options.unlabeled == BACKGROUND else IGNORE_INDEX
    rules = Rules(ids | dict.fromkeys(ignored, IGNORE_INDEX), fill, options.overlap, options.crowd)
    return classes, rules
