"""Check a folder of images and masks: layout, mask values and problems."""

import json
import shlex
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastfcn.checking.band_problems import band_problems
from fastfcn.checking.bands import BandSettings, BandStatistics, band_settings, inspect_bands
from fastfcn.checking.class_folders import class_folder_problems
from fastfcn.checking.file_problems import class_list_problems, flag_problems, missing_file_problems
from fastfcn.checking.images import inspect_image
from fastfcn.checking.layouts import DatasetFiles, Layout, find_layout
from fastfcn.checking.masks import Color, inspect_mask
from fastfcn.checking.problem import Problem
from fastfcn.checking.split_problems import class_problems, duplicate_problems
from fastfcn.checking.statistics import PairInfo, Statistics, ValueCount, labels_kind, main_palette, value_counts
from fastfcn.checking.value_problems import MaskIds, color_problems, id_problems
from fastfcn.data.annotations.registry import recognize
from fastfcn.data.class_lists import ClassList, class_lists
from fastfcn.data.description import CATALOG, DatasetDescription, load_description
from fastfcn.errors import DataError, UserError
from fastfcn.utils.files import replace_file
from fastfcn.utils.progress import progress_bar

DESCRIPTION = "dataset.toml"  # written by `fastfcn init`
CHUNK = 32  # pairs per task of a thread


class ExamplePaths(NamedTuple):
    """An image-mask pair; `name` joins the values of the path placeholders with slashes; paths are relative to root."""

    split: str
    name: str
    image: str
    mask: str


@dataclass
class FolderReport:
    """Everything that `check_folder` found. `pairs` counts images with a mask, including unreadable files.

    `values` are sorted by value; `palette` maps ids to colors, or is None if no mask has a palette; `names` are
    the class names of values, from `class_lists` (classes.txt, labelmap.txt and similar) or dataset.toml; `sizes`
    counts images by (height, width), after EXIF rotation; `bands` are those of images that are not RGB; `dataset`,
    `stats` and `mask_ids` are what the problems were derived from.
    """

    root: Path
    layout: Layout
    pairs: int
    pairs_by_split: dict[str, int]
    labels_kind: Literal["index", "color"]
    values: list[ValueCount]
    palette: dict[int, Color] | None
    names: dict[Any, str]
    class_lists: list[ClassList]
    sizes: dict[tuple[int, int], int]
    bands: BandStatistics | None
    problems: list[Problem]
    dataset: DatasetFiles
    stats: Statistics
    mask_ids: MaskIds

    @property
    def errors(self) -> list[Problem]:
        """The problems that would make training fail or its results wrong."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def examples(self) -> Iterator[ExamplePaths]:
        """Every pair, sorted by name in each folder; a generator, because a list of all would fill the memory."""
        files, splits = self.dataset.contents.files, list(self.layout.splits)
        for image, mask, split in zip(self.dataset.images, self.dataset.masks, self.dataset.splits, strict=True):
            yield ExamplePaths(splits[split], self.dataset.name(image), files.path(image), files.path(mask))

    def as_json(self) -> dict[str, Any]:
        """Everything except the problems, as an object for JSON."""
        layout = {key: getattr(self.layout, key) for key in ("name", "images", "labels", "lists", "splits", "catalog")}
        return {
            "pairs_by_split": self.pairs_by_split,
            "layout": layout,
            "other_folders": [
                {"images": other.images, "masks": other.masks, "pairs": other.pairs} for other in self.dataset.others
            ],
            "labels_kind": self.labels_kind,
            "values": [asdict(entry) for entry in self.values],
            "palette": None if self.palette is None else {str(key): color for key, color in self.palette.items()},
            "sizes": [{"size": size, "images": count} for size, count in sorted(self.sizes.items())],
        } | ({"bands": self.bands.as_json()} if self.bands else {})

    def save_json(self, path: str | Path) -> None:
        """Write `pairs`, `problems` and `as_json()` incrementally, because there may be very many files."""
        with replace_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(f'{{"pairs": {self.pairs},\n "problems": [')
            for number, problem in enumerate(self.problems):
                fields = json.dumps({"kind": problem.kind, "severity": problem.severity, "count": problem.count,
                                    "message": problem.message, "advice": problem.advice})  # fmt: skip
                file.write(f'{"," * bool(number)}\n  {fields[:-1]}, "files": [')
                file.writelines(f"{', ' * bool(index)}{json.dumps(name)}" for index, name in enumerate(problem.files))
                file.write("]}")
            file.write(f"],\n {json.dumps(self.as_json(), indent=1)[1:]}\n")


def check_folder(
    root: str | Path, workers: int = 1, show_progress: bool = True, images: str = "", masks: str = "",
    bands: BandSettings | None = None,
) -> FolderReport:  # fmt: skip
    """Read every image and mask below `root`, on `workers` threads.

    `images` and `masks`: folders below `root` to use, if several could be meant; `bands`: what is known of images that
    are not RGB, whose bands are read then; without, they are recognized. Raises DataError if a folder does not
    exist or contains no image-mask pairs.
    """
    root = Path(root)
    dataset = _find_layout(root, images, masks)
    described = _description(root)
    settings = band_settings(root, dataset, bands or BandSettings(), described.bands if described else None)
    stats = _inspect_pairs(root, dataset, workers, show_progress, settings)
    splits = list(dataset.layout.splits)
    values = value_counts(stats, splits)
    kind = labels_kind(stats)
    catalog, known = _catalog(dataset.layout, kind, values)
    palette = main_palette(stats, values) if kind == "index" else None
    remarks: list[str] = []
    lists = class_lists(root, remarks)
    known_names = _described_names(described, [entry.value for entry in values])
    names = known_names or _listed_names(lists, [entry.value for entry in values], palette)
    if kind == "index":
        known = known or frozenset(known_names)
    if lists and not names and values:
        remarks.append(
            f"{lists[0].path} names {len(lists[0].classes)} classes, which fit none of the values in the masks"
        )
    mask_ids = MaskIds(dataset, stats, values, known, names)
    return FolderReport(
        root=root,
        layout=replace(dataset.layout, catalog=catalog),
        pairs=len(dataset),
        pairs_by_split={split: dataset.splits.count(number) for number, split in enumerate(splits)},
        labels_kind=kind,
        values=values,
        palette=palette,
        names=names,
        class_lists=lists,
        sizes=stats.sizes,
        bands=stats.bands if stats.bands and stats.bands.kinds else None,
        problems=_problems(root, dataset, stats, kind, mask_ids, remarks),
        dataset=dataset,
        stats=stats,
        mask_ids=mask_ids,
    )


def _find_layout(root: Path, images: str, masks: str) -> DatasetFiles:
    """The layout of a folder of images and masks; an error says so if it has annotations instead."""
    try:
        return find_layout(root, images, masks)
    except DataError:
        formats = recognize(root) if root.is_dir() and not images and not masks else []
        if not formats:
            raise
        titles = " or ".join(entry.title for entry in formats)
        raise DataError(
            f"{root} has annotations instead of masks: {titles}.",
            f"Convert them to masks: fastfcn import {shlex.quote(str(root))} --out DATASET",
        ) from None


def _problems(
    root: Path, dataset: DatasetFiles, stats: Statistics, kind: str, mask_ids: MaskIds, remarks: list[str]
) -> list[Problem]:
    """All problems, errors first; `remarks` are those of the class lists."""
    values = mask_ids.values
    problems = [
        *missing_file_problems(dataset),
        *class_list_problems(remarks),
        *flag_problems(dataset, stats),
        *color_problems(dataset, stats, kind, values),
    ]
    if stats.bands and stats.bands.kinds:
        problems += band_problems(dataset, stats.bands)
    if kind == "index":
        problems += [*id_problems(mask_ids), *class_folder_problems(mask_ids)]
    problems += [*duplicate_problems(dataset, stats), *class_problems(dataset, stats, values, mask_ids, problems)]
    named = [replace(problem, advice=problem.advice.replace("DIR", shlex.quote(str(root)))) for problem in problems]
    return sorted(named, key=lambda problem: problem.severity)  # errors first; the sort is stable


def _inspect_pairs(
    root: Path, dataset: DatasetFiles, workers: int, show_progress: bool, bands: BandSettings | None
) -> Statistics:
    """Inspect all pairs on threads; only a few chunks are in flight at any time, which bounds the memory."""
    stats, waiting = Statistics(len(dataset), len(dataset.layout.splits)), deque[tuple[int, Future[list[PairInfo]]]]()
    stats.bands = BandStatistics(bands) if bands else None
    with ThreadPoolExecutor(max(workers, 1)) as pool, progress_bar() as bar:
        task = bar.add_task("Reading pairs", total=len(dataset), visible=show_progress)
        for start in range(0, len(dataset), CHUNK):
            chunk = range(start, min(start + CHUNK, len(dataset)))
            waiting.append((start, pool.submit(_inspect_chunk, root, dataset, chunk, bands)))
            while len(waiting) > 2 * max(workers, 1) or (waiting and start + CHUNK >= len(dataset)):
                first, future = waiting.popleft()
                infos = future.result()
                for pair, info in enumerate(infos, start=first):
                    stats.add(pair, dataset.splits[pair], info)
                bar.update(task, advance=len(infos))
        bar.update(task, visible=False)
    return stats


def _inspect_chunk(root: Path, dataset: DatasetFiles, pairs: range, bands: BandSettings | None) -> list[PairInfo]:
    files = dataset.contents.files
    paths = ((files.path(dataset.images[pair]), files.path(dataset.masks[pair])) for pair in pairs)
    if bands is None:
        return [PairInfo(inspect_image(root / image), inspect_mask(root / mask)) for image, mask in paths]
    infos = []
    for image, mask in paths:
        info, found = inspect_bands(root / image, bands.nodata)
        infos.append(PairInfo(info, inspect_mask(root / mask), found))
    return infos


def _catalog(layout: Layout, kind: str, values: list[ValueCount]) -> tuple[str, frozenset[int]]:
    """The known dataset whose layout the folder has and whose ids include all values, and these ids."""
    if kind != "index" or not (CATALOG / f"{layout.name}.toml").is_file():
        return "", frozenset()
    description = load_description(layout.name)
    known = frozenset(number for entry in (*description.classes, *description.ignored) for number in entry.ids)
    return (layout.name, known) if known >= {entry.value for entry in values} else ("", frozenset())


def _listed_names(lists: list[ClassList], values: list, palette: dict[int, Color] | None) -> dict:
    """The class name of each value in the masks that a list in the folder names."""
    names = next((names for entry in lists if (names := entry.assigned(values, palette))), {})
    return {value: names[value] for value in values if value in names}


def _description(root: Path) -> DatasetDescription | None:
    """The folder's dataset.toml, if it has a valid one."""
    path = root / DESCRIPTION
    if not path.is_file():
        return None
    try:
        return load_description(str(path))
    except UserError:
        return None


def _described_names(description: DatasetDescription | None, values: list) -> dict:
    """The class name of each value in the masks by the folder's description, if it is for masks of this kind."""
    if description is None:
        return {}
    colored = bool(values) and isinstance(values[0], tuple)
    if (description.labels_kind == "color") != colored:
        return {}
    entries = (*description.classes, *description.ignored)
    names = {value: entry.name for entry in entries for value in entry.mask_values(description.labels_kind)}
    return {value: names[value] for value in values if value in names}
