"""Supervisely JSON: polygons with holes, bitmaps and rectangles; `meta.json` has the classes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from fastfcn.data.annotations.export import Entry, Export, Format, Shape, hex_color
from fastfcn.data.annotations.folder import ExportFolder
from fastfcn.data.annotations.node import Node, base64_bytes, bitmap, bitmap_limit, inflated, read_json
from fastfcn.data.annotations.shapes import Region, box, inside, polygon, polygons
from fastfcn.errors import DataError
from fastfcn.utils.progress import with_progress
from fastfcn.utils.sizes import Size

SPLIT_TAGS = ("train", "val", "test")  # tags of images
WITHOUT_AREA = ("point", "line", "graph", "cuboid", "alpha_mask")


def recognizes(folder: ExportFolder) -> bool:
    metas = [name for name in folder.named("meta.json") if '"classes":[' in folder.peek(name)]
    return bool(metas) and bool(_annotation_files(folder))


def read(folder: ExportFolder) -> Export:
    """Every file in a folder `ann` is an entry; its image is in the folder `img` next to it."""
    export = Export()
    for file in folder.named("meta.json"):
        with export.noting(file):
            for node in read_json(folder.path(file))["classes"].elements():
                color = node.get("color")
                export.add_class(node["title"].name(), hex_color(color.text()) if color is not None else None)
    files = _annotation_files(folder)
    for file in with_progress(files, len(files), "Reading annotations"):
        with export.noting(file):
            root = read_json(folder.path(file))
            tags = [tag["name"].text() for tag in root.items("tags") if tag.get("name") is not None]
            split = "/".join([str(PurePosixPath(file).parent), *(tag for tag in tags if tag in SPLIT_TAGS)])
            shapes = partial(_shapes, folder.path(file))
            export.entries.append(Entry(_image(folder, file), file, split, root["size"].size(), shapes))
    return export


def _annotation_files(folder: ExportFolder) -> list[str]:
    return [name for name in folder.with_suffix(".json") if PurePosixPath(name).parent.name == "ann"]


def _image(folder: ExportFolder, file: str) -> Path:
    """The image in `img` with the name of the file; older projects leave out the suffix of the image."""
    path = PurePosixPath(file)
    images = path.parent.parent / "img"
    if not folder.has(str(images / path.stem)):
        names = [name for name in folder.by_stem(path.stem) if PurePosixPath(name).parent == images]
        if len(names) == 1:
            return folder.image_path(names[0])
    return folder.image(f"img/{path.stem}", near=str(path.parent))


def _shapes(path: Path, size: Size) -> Iterator[Shape]:
    for node in read_json(path)["objects"].elements():
        label, kind = node["classTitle"].name(), node.get("geometryType")
        kind = kind.text() if kind is not None else "bitmap" if node.get("bitmap") is not None else "polygon"
        try:
            region = None if kind in WITHOUT_AREA else _region(node, kind, size)
        except DataError as error:
            prefix = "" if error.message.startswith(node.place) else f"{node.place}: "
            raise DataError(f"{prefix}{error.message}") from error
        yield Shape(label, region, kind if region is None else "")


def _region(node: Node, kind: str, size: Size) -> Region | None:
    match kind:
        case "polygon":
            rings = node["points"]
            exterior = rings["exterior"].points()
            if len(exterior) < 3:
                return None
            return polygons([exterior], size, [hole.points() for hole in rings.items("interior")])
        case "rectangle":
            corners = node["points"]["exterior"].points()
            if len(corners) != 2:
                raise DataError(f"a rectangle has {len(corners)} points, not 2")
            return polygon(box(*corners.min(axis=0), *corners.max(axis=0)), size)
        case "bitmap":
            return _bitmap(node["bitmap"], size)
        case _:
            raise DataError(f"unknown geometryType {kind!r}")


def _bitmap(node: Node, size: Size) -> Region:
    limit = bitmap_limit(size)
    data = inflated(base64_bytes(node["data"], limit), limit, f"{node.place}.data")
    origin = node["origin"].numbers()
    if len(origin) != 2:
        raise node["origin"].error("two numbers")
    mask = bitmap(data, size, f"{node.place}.data")
    return inside(Region(int(origin[1]), int(origin[0]), mask), size)


FORMAT = Format("supervisely", "Supervisely JSON", recognizes, read)
