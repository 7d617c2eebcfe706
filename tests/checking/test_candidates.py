"""Several folders that could be the masks: which are used, why, and how to choose others."""

import json
from pathlib import Path

import pytest

from fastfcn.checking.check import FolderReport, check_folder
from fastfcn.data.layout import find_examples
from fastfcn.errors import DataError
from fastfcn.init.choices import TrainingMachine
from fastfcn.init.init import InitResult, init
from tests.helpers.command import fastfcn
from tests.helpers.own_sets import binary_set, photo, retina_set, save, stripes

CPU = TrainingMachine("cpu", "2 CPU cores", 8.0)


def checked(root: Path, images: str = "", masks: str = "") -> FolderReport:
    return check_folder(root, 1, False, images, masks)


def notes(report: FolderReport) -> list[str]:
    return [problem.message for problem in report.problems if problem.kind == "several_candidates"]


def run_init(root: Path) -> InitResult:
    return init(root, pretrained="none", machine=CPU, force=True)


def masks(root: Path, folder: str) -> None:
    for number in range(4):
        save(root / folder / f"{number}.png", stripes((0, 1), number))


def test_vessels_are_chosen_over_the_field_of_view(tmp_path: Path):
    report = checked(retina_set(tmp_path / "DRIVE"))
    assert report.layout.images == ("{split}/images/{name}_{split}.tif",)
    assert report.layout.labels == ("{split}/1st_manual/{name}_manual1.gif",)
    assert report.pairs_by_split == {"train": 8, "test": 0}
    (note,) = notes(report)
    assert "1st_manual/{name}_manual1.gif (8 pairs)" in note
    assert "annotator" in note
    assert "not used: {split}/mask/{name}_mask.gif (12 pairs)" in note
    assert report.as_json()["other_folders"] == [
        {"images": "{split}/images/{name}.tif", "masks": "{split}/mask/{name}_mask.gif", "pairs": 12}
    ]


@pytest.mark.parametrize("folder", ["mask", "training/mask", "test/mask"])
def test_masks_names_the_folder_in_all_splits(folder: str, tmp_path: Path):
    report = checked(retina_set(tmp_path / "DRIVE"), masks=folder)
    assert report.layout.labels == ("{split}/mask/{name}_mask.gif",)
    assert report.pairs_by_split == {"train": 8, "test": 4}
    assert notes(report) == []


def test_init_uses_the_chosen_folders_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    root = retina_set(tmp_path / "DRIVE")
    result = run_init(root)
    assert [problem.kind for problem in result.notes] == ["several_candidates"]
    assert result.description.labels == ("training/1st_manual/{name}_manual1.gif",)
    assert len(find_examples(result.description, root, "train+val")) == 8
    assert "lists_not_used" not in {problem.kind for problem in checked(root).problems}
    assert "splits/train.txt" in {path.relative_to(root).as_posix() for path in result.files}
    done = fastfcn("init", "DRIVE", "--masks", "mask", "--pretrained", "none", "--force", "--accelerator", "cpu")
    assert done.code == 0, done.err
    assert "Note:" not in done.out
    assert (root / "dataset.toml").read_text().count("{split}/mask/{name}_mask.gif") == 1
    done = fastfcn("init", "DRIVE", "--pretrained", "none", "--force", "--accelerator", "cpu")
    assert "Note: Several folders could be the masks." in done.out.replace("\n", " ")


def test_most_pairs_win_and_ties_are_said(tmp_path: Path):
    for number in range(4):
        photo(tmp_path / f"images/{number}.jpg", number)
    masks(tmp_path, "labels")
    masks(tmp_path, "trimaps")
    (note,) = notes(checked(tmp_path))
    assert "labels/{name}.png (4 pairs) is used, because it comes first by name; not used: trimaps/{name}.png" in note
    (tmp_path / "labels/3.png").unlink()
    (note,) = notes(checked(tmp_path))
    assert "trimaps/{name}.png (4 pairs) is used, because it has the most pairs" in note
    assert checked(tmp_path, masks="labels").pairs == 3


def test_images_can_be_chosen(tmp_path: Path):
    for number in range(4):
        photo(tmp_path / f"images/{number}.jpg", number)
        photo(tmp_path / f"rgb/{number}.jpg", number + 9)
    masks(tmp_path, "masks")
    assert notes(checked(tmp_path))
    report = checked(tmp_path, images="rgb")
    assert (report.layout.images, notes(report)) == (("rgb/{name}.jpg",), [])
    assert checked(tmp_path, images=str(tmp_path / "rgb"), masks="./masks").layout.images == ("rgb/{name}.jpg",)


def test_folders_whose_names_say_nothing(tmp_path: Path):
    """Folders that are chosen need no words for images or masks in their names."""
    for number in range(4):
        photo(tmp_path / f"a/{number}.png", number)
        save(tmp_path / f"b/{number}.png", stripes((0, 1), number))
    with pytest.raises(DataError, match="No two files"):
        checked(tmp_path)
    report = checked(tmp_path, images="a", masks="b")
    assert (report.layout.images, report.layout.labels, report.pairs) == (("a/{name}.png",), ("b/{name}.png",), 4)


def test_a_folder_that_does_not_exist(tmp_path: Path):
    root = binary_set(tmp_path / "leaf")
    with pytest.raises(DataError, match=r"--masks: .*leaf has no folder truth") as error:
        checked(root, masks="truth")
    assert "train/masks" in error.value.hint
    done = fastfcn("check", root, "--masks", "masks", "--dataset", "camvid")
    assert done.code == 2
    assert "--images, --masks, --bands and --nodata cannot" in done.err


def test_nothing_is_said_where_one_folder_fits(tmp_path: Path):
    root = binary_set(tmp_path / "leaf")
    done = fastfcn("check", root, "--json", tmp_path / "report.json")
    assert "several_candidates" not in done.out
    assert json.loads((tmp_path / "report.json").read_text())["other_folders"] == []
