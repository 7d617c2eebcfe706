"""Label Studio JSON: brush strokes, polygons, rectangles and ellipses, in percent of the image."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from fastfcn.data.annotations.export import Entry, Export, Format, Shape
from fastfcn.data.annotations.folder import ExportFolder, is_image, path_parts
from fastfcn.data.annotations.node import Node, read_json
from fastfcn.data.annotations.shapes import Region, box, ellipse, polygon, turned
from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size

TASKS = re.compile(r'"(annotations|completions)":\[')
AREAS = ("brush", "polygon", "rectangle", "ellipse")
WITHOUT_AREA = ("keypoint", "vector")
OPAQUE = 128  # alpha from which a pixel of a brush stroke counts


def recognizes(folder: ExportFolder) -> bool:
    return any(_is_label_studio(peek) for _, peek in folder.peeks(".json"))


def read(folder: ExportFolder) -> Export:
    """Every task with an annotation is an entry. Of several annotations of a task, one is used (see `_annotation`)."""
    export, labels, further, unlabeled = Export(), set(), 0, 0
    for file in folder.with_suffix(".json"):
        if not _is_label_studio(folder.peek(file)):
            continue
        with export.noting(file):
            for task in read_json(folder.path(file)).elements():
                with export.noting(f"{file}, {task.place}"):
                    annotation, others = _annotation(task)
                    further += others
                    if annotation is None:
                        unlabeled += 1
                        continue
                    results = list(annotation.items("result"))
                    labels |= {label for result in results if (label := _label(result))}
                    export.entries.append(_entry(folder, file, task, results))
    for label in sorted(labels):
        export.add_class(label)
    if unlabeled:
        export.notes.append(f"{unlabeled} tasks without an annotation are left out.")
    if further:
        export.notes.append(f"{further} further annotations of the same tasks are not used.")
    return export


def _is_label_studio(peek: str) -> bool:
    return peek.startswith("[{") and bool(TASKS.search(peek)) and '"data":{' in peek


def _annotation(task: Node) -> tuple[Node | None, int]:
    """The annotation that is marked as ground truth, else the first that was not canceled; and how many others."""
    key = "annotations" if task.get("annotations") is not None else "completions"
    kept = [node for node in task.items(key) if not _flag(node, "was_cancelled")]
    best = next((node for node in kept if _flag(node, "ground_truth")), kept[0] if kept else None)
    return best, max(len(kept) - 1, 0)


def _flag(node: Node, key: str) -> bool:
    flag = node.get(key)
    return flag is not None and flag.value is True


def _entry(folder: ExportFolder, file: str, task: Node, results: list[Node]) -> Entry:
    written = _image_of(task)
    sizes = {size for result in results if (size := result.size("original_height", "original_width"))}
    if len(sizes) > 1:
        raise DataError("its results are for images of several sizes")
    where = f"{file}, {task.place} ({path_parts(written)[-1]})"
    image = _find(folder, file, task, written)
    split = "/".join(path_parts(written)[:-1])
    return Entry(image, where, split, next(iter(sizes), None), partial(_shapes, results))


def _image_of(task: Node) -> str:
    """The value in `data` that is the path or address of an image."""
    data = task["data"]
    if not isinstance(data.value, dict):
        raise data.error("an object")
    texts = [value for value in data.value.values() if isinstance(value, str) and path_parts(value)]
    images = [text for text in texts if is_image(path_parts(text)[-1])]
    if not images:
        raise DataError(f"{data.place}: no value is the path of an image")
    return images[0]


def _find(folder: ExportFolder, file: str, task: Node, written: str) -> Path:
    try:
        return folder.image(written, near=file)
    except DataError:
        upload = task.get("file_upload")
        if upload is None or not isinstance(upload.value, str) or not upload.value:
            raise
        return folder.image(upload.value, near=file)


def _kind(result: Node) -> str:
    """`polygon` for both "polygonlabels" and "polygon"."""
    kind = result.get("type")
    return kind.text().lower().removesuffix("labels") if kind is not None else ""


def _label(result: Node) -> str:
    """The class of a result with an area, or an empty string."""
    value = result.get("value")
    if value is None or _kind(result) not in (*AREAS, ""):
        return ""
    labels = value.get(f"{_kind(result)}labels")
    labels = value.get("labels") if labels is None else labels
    names = [] if labels is None else [node.name() for node in labels.elements()]
    if len(names) > 1:
        raise DataError(f"{labels.place if labels else ''}: a shape with several classes: {', '.join(names)}")
    return names[0] if names else ""


def _shapes(results: list[Node], size: Size) -> Iterator[Shape]:
    # With <Labels> and <Polygon>, the class of a shape is in another result of type "labels" with the same id.
    labels = {
        number.value: label
        for result in results
        if isinstance((number := result.get("id") or Node(None)).value, str) and (label := _label(result))
    }
    for result in results:
        kind, number = _kind(result), result.get("id")
        if kind not in AREAS + WITHOUT_AREA:  # choices, texts, relations
            continue
        label = _label(result) or labels.get(str(number.value) if number is not None else "", "")
        if kind in WITHOUT_AREA or not label:
            yield Shape(label, None, kind if kind in WITHOUT_AREA else f"{kind} without a label")
        else:
            yield Shape(label, _region(result, kind, size))


def _region(result: Node, kind: str, size: Size) -> Region:
    turn = result.get("image_rotation")
    if turn is not None and turn.number() % 360:
        raise DataError(f"{turn.place}: the image was turned by {turn.number():g} degrees in Label Studio")
    value = result["value"]
    percent = np.array([size[1], size[0]]) / 100
    match kind:
        case "brush":
            return Region(0, 0, brush_alpha(value["rle"], size) >= OPAQUE)
        case "polygon":
            return polygon(value["points"].points() * percent, size)
    rotation = value.get("rotation")
    degrees = 0.0 if rotation is None else rotation.number()
    corner = np.array([value["x"].number(), value["y"].number()]) * percent
    if kind == "rectangle":
        extent = np.array([value["width"].number(), value["height"].number()]) * percent
        return polygon(turned(box(*corner, *(corner + extent)), corner, degrees), size)
    radii = np.array([value["radiusX"].number(), value["radiusY"].number()]) * percent
    return ellipse((float(corner[0]), float(corner[1])), (float(radii[0]), float(radii[1])), size, degrees)


def brush_alpha(node: Node, size: Size) -> np.ndarray:
    """The alpha channel (H, W), uint8, of a brush stroke. Raises DataError.

    The bytes are a stream of bits (rle-pack of thi.ng): the number of values (32 bits), bits per value less one (5),
    four lengths less one (4 each); then blocks of a flag, a choice among the lengths (2 bits), and the number of values
    less one in that many bits, followed by one value if the flag is set, else by that many. The values are RGBA.
    """
    numbers = node.numbers()
    if len(numbers) < 8 or numbers.min() < 0 or numbers.max() > 255 or (numbers % 1).any():
        raise node.error("the bytes of a brush stroke")
    bits = np.unpackbits(numbers.astype(np.uint8))
    stream = _Bits(bits, node.place)
    count, width = stream.read(32), stream.read(5) + 1
    lengths = [stream.read(4) + 1 for _ in range(4)]
    if count != 4 * size[0] * size[1] or width != 8:
        raise DataError(f"{node.place}: it is not for an image of {size[0]} x {size[1]} pixels (height x width)")
    alpha = np.zeros(size[0] * size[1], np.uint8)
    start = 0
    while start < count:
        repeated = stream.read(1)
        stop = start + stream.read(lengths[stream.read(2)]) + 1
        if stop > count:
            raise DataError(f"{node.place}: it has more values than the image")
        # Alpha is every fourth value, the last of each pixel.
        if repeated:
            alpha[start // 4 : stop // 4] = stream.read(8)
        else:
            values = stream.values(stop - start)
            alpha[start // 4 : stop // 4] = values[3 - start % 4 :: 4]
        start = stop
    return alpha.reshape(size)


class _Bits:
    """Numbers from a stream of bits."""

    def __init__(self, bits: np.ndarray, place: str):
        self.bits, self.place, self.position = bits, place, 0
        self.text = (bits + 48).tobytes()

    def read(self, count: int) -> int:
        """The next number of `count` bits."""
        self._advance(count)
        return int(self.text[self.position - count : self.position], 2)

    def values(self, count: int) -> np.ndarray:
        """The next `count` bytes."""
        self._advance(8 * count)
        return np.packbits(self.bits[self.position - 8 * count : self.position])

    def _advance(self, count: int) -> None:
        self.position += count
        if self.position > len(self.bits):
            raise DataError(f"{self.place}: it ends too early")


FORMAT = Format("label-studio", "Label Studio JSON", recognizes, read)
