"""Masks in the layout of Pascal VOC: SegmentationClass, and ImageSets/Segmentation for splits.

CVAT's "Segmentation mask 1.1" is this layout, with the classes and their colors in labelmap.txt.
"""

from pathlib import Path, PurePosixPath

import numpy as np

from fastfcn.data.annotations.export import IGNORED, Export, Format
from fastfcn.data.annotations.folder import ExportFolder, is_image
from fastfcn.data.annotations.mask_files import add_mask, color_value
from fastfcn.data.class_lists import NOT_IN_MASKS, ClassList, class_lists
from fastfcn.data.decoding import open_image
from fastfcn.data.description import load_description
from fastfcn.data.masks import read_mask
from fastfcn.errors import DataError
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.utils.text import read_lines

MASKS = "SegmentationClass"
LISTS = "ImageSets/Segmentation"
BORDER = (224, 224, 192)  # VOC's color of borders of objects
SAMPLED = 20  # masks that are looked at to find out what the values mean


def recognizes(folder: ExportFolder) -> bool:
    return bool(_masks(folder))


def read(folder: ExportFolder) -> Export:
    """Every mask is an entry, in the order of names."""
    export = Export(objects=False)
    masks = _masks(folder)
    kind, names = _meaning(folder, masks, export)
    splits = _splits(folder)
    if splits:
        unlisted = [mask for mask in masks if PurePosixPath(mask).stem not in splits]
        masks = [mask for mask in masks if PurePosixPath(mask).stem in splits]
        if unlisted:
            export.notes.append(f"{len(unlisted)} masks that no list in {LISTS} names are left out.")
    for mask in masks:
        stem = PurePosixPath(mask).stem
        with export.noting(mask):
            add_mask(export, _image(folder, mask), folder.path(mask), mask, splits.get(stem, ""), kind, names)
    return export


def _masks(folder: ExportFolder) -> list[str]:
    return [name for name in folder.files if is_image(name) and PurePosixPath(name).parent.name == MASKS]


def _image(folder: ExportFolder, mask: str) -> Path:
    """The image with the name of the mask, in any folder that holds no masks."""
    stem = PurePosixPath(mask).stem
    others = [name for name in folder.by_stem(stem) if "Segmentation" not in PurePosixPath(name).parent.name]
    if len(others) != 1:
        what = "there is no image" if not others else "several images are"
        raise DataError(f"{what} called {stem!r}; give the folder of the images with --images")
    return folder.image_path(others[0])


def _splits(folder: ExportFolder) -> dict[str, str]:
    """The split of each name; lists such as trainval and CVAT's default say nothing on it."""
    files = [name for name in folder.with_suffix(".txt") if f"{LISTS}/" in f"/{name}"]
    splits: dict[str, str] = {}
    for file in files:
        split = PurePosixPath(file).stem
        known = split if split.lower() not in ("trainval", "default", "all") else ""
        for line in read_lines(folder.path(file), "surrogateescape"):
            name = PurePosixPath(line.split()[0].replace("\\", "/"))
            stem = name.stem if is_image(name.name) else name.name
            splits[stem] = known or splits.get(stem, "")
    return splits


def _meaning(folder: ExportFolder, masks: list[str], export: Export) -> tuple[str, dict[int, str]]:
    """Whether values are ids or colors, and the class of each value. Adds the classes. Raises DataError."""
    lists = class_lists(folder.root)
    if lists and all(entry.color for entry in lists[0].classes):
        return "color", _by_color(lists[0], export)
    values = sorted({int(value) for mask in masks[:SAMPLED] for value in _values(folder.path(mask))})
    for entry in lists:
        if names := entry.assigned(values):
            for name in names.values():
                export.add_class(name)
            return "index", {IGNORE_INDEX: IGNORED} | names
    if not lists and (kind := _kind_of_voc(folder.path(masks[0]))):
        known = load_description("voc").classes
        for entry in known:
            export.add_class(entry.name, entry.color)
        if kind == "color":
            return kind, {color_value(BORDER): IGNORED} | {color_value(entry.color): entry.name for entry in known}
        return kind, {IGNORE_INDEX: IGNORED} | {entry.ids[0]: entry.name for entry in known}
    raise DataError(
        f"{folder.root}: there is no list of classes that fits the masks.",
        "Add labelmap.txt with lines like `road:128,64,128::`, or classes.txt with a name per line.",
    )


def _by_color(entries: ClassList, export: Export) -> dict[int, str]:
    names = {color_value(BORDER): IGNORED}
    for entry in entries.classes:
        if entry.color and entry.name.lower() != NOT_IN_MASKS:
            export.add_class(entry.name, entry.color)
            names[color_value(entry.color)] = entry.name
    return names


def _values(path: Path) -> np.ndarray:
    try:
        return np.unique(read_mask(path, "index"))
    except DataError:  # reported when the mask itself is read
        return np.zeros(0, np.uint8)


def _kind_of_voc(path: Path) -> str:
    """Whether a mask has ids with the palette of Pascal VOC ("index") or its colors ("color"); else an empty string."""
    colors = [entry.color for entry in load_description("voc").classes]
    flat = [channel for color in colors for channel in color]
    with open_image(path) as image:
        if image.mode == "P":
            return "index" if (image.getpalette() or [])[: len(flat)] == flat else ""
        present = image.getcolors(len(colors) + 1) if image.mode == "RGB" else None
        return "color" if present and {color for _, color in present} <= {*colors, BORDER} else ""


FORMAT = Format("voc", "masks in the layout of Pascal VOC or of CVAT", recognizes, read)
