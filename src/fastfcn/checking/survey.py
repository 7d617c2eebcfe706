"""What a folder of images and masks holds: where they lie, which values the masks have, and what is wrong."""

import json
import os
import shlex
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastfcn.checking.color_problems import color_problems
from fastfcn.checking.file_problems import seen_problems
from fastfcn.checking.image_reading import see_image
from fastfcn.checking.layouts import Found, Layout, find_layout
from fastfcn.checking.mask_reading import Color, see_mask
from fastfcn.checking.problem import Problem
from fastfcn.checking.split_problems import class_problems, file_problems, twin_problems
from fastfcn.checking.statistics import PairSeen, Tally
from fastfcn.checking.value_problems import Numbers, number_problems
from fastfcn.checking.values import ValueCount, labels_kind, palette_found, value_counts
from fastfcn.data.description import CATALOG, load_description
from fastfcn.utils.files import replace_file
from fastfcn.utils.progress import progress_bar

CHUNK = 32  # pairs that a thread takes at a time
NAME_LISTS = ("classes.txt", "class_names.txt", "labels.txt", "names.txt", "class_list.txt", "label_names.txt")


class ExampleFound(NamedTuple):
    """A pair; `name` is what the placeholders of the patterns stand for, joined by slashes; paths are below root."""

    split: str
    name: str
    image: str
    mask: str


@dataclass
class Survey:
    """What `survey` found. `pairs` counts images that have a mask, broken ones included.

    `values` are sorted by value; `palette` is the colours of palette masks by number, None where no mask has one;
    `class_names` are the lines of a list of names in the folder (classes.txt and the like), empty where there is none;
    `sizes` counts images by (height, width), upright. `found` and `tally` are what the problems are worked out from.
    """

    root: Path
    layout: Layout
    pairs: int
    pairs_by_split: dict[str, int]
    labels_kind: Literal["index", "color"]
    values: list[ValueCount]
    palette: dict[int, Color] | None
    class_names: tuple[str, ...]
    sizes: dict[tuple[int, int], int]
    problems: list[Problem]
    found: Found
    tally: Tally

    @property
    def errors(self) -> list[Problem]:
        """The problems with which training would be wrong."""
        return [each for each in self.problems if each.severity == "error"]

    def examples(self) -> Iterator[ExampleFound]:
        """Every pair, folder by folder and sorted by name in each; one by one, since all would fill the memory."""
        files, splits = self.found.contents.files, list(self.layout.splits)
        for image, mask, split in zip(self.found.images, self.found.masks, self.found.splits, strict=True):
            yield ExampleFound(splits[split], self.found.name(image), files.path(image), files.path(mask))

    def facts(self) -> dict[str, Any]:
        """What there is to know beside the problems, for machines."""
        layout = {key: getattr(self.layout, key) for key in ("name", "images", "labels", "lists", "splits", "catalog")}
        return {
            "pairs_by_split": self.pairs_by_split,
            "layout": layout,
            "labels_kind": self.labels_kind,
            "values": [asdict(each) for each in self.values],
            "palette": None if self.palette is None else {str(key): color for key, color in self.palette.items()},
            "sizes": [{"size": size, "images": count} for size, count in sorted(self.sizes.items())],
        }

    def save_json(self, path: str | Path) -> None:
        """Write `pairs`, `problems` and `facts`; file by file, since there may be very many."""
        with replace_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(f'{{"pairs": {self.pairs},\n "problems": [')
            for number, problem in enumerate(self.problems):
                about = json.dumps({"kind": problem.kind, "severity": problem.severity, "count": problem.count,
                                    "message": problem.message, "advice": problem.advice})  # fmt: skip
                file.write(f'{"," * bool(number)}\n  {about[:-1]}, "files": [')
                file.writelines(f"{', ' * bool(at)}{json.dumps(name)}" for at, name in enumerate(problem.files))
                file.write("]}")
            file.write(f"],\n {json.dumps(self.facts(), indent=1)[1:]}\n")


def survey(root: str | Path, workers: int = 1, show_progress: bool = True) -> Survey:
    """Read every image and mask below `root`, on `workers` threads.

    Raises DataError where there is no folder, or where no images and masks that belong together are found in it.
    """
    root = Path(root)
    found = find_layout(root)
    tally = _tally(root, found, workers, show_progress)
    splits = list(found.layout.splits)
    values = value_counts(tally, splits)
    kind = labels_kind(tally)
    catalog, known = _catalog(found.layout, kind, values)
    return Survey(
        root=root,
        layout=replace(found.layout, catalog=catalog),
        pairs=len(found),
        pairs_by_split={split: found.splits.count(number) for number, split in enumerate(splits)},
        labels_kind=kind,
        values=values,
        palette=palette_found(tally, values) if kind == "index" else None,
        class_names=_class_names(root),
        sizes=tally.sizes,
        problems=_problems(root, found, tally, kind, values, known),
        found=found,
        tally=tally,
    )


def _problems(
    root: Path, found: Found, tally: Tally, kind: str, values: list[ValueCount], known: frozenset[int]
) -> list[Problem]:
    numbers = Numbers(found, tally, values, known)
    problems = [*file_problems(found), *seen_problems(found, tally), *color_problems(found, tally, kind, values)]
    if kind == "index":
        problems += number_problems(numbers)
    problems += [*twin_problems(found, tally), *class_problems(found, tally, values, numbers, problems)]
    named = [replace(each, advice=each.advice.replace("DIR", shlex.quote(str(root)))) for each in problems]
    return sorted(named, key=lambda each: each.severity)  # errors first, otherwise in this order


def _tally(root: Path, found: Found, workers: int, show_progress: bool) -> Tally:
    """Look at all pairs; at no time are more of them in work than the threads need."""
    tally, waiting = Tally(len(found), len(found.layout.splits)), deque[tuple[int, Future[list[PairSeen]]]]()
    with ThreadPoolExecutor(max(workers, 1)) as pool, progress_bar() as bar:
        task = bar.add_task("Reading pairs", total=len(found), visible=show_progress)
        for start in range(0, len(found), CHUNK):
            waiting.append((start, pool.submit(_see, root, found, range(start, min(start + CHUNK, len(found))))))
            while len(waiting) > 2 * max(workers, 1) or (waiting and start + CHUNK >= len(found)):
                first, future = waiting.popleft()
                seen = future.result()
                for pair, each in enumerate(seen, start=first):
                    tally.add(pair, found.splits[pair], each)
                bar.update(task, advance=len(seen))
        bar.update(task, visible=False)
    return tally


def _see(root: Path, found: Found, pairs: range) -> list[PairSeen]:
    files = found.contents.files
    paths = ((files.path(found.images[pair]), files.path(found.masks[pair])) for pair in pairs)
    return [PairSeen(see_image(root / image), see_mask(root / mask)) for image, mask in paths]


def _catalog(layout: Layout, kind: str, values: list[ValueCount]) -> tuple[str, frozenset[int]]:
    """The data set of the catalogue whose files lie so and whose numbers explain all values."""
    if kind != "index" or not (CATALOG / f"{layout.name}.toml").is_file():
        return "", frozenset()
    about = load_description(layout.name)
    known = frozenset(number for entry in (*about.classes, *about.ignored) for number in entry.ids)
    return (layout.name, known) if known >= {each.value for each in values} else ("", frozenset())


def _class_names(root: Path) -> tuple[str, ...]:
    """The lines of the folder's list of class names, if it has one."""
    for name in NAME_LISTS:
        if (root / name).is_file() and os.path.getsize(root / name) < 100_000:  # noqa: PTH202
            text = (root / name).read_text(encoding="utf-8", errors="replace")
            return tuple(line.strip() for line in text.splitlines() if line.strip())
    return ()
