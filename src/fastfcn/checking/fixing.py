"""`fastfcn check DIR --fix OUT`: write a corrected copy of a dataset and a list of all changes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fastfcn.checking.check import NAME_LISTS, FolderReport
from fastfcn.checking.file_problems import FLAG_REPORTS, misspelled_pairs
from fastfcn.checking.images import duplicate_groups
from fastfcn.checking.mask_fixing import MaskPlan, UnfixableError, fixed_mask, fixed_palette, plan_masks
from fastfcn.checking.problem import UNUSABLE_IMAGE, UNUSABLE_MASK, Flag
from fastfcn.data.decoding import open_image, upright, upright_size
from fastfcn.errors import DataError, OutputError
from fastfcn.utils.files import make_folder, replace_file, write_text
from fastfcn.utils.progress import with_progress

CHANGES = "CHANGES.txt"
SAME_SHAPE = 0.02  # maximum relative difference of the aspect ratios of a mask that was only resized
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


def write_fixed_copy(report: FolderReport, out: str | Path, show_progress: bool = True) -> list[Change]:
    """Write a corrected copy of the checked folder to `out`, with a list of changes in its CHANGES.txt.

    The originals are only read. Raises OutputError if `out` is not empty, or is inside the folder or contains it.
    """
    out = new_folder(report.root, Path(out))
    copy = _Copy(report, out, plan_masks(report))
    pairs = range(len(report.dataset))
    shown = with_progress(pairs, len(pairs), "Writing pairs") if show_progress else pairs
    changes = [change for pair in shown for change in copy.pair(pair)]
    changes += [*copy.unmatched(), *copy.lists()]
    changes.sort()
    write_text(out / CHANGES, "".join(f"{change.file}\t{change.what}\n" for change in changes))
    return changes


def new_folder(root: Path, out: Path) -> Path:
    """Create `out`. Raises OutputError if it is not empty, or is inside `root` or contains it."""
    inside, whole = out.resolve(), root.resolve()
    if inside.is_relative_to(whole) or whole.is_relative_to(inside):
        raise OutputError(
            f"{out} is inside {root} or contains it.",
            "Choose a folder elsewhere, so that the originals stay untouched.",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} already exists.", "Choose a new folder.")
    return make_folder(out)


class _Copy:
    def __init__(self, report: FolderReport, out: Path, plan: MaskPlan):
        self.report, self.out, self.plan = report, out, plan
        self.dataset, self.stats = report.dataset, report.stats
        self.dropped = _duplicates(report)
        self.kept: list[tuple[int, int]] = []  # split and image number of each pair in the copy

    def pair(self, pair: int) -> Iterator[Change]:
        """Write a pair and yield its changes, or the reason why it is left out."""
        files = self.dataset.contents.files
        image, mask = files.path(self.dataset.images[pair]), files.path(self.dataset.masks[pair])
        flags = Flag(int(self.stats.flags[pair]))
        try:
            self._reject_unfixable(pair, flags)
            mask_changes = self._mask(pair, image, mask, flags)
            image_changes = self._image(image, flags)
        except (UnfixableError, DataError) as reason:
            text = reason.message if isinstance(reason, DataError) else str(reason)
            yield from (Change(image, f"left out: {text}"), Change(mask, f"left out: {text}"))
            return
        self.kept.append((self.dataset.splits[pair], self.dataset.images[pair]))
        yield from (Change(mask, what) for what in mask_changes)
        yield from (Change(image, what) for what in image_changes)

    def _reject_unfixable(self, pair: int, flags: Flag) -> None:
        if pair in self.dropped:
            raise UnfixableError(self.dropped[pair])
        if unfit := flags & (UNUSABLE_IMAGE | UNUSABLE_MASK | Flag.MASK_IS_PHOTO):
            reason = next(report.kind for report in FLAG_REPORTS if report.flag & unfit)
            failure = "; ".join(filter(None, self.stats.failures.get(pair, ())))
            raise UnfixableError(f"{reason}: {failure}" if failure else reason)

    def _mask(self, pair: int, image: str, mask: str, flags: Flag) -> list[str]:
        source = self.report.root / mask
        fixed = fixed_mask(source, pair, flags, self.plan)
        if fixed is None and not flags & Flag.SIZES_DIFFER:
            self._copy(mask)
            return []
        label, changes = fixed or (self._as_stored(source), [])
        if flags & Flag.SIZES_DIFFER:
            label = self._resized(label, image, changes)
        target = Path(mask) if Path(mask).suffix.lower() in LOSSLESS else Path(mask).with_suffix(".png")
        if target != Path(mask):
            changes.append(f"saved losslessly as {target.as_posix()}")
        palette = fixed_palette(source, pair, flags, self.plan)
        if palette and label.mode == "L":
            label.putpalette(palette)
        with replace_file(self.out / target) as temporary:
            label.save(temporary)
        return changes

    def _as_stored(self, source: Path) -> Image.Image:
        with open_image(source) as image:
            return Image.fromarray(np.array(image)) if image.mode == "P" else image.copy()

    def _resized(self, label: Image.Image, image: str, changes: list[str]) -> Image.Image:
        with open_image(self.report.root / image) as file:
            height, width = upright_size(file)
        shape = (label.height / label.width) / (height / width)
        if not 1 - SAME_SHAPE <= shape <= 1 + SAME_SHAPE:
            size = f"{label.height} x {label.width} and its image {height} x {width}"
            raise UnfixableError(f"sizes_differ: the mask is {size} (height x width)")
        changes.append(f"resized from {label.height} x {label.width} to {height} x {width} (nearest neighbor)")
        return label.resize((width, height), Image.Resampling.NEAREST)

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
        clean = Image.fromarray(np.array(pixels))  # drops EXIF and other metadata
        with replace_file(self.out / image) as temporary:
            if temporary.suffix.lower() in (".jpg", ".jpeg", ".jpe"):
                clean.save(temporary, quality=95, subsampling=0)
            else:
                clean.save(temporary)
        return changes

    def _copy(self, path: str) -> None:
        with replace_file(self.out / path) as temporary:
            shutil.copyfile(self.report.root / path, temporary)

    def unmatched(self) -> Iterator[Change]:
        """Leave out unmatched files; copy images of splits without masks, and masks under their corrected name."""
        files, misspelled = self.dataset.contents.files, misspelled_pairs(self.dataset)
        labeled = set(self.dataset.splits)
        for number, split in zip(self.dataset.images_alone, self.dataset.alone_splits, strict=True):
            if number in misspelled:
                self.kept.append((split, number))
                yield from self._renamed(number, misspelled[number])
            elif split in labeled:
                yield Change(files.path(number), "left out: it has no mask")
            else:
                self._copy(files.path(number))
        for number in self.dataset.masks_alone:
            if number not in misspelled.values():
                yield Change(files.path(number), "left out: it has no image")
        for number in self.dataset.same_name:
            yield Change(files.path(number), "left out: another file has the same name")
        if self.dataset.unlisted:
            yield Change(".", f"{self.dataset.unlisted} images that are in no split list are not copied")

    def _renamed(self, image: int, mask: int) -> Iterator[Change]:
        files, rule = self.dataset.contents.files, self.dataset.match.masks
        name = self.dataset.name(image).rsplit("/", 1)[-1]
        source = files.path(mask)
        target = Path(source).with_name(f"{rule.affix.before}{name}{rule.affix.after}{Path(source).suffix}")
        self._copy(files.path(image))
        with replace_file(self.out / target) as temporary:
            shutil.copyfile(self.report.root / source, temporary)
        yield Change(source, f"renamed to {target.as_posix()}, to match its image")

    def lists(self) -> Iterator[Change]:
        """Write the split lists without the names that were left out, and copy lists of class names."""
        for name in NAME_LISTS:
            if (self.report.root / name).is_file():
                self._copy(name)
        if not self.dataset.lists:
            return
        for number, (split, folder_name) in enumerate(self.report.layout.splits.items()):
            path = self.dataset.lists.pattern.format(split=folder_name)
            names = [self.dataset.name(image) for split_number, image in sorted(self.kept) if split_number == number]
            write_text(self.out / path, "".join(f"{name}\n" for name in names))
            yield Change(path, f"rewritten with the {len(names)} names of {split} in the copy")


def _eight_bits(image: Image.Image, dark: bool) -> Image.Image:
    """Convert to 8 bits: the upper 8 of 16 bits, or, if `dark`, the values scaled to the full range."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray((values * (255 / max(values.max(), 1)) if dark else values // 256).astype(np.uint8))


def _duplicates(report: FolderReport) -> dict[int, str]:
    """Pairs to drop because their image is a duplicate, with the reason; a copy outside of train is kept."""
    groups = duplicate_groups(report.stats.digests)
    names, splits = list(report.layout.splits), report.dataset.splits
    files = report.dataset.contents.files
    dropped = {}
    for group in range(1, int(groups.max(initial=0)) + 1):
        pairs = np.flatnonzero(groups == group).tolist()
        kept = min(pairs, key=lambda pair: (names[splits[pair]] == "train", pair))
        name = files.path(report.dataset.images[kept])
        dropped |= {pair: f"duplicate of {name}, which is kept" for pair in pairs if pair != kept}
    return dropped
