from pathlib import Path

import pytest

from fastfcn.data.description import DatasetDescription, load_description
from fastfcn.data.layout import find_examples
from fastfcn.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(description: DatasetDescription, root: Path, split: str) -> list[str]:
    return [example.name for example in find_examples(description, root, split)]


@pytest.fixture
def camvid(tmp_path) -> Path:
    touch(tmp_path, "train/b.png", "train/a.png", "trainannot/a.png", "trainannot/b.png", "trainannot/c.png")
    touch(tmp_path, "val/d.jpg", "valannot/d.png")
    return tmp_path


def test_examples_are_sorted_and_paired(camvid):
    examples = find_examples(load_description("camvid"), camvid, "train")
    assert [example.name for example in examples] == ["a", "b"]
    assert examples[0].image_path == camvid / "train/a.png"
    assert examples[0].label_path == camvid / "trainannot/a.png"


def test_two_splits_together_with_jpg_and_png(camvid):
    assert names(load_description("camvid"), camvid, "train+val") == ["a", "b", "d"]


def test_the_folder_around_the_data_will_do(camvid):
    inner = camvid / "around" / "CamVid"
    inner.mkdir(parents=True)
    for part in ("train", "trainannot"):
        (camvid / part).rename(inner / part)
    assert names(load_description("camvid"), camvid / "around", "train") == ["a", "b"]


def test_hidden_files_are_not_images(camvid):
    touch(camvid, "train/._a.png")
    assert names(load_description("camvid"), camvid, "train") == ["a", "b"]


def test_masks_in_the_image_folder_are_not_images(tmp_path):
    touch(tmp_path, "train/a.png", "train/a_mask.png", "train/b.png", "train/b_mask.png", "train/c_mask.png")
    camvid = load_description("camvid")
    same_folder = camvid.model_copy(update={"images": ("{split}/{name}.png",), "labels": ("{split}/{name}_mask.png",)})
    with pytest.raises(DataError, match=r"No mask for .*c_mask.png"):
        names(same_folder, tmp_path, "train")
    (tmp_path / "train/c_mask.png").unlink()
    assert names(same_folder, tmp_path, "train") == ["a", "b"]


def test_cityscapes_cities(tmp_path):
    touch(tmp_path, "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", "gtFine/val/ulm/ulm_0_gtFine_labelIds.png")
    touch(tmp_path, "leftImg8bit/val/bonn/bonn_0_leftImg8bit.png", "gtFine/val/bonn/bonn_0_gtFine_labelIds.png")
    touch(tmp_path, "gtFine/val/bonn/bonn_0_gtFine_instanceIds.png")
    examples = find_examples(load_description("cityscapes"), tmp_path, "val")
    assert [example.name for example in examples] == ["bonn/bonn_0", "ulm/ulm_0"]
    assert examples[1].label_path.name == "ulm_0_gtFine_labelIds.png"


def test_lists_say_what_a_split_holds(tmp_path):
    home = "VOCdevkit/VOC2012"
    touch(tmp_path, *(f"{home}/JPEGImages/{name}.jpg" for name in "abc"))
    touch(tmp_path, f"{home}/SegmentationClass/a.png", f"{home}/SegmentationClassAug/a.png")
    touch(tmp_path, f"{home}/SegmentationClassAug/b.png", f"{home}/ImageSets/Segmentation/train.txt")
    (tmp_path / home / "ImageSets/Segmentation/train.txt").write_text("a\n\n")
    (tmp_path / home / "ImageSets/Segmentation/aug.txt").write_text("b\n")
    examples = find_examples(load_description("voc"), tmp_path, "train+aug")
    assert [example.name for example in examples] == ["a", "b"]
    assert [example.label_path.parent.name for example in examples] == [
        "SegmentationClass",
        "SegmentationClassAug",
    ]
    assert names(load_description("voc"), tmp_path / "VOCdevkit", "train") == ["a"]
    (tmp_path / home / "ImageSets/Segmentation/val.txt").write_text("a\nz\n")
    with pytest.raises(DataError, match=r"val\.txt names z, but there is no such image.*JPEGImages"):
        names(load_description("voc"), tmp_path, "val")


def test_a_missing_folder_is_reported_with_the_download_page(tmp_path):
    with pytest.raises(DataError, match=r"data folder .*nowhere does not exist") as caught:
        names(load_description("cityscapes"), tmp_path / "nowhere", "val")
    assert "https://www.cityscapes-dataset.com" in caught.value.hint


def test_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"nothing matches leftImg8bit/val/\{city\}/\{name\}_leftImg8bit.png") as caught:
        names(load_description("cityscapes"), tmp_path, "val")
    assert str(tmp_path) in caught.value.message


def test_unknown_split(camvid):
    with pytest.raises(DataError, match="camvid has no split 'testing'") as caught:
        names(load_description("camvid"), camvid, "train+testing")
    assert "train, val, test" in caught.value.hint


def test_images_without_a_mask_are_named_and_counted(camvid):
    touch(camvid, *(f"train/extra{number}.png" for number in range(5)))
    with pytest.raises(DataError) as caught:
        names(load_description("camvid"), camvid, "train")
    assert "extra0.png" in caught.value.message
    assert "and 2 more" in caught.value.message
    assert str(camvid / "trainannot/{name}.png") in caught.value.message


def test_two_files_of_one_example(camvid):
    touch(camvid, "train/a.jpg")
    with pytest.raises(DataError, match=r"train/a\.png and .*train/a\.jpg are the same example"):
        names(load_description("camvid"), camvid, "train")


def test_special_characters_in_folders_are_taken_literally(tmp_path):
    root = tmp_path / "a [b] {c}"
    touch(root, "train/x[1].png", "trainannot/x[1].png")
    assert names(load_description("camvid"), root, "train") == ["x[1]"]


@pytest.mark.parametrize(
    "line", ["images/b (1).jpg", "b (1)", r"C:\images\b (1).jpg", "b (1).jpg\tb.png", "b (1).jpg,b.png"]
)
def test_names_with_spaces_are_not_columns(tmp_path, line):
    """As Windows calls a copy: `b` is another image."""
    touch(
        tmp_path, *(f"{part}/{name}.{end}" for part, end in (("train", "jpg"), ("trainannot", "png")) for name in "ab")
    )
    touch(tmp_path, "train/b (1).jpg", "trainannot/b (1).png")
    (tmp_path / "train.txt").write_text(line)
    description = load_description("camvid").model_copy(
        update={"lists": ("{split}.txt",), "images": ("train/{name}.jpg",)}
    )
    if "b.png" in line:
        with pytest.raises(DataError, match=r"the mask of .*b \(1\)\.jpg is .*b \(1\)\.png"):
            find_examples(description, tmp_path, "train")
    else:
        assert names(description, tmp_path, "train") == ["b (1)"]


def test_an_image_that_a_list_names_twice_counts_once(camvid):
    """Otherwise it would count twice in scores, and could be in two folds."""
    (camvid / "val.txt").write_text("d\nval/d.jpg\n")
    description = load_description("camvid").model_copy(update={"lists": ("{split}.txt",)})
    assert len(find_examples(description, camvid, "val")) == 1
