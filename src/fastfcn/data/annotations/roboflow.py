"""Roboflow's semantic segmentation masks: NAME_mask.png next to NAME.jpg, and `_classes.csv` in each split."""

from pathlib import PurePosixPath

from fastfcn.data.annotations.export import IGNORED, Export, Format
from fastfcn.data.annotations.folder import ExportFolder
from fastfcn.data.annotations.mask_files import add_mask
from fastfcn.data.class_lists import read_class_list
from fastfcn.errors import DataError
from fastfcn.utils.sizes import IGNORE_INDEX

CLASSES = "_classes.csv"
ENDING = "_mask"


def recognizes(folder: ExportFolder) -> bool:
    folders = {str(PurePosixPath(name).parent) for name in folder.named(CLASSES)}
    return any(str(PurePosixPath(mask).parent) in folders for mask in _masks(folder))


def read(folder: ExportFolder) -> Export:
    """Every mask is an entry; classes of one name are one class, whatever their number in a split."""
    export = Export(objects=False)
    tables: dict[str, dict[int, str]] = {}
    for file in folder.named(CLASSES):
        entries = read_class_list(folder.path(file))
        tables[str(PurePosixPath(file).parent)] = dict(
            zip(entries.ids, [entry.name for entry in entries.classes], strict=True)
        )
        for entry in entries.classes:
            export.add_class(entry.name)
    for mask in _masks(folder):
        with export.noting(mask):
            path = PurePosixPath(mask)
            stem = path.stem.removesuffix(ENDING)
            images = [name for name in folder.by_stem(stem) if PurePosixPath(name).parent == path.parent]
            if len(images) != 1:
                raise DataError(f"there is no image called {stem!r} next to it")
            if str(path.parent) not in tables:
                raise DataError(f"there is no {CLASSES} next to it")
            names = {IGNORE_INDEX: IGNORED} | tables[str(path.parent)]
            add_mask(export, folder.image_path(images[0]), folder.path(mask), mask, str(path.parent), "index", names)
    return export


def _masks(folder: ExportFolder) -> list[str]:
    return [name for name in folder.files if name.lower().endswith(f"{ENDING}.png")]


FORMAT = Format("roboflow", "Roboflow semantic segmentation masks", recognizes, read)
