"""Every annotation format: a small set becomes the same masks; broken files are named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.annotations.registry import FORMATS, recognize
from fastfcn.data.dataset import Dataset
from fastfcn.data.description import load_description
from fastfcn.data.masks import read_mask
from fastfcn.errors import DataError
from fastfcn.init.import_report import ImportOptions, ImportReport
from fastfcn.init.importing import import_annotations
from tests.helpers import annotated_sets as sets

NAMES = list(sets.SETS)


def run(root: Path, out: Path, **options: object) -> ImportReport:
    return import_annotations(root, out, ImportOptions(**options), workers=2)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {name: write(folder / name.replace(" ", "_")) for name, write in sets.SETS.items()}


def masks(out: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_mask(path, "index") for path in (out / "masks").rglob("*.png")}


def test_there_is_a_set_for_every_format():
    assert {name.split(" ")[0] for name in NAMES} == set(FORMATS)


@pytest.mark.parametrize("name", NAMES)
def test_recognized(name: str, exports: dict[str, Path]):
    assert [entry.name for entry in recognize(exports[name])] == [name.split(" ")[0]]


@pytest.mark.parametrize("name", NAMES)
def test_masks_equal_those_painted_independently(name: str, exports: dict[str, Path], tmp_path: Path):
    report = run(exports[name], tmp_path / "out")
    written = masks(tmp_path / "out")
    assert sorted(written) == [str(number) for number in range(sets.COUNT)]
    for number in range(sets.COUNT):
        assert (written[str(number)] == sets.expected(number)).all(), number
    assert report.images == ({"train": 5, "val": 1} if report.drawn else {"train": 4, "val": 2})
    assert report.drawn == (name in ("labelme", "cvat", "label-studio", "voc of cvat"))
    description = load_description(tmp_path / "out/dataset.toml")
    assert description.class_names == ("background", "leaf", "stem")
    for split, count in report.images.items():
        dataset = Dataset(description, tmp_path / "out", split)
        assert len(dataset) == count
        dataset.check_labels()
    expected = np.bincount(np.concatenate([sets.expected(n).ravel() for n in range(sets.COUNT)]), minlength=3)
    assert [entry.pixels for entry in report.classes] == expected.tolist()
    if report.objects:
        assert [entry.objects for entry in report.classes] == [0, sets.COUNT, sets.COUNT]
    if name in ("cvat", "supervisely", "voc of cvat"):
        assert description.colors[1:] == (sets.COLORS["leaf"], sets.COLORS["stem"])


def test_compressed_run_lengths_of_coco(tmp_path: Path):
    reference = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")

    def compressed(shape: sets.Drawn) -> dict:
        counts = reference.encode(np.asfortranarray(shape.mask.astype(np.uint8)))["counts"].decode()
        return {"size": list(sets.SIZE), "counts": counts}

    sets.coco(tmp_path / "set", range(3), "result.json", "images", compressed)
    run(tmp_path / "set", tmp_path / "out")
    for number, mask in masks(tmp_path / "out").items():
        assert (mask == sets.expected(int(number))).all()


Change = Callable[[Path], None]


def edit_json(path: str, change: Callable[[dict], object]) -> Change:
    """A change of a JSON file of a set."""

    def edit(root: Path) -> None:
        content = json.loads((root / path).read_text())
        change(content)
        (root / path).write_text(json.dumps(content))

    return edit


def replace_text(path: str, old: str, new: str, count: int = 1) -> Change:
    def edit(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, count))

    return edit


COCO, VAL = "annotations/instances_train2017.json", "annotations/instances_val2017.json"
LARGE = 10**6
ENTITY = '<!DOCTYPE a [<!ENTITY b "c">]>'


def coco_entry(key: str, **changes: object) -> Change:
    return edit_json(COCO, lambda content: content[key][0].update(changes))


def segmentation(value: object) -> Change:
    return coco_entry("annotations", segmentation=value)


def run_lengths(**changes: object) -> Change:
    return segmentation({"size": list(sets.SIZE), "counts": [sets.HEIGHT * sets.WIDTH], **changes})


def labelme_shape(**changes: object) -> Change:
    return edit_json("0.json", lambda content: content["shapes"][0].update(changes))


def supervisely_object(index: int, **changes: object) -> Change:
    return edit_json("train/ann/0.jpg.json", lambda content: content["objects"][index].update(changes))


def studio(change: Callable[[dict], object]) -> Change:
    def first(content: list) -> None:
        change(content[0]["annotations"][0]["result"][0])

    return edit_json("project-1-at-2026-01-01.json", first)


def brush(rle: object) -> Change:
    return edit_json(
        "project-1-at-2026-01-01.json",
        lambda content: content[0]["annotations"][0]["result"][1]["value"].update(rle=rle),
    )


STROKE = sets.brush_bytes(np.zeros(sets.SIZE, np.uint8))

# Set, change, and what the error says; the file or entry that it names comes first.
BROKEN = [
    ("coco", segmentation([[0, 0, 9, 0, 9]]), r"train2017\.json, image 0 \(0\.jpg\): .*segmentation\[0\].*even number"),
    ("coco", segmentation([[0, 0, "x", 0, 9, 9]]), r"image 0 .*segmentation\[0\]: expected a list of numbers"),
    ("coco", segmentation([[0, 0, 1e300, 0, 9, 9]]), r"image 0 .*: a coordinate is not a number, or beyond"),
    ("coco", segmentation("polygon"), r"image 0 .*segmentation: expected a list"),
    ("coco", run_lengths(size=[LARGE, LARGE]), r"image 0 .*size: run lengths of 1000000 x 1000000 pixels"),
    ("coco", run_lengths(counts=[5, LARGE**2]), r"image 0 .*segmentation: its run lengths are not those of 48 x 64"),
    ("coco", run_lengths(counts=[-5, 3077]), r"image 0 .*segmentation: its run lengths are not those of 48 x 64"),
    ("coco", run_lengths(counts="~~~"), r"image 0 .*compressed run lengths are damaged"),
    ("coco", run_lengths(counts=None), r"image 0 .*the key 'counts' is missing"),
    ("coco", coco_entry("annotations", category_id=99), r"image 0 .*no category with the id"),
    ("coco", coco_entry("annotations", image_id=99), r"annotations\[0\]: there is no image"),
    ("coco", coco_entry("images", file_name="no.jpg"), r"image 0 .*no image 'no\.jpg'"),
    ("coco", coco_entry("images", file_name="../../etc/passwd"), r"0 .*no image '\.\./\.\."),
    ("coco", coco_entry("images", file_name="http://a/b.jpg"), r"0 .*are not downloaded"),
    ("coco", coco_entry("images", height=9), r"for 9 x 64 pixels .* image has 48 x 64"),
    ("coco", edit_json(COCO, lambda c: c["images"][0].pop("id")), r"images\[0\]: the key 'id' is missing"),
    ("coco", edit_json(COCO, lambda c: c.update(annotations={})), r"train2017\.json: annotations: expected a list"),
    ("coco", edit_json(COCO, lambda c: c["categories"].append({"id": 3, "name": "a"})), r"the id 3 occurs twice"),
    ("coco", edit_json(VAL, lambda c: c["images"][0].update(file_name="0.jpg")), r"also in several splits in"),
    ("coco", replace_text(COCO, "[", "[" * 100_000), r"train2017\.json: it is not valid JSON"),
    ("coco", replace_text(COCO, '"height": 48', '"height": NaN'), r"train2017\.json: it is not valid JSON: NaN"),
    ("coco", lambda root: (root / "train2017/0.jpg").write_bytes(b"\xff\xd8"), r"image 0 .*0\.jpg cannot be read"),
    ("labelme", labelme_shape(points=[[1, 2, 3]]), r"^  0\.json: shapes\[0\]\.points: expected a list of points"),
    ("labelme", labelme_shape(shape_type="spiral"), r"^  0\.json: shapes\[0\]: unknown shape_type 'spiral'"),
    ("labelme", labelme_shape(shape_type="circle"), r"^  0\.json: shapes\[0\]: a circle has 7 points, not 2"),
    ("labelme", labelme_shape(label=""), r"^  0\.json: shapes\[0\]\.label: expected text"),
    ("labelme", labelme_shape(shape_type="mask", points=[[0, 0], [9, 9]], mask="?"), r"mask: it is not valid base64"),
    ("labelme", labelme_shape(shape_type="mask", points=[[0, 0], [9, 9]], mask="QUJD"), r"mask cannot be read"),
    ("cvat", replace_text("annotations.xml", 'points="', 'points="a,'), r"\.xml, image 0 .*points: expected"),
    ("cvat", replace_text("annotations.xml", 'rle="', 'rle="7,'), r"image 0 .*mask 0 \(stem\): its run lengths"),
    ("cvat", replace_text("annotations.xml", 'rle="', 'rle="x'), r"image 0 .*rle: expected integers"),
    ("cvat", replace_text("annotations.xml", 'left="0"', 'left="1e99"'), r"left: expected a number, not '1e99'"),
    ("cvat", replace_text("annotations.xml", '" height="48" z', '" height="99999" z'), r"a mask of 99999 x 64 pixels"),
    ("cvat", replace_text("annotations.xml", 'label="leaf"', "", 1), r"image 0 .*the attribute 'label' is missing"),
    ("cvat", replace_text("annotations.xml", "<annotations>", f"{ENTITY}<annotations>"), r"it has a document type"),
    ("cvat", replace_text("annotations.xml", "</image>", "</img>"), r"annotations\.xml: it is not valid XML"),
    ("cvat", replace_text("annotations.xml", "<image ", '<track id="1"></track><image '), r"it is a video task"),
    ("label-studio", studio(lambda result: result["value"].update(points=5)), r"\[0\] \(0a1b.*points: expected a list"),
    ("label-studio", studio(lambda result: result.update(image_rotation=90)), r"turned by 90 degrees"),
    ("label-studio", studio(lambda result: result["value"]["polygonlabels"].append("b")), r"several classes: leaf, b"),
    ("label-studio", studio(lambda result: result.update(original_width=9)), r"for images of several sizes"),
    ("label-studio", brush(STROKE[:9]), r"rle: it ends too early"),
    ("label-studio", brush([300, *STROKE]), r"rle: expected the bytes of a brush stroke"),
    ("label-studio", brush([1, *STROKE[1:]]), r"rle: it is not for an image of 48 x 64"),
    ("yolo", replace_text("labels/train/0.txt", "0 ", "7 "), r"labels/train/0\.txt: line 1: there is no class 7"),
    ("yolo", replace_text("labels/train/0.txt", "\n", " 0.5\n"), r"0\.txt: line 1: 15 coordinates are not a polygon"),
    ("yolo", replace_text("labels/train/0.txt", "0 ", "0 x "), r"0\.txt: line 1: expected numbers"),
    ("yolo", replace_text("labels/train/0.txt", "0 ", "0 nan nan "), r"0\.txt: line 1: a coordinate is not a number"),
    ("yolo", replace_text("data.yaml", "names:", "a: &x 1\nb: *x\nnames:"), r"data\.yaml has an alias"),
    ("yolo", replace_text("data.yaml", "names:", "names: ["), r"data\.yaml is not valid YAML"),
    ("voc", lambda root: (root / "JPEGImages/0.jpg").unlink(), r"Class/0\.png: there is no image called"),
    ("voc", lambda root: (root / "SegmentationClass/0.png").write_bytes(b"x"), r"Class/0\.png: .*cannot be"),
    ("voc of cvat", replace_text("labelmap.txt", "stem:120", "stem:121"), r"0\.png: .* not name the value \[120, 80"),
    ("voc of cvat", lambda root: (root / "labelmap.txt").unlink(), r"no list of classes that fits the masks"),
    ("roboflow", lambda root: (root / "train/_classes.csv").write_text("Pixel Value, Class\n0, a\n"), r"not name the"),
    ("roboflow", lambda root: (root / "train/0.jpg").unlink(), r"train/0_mask\.png: there is no image called '0'"),
    ("supervisely", supervisely_object(0, classTitle="tree"), r"ann/0\.jpg\.json: .*does not list the class 'tree'"),
    ("supervisely", supervisely_object(0, points={}), r"ann/0\.jpg\.json: objects\[0\]\.points: the key 'exterior'"),
    ("supervisely", supervisely_object(1, bitmap={"data": "AAAA", "origin": [0, 0]}), r"compressed data are damaged"),
    ("supervisely", supervisely_object(1, bitmap={"data": "A" * 10**7, "origin": [0, 0]}), r"longer than an image of"),
    ("supervisely", edit_json("train/ann/0.jpg.json", lambda c: c["size"].update(width=65)), r"for 48 x 65 pixels"),
    ("supervisely", edit_json("train/ann/0.jpg.json", lambda c: c.pop("size")), r"0\.jpg\.json: the key 'size'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "expected"), BROKEN, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(BROKEN)]
)
def test_broken_files_are_named(name: str, change: Change, expected: str, exports: dict[str, Path], tmp_path: Path):
    """Nothing is written; the message names the file, the entry and what is wrong."""
    root = tmp_path / "set"
    shutil.copytree(exports[name], root)
    change(root)
    with pytest.raises(DataError, match=f"(?m){expected}"):
        run(root, tmp_path / "out", format=name.split(" ")[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_bombs_of_compressed_bitmaps_are_not_expanded(exports: dict[str, Path], tmp_path: Path):
    """Zeros of 64 MiB, and an image of 60,000 x 60,000 pixels, both in a few bytes."""
    import base64
    import zlib

    for number, data in enumerate((bytes(2**26), sets.png_bytes(Image.new("1", (3000, 3000))))):
        root = tmp_path / f"set{number}"
        shutil.copytree(exports["supervisely"], root)
        text = base64.b64encode(zlib.compress(data)).decode()
        supervisely_object(1, bitmap={"data": text, "origin": [0, 0]})(root)
        with pytest.raises(DataError, match=r"larger than an image of this size|more than the image"):
            run(root, tmp_path / "out")
