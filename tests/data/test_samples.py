"""Original files of the datasets, read with their descriptions; the expected labels are computed here independently.

Samples with another layout than the published dataset are copied into that layout.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.dataset import Dataset
from fastfcn.data.description import DatasetDescription, load_description, parse_description
from fastfcn.errors import DataError

# Ids from 0 to 181 that COCO does not use: street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door,
# blender, hair brush; COCO's category ids are one higher.
EMPTY_IN_COCO = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
# Class of each of Cityscapes' ids that has one (trainId in cityscapesScripts' labels.py); all others are ignored.
TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13,
             27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
CITYSCAPES = "samples/mmseg_tests_data/pseudo_cityscapes_dataset"
STREET = "frankfurt_000000_000294"
DRAWN = "samples/mmseg_tests_data/pseudo_dataset"
VOC = "samples/voc_format_sample_labelme"
VOC_IMAGES = ["2011_000003", "2011_000006", "2011_000025"]
SHAPES = """
format = 1
name = "shapes"
title = "Drawn shapes"
home = ""
labels_kind = "index"
folders = ["."]
images = ["imgs/{name}_img.jpg"]
labels = ["gts/{name}_gt.png"]
lists = ["splits/{split}.txt"]
splits = { train = "train", val = "val" }
ignored = []
classes = [
  { name = "background", color = [0, 0, 0], ids = [0] },
  { name = "first", color = [1, 0, 0], ids = [1] },
  { name = "second", color = [2, 0, 0], ids = [2] },
  { name = "third", color = [3, 0, 0], ids = [3] },
]
"""


def stored(path: Path, mode: str) -> np.ndarray:
    """The stored values of a mask file, which must have Pillow's `mode`."""
    with Image.open(path) as image:
        assert image.mode == mode
        return np.array(image)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def copy_all(files: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copy(path, folder / path.name)


def check_counts(dataset: Dataset, labels: list[np.ndarray]) -> None:
    """The class counts of the dataset equal those of `labels`."""
    expected = np.bincount(np.concatenate([label.ravel() for label in labels]), minlength=256)
    counts = dataset.check_labels()
    assert counts.classes.tolist() == expected[: len(dataset.description.classes)].tolist()
    assert counts.ignored == expected[255]
    assert counts.classes.sum() + counts.ignored == expected.sum()


def test_ade20k_ignores_0(shared_data):
    folder = shared_data / "samples/ade20k_sample"
    dataset = Dataset(load_description("ade20k"), folder, "val")
    assert [example.name for example in dataset.examples] == [f"ADE_val_0000000{number}" for number in (1, 2, 3)]
    labels = []
    for index in range(3):
        example = dataset[index]
        values = stored(folder / f"annotations/validation/{example.name}.png", "L")
        assert values.min() == 0
        labels.append(np.where(values == 0, 255, values.astype(int) - 1))
        assert np.array_equal(example.label, labels[-1])
        assert np.array_equal(example.image, pixels(folder / f"images/validation/{example.name}.jpg"))
    check_counts(dataset, labels)
    seen = {dataset.description.class_names[index] for index in np.unique(labels[0]) if index < 255}
    assert {"building", "sky", "tree", "grass"} <= seen


@pytest.mark.parametrize(("split", "count"), [("train", 13), ("val", 8)])
def test_coco_stuff_with_its_empty_numbers(shared_data, tmp_path, split, count):
    folder = shared_data / "samples/coco_stuff_sample"
    copy_all(sorted((folder / f"{split}_img").glob("*.jpg")), tmp_path / f"images/{split}2017")
    copy_all(sorted((folder / f"{split}_label").glob("*.png")), tmp_path / f"annotations/{split}2017")
    dataset = Dataset(load_description("coco_stuff"), tmp_path, split)
    assert len(dataset) == count
    labels = []
    for index in range(count):
        example = dataset[index]
        values = stored(folder / f"{split}_label/{example.name}.png", "L").astype(int)
        below = sum(values > empty for empty in EMPTY_IN_COCO)
        labels.append(np.where(values == 255, 255, values - below))
        assert labels[-1][values < 255].max() <= 170
        assert np.array_equal(example.label, labels[-1])
    check_counts(dataset, labels)


def test_coco_stuff_names(shared_data):
    """The images contain a skier in the snow, and a keyboard, a mouse and a screen."""
    description = load_description("coco_stuff")
    folder = shared_data / "samples/coco_stuff_sample/val_label"
    for name, seen in (("000000000785", {"person", "skis", "snow"}), ("000000001503", {"keyboard", "mouse", "tv"})):
        values = np.unique(stored(folder / f"{name}.png", "L"))
        assert seen <= {class_.name for class_ in description.classes if set(class_.ids) & set(values.tolist())}


@pytest.fixture
def street(shared_data, tmp_path) -> Path:
    """The Cityscapes sample in Cityscapes' layout: the sample has no folders for split and city."""
    for kind in ("leftImg8bit", "gtFine"):
        copy_all(sorted((shared_data / CITYSCAPES / kind).iterdir()), tmp_path / kind / "val/frankfurt")
    return tmp_path


def test_cityscapes_label_ids(shared_data, street):
    dataset = Dataset(load_description("cityscapes"), street, "val")
    assert [example.name for example in dataset.examples] == [f"frankfurt/{STREET}"]
    example = dataset[0]
    gt = shared_data / CITYSCAPES / "gtFine"
    values = stored(gt / f"{STREET}_gtFine_labelIds.png", "L")
    label = np.full_like(values, 255)
    for raw, index in TRAIN_IDS.items():
        label[values == raw] = index
    assert len(np.unique(label)) == 11
    assert np.array_equal(example.label, label)
    assert np.array_equal(example.image, pixels(shared_data / CITYSCAPES / f"leftImg8bit/{STREET}_leftImg8bit.png"))
    check_counts(dataset, [label])
    # The sample's train ids were downscaled independently: 77 pixels on borders have another class.
    assert (example.label != stored(gt / f"{STREET}_gtFine_labelTrainIds.png", "L")).sum() == 77


def changed(description: DatasetDescription, **changes) -> DatasetDescription:
    return DatasetDescription.model_validate(description.model_dump() | changes)


def test_cityscapes_files_as_the_sample_has_them(shared_data):
    """Without folders for split and city, and with train ids: a custom description reads them."""
    cityscapes = load_description("cityscapes")
    description = changed(
        cityscapes,
        images=("leftImg8bit/{name}_leftImg8bit.png",),
        labels=("gtFine/{name}_gtFine_labelTrainIds.png",),
        classes=[class_.model_dump() | {"ids": (index,)} for index, class_ in enumerate(cityscapes.classes)],
        ignored=[{"name": "ignored", "ids": (255,)}],
    )
    dataset = Dataset(description, shared_data / CITYSCAPES, "val")
    train_ids = stored(shared_data / CITYSCAPES / f"gtFine/{STREET}_gtFine_labelTrainIds.png", "L")
    assert np.array_equal(dataset[0].label, train_ids)


def test_cityscapes_instance_ids_are_no_labels(street):
    """The 16-bit instance masks are read completely, and refused because their values are not classes."""
    description = load_description("cityscapes")
    wrong = changed(description, labels=(description.labels[0].replace("labelIds", "instanceIds"),))
    with pytest.raises(DataError, match=r"value 26002 in \d+ pixels"):
        _ = Dataset(wrong, street, "val")[0]


@pytest.fixture
def voc(shared_data, tmp_path) -> Path:
    """The three images and masks in VOC's layout, with a split list."""
    folder = tmp_path / "VOC2012"
    for kind in ("JPEGImages", "SegmentationClass"):
        copy_all(sorted((shared_data / VOC / kind).iterdir()), folder / kind)
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/val.txt").write_text("\n".join(VOC_IMAGES) + "\n")
    return tmp_path


def by_color(description: DatasetDescription) -> DatasetDescription:
    classes = [class_.model_dump() | {"ids": ()} for class_ in description.classes]
    void = {"name": "void", "color": (224, 224, 192)}
    return changed(description, labels_kind="color", classes=classes, ignored=[void])


@pytest.mark.parametrize("colored", [False, True], ids=["by number", "by color"])
def test_voc_palette_masks(shared_data, voc, colored):
    description = load_description("voc")
    dataset = Dataset(by_color(description) if colored else description, voc, "val")
    assert [example.name for example in dataset.examples] == VOC_IMAGES
    labels = [stored(shared_data / VOC / f"SegmentationClass/{name}.png", "P") for name in VOC_IMAGES]
    for index, label in enumerate(labels):
        assert np.array_equal(dataset[index].label, label)
    assert np.unique(labels[0]).tolist() == [0, 5, 15, 255]  # bottle, person
    check_counts(dataset, labels)


def test_palette_masks_with_lists_of_names(shared_data):
    folder = shared_data / DRAWN
    dataset = Dataset(parse_description(SHAPES, "shapes.toml"), folder, "train+val")
    listed = [name for split in ("train", "val") for name in (folder / f"splits/{split}.txt").read_text().split()]
    assert [example.name for example in dataset.examples] == listed
    assert len(listed) == 5
    labels = [stored(folder / f"gts/{name}_gt.png", "P") for name in listed]
    for index, (name, label) in enumerate(zip(listed, labels, strict=True)):
        assert np.array_equal(dataset[index].label, label)
        assert np.array_equal(dataset[index].image, pixels(folder / f"imgs/{name}_img.jpg"))
    check_counts(dataset, labels)


def test_a_gray_image_has_three_channels(shared_data):
    """A palette mask with a color JPEG and with the same image in gray."""
    description = changed(
        parse_description(SHAPES, "shapes.toml"),
        images=("{name}.jpg",), labels=("seg.png",), lists=(), splits={"all": "all"},
    )  # fmt: skip
    folder = shared_data / "samples/mmseg_tests_data"
    dataset = Dataset(description, folder, "all")
    assert [example.name for example in dataset.examples] == ["color", "gray"]
    for index, name in enumerate(("color", "gray")):
        assert np.array_equal(dataset[index].image, pixels(folder / f"{name}.jpg"))
        assert np.array_equal(dataset[index].label, stored(folder / "seg.png", "P"))
