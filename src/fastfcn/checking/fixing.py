"""`fastfcn check DIR --fix OUT`: a clean copy, and a list of everything that was changed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from fastfcn.checking.duplicates import same_digest
from fastfcn.checking.file_problems import KINDS
from fastfcn.checking.flags import NO_IMAGE, NO_MASK, Sign
from fastfcn.checking.mask_fixing import MaskPlan, UnmendableError, mended_mask, mended_palette, plan_masks
from fastfcn.checking.split_problems import spelled_otherwise
from fastfcn.checking.survey import NAME_LISTS, Survey
from fastfcn.data.images import opened
from fastfcn.errors import DataError, OutputError
from fastfcn.utils.files import make_folder, replace_file, write_text
from fastfcn.utils.progress import counted

CHANGES = "CHANGES.txt"
SAME_SHAPE = 0.02  # relative difference of height / width up to which a mask was only scaled
IMAGE_CHANGES = {
    Sign.IMAGE_TURNED: "turned upright, EXIF turn removed",
    Sign.TURNED_AGAINST_MASK: "EXIF turn removed, since the mask fits the image as it was stored",
    Sign.IMAGE_16_BIT: "written with 8 bits",
    Sign.IMAGE_CHANNELS: "written with three channels",
    Sign.IMAGE_FRAMES: "first frame alone",
}
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


class Change(NamedTuple):
    """What became of a file of the original folder."""

    file: str
    what: str


def mend(survey: Survey, out: str | Path, show_progress: bool = True) -> list[Change]:
    """Write a clean copy of the surveyed folder to `out`, and the changes to its CHANGES.txt.

    The originals are only read. Raises OutputError where `out` holds anything, or lies in the folder or around it.
    """
    out = empty_place(survey.root, Path(out))
    copy = _Copy(survey, out, plan_masks(survey))
    pairs = range(len(survey.found))
    shown = counted(pairs, len(pairs), "Writing pairs") if show_progress else pairs
    changes = [change for pair in shown for change in copy.pair(pair)]
    changes += [*copy.alone(), *copy.lists()]
    changes.sort()
    write_text(out / CHANGES, "".join(f"{each.file}\t{each.what}\n" for each in changes))
    return changes


def empty_place(root: Path, out: Path) -> Path:
    """`out`, made; raises OutputError where it holds anything, or lies in `root` or around it."""
    inside, whole = out.resolve(), root.resolve()
    if inside.is_relative_to(whole) or whole.is_relative_to(inside):
        raise OutputError(
            f"{out} lies in {root} or around it.", "Name a folder elsewhere: originals are never touched."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already.", "Name a new folder.")
    return make_folder(out)


class _Copy:
    def __init__(self, survey: Survey, out: Path, plan: MaskPlan):
        self.survey, self.out, self.plan = survey, out, plan
        self.found, self.tally = survey.found, survey.tally
        self.dropped = _repeated(survey)
        self.kept: list[tuple[int, int]] = []  # split and image of each pair in the copy

    def pair(self, pair: int) -> Iterator[Change]:
        """Write a pair, or say why not."""
        files = self.found.contents.files
        image, mask = files.path(self.found.images[pair]), files.path(self.found.masks[pair])
        signs = Sign(int(self.tally.signs[pair]))
        try:
            self._refuse(pair, signs)
            mask_changes = self._mask(pair, image, mask, signs)
            image_changes = self._image(image, signs)
        except (UnmendableError, DataError) as reason:
            text = reason.message if isinstance(reason, DataError) else str(reason)
            yield from (Change(image, f"left out: {text}"), Change(mask, f"left out: {text}"))
            return
        self.kept.append((self.found.splits[pair], self.found.images[pair]))
        yield from (Change(mask, what) for what in mask_changes)
        yield from (Change(image, what) for what in image_changes)

    def _refuse(self, pair: int, signs: Sign) -> None:
        if pair in self.dropped:
            raise UnmendableError(self.dropped[pair])
        if unfit := signs & (NO_IMAGE | NO_MASK | Sign.MASK_PICTURE):
            kind = next(each for each in KINDS if each.sign & unfit)
            trouble = "; ".join(filter(None, self.tally.troubles.get(pair, ())))
            raise UnmendableError(f"{kind.kind}: {trouble}" if trouble else kind.kind)

    def _mask(self, pair: int, image: str, mask: str, signs: Sign) -> list[str]:
        source = self.survey.root / mask
        mended = mended_mask(source, pair, signs, self.plan)
        if mended is None and not signs & Sign.SIZES_DIFFER:
            self._copy(mask)
            return []
        label, changes = mended or (self._as_stored(source), [])
        if signs & Sign.SIZES_DIFFER:
            label = self._scaled(label, image, changes)
        target = Path(mask) if Path(mask).suffix.lower() in LOSSLESS else Path(mask).with_suffix(".png")
        if target != Path(mask):
            changes.append(f"stored without loss as {target.as_posix()}")
        palette = mended_palette(source, pair, signs, self.plan)
        if palette and label.mode == "L":
            label.putpalette(palette)
        with replace_file(self.out / target) as temporary:
            label.save(temporary)
        return changes

    def _as_stored(self, source: Path) -> Image.Image:
        with opened(source) as image:
            return Image.fromarray(np.array(image)) if image.mode == "P" else image.copy()

    def _scaled(self, label: Image.Image, image: str, changes: list[str]) -> Image.Image:
        with opened(self.survey.root / image) as file:
            width, height = ImageOps.exif_transpose(file).size
        shape = (label.height / label.width) / (height / width)
        if not 1 - SAME_SHAPE <= shape <= 1 + SAME_SHAPE:
            size = f"{label.height} x {label.width}, its image {height} x {width}"
            raise UnmendableError(f"sizes_differ: the mask is {size} (height x width)")
        changes.append(f"scaled from {label.height} x {label.width} to {height} x {width} by nearest neighbour")
        return label.resize((width, height), Image.Resampling.NEAREST)

    def _image(self, image: str, signs: Sign) -> list[str]:
        changes = [what for sign, what in IMAGE_CHANGES.items() if signs & sign]
        if signs & Sign.TURNED_AGAINST_MASK:
            changes.remove(IMAGE_CHANGES[Sign.IMAGE_TURNED])
        if not changes:
            self._copy(image)
            return []
        with opened(self.survey.root / image) as file:
            upright = file if signs & Sign.TURNED_AGAINST_MASK else ImageOps.exif_transpose(file)
            pixels = _eight_bits(upright, bool(signs & Sign.IMAGE_DARK)).convert("RGB")
        clean = Image.fromarray(np.array(pixels))  # without EXIF and the like
        with replace_file(self.out / image) as temporary:
            if temporary.suffix.lower() in (".jpg", ".jpeg", ".jpe"):
                clean.save(temporary, quality=95, subsampling=0)
            else:
                clean.save(temporary)
        return changes

    def _copy(self, path: str) -> None:
        with replace_file(self.out / path) as temporary:
            shutil.copyfile(self.survey.root / path, temporary)

    def alone(self) -> Iterator[Change]:
        """What has no other half is left out; images of a split without masks, and renamed masks, are copied."""
        files, spelled = self.found.contents.files, spelled_otherwise(self.found)
        paired = set(self.found.splits)
        for number, split in zip(self.found.images_alone, self.found.alone_splits, strict=True):
            if number in spelled:
                self.kept.append((split, number))
                yield from self._respelled(number, spelled[number])
            elif split in paired:
                yield Change(files.path(number), "left out: it has no mask")
            else:
                self._copy(files.path(number))
        for number in self.found.masks_alone:
            if number not in spelled.values():
                yield Change(files.path(number), "left out: it has no image")
        for number in self.found.same_name:
            yield Change(files.path(number), "left out: another file claims the same name")
        if self.found.unlisted:
            yield Change(".", f"{self.found.unlisted} images that no list names are not copied")

    def _respelled(self, image: int, mask: int) -> Iterator[Change]:
        files, rule = self.found.contents.files, self.found.match.masks
        name = self.found.name(image).rsplit("/", 1)[-1]
        source = files.path(mask)
        target = Path(source).with_name(f"{rule.affix.before}{name}{rule.affix.after}{Path(source).suffix}")
        self._copy(files.path(image))
        with replace_file(self.out / target) as temporary:
            shutil.copyfile(self.survey.root / source, temporary)
        yield Change(source, f"renamed {target.as_posix()}, as its image is called")

    def lists(self) -> Iterator[Change]:
        """Write the lists of splits without what was left out, and copy lists of class names."""
        for name in NAME_LISTS:
            if (self.survey.root / name).is_file():
                self._copy(name)
        if not self.found.lists:
            return
        for number, (split, written) in enumerate(self.survey.layout.splits.items()):
            path = self.found.lists.pattern.format(split=written)
            names = [self.found.name(image) for where, image in sorted(self.kept) if where == number]
            write_text(self.out / path, "".join(f"{name}\n" for name in names))
            yield Change(path, f"written anew with the {len(names)} names of {split} that are there")


def _eight_bits(image: Image.Image, dark: bool) -> Image.Image:
    """Images of more bits with 8: the upper ones, or, where only the lower ones are used, all that there is."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray((values * (255 / max(values.max(), 1)) if dark else values // 256).astype(np.uint8))


def _repeated(survey: Survey) -> dict[int, str]:
    """Pairs whose image is another's too: those in train where it is also evaluated, else all but the first."""
    groups = same_digest(survey.tally.digests)
    names, splits = list(survey.layout.splits), survey.found.splits
    files = survey.found.contents.files
    dropped = {}
    for group in range(1, int(groups.max(initial=0)) + 1):
        pairs = np.flatnonzero(groups == group).tolist()
        kept = min(pairs, key=lambda pair: (names[splits[pair]] == "train", pair))
        name = files.path(survey.found.images[kept])
        dropped |= {pair: f"the same image as {name}, which is kept" for pair in pairs if pair != kept}
    return dropped
