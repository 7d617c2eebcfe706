"""Forms of the formats that tools, versions and people write, besides those in `tests.helpers.annotated_sets`."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastfcn.data.annotations.export import Entry, Export
from fastfcn.data.annotations.folder import ExportFolder, path_parts
from fastfcn.data.annotations.painting import Painted, Rules, paint
from fastfcn.data.annotations.registry import FORMATS, find_format
from fastfcn.errors import UserError
from tests.helpers import annotated_sets as sets
from tests.helpers.own_sets import photo

FRAME = {"original_width": 64, "original_height": 48, "image_rotation": 0}


def read(root: Path, name: str) -> Export:
    return find_format(name).read(ExportFolder(root))


def painted(export: Export, index: int = 0) -> Painted:
    """The mask of an entry, with 1 for the first class, 2 for the second and so on."""
    assert export.problems == []
    ids = {name: value for value, name in enumerate(export.classes, start=1)}
    return paint(export.entries[index].shapes(sets.SIZE), sets.SIZE, Rules(ids, 0))


def box_mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(sets.SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def studio(root: Path, *results: dict, data: dict | None = None, **task: object) -> Path:
    photo(root / "a.jpg", 0)
    annotation = {"result": [{**FRAME, "to_name": "image", **result} for result in results]}
    sets.write_json(root / "tasks.json", [{"data": data or {"image": "a.jpg"}, "annotations": [annotation], **task}])
    return root


def test_rectangles_and_ellipses_of_label_studio(tmp_path: Path):
    """In percent; a rectangle turns around its corner, an ellipse around its center."""
    box = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0}
    results = (
        {"id": "1", "type": "rectanglelabels", "value": {**box, "rectanglelabels": ["a"]}},
        {"id": "2", "type": "ellipselabels",
         "value": {"x": 50, "y": 50, "radiusX": 6.25, "radiusY": 6.25, "ellipselabels": ["b"]}},
    )  # fmt: skip
    mask = painted(read(studio(tmp_path, *results), "label-studio")).mask
    assert ((mask > 0) == box_mask(16, 12, 48, 36)).all()
    assert abs(np.count_nonzero(mask == 2) - np.pi * 4 * 3) < 5
    box |= {"rotation": 90, "x": 50, "y": 0, "width": 25, "height": 50}
    turned = studio(tmp_path / "turned", {"type": "rectanglelabels", "value": {**box, "rectanglelabels": ["a"]}})
    assert ((painted(read(turned, "label-studio")).mask > 0) == box_mask(8, 0, 32, 16)).all()


def test_labels_of_label_studio_apart_from_their_shapes(tmp_path: Path):
    shape = {"points": [[25, 25], [75, 25], [75, 75], [25, 75]]}
    results = (
        {"id": "1", "type": "polygon", "value": shape},
        {"id": "1", "type": "labels", "value": {**shape, "labels": ["a"]}},
        {"id": "2", "type": "polygon", "value": shape},
        {"id": "3", "type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["tip"]}},
    )
    export = read(studio(tmp_path, *results), "label-studio")
    result = painted(export)
    assert ((result.mask > 0) == box_mask(16, 12, 48, 36)).all()
    assert list(export.classes) == ["a"]
    assert result.without_area == {"polygon without a label": 1, "keypoint": 1}


def test_which_annotation_of_label_studio_counts(tmp_path: Path):
    def annotation(label: str, **flags: bool) -> dict:
        value = {"points": [[0, 0], [9, 0], [9, 9]], "polygonlabels": [label]}
        return {**flags, "result": [{**FRAME, "type": "polygonlabels", "value": value}]}

    photo(tmp_path / "a.jpg", 0)
    task: dict = {"data": {"text": "hello", "image": "/data/local-files/?d=some%20where/a.jpg"}}
    tasks = [
        {**task, "annotations": [annotation("no", was_cancelled=True), annotation("x"), annotation("y")]},
        {**task, "annotations": [annotation("x"), annotation("z", ground_truth=True)]},
        {**task, "annotations": []},
        {**task, "completions": [annotation("old")]},
    ]
    sets.write_json(tmp_path / "tasks.json", tasks)
    export = read(tmp_path, "label-studio")
    assert list(export.classes) == ["old", "x", "z"]
    assert export.notes == [
        "1 tasks without an annotation are left out.",
        "2 further annotations of the same tasks are not used.",
    ]


def test_shapes_of_labelme(tmp_path: Path):
    photo(tmp_path / "a.jpg", 0)
    shapes = [
        {"label": "a", "shape_type": "rectangle", "points": [[30, 20], [10, 5]]},
        {"label": "b", "shape_type": "circle", "points": [[50, 30], [50, 26]]},
        {"label": "b", "shape_type": "rectangle", "points": [[0, 40], [8, 40], [8, 48], [0, 48]]},
        {"label": "c", "points": [[40, 0], [44, 0], [44, 4], [40, 4]]},
    ]
    sets.write_json(tmp_path / "a.json", {"shapes": shapes, "imagePath": "elsewhere.png", "imageData": None})
    mask = painted(read(tmp_path, "labelme")).mask
    assert ((mask == 1) == box_mask(10, 5, 30, 20)).all()
    assert ((mask == 3) == box_mask(40, 0, 44, 4)).all()
    assert mask[47, 0] == mask[30, 50] == 2


def test_shapes_and_subsets_of_cvat(tmp_path: Path):
    for folder in ("Train", "Validation"):
        photo(tmp_path / f"images/{folder}/a.jpg", 0)
    image = '<image id="{}" name="a.jpg" subset="{}" width="64" height="48">{}</image>'
    shapes = (
        '<box label="a" xtl="20" ytl="10" xbr="24" ybr="18" rotation="90.0" z_order="0"/>'
        '<ellipse label="b" cx="40" cy="30" rx="6" ry="3" z_order="0"></ellipse>'
        '<polyline label="c" points="1,1;2,2" z_order="0"/><tag label="d"/>'
    )
    label = "<label><name>{}</name><attributes><attribute><name>x</name></attribute></attributes></label>"
    labels = "".join(label.format(name) for name in "ab") + "<label><name>part</name><parent>a</parent></label>"
    meta = f"<version>1.1</version><meta><project><labels>{labels}</labels></project></meta>"
    images = image.format(0, "Train", shapes) + image.format(1, "Validation", "")
    (tmp_path / "annotations.xml").write_text(f"<annotations>{meta}{images}</annotations>")
    export = read(tmp_path, "cvat")
    assert list(export.classes) == ["a", "b", "c"]
    result = painted(export)
    assert ((result.mask == 1) == box_mask(18, 12, 26, 16)).all()
    assert abs(np.count_nonzero(result.mask == 2) - np.pi * 18) < 6
    assert result.without_area == {"polyline": 1}
    assert [(entry.image.parent.name, entry.split) for entry in export.entries] == [
        ("Train", "annotations.xml/Train"),
        ("Validation", "annotations.xml/Validation"),
    ]


def test_forms_of_yolo(tmp_path: Path):
    """Names in a list, lists of images as splits, labels next to the images, boxes, images without labels."""
    for number in range(4):
        photo(tmp_path / f"data/{number}.jpg", number)
    (tmp_path / "data/0.txt").write_text("1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n\n0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "data/1.txt").write_text("")
    (tmp_path / "dataset.yaml").write_text('train: lists/a.txt\nval: [lists/b.txt]\nnc: 2\nnames: ["no", "yes"]\n')
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/a.txt").write_text("./data/0.jpg\n./data/1.jpg\n")
    (tmp_path / "lists/b.txt").write_text("C:\\data\\2.jpg\n")
    export = read(tmp_path, "yolo")
    result = painted(export)
    assert ((result.mask == 2) == box_mask(16, 12, 48, 36)).all()
    assert result.without_area == {"box without a polygon": 1}
    assert [entry.split for entry in export.entries] == ["train", "train", "val", "data"]
    assert export.notes == ["2 images without a text file have no objects."]
    (tmp_path / "dataset.yaml").unlink()
    (tmp_path / "classes.txt").write_text("first\nsecond\n")
    assert list(read(tmp_path, "yolo").classes) == ["first", "second"]


def test_folders_in_data_yaml(tmp_path: Path):
    for folder in ("a", "b"):
        photo(tmp_path / folder / "images/0.jpg", 0)
        (tmp_path / folder / "labels").mkdir()
        (tmp_path / folder / "labels/0.txt").write_text("5 0 0 1 0 1 1\n")
    (tmp_path / "data.yaml").write_text("path: /somewhere\ntrain: ../a/images\nval: b/images\nnames: {5: x}\n")
    export = read(tmp_path, "yolo")
    assert [(entry.image.parts[-3], entry.split) for entry in export.entries] == [("a", "train"), ("b", "val")]


def test_shapes_of_supervisely(tmp_path: Path):
    root = sets.supervisely(tmp_path)
    file = root / "train/ann/0.jpg.json"
    hole = [[12, 12], [16, 12], [16, 16], [12, 16]]
    exterior = [[10, 10], [20, 10], [20, 20], [10, 20]]
    objects = [
        {"classTitle": "leaf", "points": {"exterior": exterior, "interior": [hole]}, "geometryType": "polygon"},
        {"classTitle": "stem", "points": {"exterior": [[50, 40], [40, 30]]}, "geometryType": "rectangle"},
        {"classTitle": "stem", "bitmap": {"data": sets.bitmap_text(np.ones((4, 4))), "origin": [62, -2]}},
    ]
    content = {"size": {"height": 48, "width": 64}, "tags": [{"name": "val"}], "objects": objects}
    sets.write_json(file.with_name("0.json"), content)  # as older projects name it
    file.unlink()
    export = read(root, "supervisely")
    index = next(n for n, entry in enumerate(export.entries) if entry.where.endswith("0.json"))
    mask = painted(export, index).mask
    assert ((mask == 1) == box_mask(10, 10, 20, 20) & ~box_mask(12, 12, 16, 16)).all()
    assert ((mask == 2) == box_mask(40, 30, 50, 40) | box_mask(62, 0, 64, 2)).all()
    assert export.entries[index].split == "train/ann/val"


def test_categories_of_roboflow_and_files_of_other_tasks(tmp_path: Path):
    """The category 0 names the group of the others; keypoints and captions of COCO are left out."""
    root = sets.coco_run_lengths(tmp_path)
    for split in ("train", "valid"):
        file = root / split / "_annotations.coco.json"
        content = json.loads(file.read_text())
        content["categories"].insert(0, {"id": 0, "name": "leaves", "supercategory": "none"})
        file.write_text(json.dumps(content))
    labels = {"images": content["images"], "annotations": [{"image_id": 1, "category_id": 0}], "categories": []}
    sets.write_json(root / "labels.json", labels)
    captions = {"images": content["images"], "annotations": [{"image_id": 1, "caption": "a leaf"}]}
    sets.write_json(root / "captions_train.json", captions)
    content["categories"] = [{"id": 3, "name": "person", "keypoints": ["nose"]}]
    sets.write_json(root / "person_keypoints.json", content)
    export = read(root, "coco")
    assert list(export.classes) == ["leaf", "stem"]
    assert len(export.entries) == sets.COUNT
    assert export.notes == [
        "labels.json is left out: it has no categories.",
        "person_keypoints.json is left out: it has keypoints.",
    ]


def test_pascal_voc_without_a_list_of_classes(tmp_path: Path):
    """Its palette, or its colors, say which classes the values are."""
    from PIL import Image

    from fastfcn.data.description import load_description

    root = sets.voc(tmp_path)
    (root / "classes.txt").unlink()
    colors = [channel for entry in load_description("voc").classes for channel in entry.color]
    for path in (root / "SegmentationClass").iterdir():
        mask = sets.expected(int(path.stem)).copy()
        mask[0] = 255
        image = Image.fromarray(mask)
        image.putpalette(colors + [224, 224, 192] * 235)
        image.save(path)
    for _ in range(2):
        export = read(root, "voc")
        assert len(export.classes) == 21
        shapes = {shape.label for shape in export.entries[0].shapes(sets.SIZE)}
        assert shapes == {"background", "aeroplane", "bicycle", "__ignore__"}
        for path in (root / "SegmentationClass").iterdir():  # the same as colors
            Image.open(path).convert("RGB").save(path)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("a/b.jpg", ["a", "b.jpg"]),
        ("C:\\x\\.\\b.jpg", ["x", "b.jpg"]),
        ("../b.jpg", ["b.jpg"]),
        ("s3://bucket/a%20b/c.jpg?x=1#f", ["a b", "c.jpg"]),
        ("/data/local-files/?d=a%2Fb.jpg", ["a", "b.jpg"]),
        ("100% sure?.jpg", ["100% sure?.jpg"]),
        ("", []),
    ],
)
def test_paths_as_they_are_written(written: str, parts: list[str]):
    assert path_parts(written) == parts


JUNK: list[Any] = [
    *(None, True, 0, -1, 1.5, 1e308, 10**30, 2**31, "", "x", "../..", "1" * 50, "nan"),
    *([], {}, [[]], [1], [[1, 2]], [["a"]], {"a": 1}, [1] * 7),
]
FRAGMENTS = [
    "",
    "0",
    "-",
    "x",
    '"',
    "<",
    ">",
    "&a;",
    ",",
    ";",
    " ",
    "\n",
    "1e999",
    "9" * 11,
    "nan",
    ":",
    "[",
    "{",
    "\0",
]


def places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """Places in a JSON value, of long lists only the first ones."""
    if place:
        yield place
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(min(len(value), 3)):
            yield from places(value[key], (*place, key))


def change_json(text: str, rng: random.Random) -> str:
    content = json.loads(text)
    *path, last = rng.choice(list(places(content)))
    node = content
    for key in path:
        node = node[key]
    node[last] = rng.choice(JUNK)
    return json.dumps(content)


def change_text(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, len(text))
        text = text[:start] + rng.choice(FRAGMENTS) + text[start + rng.randint(0, 6) :]
    return text


def paint_all(entry: Entry, rules: Rules) -> None:
    painted = paint(entry.shapes(entry.size or sets.SIZE), entry.size or sets.SIZE, rules)
    assert painted.mask.shape == (entry.size or sets.SIZE)


@pytest.mark.parametrize("name", sets.SETS)
def test_random_changes_end_with_masks_or_a_named_error(name: str, tmp_path: Path):
    """Never with another exception."""
    source = sets.SETS[name](tmp_path / "source")
    files = [path for path in source.rglob("*") if path.suffix in (".json", ".xml", ".txt", ".yaml", ".csv")]
    rng = random.Random(name)
    for _ in range(15):
        root = tmp_path / "changed"
        shutil.copytree(source, root)
        file = root / rng.choice(files).relative_to(source)
        change = change_json if file.suffix == ".json" and rng.random() < 0.8 else change_text
        file.write_text(change(file.read_text(), rng))
        try:
            export = FORMATS[name.split(" ")[0]].read(ExportFolder(root))
        except UserError:
            export = Export()
        rules = Rules(dict.fromkeys(export.classes, 1) | {"__ignore__": 255}, 0)
        for entry in export.entries:
            if entry.size and max(entry.size) > 10_000:
                continue  # compared with the image before anything is painted
            try:
                paint_all(entry, rules)
            except UserError:
                continue
        shutil.rmtree(root)
