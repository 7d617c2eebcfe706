"""One small set of images in every annotation format: the same polygons or pixels, written as the tools write them."""

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.helpers.own_sets import photo
from tests.helpers.reference_polygons import fill_polygon

HEIGHT, WIDTH = 48, 64  # of the images
SIZE = (HEIGHT, WIDTH)
LABELS = ("leaf", "stem")  # mask values 1 and 2; 0 is background
COLORS = {"background": (0, 0, 0), "leaf": (90, 180, 70), "stem": (120, 80, 40)}
COUNT = 6


class Drawn(NamedTuple):
    """A polygon of a class, its points (N, 2) as x and y in fifths of a pixel at most."""

    label: str
    points: np.ndarray

    @property
    def flat(self) -> list[float]:
        return [round(value, 1) for value in self.points.ravel().tolist()]

    @property
    def pairs(self) -> list[list[float]]:
        return [self.flat[index : index + 2] for index in range(0, len(self.flat), 2)]

    @property
    def mask(self) -> np.ndarray:
        return fill_polygon(self.flat, SIZE)


def drawn(number: int) -> list[Drawn]:
    """The polygons of an image, in order: a large leaf, and a stem over it that ends outside of the image."""
    rng = np.random.default_rng(number)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
    radius = rng.uniform(10, 20, 7)
    leaf = np.stack([30 + radius * np.cos(angles), 22 + radius * np.sin(angles)], 1)
    left = rng.uniform(24, 34)
    stem = np.array([(left, 20.0), (left + 6, 20), (left + 8, HEIGHT + 3), (left - 2, HEIGHT + 3)])
    return [Drawn(label, np.round(points * 5) / 5) for label, points in zip(LABELS, (leaf, stem), strict=True)]


def expected(number: int) -> np.ndarray:
    """The mask of an image, later polygons over earlier ones."""
    mask = np.zeros(SIZE, np.uint8)
    for shape in drawn(number):
        mask[shape.mask] = 1 + LABELS.index(shape.label)
    return mask


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def run_lengths(mask: np.ndarray, columns_first: bool) -> list[int]:
    """Lengths of runs of equal pixels, the first of pixels outside."""
    flat = mask.ravel(order="F" if columns_first else "C").astype(int)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return np.diff([0, *changes, len(flat)]).tolist()


def png_bytes(image: Image.Image, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **settings)
    return stream.getvalue()


def coco(root: Path, numbers: range, file: str, images: str = "", segmentation: Callable | None = None) -> Path:
    """A COCO file for images in the folder `images`."""
    entries, annotations = [], []
    for number in numbers:
        photo(root / images / f"{number}.jpg", number)
        entries.append({"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH})
        for shape in drawn(number):
            annotations.append({
                "id": len(annotations), "image_id": number, "category_id": 3 + LABELS.index(shape.label), "iscrowd": 0,
                "segmentation": segmentation(shape) if segmentation else [shape.flat],
            })  # fmt: skip
    categories = [{"id": 3 + index, "name": label} for index, label in enumerate(LABELS)]
    write_json(root / file, {"images": entries, "annotations": annotations, "categories": categories})
    return root


def coco_polygons(root: Path) -> Path:
    """Two files, for train and val, images in folders of these names."""
    coco(root, range(4), "annotations/instances_train2017.json", "train2017")
    return coco(root, range(4, COUNT), "annotations/instances_val2017.json", "val2017")


def coco_run_lengths(root: Path) -> Path:
    """Roboflow's layout: folders train and valid with a file each; run lengths as numbers."""

    def counts(shape: Drawn) -> dict:
        return {"size": list(SIZE), "counts": run_lengths(shape.mask, columns_first=True)}

    coco(root, range(4), "train/_annotations.coco.json", "train", counts)
    return coco(root, range(4, COUNT), "valid/_annotations.coco.json", "valid", counts)


def labelme(root: Path) -> Path:
    """A file per image; the path of the image is one of Windows, and the stem is a mask."""
    for number in range(COUNT):
        photo(root / f"{number}.jpg", number)
        leaf, stem = drawn(number)
        rows, columns = (np.flatnonzero(stem.mask.any(axis=axis)) for axis in (1, 0))
        part = stem.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mask = base64.b64encode(png_bytes(Image.fromarray(part))).decode()
        corners = [[int(columns[0]), int(rows[0])], [int(columns[-1]), int(rows[-1])]]
        shapes = [
            {"label": leaf.label, "points": leaf.pairs, "shape_type": "polygon", "group_id": None},
            {"label": stem.label, "points": corners, "shape_type": "mask", "mask": mask},
            {"label": "tip", "points": [[3, 3]], "shape_type": "point"},
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"..\\set\\{number}.jpg",
                   "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}  # fmt: skip
        write_json(root / f"{number}.json", content)
    return root


def cvat(root: Path) -> Path:
    """One XML file; the leaf is a polygon below the stem, which is written first, as a mask."""
    labels = "".join(
        f"<label><name>{name}</name><color>#{bytes(COLORS[name]).hex()}</color></label>" for name in LABELS
    )
    lines = [f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"]
    for number in range(COUNT):
        photo(root / f"images/{number}.jpg", number)
        leaf, stem = drawn(number)
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in leaf.pairs)
        counts = ", ".join(map(str, run_lengths(stem.mask, columns_first=False)))
        lines += [
            f'<image id="{number}" name="{number}.jpg" width="{WIDTH}" height="{HEIGHT}">',
            f'<mask label="stem" rle="{counts}" left="0" top="0" width="{WIDTH}" height="{HEIGHT}" z_order="1"></mask>',
            f'<polygon label="leaf" source="manual" occluded="0" points="{points}" z_order="0"></polygon>',
            '<points label="leaf" points="1.0,1.0" z_order="0"></points></image>',
        ]
    (root / "annotations.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n' + "\n".join(lines) + "</annotations>"
    )
    return root


def brush_bytes(alpha: np.ndarray) -> list[int]:
    """A brush stroke of Label Studio: the RGBA values of a mask (H, W) of 0 and 255, the alpha channel in it."""
    values = np.repeat(alpha.ravel(), 4).tolist()
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in (3, 4, 8, 16))
    start = 0
    while start < len(values):
        stop = start
        while stop < len(values) and values[stop] == values[start] and stop - start < 2**16:
            stop += 1
        if stop - start < 3:  # a few values one by one
            stop = min(start + 3, len(values))
            bits += f"0{0:02b}{stop - start - 1:03b}" + "".join(f"{value:08b}" for value in values[start:stop])
        else:
            choice = next(n for n, length in enumerate((3, 4, 8, 16)) if stop - start <= 2**length)
            bits += f"1{choice:02b}{stop - start - 1:0{(3, 4, 8, 16)[choice]}b}{values[start]:08b}"
        start = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[index : index + 8], 2) for index in range(0, len(bits), 8)]


def label_studio(root: Path) -> Path:
    """One file of tasks; images were uploaded, the leaf is a polygon in percent, the stem a brush stroke."""
    tasks = []
    for number in range(COUNT):
        photo(root / f"upload/{number}.jpg", number)
        leaf, stem = drawn(number)
        frame = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "to_name": "image"}
        points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in leaf.pairs]
        rle = brush_bytes(stem.mask * np.uint8(255))
        results = [
            {**frame, "id": "a", "type": "polygonlabels", "value": {"points": points, "polygonlabels": ["leaf"]}},
            {
                **frame,
                "id": "b",
                "type": "brushlabels",
                "value": {"format": "rle", "rle": rle, "brushlabels": ["stem"]},
            },
            {"id": "c", "type": "choices", "value": {"choices": ["sharp"]}, "to_name": "image"},
        ]
        tasks.append({
            "id": number, "annotations": [{"id": 1, "was_cancelled": False, "result": results}],
            "data": {"image": f"/data/upload/3/0a1b2c3d-{number}.jpg"},
        })  # fmt: skip
    write_json(root / "project-1-at-2026-01-01.json", tasks)
    return root


def yolo(root: Path) -> Path:
    """Ultralytics' layout with data.yaml; normalized polygons."""
    for number in range(COUNT):
        split = "train" if number < 4 else "val"
        photo(root / f"images/{split}/{number}.jpg", number)
        lines = []
        for shape in drawn(number):
            points = " ".join(f"{x / WIDTH!r} {y / HEIGHT!r}" for x, y in shape.pairs)
            lines.append(f"{LABELS.index(shape.label)} {points}\n")
        labels = root / f"labels/{split}/{number}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(lines))
    (root / "data.yaml").write_text(
        "path: ../datasets/set\ntrain: images/train\nval: images/val\nnames:\n  0: leaf\n  1: 'stem'\n"
    )
    return root


def masks_of_voc(root: Path, colored: bool) -> None:
    for number in range(COUNT):
        photo(root / f"JPEGImages/{number}.jpg", number)
        mask = expected(number)
        palette = np.array([*COLORS.values(), *[(255, 255, 255)] * 253], np.uint8)
        image = Image.fromarray(palette[mask] if colored else mask)
        if not colored:
            image.putpalette(palette.tobytes())
        path = root / f"SegmentationClass/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    (root / "ImageSets/Segmentation").mkdir(parents=True)


def voc(root: Path) -> Path:
    """Palette masks, lists for train and val, and names of classes."""
    masks_of_voc(root, colored=False)
    for name, numbers in (("train", range(4)), ("val", range(4, COUNT)), ("trainval", range(COUNT))):
        text = "".join(f"{number}\n" for number in numbers)
        (root / f"ImageSets/Segmentation/{name}.txt").write_text(text)
    (root / "classes.txt").write_text("background\nleaf\nstem\n")
    return root


def cvat_masks(root: Path) -> Path:
    """CVAT's segmentation mask 1.1: masks in colors that labelmap.txt names, and one list."""
    masks_of_voc(root, colored=True)
    lines = [f"{name}:{','.join(map(str, color))}::\n" for name, color in COLORS.items()]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(lines))
    (root / "ImageSets/Segmentation/default.txt").write_text("".join(f"{number}\n" for number in range(COUNT)))
    return root


def roboflow(root: Path) -> Path:
    """Masks next to the images, and a list of classes per split."""
    for number in range(COUNT):
        folder = root / ("train" if number < 4 else "valid")
        photo(folder / f"{number}.jpg", number)
        Image.fromarray(expected(number)).save(folder / f"{number}_mask.png")
        (folder / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, leaf\n2, stem\n")
    return root


def bitmap_text(mask: np.ndarray) -> str:
    """A bitmap of Supervisely: a palette PNG whose first color is transparent, compressed, as text."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    return base64.b64encode(zlib.compress(png_bytes(image, transparency=0))).decode()


def supervisely(root: Path) -> Path:
    """A project with a dataset per split; the leaf is a polygon, the stem a bitmap with an origin."""
    classes = [{"title": name, "shape": "any", "color": f"#{bytes(COLORS[name]).hex()}"} for name in LABELS]
    write_json(root / "meta.json", {"classes": classes, "tags": []})
    for number in range(COUNT):
        folder = root / ("train" if number < 4 else "val")
        photo(folder / f"img/{number}.jpg", number)
        leaf, stem = drawn(number)
        bitmap = {"data": bitmap_text(stem.mask[20:, 10:]), "origin": [10, 20]}
        objects = [
            {"classTitle": "leaf", "geometryType": "polygon", "points": {"exterior": leaf.pairs, "interior": []}},
            {"classTitle": "stem", "geometryType": "bitmap", "bitmap": bitmap},
            {"classTitle": "leaf", "geometryType": "point", "points": {"exterior": [[3, 3]], "interior": []}},
        ]
        content = {"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects}
        write_json(folder / f"ann/{number}.jpg.json", content)
    return root


SETS: dict[str, Callable[[Path], Path]] = {
    "coco": coco_polygons,
    "coco run lengths": coco_run_lengths,
    "labelme": labelme,
    "cvat": cvat,
    "label-studio": label_studio,
    "yolo": yolo,
    "voc": voc,
    "voc of cvat": cvat_masks,
    "roboflow": roboflow,
    "supervisely": supervisely,
}
