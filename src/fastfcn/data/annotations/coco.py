"""COCO JSON: polygons, and run lengths as numbers or compressed text."""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import numpy as np

from fastfcn.data.annotations.export import Entry, Export, Format, Shape
from fastfcn.data.annotations.folder import ExportFolder, path_parts
from fastfcn.data.annotations.node import Node, read_json
from fastfcn.data.annotations.shapes import Region, coco_counts, polygons, runs
from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size

MIN_POINTS = 3
# Words of a COCO file; its three lists can have any order, so that an end of the file may be inside of any of them.
KEYS = re.compile(r'"(categories|supercategory|annotations|segmentation|category_id|image_id|file_name)":')

CATEGORY_KEYS = {"categories", "category_id"}


def recognizes(folder: ExportFolder) -> bool:
    return bool(_files(folder))


def read(folder: ExportFolder) -> Export:
    """All COCO files of the folder together; categories of one name are one class."""
    export = Export()
    for file in _files(folder):
        with export.noting(file):
            _read_file(folder, file, read_json(folder.path(file), _compact), export)
    return export


def _files(folder: ExportFolder) -> list[str]:
    """Files with words of COCO's lists at their ends."""
    return [name for name in folder.with_suffix(".json") if _is_coco(folder.peek(name))]


def _is_coco(peek: str) -> bool:
    words = set(KEYS.findall(peek))
    # Captions have no categories, and panoptic annotations are images.
    return peek.startswith("{") and len(words) >= 3 and words & CATEGORY_KEYS != set() and "segments_info" not in peek


def _compact(entry: dict) -> dict:
    """Keep the coordinates of polygons as arrays: a fifth of the memory, of which COCO's training set takes much."""
    if isinstance(segmentation := entry.get("segmentation"), list):
        with suppress(TypeError, OverflowError):  # reported when the shape is painted
            entry["segmentation"] = [array("d", part) if isinstance(part, list) else part for part in segmentation]
    return entry


def _read_file(folder: ExportFolder, file: str, root: Node, export: Export) -> None:
    categories = _categories(root)
    keypoints = any(node.get("keypoints") is not None for node in root.items("categories"))
    if keypoints or not categories:
        export.notes.append(f"{file} is left out: it has {'keypoints' if keypoints else 'no categories'}.")
        return
    by_image: dict[float, list[Node]] = defaultdict(list)
    for node in root["annotations"].elements():
        with export.noting(f"{file}, {node.place}"):
            by_image[node["image_id"].number()].append(node)
    for name in _used(categories, {node["category_id"].number() for nodes in by_image.values() for node in nodes}):
        export.add_class(name)
    for node in root["images"].elements():
        with export.noting(f"{file}, {node.place}"):
            number, name = node["id"].number(), node["file_name"].text()
            where = f"{file}, image {number:.0f} ({name})"
            with export.noting(where):
                shapes = partial(_shapes, by_image.pop(number, []), categories)
                image = folder.image(name, near=file)
                export.entries.append(
                    Entry(image, where, f"{file}/{'/'.join(path_parts(name)[:-1])}", node.size(), shapes)
                )
    for number, nodes in by_image.items():
        with export.noting(f"{file}, {nodes[0].place}"):
            raise DataError(f"there is no image with the id {number:.0f}")


def _categories(root: Node) -> dict[float, str]:
    categories: dict[float, str] = {}
    for node in root["categories"].elements():
        number = node["id"].number()
        if number in categories:
            raise DataError(f"{node.place}: the id {number:.0f} occurs twice")
        categories[number] = node["name"].name()
    return categories


def _used(categories: dict[float, str], used: set[float]) -> list[str]:
    """Names of classes, without the category 0 of Roboflow's exports, which only names the group of the others."""
    return [name for number, name in categories.items() if number or 0 in used or len(categories) == 1]


def _shapes(nodes: list[Node], categories: dict[float, str], size: Size) -> Iterator[Shape]:
    for node in nodes:
        number = node["category_id"].number()
        if number not in categories:
            raise DataError(f"{node.place}: there is no category with the id {number:.0f}")
        label, crowd = categories[number], node.get("iscrowd")
        segmentation = node.get("segmentation")
        if segmentation is None or segmentation.value == []:
            yield Shape(label, None, "box without a segmentation")
            continue
        region = _region(segmentation, size)
        if region is None:
            yield Shape(label, None, "polygon of fewer than three points")
        else:
            yield Shape(label, region, crowd=crowd is not None and bool(crowd.number()))


def _region(node: Node, size: Size) -> Region | None:
    if isinstance(node.value, dict):
        return _run_lengths(node, size)
    rings = [_ring(part) for part in node.elements()]
    rings = [ring for ring in rings if len(ring) >= MIN_POINTS]
    return polygons(rings, size) if rings else None


def _ring(node: Node) -> np.ndarray:
    numbers = node.numbers()
    if len(numbers) % 2:
        raise node.error("an even number of coordinates")
    return numbers.reshape(-1, 2)


def _run_lengths(node: Node, size: Size) -> Region:
    height, width = node["size"].numbers()[:2].tolist() if len(node["size"].numbers()) == 2 else (0, 0)
    if (height, width) != size:
        raise DataError(
            f"{node.place}.size: run lengths of {height:.0f} x {width:.0f} pixels (height x width) for an image of "
            f"{size[0]} x {size[1]}"
        )
    counts = node["counts"]
    try:
        values = coco_counts(counts.value) if isinstance(counts.value, str) else counts.numbers().astype(np.int64)
        return runs(values, size, columns_first=True)
    except DataError as error:
        raise DataError(f"{node.place}: {error.message}") from error


FORMAT = Format("coco", "COCO JSON", recognizes, read)
