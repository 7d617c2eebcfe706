"""`fastfcn import` around the formats: rules, splits, images that are elsewhere, turned or embedded, and the folder."""

import base64
import json
import multiprocessing
import os
import shutil
import signal
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.checking.check import check_folder
from fastfcn.data.annotations.export import Shape
from fastfcn.data.annotations.painting import Painted, Rules, paint
from fastfcn.data.annotations.shapes import Region
from fastfcn.data.description import load_description
from fastfcn.data.images import read_image
from fastfcn.data.masks import read_mask
from fastfcn.errors import DataError, OutputError, UserError
from fastfcn.init.import_report import ImportOptions, ImportReport
from fastfcn.init.importing import import_annotations, split_of, unique_names
from fastfcn.init.init import init
from tests.helpers import annotated_sets as sets
from tests.helpers.own_sets import photo

SQUARE = [0, 0, 40, 0, 40, 40, 0, 40]
SMALL = [10, 10, 20, 10, 20, 20, 10, 20]


def run(root: Path, out: Path, **options: object) -> ImportReport:
    return import_annotations(root, out, ImportOptions(**options), workers=2)


def coco(
    root: Path, *annotations: dict, names: tuple[str, ...] = ("a.jpg", "b.jpg"), file: str = "labels.json"
) -> Path:
    """A COCO set of the classes one, two and three; `annotations` are for each of the images."""
    for number, name in enumerate(names):
        photo(root / name.replace("\\", "/"), number)
    content = {
        "images": [{"id": n, "file_name": name, "height": 48, "width": 64} for n, name in enumerate(names)],
        "annotations": [{"image_id": n, **entry} for n in range(len(names)) for entry in annotations],
        "categories": [{"id": n, "name": name} for n, name in enumerate(("one", "two", "three"), start=1)],
    }
    sets.write_json(root / file, content)
    return root


def shape(category: int, points: list, **more: object) -> dict:
    return {"category_id": category, "segmentation": [points], **more}


def mask(out: Path, name: str = "a") -> np.ndarray:
    return read_mask(next((out / "masks").rglob(f"{name}.png")), "index")


def test_overlaps_by_order_and_by_area(tmp_path: Path):
    root = coco(tmp_path / "set", shape(2, SMALL), shape(1, SQUARE))
    run(root, tmp_path / "order")
    report = run(root, tmp_path / "area", overlap="area")
    assert sorted(np.unique(mask(tmp_path / "order")).tolist()) == [0, 1]
    label = mask(tmp_path / "area")
    assert (label[15, 15], label[5, 5], label[45, 60]) == (2, 1, 0)
    assert (report.overlapping, report.images_with_overlap) == (2 * 100, 2)
    assert [entry.images for entry in report.classes] == [2, 2, 2, 0]  # background, one, two, three


def test_pixels_without_a_shape(tmp_path: Path):
    root = coco(tmp_path / "set", shape(1, SMALL), shape(2, SQUARE), names=("a.jpg", "b.jpg"))
    report = run(root, tmp_path / "out", unlabeled="ignore")
    assert sorted(np.unique(mask(tmp_path / "out")).tolist()) == [1, 255]
    description = load_description(tmp_path / "out/dataset.toml")
    assert description.class_names == ("one", "two", "three")
    assert description.ignored[0].ids == (255,)
    assert report.ignored_pixels == 2 * (48 * 64 - 40 * 40)
    content = json.loads((root / "labels.json").read_text())
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"]]
    sets.write_json(root / "labels.json", content)
    with pytest.raises(DataError, match=r"1 image\(s\) with annotations"):  # the other one has only ignored pixels
        run(root, tmp_path / "one", unlabeled="ignore")
    both = run(root, tmp_path / "both")  # but with background, it has one class
    assert both.classes[0].pixels > 48 * 64
    assert (both.images_without_shapes, report.images_without_shapes) == (1, 0)


def test_crowds_are_below_everything_or_ignored(tmp_path: Path):
    crowd = {"counts": [48 * 10, 48 * 30, 48 * 24], "size": [48, 64]}
    annotations = shape(1, SMALL), {"category_id": 2, "segmentation": crowd, "iscrowd": 1}
    root = coco(tmp_path / "set", *annotations)
    run(root, tmp_path / "out")
    run(root, tmp_path / "ignore", crowd="ignore")
    for name, value in (("out", 2), ("ignore", 255)):
        label = mask(tmp_path / name)
        assert (label[15, 15], label[15, 30], label[15, 5]) == (1, value, 0)


def test_layers_come_before_the_order():
    def square(label: str, layer: int) -> Shape:
        return Shape(label, Region(0, 0, np.ones((2, 2), bool)), layer=layer)

    rules = Rules({"a": 1, "b": 2}, 0, "area")
    assert (paint([square("a", 3), square("b", -1)], (2, 2), rules).mask == 1).all()
    assert (paint([square("a", 0), square("b", 0)], (2, 2), rules).mask == 2).all()


def test_shapes_without_pixels_are_counted(tmp_path: Path):
    tiny, line = [5.6, 5.6, 6.4, 5.6, 6.4, 6.4], [5, 5, 9, 9]
    box = {"category_id": 3, "bbox": [1, 2, 3, 4], "segmentation": []}
    report = run(coco(tmp_path / "set", shape(1, SMALL), shape(2, tiny), shape(2, line), box), tmp_path / "out")
    assert report.empty == 2
    assert report.without_area == {"polygon of fewer than three points": 2, "box without a segmentation": 2}
    assert [entry.objects for entry in report.classes] == [0, 2, 0, 0]


def test_boxes_alone_are_no_masks(tmp_path: Path):
    root = coco(tmp_path / "set", {"category_id": 3, "bbox": [1, 2, 3, 4], "segmentation": []})
    with pytest.raises(DataError, match=r"No shape in .* has an area: box without a segmentation \(2\)"):
        run(root, tmp_path / "out")


def test_images_that_are_all_alike_have_a_validation_split(tmp_path: Path):
    """Frames of one video are cut into consecutive parts."""
    root = coco(tmp_path / "set", shape(1, SMALL), names=tuple(f"{n}.jpg" for n in range(4)))
    for number in range(1, 4):
        shutil.copy(root / "0.jpg", root / f"{number}.jpg")
    assert run(root, tmp_path / "out").images == {"train": 3, "val": 1}


def test_own_background_and_classes_to_ignore(tmp_path: Path):
    root = coco(tmp_path / "set", shape(1, SQUARE), shape(2, SMALL), shape(3, [30, 30, 35, 30, 35, 35]))
    text = (root / "labels.json").read_text().replace('"one"', '"void"').replace('"two"', '"Background"')
    (root / "labels.json").write_text(text)
    run(root, tmp_path / "out")
    assert load_description(tmp_path / "out/dataset.toml").class_names == ("Background", "three")
    label = mask(tmp_path / "out")
    assert (label[5, 5], label[15, 15], label[31, 33], label[45, 60]) == (255, 0, 1, 0)


def test_images_by_windows_path_address_and_elsewhere(tmp_path: Path):
    names = ("C:\\data\\a.jpg", "https://host/x%20y/b.jpg?token=1", "deep/C.JPG", "..\\pictures\\d.jpg")
    root = coco(tmp_path / "set", shape(1, SMALL), names=("0.jpg",))
    content = json.loads((root / "labels.json").read_text())
    content["images"] = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    content["annotations"] = [{"image_id": n, **shape(1, SMALL)} for n in range(4)]
    sets.write_json(root / "labels.json", content)
    for number, name in enumerate(("one/a.jpg", "x y/b.jpg", "deep/c.jpg", "pictures/d.jpg")):
        photo(tmp_path / "elsewhere" / name, number)
    report = run(root, tmp_path / "out", images=tmp_path / "elsewhere")
    assert sum(report.images.values()) == 4
    with pytest.raises(DataError, match=r"image 0 .*there is no image"):
        run(root, tmp_path / "without")
    photo(tmp_path / "elsewhere/two/a.jpg", 9)
    with pytest.raises(DataError, match=r"several images are called .*: one/a\.jpg, two/a\.jpg"):
        run(root, tmp_path / "without", images=tmp_path / "elsewhere")


@pytest.mark.parametrize(("height", "width"), [(64, 48), (48, 64)])
@pytest.mark.parametrize("turn", [3, 6, 8])
def test_turned_images(tmp_path: Path, height: int, width: int, turn: int):
    """Coordinates are for the visible image if the sizes fit, else for the stored one; the mask turns with it."""
    root = coco(tmp_path / "set", shape(1, SMALL))
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[10:20, 10:20] = 255
    for name in ("a", "b"):
        Image.fromarray(stored).save(root / f"{name}.png", exif=exif)
    text = (root / "labels.json").read_text().replace(".jpg", ".png")
    (root / "labels.json").write_text(
        text.replace('"height": 48, "width": 64', f'"height": {height}, "width": {width}')
    )
    if turn == 3 and height == 64:
        with pytest.raises(DataError, match=r"for 64 x 48 pixels \(height x width\), but the image has 48 x 64"):
            run(root, tmp_path / "out")
        return
    run(root, tmp_path / "out")
    image, label = read_image(next((tmp_path / "out/images").rglob("a.png"))), mask(tmp_path / "out")
    assert image.shape[:2] == label.shape
    if turn != 3 and (height, width) == (48, 64):  # for the stored pixels
        assert (label == (image[..., 0] > 0)).all()
    else:
        assert label[10:20, 10:20].all()
        assert label.sum() == 100


def test_embedded_images(tmp_path: Path):
    root = sets.labelme(tmp_path / "set")
    for number in range(2):
        path, file = root / f"{number}.jpg", root / f"{number}.json"
        content = json.loads(file.read_text())
        content["imageData"] = base64.b64encode(path.read_bytes()).decode()
        file.write_text(json.dumps(content))
        path.unlink()
    report = run(root, tmp_path / "out")
    assert sum(report.images.values()) == sets.COUNT
    assert (mask(tmp_path / "out", "0") == sets.expected(0)).all()


def test_several_files_for_one_image(tmp_path: Path):
    root = coco(tmp_path / "set", shape(1, SQUARE), file="1.json")
    coco(root, shape(2, SMALL), file="2.json")
    report = run(root, tmp_path / "out")
    label = mask(tmp_path / "out")
    assert (label[15, 15], label[5, 5]) == (2, 1)
    assert sum(report.images.values()) == 2


def test_links_instead_of_copies(tmp_path: Path):
    root = coco(tmp_path / "set", shape(1, SMALL))
    run(root, tmp_path / "out", link=True)
    link = next((tmp_path / "out/images").rglob("a.jpg"))
    assert link.is_symlink()
    assert link.resolve() == root / "a.jpg"


def test_skipped_images_are_listed(tmp_path: Path):
    root = sets.coco_polygons(tmp_path / "set")
    (root / "train2017/1.jpg").write_bytes(b"no image")
    (root / "val2017/5.jpg").unlink()
    report = run(root, tmp_path / "out", skip_broken=True)
    assert report.images == {"train": 3, "val": 1}
    assert [problem.where.rpartition("/")[2] for problem in report.problems] == [
        "instances_val2017.json, image 5 (5.jpg)", "instances_train2017.json, image 1 (1.jpg)",
    ]  # fmt: skip
    assert len(report.as_json()["broken"]) == 2
    assert not check_folder(tmp_path / "out").errors


def test_a_split_without_any_image_left(tmp_path: Path):
    root = sets.coco_polygons(tmp_path / "set")
    for path in (root / "val2017").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"No image of the split val .* is left"):
        run(root, tmp_path / "out", skip_broken=True)


def test_the_split_is_drawn_the_same_every_time(tmp_path: Path):
    root = sets.cvat(tmp_path / "set")
    texts = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        run(root, tmp_path / name, seed=seed)
        texts.append((tmp_path / name / "splits/val.txt").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_train_and_val_need_each_other(tmp_path: Path):
    """A folder called train alone says nothing on splits; images in no split are used for training."""
    root = coco(tmp_path / "set", shape(1, SMALL), names=("train/a.jpg", "train/b.jpg"))
    assert run(root, tmp_path / "drawn").drawn
    root = coco(tmp_path / "more", shape(1, SMALL), names=("train/a.jpg", "test/b.jpg", "c.jpg"))
    report = run(root, tmp_path / "out")
    assert report.images == {"train": 2, "test": 1}
    assert report.notes == ["1 images that are in no split are used for training."]


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("a/valid/b", "val"),
        ("train.json/test", "test"),
        ("photos/rain", ""),
        ("", ""),
    ],
)
def test_split_of(text: str, split: str):
    assert split_of(text) == split


def test_names_are_unique():
    paths = [Path(name) for name in ("x/1.jpg", "y/1.jpg", "y/1.png", "x/2.jpg", "x/a  b.jpg", "x/A.jpg", "y/a.jpg")]
    names = unique_names(paths)
    assert names == ["x__1", "y__1", "y__1__2", "2", "a b", "x__A", "y__a"]


def test_images_of_equal_names_are_kept_apart(tmp_path: Path):
    root = coco(tmp_path / "set", shape(1, SMALL), names=("x/1.jpg", "y/1.jpg", "y/2.png"))
    report = run(root, tmp_path / "out")
    assert sum(report.images.values()) == 3
    assert {path.name for path in (tmp_path / "out/masks").iterdir()} == {"x__1.png", "y__1.png", "2.png"}
    init(tmp_path / "out", pretrained="none")


def test_the_folder_is_new_and_complete_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, out = coco(tmp_path / "set", shape(1, SMALL)), tmp_path / "out"
    run(root, out)
    with pytest.raises(OutputError, match="already exists"):
        run(root, out)
    with pytest.raises(OutputError, match="is inside"):
        run(root, root / "out")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OutputError, match=r"Cannot write .*two: no space left"):
        run(root, tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_what_a_killed_import_leaves_is_removed(tmp_path: Path):
    """The process is killed while it writes; the next import starts again."""
    root = coco(tmp_path / "set", shape(1, SMALL))

    def killed() -> None:
        shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        run(root, tmp_path / "out")

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = tmp_path / ".out.partial"
    assert any((left / "masks").iterdir())
    (left / "other").mkdir()
    run(root, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dataset.toml", "images", "masks", "splits"]
    assert not left.exists()


def test_two_imports_into_one_folder(tmp_path: Path):
    from fastfcn.utils.lock import locked

    root = coco(tmp_path / "set", shape(1, SMALL))
    (tmp_path / ".out.partial").mkdir()
    with (
        locked(tmp_path / ".out.partial/.lock", "import"),
        pytest.raises(OutputError, match=rf"in use by another import \(process {os.getpid()}"),
    ):
        run(root, tmp_path / "out")


def test_formats_that_are_not_known_or_not_certain(tmp_path: Path):
    root = coco(tmp_path / "set", shape(1, SMALL))
    with pytest.raises(UserError, match=r"Unknown annotation format 'cocoa'; did you mean .coco."):
        run(root, tmp_path / "out", format="cocoa")
    sets.yolo(root)
    with pytest.raises(DataError, match=r"may have several formats: coco .*, yolo .*\.\nChoose one with --format"):
        run(root, tmp_path / "out")
    assert sum(run(root, tmp_path / "out", format="yolo").images.values()) == sets.COUNT
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="No known annotation format"):
        run(tmp_path / "empty", tmp_path / "none")
    with pytest.raises(DataError, match="does not exist"):
        run(tmp_path / "nowhere", tmp_path / "none")
    with pytest.raises(DataError, match="does not exist"):
        run(root, tmp_path / "none", images=tmp_path / "nowhere")
    (tmp_path / "set.zip").touch()
    with pytest.raises(DataError, match=r"set\.zip is an archive"):
        run(tmp_path / "set.zip", tmp_path / "none")


def test_a_single_file(tmp_path: Path):
    root = coco(tmp_path / "set", shape(1, SQUARE), file="1.json")
    coco(root, shape(2, SMALL), file="2.json")
    run(root / "2.json", tmp_path / "out")
    labels = mask(tmp_path / "out")
    assert (labels[15, 15], labels[5, 5]) == (2, 0)
    # Images in a given folder are not searched for elsewhere, such as in an earlier result.
    for name in ("inside", "again"):
        run(root / "1.json", root / name, images=root if name == "inside" else root / "inside/images")


def test_check_and_init_say_what_to_do(tmp_path: Path):
    root = sets.coco_polygons(tmp_path / "my set")
    for command in (check_folder, init):
        with pytest.raises(DataError, match=r"has annotations instead of masks: COCO JSON") as error:
            command(root)
        assert error.value.hint == f"Convert them to masks: fastfcn import '{root}' --out DATASET"


def test_few_masks_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No more than there are threads, whatever the number of images."""
    root = coco(tmp_path / "set", shape(1, SMALL), names=tuple(f"{n}.png" for n in range(30)))
    masks, most = [], 0

    def tracked(*arguments: object) -> Painted:
        nonlocal most
        painted = paint(*arguments)  # type: ignore[arg-type]
        masks.append(weakref.ref(painted.mask))
        most = max(most, sum(reference() is not None for reference in masks))
        return painted

    monkeypatch.setattr("fastfcn.init.importing.paint", tracked)
    import_annotations(root, tmp_path / "out", ImportOptions(), workers=2)
    assert len(masks) == 30
    assert most <= 4
