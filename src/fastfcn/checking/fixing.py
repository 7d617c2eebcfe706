"""`fastfcn check DIR --fix OUT`: write a corrected copy of a dataset in which every class keeps its name and area.

All masks are fixed twice: first without writing anything, to compare the areas of every class before and after and to
adapt the class lists, then to write them. Whatever changes the area of a class by more than its blurred edge, or its
name, needs consent; without it, the file is copied as it is.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fastfcn.checking.bands import bands_size
from fastfcn.checking.check import FolderReport
from fastfcn.checking.consent import AreaChange, accepted_kinds
from fastfcn.checking.file_problems import FLAG_REPORTS, misspelled_pairs
from fastfcn.checking.fixed_lists import fixed_split_lists, other_files
from fastfcn.checking.images import duplicate_groups
from fastfcn.checking.layouts import folder_of
from fastfcn.checking.mask_fixing import MaskFix, MaskPlan, UnfixableError, fix_mask, plan_masks
from fastfcn.checking.problem import UNUSABLE_IMAGE, UNUSABLE_MASK, Flag
from fastfcn.checking.renumbering import RefusedError, ValueChange, as_table, plan_values
from fastfcn.data.bands import read_stored
from fastfcn.data.decoding import open_image, upright
from fastfcn.data.images import image_size
from fastfcn.errors import DataError
from fastfcn.utils.files import replace_file, write_text
from fastfcn.utils.new_folder import complete_folder
from fastfcn.utils.progress import with_progress

CHANGES = "CHANGES.txt"
IMAGE_CHANGES = {
    Flag.IMAGE_ROTATED: "rotated upright, EXIF orientation removed",
    Flag.EXIF_MASK_MISMATCH: "EXIF orientation removed, because the mask matches the unrotated image",
    Flag.IMAGE_16_BIT: "converted to 8 bits",
    Flag.IMAGE_CHANNELS: "converted to RGB",
    Flag.IMAGE_FRAMES: "only the first frame kept",
}
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


class Change(NamedTuple):
    """What was changed in a file of the original folder."""

    file: str
    what: str


@dataclass
class FixedCopy:
    """What was written: the `changes`, sorted by file, which are also in CHANGES.txt.

    `declined` counts the files per kind of change that was not accepted; they are copied as they are. `areas` are the
    areas that these and the accepted changes affect. `notes` say what else was not done. `renamed` maps the values of
    the folder to those of the copy where they differ.
    """

    changes: list[Change] = field(default_factory=list)
    declined: Counter[str] = field(default_factory=Counter)
    areas: list[AreaChange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    renamed: dict[Any, int] = field(default_factory=dict)


def write_fixed_copy(
    report: FolderReport, out: str | Path, accept: Iterable[str] = (), show_progress: bool = True
) -> FixedCopy:
    """Write a corrected copy of the checked folder to `out`, with a list of changes in its CHANGES.txt.

    It appears when it is complete; after an error, or if the process is interrupted, nothing is left of it.

    `accept`: kinds of change (`consent.KINDS`) that may change the area or the name of classes. The originals are only
    read. Raises UserError for an unknown kind, OutputError if `out` is not empty, or is inside the folder or contains
    it, and DataError if the class lists cannot be adapted; then nothing is written.
    """
    kinds = accepted_kinds(accept)
    with complete_folder(report.root, Path(out), "check --fix") as work:
        return _Copy(report, work, plan_masks(report, kinds), show_progress).write()


class _Copy:
    def __init__(self, report: FolderReport, out: Path, plan: MaskPlan, show_progress: bool):
        self.report, self.out, self.plan, self.show_progress = report, out, plan, show_progress
        self.dataset, self.stats = report.dataset, report.stats
        self.duplicates = _duplicates(report)
        self.left_out: dict[int, str] = {}  # pair -> reason
        self.result = FixedCopy()
        self.omitted: set[str] = set()  # files of the folder that are left out, or have another name in the copy

    def write(self) -> FixedCopy:
        """Plan and verify everything, then write it."""
        values = self._plan()
        changes = [change for pair in self._pairs("Writing pairs") for change in self._pair(pair)]
        changes += [*self._unmatched(), *self._lists(values)]
        changes += [Change(*entry) for entry in other_files(self.report.root, self.out, self.omitted, self._copy)]
        changes.sort()
        self.result.changes = changes
        write_text(self.out / CHANGES, "".join(f"{change.file}\t{change.what}\n" for change in changes))
        return self.result

    def _pairs(self, title: str) -> Iterable[int]:
        pairs = range(len(self.dataset))
        return with_progress(pairs, len(pairs), title) if self.show_progress else pairs

    def _plan(self) -> ValueChange:
        """Fix all masks without writing them; then decide how ids are numbered. Raises DataError."""
        remaining: set = set()
        unchanged = 0
        for pair in self._pairs("Comparing areas"):
            try:
                fix = self._fix(pair)
            except (UnfixableError, DataError) as reason:
                self.left_out[pair] = reason.message if isinstance(reason, DataError) else str(reason)
                continue
            self.result.areas += fix.areas
            self.result.declined.update(fix.declined)
            unchanged += bool(fix.declined)
            remaining |= self._stored_values(pair) if fix.values is None else fix.values
        if "duplicates" not in self.plan.accept and self.duplicates:
            self.result.declined["duplicates"] += len(self.duplicates)
        try:
            change = plan_values(self.report, self.plan, remaining, unchanged)
        except RefusedError as reason:
            message = f"No copy of {self.report.root} is written: {reason}."
            raise DataError(message, "Remove files with errors from a copy of the folder instead.") from reason
        self.result.notes += change.notes
        self.result.renamed = {old: new for old, new in change.table.items() if old != new}
        if not self.plan.colored:
            self.plan.numbers = as_table(change)
        return change

    def _fix(self, pair: int) -> MaskFix:
        """Fix the mask of a pair. Raises UnfixableError or DataError if the pair has to be left out."""
        flags = Flag(int(self.stats.flags[pair]))
        if "duplicates" in self.plan.accept and pair in self.duplicates:
            raise UnfixableError(f"duplicate of {self.duplicates[pair]}, which is kept")
        if unfit := flags & (UNUSABLE_IMAGE | UNUSABLE_MASK | Flag.MASK_IS_PHOTO):
            reason = next(report.kind for report in FLAG_REPORTS if report.flag & unfit)
            failure = "; ".join(filter(None, self.stats.failures.get(pair, ())))
            raise UnfixableError(f"{reason}: {failure}" if failure else reason)
        size = None
        if flags & Flag.SIZES_DIFFER:
            path = self.report.root / self._path(self.dataset.images[pair])
            size = bands_size(path) if self.report.bands else image_size(path)
        return fix_mask(pair, self.plan, size)

    def _stored_values(self, pair: int) -> set:
        """The values of a mask that is copied as it is, as far as the report knows them."""
        colors = list(self.stats.colors)
        slots = np.flatnonzero(np.unpackbits(self.stats.present[pair])).tolist()
        if Flag(int(self.stats.flags[pair])) & Flag.MASK_COLORED:
            values = {colors[slot] for slot in slots if slot < len(colors)}
        elif self.plan.colored:
            values = {(slot, slot, slot) for slot in slots}
        else:
            values = set(slots)
        return values & {entry.value for entry in self.report.values}

    def _pair(self, pair: int) -> Iterator[Change]:
        """Write a pair and yield its changes, or the reason why it is left out."""
        image, mask = self._path(self.dataset.images[pair]), self._path(self.dataset.masks[pair])
        if pair in self.left_out:
            self.omitted |= {image, mask}
            yield from (Change(file, f"left out: {self.left_out[pair]}") for file in (image, mask))
            return
        fix = self._fix(pair)
        yield from (Change(mask, what) for what in self._mask(mask, fix))
        yield from (Change(image, what) for what in self._image(image, Flag(int(self.stats.flags[pair]))))
        if pair in self.duplicates:
            yield Change(image, f"kept, although it is a duplicate of {self.duplicates[pair]} (--accept duplicates)")

    def _mask(self, mask: str, fix: MaskFix) -> Iterator[str]:
        if fix.label is None:
            self._copy(mask)
            for kind in fix.declined:
                yield f"left as it is: a fix needs --accept {kind}{_areas_text(fix.areas, kind)}"
            return
        target = Path(mask) if Path(mask).suffix.lower() in LOSSLESS else Path(mask).with_suffix(".png")
        with replace_file(self.out / target) as temporary:
            fix.label.save(temporary)
        yield from fix.changes
        for kind in dict.fromkeys(change.kind for change in fix.areas):
            yield f"accepted {kind}{_areas_text(fix.areas, kind)}"
        if target != Path(mask):
            self.omitted.add(mask)
            yield f"saved losslessly as {target.as_posix()}"

    def _image(self, image: str, flags: Flag) -> list[str]:
        changes = [what for sign, what in IMAGE_CHANGES.items() if flags & sign]
        if flags & Flag.EXIF_MASK_MISMATCH:
            changes.remove(IMAGE_CHANGES[Flag.IMAGE_ROTATED])
        if not changes:
            self._copy(image)
            return []
        with open_image(self.report.root / image) as file:
            visible = file if flags & Flag.EXIF_MASK_MISMATCH else upright(file)
            pixels = _eight_bits(visible, bool(flags & Flag.IMAGE_16_BIT_DARK)).convert("RGB")
            if flags & Flag.IMAGE_16_BIT_DARK and not visible.mode.startswith("I"):
                pixels = _stretched(self.report.root / image)  # Pillow drops the lower bits of several channels
        clean = Image.fromarray(np.array(pixels))  # drops EXIF and other metadata
        with replace_file(self.out / image) as temporary:
            if temporary.suffix.lower() in (".jpg", ".jpeg", ".jpe"):
                clean.save(temporary, quality=95, subsampling=0)
            else:
                clean.save(temporary)
        return changes

    def _path(self, number: int) -> str:
        return self.dataset.contents.files.path(number)

    def _copy(self, path: str) -> None:
        with replace_file(self.out / path) as temporary:
            shutil.copyfile(self.report.root / path, temporary)

    def _unmatched(self) -> Iterator[Change]:
        """Leave out unmatched files; copy images of splits without masks, and masks under their corrected name."""
        misspelled, labeled = misspelled_pairs(self.dataset), set(self.dataset.splits)
        for number, split in zip(self.dataset.images_alone, self.dataset.alone_splits, strict=True):
            if number in misspelled:
                yield from self._renamed(number, misspelled[number])
            elif split in labeled:
                yield self._omitted(number, "it has no mask")
            else:
                self._copy(self._path(number))
        for number in self.dataset.masks_alone:
            if number not in misspelled.values():
                yield self._omitted(number, "it has no image")
        for number in self.dataset.same_name:
            yield self._omitted(number, "another file has the same name")

    def _omitted(self, number: int, reason: str) -> Change:
        self.omitted.add(self._path(number))
        return Change(self._path(number), f"left out: {reason}")

    def _renamed(self, image: int, mask: int) -> Iterator[Change]:
        rule, source = self.dataset.match.masks, self._path(mask)
        name = self.dataset.name(image).rsplit("/", 1)[-1]
        before, after = rule.affix_in(folder_of(self.dataset.contents, rule, mask))
        target = Path(source).with_name(f"{before}{name}{after}{Path(source).suffix}")
        self._copy(self._path(image))
        self.omitted.add(source)
        with replace_file(self.out / target) as temporary:
            shutil.copyfile(self.report.root / source, temporary)
        yield Change(source, f"renamed to {target.as_posix()}, to match its image")

    def _lists(self, change: ValueChange) -> Iterator[Change]:
        """Write the adapted class lists and the split lists without the names that were left out."""
        for path, text in change.lists.items():
            name = path.relative_to(self.report.root).as_posix()
            write_text(self.out / name, text)
            yield Change(name, "rewritten, so that each class keeps its name")
        if folders := self.plan.folders:
            write_text(self.out / "classes.txt", folders.list_text)
            yield Change("classes.txt", "names of the classes, from the folders")
            for name in ("dataset.toml", "recipe.toml"):
                if (self.report.root / name).is_file():
                    self.omitted.add(name)
                    yield Change(name, "left out: it describes one class; write a new one with `fastfcn init`")
        left_out = {self.dataset.images[pair] for pair in self.left_out}
        for name, data, count in fixed_split_lists(self.report, left_out, "duplicates" in self.plan.accept):
            with replace_file(self.out / name) as temporary:
                temporary.write_bytes(data)
            yield Change(name, f"rewritten without {count} names")


def _areas_text(areas: tuple[AreaChange, ...], kind: str) -> str:
    """The areas of a kind of change, for CHANGES.txt."""
    texts = [f"{area.class_name} {area.before} to {area.after}" for area in areas if area.kind == kind]
    return f" (pixels: {', '.join(texts)})" if texts else ""


def _eight_bits(image: Image.Image, dark: bool) -> Image.Image:
    """Convert to 8 bits: the upper 8 of 16 bits, or, if `dark`, the values scaled to the full range."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray((values * (255 / max(values.max(), 1)) if dark else values // 256).astype(np.uint8))


def _stretched(path: Path) -> Image.Image:
    """A 16-bit image of several channels, its values scaled to 0-255."""
    values = read_stored(path)[0][..., :3].astype(np.float64)
    return Image.fromarray((values * (255 / max(values.max(), 1))).astype(np.uint8))


def _duplicates(report: FolderReport) -> dict[int, str]:
    """Pairs whose image is a duplicate, with the image to keep: one outside of train, if there is one."""
    groups = duplicate_groups(report.stats.digests)
    names, splits = list(report.layout.splits), report.dataset.splits
    dropped = {}
    for group in range(1, int(groups.max(initial=0)) + 1):
        pairs = np.flatnonzero(groups == group).tolist()
        kept = min(pairs, key=lambda pair: (names[splits[pair]] == "train", pair))
        name = report.dataset.contents.files.path(report.dataset.images[kept])
        dropped |= {pair: name for pair in pairs if pair != kept}
    return dropped
