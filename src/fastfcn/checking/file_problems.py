"""Problems of files: images and masks without a counterpart, and files that cannot be used as they are."""

import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from fastfcn.checking.files import Paths
from fastfcn.checking.layouts import DatasetFiles, folder_of, full_name
from fastfcn.checking.matching import Rule
from fastfcn.checking.problem import ERROR, FIX, INIT, WARNING, Flag, Problem, fix_with
from fastfcn.checking.statistics import Statistics
from fastfcn.data.decoding import UNSUPPORTED_SUFFIXES

REPLACE = "Restore these files from an intact copy. `--fix OUT` leaves such pairs out and lists them."
TILES = "Cut them into tiles of at most 89 million pixels, each image in the same places as its mask."
LEFT_OUT = "`--fix OUT` leaves them out and lists them."


class FlagReport(NamedTuple):
    """How a flag is reported; `affected` is "image", "mask" or "both": the files of the pair that are listed."""

    kind: str
    severity: str
    affected: str
    flag: Flag
    title: str
    advice: str


FLAG_REPORTS = (
    FlagReport("image_unreadable", ERROR, "image", Flag.IMAGE_UNREADABLE, "Unreadable images", REPLACE),
    FlagReport("image_truncated", ERROR, "image", Flag.IMAGE_TRUNCATED, "Truncated or corrupt images", REPLACE),
    FlagReport("mask_unreadable", ERROR, "mask", Flag.MASK_UNREADABLE, "Unreadable masks", REPLACE),
    FlagReport("mask_truncated", ERROR, "mask", Flag.MASK_TRUNCATED, "Truncated or corrupt masks", REPLACE),
    FlagReport("image_too_large", ERROR, "image", Flag.IMAGE_TOO_LARGE,
         "Images with more pixels than Pillow's limit of 179 million", TILES),
    FlagReport("mask_too_large", ERROR, "mask", Flag.MASK_TOO_LARGE,
         "Masks with more pixels than Pillow's limit of 179 million", TILES),
    FlagReport("image_mode", ERROR, "image", Flag.IMAGE_MODE,
         "Images with floating-point or negative values, whose range is unknown",
         "Convert all of them to 8 bits with the same range."),
    FlagReport("mask_mode", ERROR, "mask", Flag.MASK_MODE,
         "Masks in a format whose numbers cannot be read exactly", "Save the masks as 8-bit grayscale or palette PNG."),
    FlagReport("mask_ids_too_large", ERROR, "mask", Flag.MASK_IDS_TOO_LARGE,
         "Masks with values above 255 (instance masks?)",
         "Save the class id of each pixel instead (for Cityscapes, use the labelIds files)."),
    FlagReport("sizes_differ", ERROR, "both", Flag.SIZES_DIFFER, "Image and mask differ in size",
         "Find out which of the two was resized. " + fix_with("resize")
         + "resizes masks with the same aspect ratio; other pairs are left out."),
    FlagReport("exif_mask_mismatch", ERROR, "image", Flag.EXIF_MASK_MISMATCH,
         "Images with EXIF rotation whose mask matches the unrotated pixels",
         FIX + "removes the EXIF rotation from these images, so that they match."),
    FlagReport("exif_rotated", WARNING, "image", Flag.IMAGE_ROTATED, "Images with EXIF rotation",
         "fastfcn applies it, as image viewers do; other programs may not. " + FIX + "rotates the pixels instead."),
    FlagReport("image_16_bit_dark", ERROR, "image", Flag.IMAGE_16_BIT_DARK,
         "16-bit images with small values only (12 bits?); converted to 8 bits they are almost black",
         FIX + "scales the values of each to the full 8-bit range. " + INIT + "--bands red,green,blue uses them as "
         "they are."),
    FlagReport("image_16_bit", WARNING, "image", Flag.IMAGE_16_BIT, "16-bit images, of which the upper 8 bits are used",
         "No action needed. " + FIX + "writes 8-bit images."),
    FlagReport("image_channels", WARNING, "image", Flag.IMAGE_CHANNELS,
         "Images that are not RGB (alpha channels are dropped, CMYK is converted)",
         "Check that the converted images look right. " + FIX + "writes RGB images. If the fourth channel is a band, "
         + INIT + "--bands red,green,blue,nir uses it."),
    FlagReport("image_frames", WARNING, "image", Flag.IMAGE_FRAMES,
         "Images with several frames, of which the first is used", FIX + "writes the first frame."),
    FlagReport("image_blank", WARNING, "image", Flag.IMAGE_BLANK, "Images of a single color",
         "Look at them and remove them together with their masks if they are blank by mistake."),
    FlagReport("mask_lossy", ERROR, "mask", Flag.MASK_LOSSY,
         "Masks with lossy compression (such as JPEG), which changes ids and colors",
         "Export the masks again as PNG. " + FIX + "replaces each pixel by the nearest valid value."),
    FlagReport("mask_blurred", ERROR, "mask", Flag.MASK_BLURRED,
         "Masks with blurred edges: values between two classes, which mean another class or none",
         "Resize masks with nearest neighbor and draw them without anti-aliasing. "
         + FIX + "replaces each pixel by the nearest valid value."),
    FlagReport("mask_is_photo", ERROR, "mask", Flag.MASK_IS_PHOTO, "Masks that look like photos",
         "Put the masks in their place. `--fix OUT` leaves such pairs out and lists them."),
    FlagReport("mask_16_bit", WARNING, "mask", Flag.MASK_16_BIT, "16-bit masks without values above 255",
         "No action needed. " + FIX + "writes 8-bit masks."),
    FlagReport("mask_frames", WARNING, "mask", Flag.MASK_FRAMES,
         "Masks with several frames, of which the first is used", fix_with("frames") + "writes the first frame."),
    FlagReport("mask_transparent", WARNING, "mask", Flag.MASK_TRANSPARENT,
         "Masks with transparent pixels, whose color is still used",
         "Check that transparent pixels have the color of their class. " + FIX + "drops the alpha channel."),
)  # fmt: skip

# A flag is not reported for pairs that have one of the flags that explain it.
EXPLAINED_BY = {
    Flag.IMAGE_16_BIT: Flag.IMAGE_16_BIT_DARK | Flag.IMAGE_MODE,
    Flag.IMAGE_ROTATED: Flag.EXIF_MASK_MISMATCH | Flag.SIZES_DIFFER,
    Flag.MASK_BLURRED: Flag.MASK_LOSSY | Flag.MASK_IS_PHOTO,
    Flag.MASK_LOSSY: Flag.MASK_IS_PHOTO,
}


def flag_problems(dataset: DatasetFiles, stats: Statistics) -> list[Problem]:
    """One problem for each flag that any pair has."""
    problems = []
    for report in FLAG_REPORTS:
        flagged = stats.has(report.flag)
        if report.flag in EXPLAINED_BY:
            flagged &= ~stats.has(EXPLAINED_BY[report.flag])
        if pairs := np.flatnonzero(flagged).tolist():
            problems.append(_flag_problem(dataset, stats, report, pairs))
    return problems


def _flag_problem(dataset: DatasetFiles, stats: Statistics, report: FlagReport, pairs: list[int]) -> Problem:
    files = pair_files(dataset, pairs, report.affected)
    message = f"{report.title}: {len(pairs)}"
    failures = [stats.failures[pair][report.affected == "mask"] for pair in pairs if pair in stats.failures]
    if report.kind.endswith(("unreadable", "truncated")) and failures:
        message += f" ({files[0]}: {failures[0]})"
    return Problem(report.kind, report.severity, len(files), files, f"{message}.", report.advice)


def pair_files(dataset: DatasetFiles, pairs: list[int], affected: str) -> Paths:
    """The paths of some pairs: "image", "mask" or "both"."""
    arrays = {"image": (dataset.images,), "mask": (dataset.masks,), "both": (dataset.images, dataset.masks)}[affected]
    return Paths(dataset.contents.files, (files[pair] for pair in pairs for files in arrays))


def missing_file_problems(dataset: DatasetFiles) -> Iterator[Problem]:
    """Images and masks without a counterpart, files with the same name, and wrong names in split lists."""
    files = dataset.contents.files
    misspelled = misspelled_pairs(dataset)
    images = [number for number in dataset.images_alone if number not in misspelled]
    masks = [number for number in dataset.masks_alone if number not in misspelled.values()]
    if misspelled:
        both = [number for pair in misspelled.items() for number in pair]
        message = f"Images whose mask is spelled differently (case, accents, spaces): {len(misspelled)}."
        yield Problem("names_differ", ERROR, len(both), Paths(files, both), message, FIX + "renames the masks.")
    yield from _images_without_mask(dataset, images)
    if masks:
        message = f"Masks without an image: {len(masks)}."
        advice = "Add the images or move these masks elsewhere. " + LEFT_OUT
        yield Problem("mask_without_image", ERROR, len(masks), Paths(files, masks), message, advice)
    if same := dataset.same_name:
        message = f"Files with the same name as another one (such as a.jpg and a.png): {len(same)}."
        yield Problem("duplicate_name", ERROR, len(same), Paths(files, same), message, "Keep one of each. " + LEFT_OUT)
    yield from _other_folders(dataset)
    yield from _not_used(dataset)
    if dataset.lists:
        advice = "Add the images or remove the names. `--fix OUT` writes the lists without them."
        yield from _list_problem(
            "listed_without_image", "Split lists name missing images", dataset.lists.unknown, advice
        )
        title, advice = "Split lists give images the mask of another name", "Give each mask the name of its image."
        yield from _list_problem("listed_with_other_mask", title, dataset.lists.other_masks, advice)


def _list_problem(kind: str, title: str, entries: list[str], advice: str) -> Iterator[Problem]:
    """An error about lines of split lists, each "LIST: LINE"."""
    if not entries:
        return
    lists = tuple(dict.fromkeys(entry.partition(": ")[0] for entry in entries))
    more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
    shown = ", ".join(entry.partition(": ")[2] for entry in entries[:5])
    yield Problem(kind, ERROR, len(lists), lists, f"{title}: {shown}{more}.", advice)


def _other_folders(dataset: DatasetFiles) -> Iterator[Problem]:
    """Other folders that would form pairs, too: which are used, and why."""
    if not dataset.others:
        return
    layout, candidates = dataset.layout, []
    for other in dataset.others[:3]:
        of = "" if other.same_images else f" for {other.images}"
        candidates.append(f"{other.masks}{of} ({other.pairs} pairs)")
    more = f" and {len(dataset.others) - 3} more" if len(dataset.others) > 3 else ""
    message = f"Several folders could be the masks. {layout.labels[0]} ({len(dataset)} pairs) is used, because "
    message += f"{dataset.choice_reason}; not used: {', '.join(candidates)}{more}."
    images, masks = (shlex.quote(folder) for folder in dataset.others[0].folders)
    options = f"--masks {masks}" if dataset.others[0].same_images else f"--images {images} --masks {masks}"
    yield Problem("several_candidates", WARNING, 1, (), message, f"For other ones, add for example {options}.")


def class_list_problems(remarks: list[str]) -> Iterator[Problem]:
    """Class lists that cannot be read, or not for certain, each with the reason."""
    if remarks:
        advice = "Save these files as UTF-8 text, and check the names of the classes."
        yield Problem("class_list_unclear", WARNING, 1, (), f"Class lists: {'; '.join(remarks[:4])}.", advice)


def _not_used(dataset: DatasetFiles) -> Iterator[Problem]:
    """Files and split lists that were found, but are not used, each with the reason."""
    others = dataset.contents.others
    unsupported = [f"{others[suffix]} {suffix} (not supported)" for suffix in UNSUPPORTED_SUFFIXES if others[suffix]]
    if skipped := [*dataset.contents.skipped, *unsupported]:
        shown = ", ".join(skipped[:5]) + (f" and {len(skipped) - 5} more" if len(skipped) > 5 else "")
        yield Problem(
            "not_read", WARNING, 1, (), f"Skipped: {shown}.", "Remove or convert them, or change their permissions."
        )
    if unused := dataset.unused_lists:
        message = f"Split lists that are not used: {'; '.join(unused[:4])}."
        advice = "Each line of a list names an image: its name, its path, or its path and that of its mask."
        yield Problem("lists_not_used", WARNING, 1, (), message, advice)


def _images_without_mask(dataset: DatasetFiles, images: list[int]) -> Iterator[Problem]:
    """An error in splits that have masks; a warning for a split without any, such as a public test set."""
    files, labeled_splits = dataset.contents.files, set(dataset.splits)
    splits = dict(zip(dataset.images_alone, dataset.alone_splits, strict=True))
    missing = [number for number in images if splits[number] in labeled_splits]
    if missing:
        message = f"Images without a mask: {len(missing)}."
        advice = "Add the masks or move these images elsewhere. " + LEFT_OUT
        yield Problem("image_without_mask", ERROR, len(missing), Paths(files, missing), message, advice)
    unlabeled = [number for number in images if splits[number] not in labeled_splits]
    if unlabeled:
        names = list(dataset.layout.splits)
        shown = ", ".join(sorted({names[splits[number]] for number in unlabeled}))
        message = f"The split {shown} has {len(unlabeled)} images and no masks."
        advice = "It can be used for prediction, but not for training or evaluation."
        yield Problem("split_without_masks", WARNING, len(unlabeled), Paths(files, unlabeled), message, advice)


def misspelled_pairs(dataset: DatasetFiles) -> dict[int, int]:
    """Unmatched images and masks whose names differ only in case, Unicode normalization, spaces, - and _.

    An image that has several such masks, or the same as another image, is not among them.
    """
    if not len(dataset.images_alone) or not len(dataset.masks_alone):
        return {}
    images = _by_spelling(dataset, dataset.images_alone, dataset.match.images)
    masks = _by_spelling(dataset, dataset.masks_alone, dataset.match.masks)
    pairs = ((numbers, masks[name]) for name, numbers in images.items() if name in masks)
    return {image: mask for (image, *more), (mask, *others) in pairs if not more and not others}


def _by_spelling(dataset: DatasetFiles, numbers: Iterable[int], rule: Rule) -> dict[tuple[str, ...], list[int]]:
    """The files of each name, spelled alike: its split, its folders as far as they are part of it, and the rest."""
    files: dict[tuple[str, ...], list[int]] = {}
    for number in numbers:
        folder, name = folder_of(dataset.contents, rule, number), full_name(dataset.contents, rule, number)
        text = "".join(unicodedata.normalize("NFC", name).casefold().split()).replace("_", "").replace("-", "")
        files.setdefault((folder.split, text), []).append(number)
    return files
