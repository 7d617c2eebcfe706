"""LabelMe JSON: one file per image, which may contain the image."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from fastfcn.data.annotations.export import Entry, Export, Format, Shape
from fastfcn.data.annotations.folder import ExportFolder, is_image, path_parts
from fastfcn.data.annotations.node import Node, base64_bytes, bitmap, bitmap_limit, read_json
from fastfcn.data.annotations.shapes import Region, box, ellipse, inside, polygon
from fastfcn.errors import DataError
from fastfcn.utils.progress import with_progress
from fastfcn.utils.sizes import Size

IMAGE_KEYS = ("imagePath", "imageData", "imageHeight")
WITHOUT_AREA = ("point", "points", "line", "linestrip")


def recognizes(folder: ExportFolder) -> bool:
    return any(_is_labelme(peek) for _, peek in folder.peeks(".json"))


def read(folder: ExportFolder) -> Export:
    """Every LabelMe file is an entry; its labels are the classes, in alphabetical order."""
    export, labels = Export(), set()
    files = [file for file in folder.with_suffix(".json") if _is_labelme(folder.peek(file))]
    for file in with_progress(files, len(files), "Reading annotations"):
        with export.noting(file):
            root = read_json(folder.path(file))
            labels |= {node["label"].name() for node in root["shapes"].elements() if _kind(node) not in WITHOUT_AREA}
            size, embedded = root.size("imageHeight", "imageWidth"), None
            try:
                image = _image(folder, file, root)
            except DataError:
                if root.get("imageData") is None:
                    raise
                name = path_parts(_written(root, file))[-1]
                image = Path(name if is_image(name) else f"{name}.jpg")
                embedded = partial(_embedded, folder.path(file))
            shapes = partial(_shapes_of, folder.path(file))
            export.entries.append(Entry(image, file, str(PurePosixPath(file).parent), size, shapes, embedded))
    for label in sorted(labels):
        export.add_class(label)
    return export


def _is_labelme(peek: str) -> bool:
    return peek.startswith("{") and '"shapes":[' in peek and any(f'"{key}":' in peek for key in IMAGE_KEYS)


def _written(root: Node, file: str) -> str:
    path = root.get("imagePath")
    return path.text() if path is not None and path.value else PurePosixPath(file).with_suffix(".jpg").name


def _image(folder: ExportFolder, file: str, root: Node) -> Path:
    """The image at `imagePath`, else the one whose name is that of the file."""
    try:
        return folder.image(_written(root, file), near=file)
    except DataError:
        stem = PurePosixPath(file).with_suffix("")
        matches = [name for name in folder.by_stem(stem.name) if PurePosixPath(name).parent == stem.parent]
        if len(matches) != 1:
            raise
        return folder.image_path(matches[0])


def _embedded(path: Path) -> bytes:
    return base64_bytes(read_json(path)["imageData"])


def _shapes_of(path: Path, size: Size) -> Iterator[Shape]:
    """The file is read a second time, because many files with images in them do not fit into memory."""
    for node in read_json(path)["shapes"].elements():
        label, kind = node["label"].name(), _kind(node)
        region = None if kind in WITHOUT_AREA else _region(node, kind, size)
        yield Shape(label, region, kind if region is None else "")


def _kind(node: Node) -> str:
    kind = node.get("shape_type")
    return "polygon" if kind is None else kind.text()


def _region(node: Node, kind: str, size: Size) -> Region | None:
    points = node["points"].points()
    match kind:
        case "polygon":
            return polygon(points, size) if len(points) >= 3 else None
        case "rectangle" | "rotation" if len(points) == 4:
            return polygon(points, size)
        case "rectangle" | "circle" | "mask" if len(points) != 2:
            raise DataError(f"{node.place}: a {kind} has {len(points)} points, not 2")
        case "rectangle":
            return polygon(box(*points.min(axis=0), *points.max(axis=0)), size)
        case "circle":
            radius = float(np.linalg.norm(points[1] - points[0]))
            return ellipse((float(points[0, 0]), float(points[0, 1])), (radius, radius), size)
        case "mask":
            return _mask(node, points, size)
        case _:
            raise DataError(f"{node.place}: unknown shape_type {kind!r}")


def _mask(node: Node, points: np.ndarray, size: Size) -> Region:
    mask = bitmap(base64_bytes(node["mask"], bitmap_limit(size)), size, f"{node.place}.mask")
    left, top = np.rint(points.min(axis=0)).astype(int).tolist()
    return inside(Region(top, left, mask), size)


FORMAT = Format("labelme", "LabelMe JSON", recognizes, read)
