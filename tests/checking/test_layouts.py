"""Common layouts are detected, as patterns that a dataset description accepts."""

from pathlib import Path

import pytest

from fastfcn.checking.check import check_folder
from fastfcn.checking.folder_names import folder_name
from fastfcn.checking.layouts import find_layout
from fastfcn.data.description import DatasetDescription
from fastfcn.data.layout import find_examples
from fastfcn.errors import DataError
from tests.checking.clean import label, picture, save

CITY = "{split}/{folder1}/{name}"
# name -> image files, mask files, other files, and the patterns of images and masks.
LAYOUTS = {
    "images, masks": ("images/{}.jpg", "masks/{}.png", "images/{name}.jpg", "masks/{name}.png"),
    "img, lbl": ("img/{}.png", "lbl/{}.png", "img/{name}.png", "lbl/{name}.png"),
    "imgs, gts with suffixes": ("imgs/{}_img.jpg", "gts/{}_gt.png", "imgs/{name}_img.jpg", "gts/{name}_gt.png"),
    "capitals": ("Images/{}.JPG", "Labels/{}.PNG", "Images/{name}.JPG", "Labels/{name}.PNG"),
    "one folder, suffix": ("{}.jpg", "{}_mask.png", "{name}.jpg", "{name}_mask.png"),
    "one folder, both suffixes": ("all/{}_sat.jpg", "all/{}_mask.png", "all/{name}_sat.jpg", "all/{name}_mask.png"),
    "one folder, formats": ("all/{}.jpg", "all/{}.png", "all/{name}.jpg", "all/{name}.png"),
    "one folder, CamVid's": ("{}.png", "{}_L.png", "{name}.png", "{name}_L.png"),
    "prefixes": ("data/img_{}.png", "data/mask_{}.png", "data/img_{name}.png", "data/mask_{name}.png"),
    "DRIVE": ("images/{}_training.tif", "1st_manual/{}_manual1.gif", "images/{name}_training.tif",
              "1st_manual/{name}_manual1.gif"),
    "VOC": ("VOCdevkit/VOC2012/JPEGImages/{}.jpg", "VOCdevkit/VOC2012/SegmentationClass/{}.png",
            "VOCdevkit/VOC2012/JPEGImages/{name}.jpg", "VOCdevkit/VOC2012/SegmentationClass/{name}.png"),
    "drones": ("set/original_images/{}.jpg", "set/label_images_semantic/{}.png",
               "set/original_images/{name}.jpg", "set/label_images_semantic/{name}.png"),
    "x, y": ("x/{}.png", "y/{}.png", "x/{name}.png", "y/{name}.png"),
    "spaces and letters": ("Bilder images/grün {}.jpg", "Bilder masks/grün {}.png",
                           "Bilder images/{name}.jpg", "Bilder masks/{name}.png"),
    "sequences": ("images/{}/frame a.jpg", "masks/{}/frame a.png",
                  "images/{folder1}/{name}.jpg", "masks/{folder1}/{name}.png"),
}  # fmt: skip
SPLIT_LAYOUTS = {
    "images/train": ("images/{s}/{}.jpg", "masks/{s}/{}.png", "images/{split}/{name}.jpg", "masks/{split}/{name}.png"),
    "train/images": ("{s}/images/{}.jpg", "{s}/masks/{}.png", "{split}/images/{name}.jpg", "{split}/masks/{name}.png"),
    "CamVid": ("{s}/{}.png", "{s}annot/{}.png", "{split}/{name}.png", "{split}annot/{name}.png"),
    "train_images": ("{s}_images/{}.jpg", "{s}_masks/{}.png", "{split}_images/{name}.jpg", "{split}_masks/{name}.png"),
    "imagesTr": ("images{S}/{}.png", "labels{S}/{}.png", "images{split}/{name}.png", "labels{split}/{name}.png"),
    "mmsegmentation": ("img_dir/{s}/{}.jpg", "ann_dir/{s}/{}.png", "img_dir/{split}/{name}.jpg",
                       "ann_dir/{split}/{name}.png"),
    "ADE20K": ("images/{s}ing/ADE_{}.jpg", "annotations/{s}ing/ADE_{}.png",
               "images/{split}/{name}.jpg", "annotations/{split}/{name}.png"),
    "COCO": ("images/{s}2017/{}.jpg", "annotations/{s}2017/{}.png",
             "images/{split}/{name}.jpg", "annotations/{split}/{name}.png"),
    "one folder": ("{s}/{}.jpg", "{s}/{}_mask.png", "{split}/{name}.jpg", "{split}/{name}_mask.png"),
    "Cityscapes": ("leftImg8bit/{s}/{s}city/{}_leftImg8bit.png", "gtFine/{s}/{s}city/{}_gtFine_labelIds.png",
                   f"leftImg8bit/{CITY}_leftImg8bit.png", f"gtFine/{CITY}_gtFine_labelIds.png"),
}  # fmt: skip


def write(root: Path, images: str, masks: str, **parts: str) -> None:
    for number in range(4):
        save(root / images.format(number, **parts), picture(number), **({"quality": 90} if "jpg" in images else {}))
        save(root / masks.format(number, **parts), label(number))


def described(images: tuple[str, ...], labels: tuple[str, ...], **more: object) -> DatasetDescription:
    """A description with these patterns: a dataset must read exactly the pairs that were detected."""
    values: dict = {"format": 1, "name": "a", "title": "a", "home": "", "labels_kind": "index", "folders": (".",)}
    values |= {"lists": (), "ignored": ()}
    classes = tuple({"name": str(value), "color": (value, 0, 0), "ids": (value,)} for value in range(4))
    return DatasetDescription.model_validate(values | {"images": images, "labels": labels, "classes": classes} | more)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_without_splits(name: str, tmp_path: Path):
    images, masks, image_pattern, mask_pattern = LAYOUTS[name]
    write(tmp_path, images, masks)
    dataset = find_layout(tmp_path)
    layout = dataset.layout
    assert (layout.images, layout.labels, layout.splits) == ((image_pattern,), (mask_pattern,), {"all": ""})
    assert len(dataset) == 4
    assert not any((dataset.images_alone, dataset.masks_alone, dataset.same_name, dataset.unlisted))
    seen = list(check_folder(tmp_path, show_progress=False).examples())
    # {name}.png also matches NAME_L.png, so that a list of the names is needed.
    lists = ("{split}.txt",) if name == "one folder, CamVid's" else ()
    (tmp_path / "all.txt").write_text("".join(f"{example.name}\n" for example in seen))
    description = described(layout.images, layout.labels, splits={"all": "all"}, lists=lists)
    examples = find_examples(description, tmp_path, "all")
    assert [(example.name, str(example.image_path.relative_to(tmp_path))) for example in examples] == [
        (example.name, example.image) for example in seen
    ]
    assert [str(example.label_path.relative_to(tmp_path)) for example in examples] == [example.mask for example in seen]


@pytest.mark.parametrize("name", SPLIT_LAYOUTS)
def test_layouts_with_splits(name: str, tmp_path: Path):
    images, masks, image_pattern, mask_pattern = SPLIT_LAYOUTS[name]
    for split, other in (("train", "Tr"), ("test", "Ts")):
        write(tmp_path, images, masks, s=split, S=other)
    layout = find_layout(tmp_path).layout
    assert (layout.images, layout.labels) == ((image_pattern,), (mask_pattern,))
    description = described(layout.images, layout.labels, splits=layout.splits)
    seen = list(check_folder(tmp_path, show_progress=False).examples())
    for split in ("train", "test"):
        examples = find_examples(description, tmp_path, split)
        here = [example for example in seen if example.split == split]
        assert [example.name for example in examples] == [example.name for example in here]
        assert [example.label_path for example in examples] == [tmp_path / example.mask for example in here]
        assert len(here) == 4


def test_cityscapes_other_renderings_are_passed_over(tmp_path: Path):
    images, masks, *_ = SPLIT_LAYOUTS["Cityscapes"]
    write(tmp_path, images, masks, s="val")
    for end in ("color", "instanceIds", "labelTrainIds"):
        write(tmp_path, images, masks.replace("labelIds", end), s="val")
    dataset = find_layout(tmp_path)
    assert dataset.layout.name == "cityscapes"
    assert all("labelIds" in dataset.contents.files.path(number) for number in dataset.masks)
    assert (len(dataset), len(dataset.masks_alone)) == (4, 0)


def test_lists_of_names(tmp_path: Path):
    images, masks, *_ = LAYOUTS["VOC"]
    write(tmp_path, images, masks)
    (tmp_path / images.format(3)).unlink()
    save(tmp_path / images.format("unlisted"), picture(9))
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n3\n")
    (lists / "val.txt").write_text("1\n2\n")
    (lists / "trainval.txt").write_text("0\n1\n2\n3\n")
    report = check_folder(tmp_path, show_progress=False)
    assert report.layout.lists == ("VOCdevkit/VOC2012/ImageSets/Segmentation/{split}.txt",)
    assert report.pairs_by_split == {"train": 1, "val": 2}
    assert report.dataset.unlisted == 1
    problems = {problem.kind: list(problem.files) for problem in report.problems}
    assert problems["listed_without_image"] == ["VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"]
    assert problems["same_image_in_two_splits"] == [images.format(1)]


def test_folders_without_pairs_are_explained(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        find_layout(tmp_path / "nothing")
    with pytest.raises(DataError, match="There are no images in"):
        find_layout(tmp_path)
    save(tmp_path / "photos/a.jpg", picture(0))
    (tmp_path / "photos/a.json").write_text("{}")
    with pytest.raises(DataError, match="No two files") as caught:
        find_layout(tmp_path)
    assert "Convert the labels in .json files to PNG masks" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "pattern", "split", "role"),
    [
        ("trainannot", "{split}annot", "train", "mask"),
        ("train2017", "{split}", "train2017", ""),
        ("leftImg8bit", "leftImg8bit", "", "image"),
        ("SegmentationObject", "SegmentationObject", "", "other"),
        ("images_prepped_test", "images_prepped_{split}", "test", "image"),
        ("training_set", "{split}", "training_set", ""),
        ("trainstation", "trainstation", "", ""),
        ("contest", "contest", "", ""),
        ("frankfurt", "frankfurt", "", ""),
    ],
)
def test_what_folder_names_say(name: str, pattern: str, split: str, role: str):
    assert tuple(folder_name(name)) == (pattern, split, role)
