"""`fastfcn check`: clean folders pass, each defect is reported, an empty folder gets download instructions."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.checking.known_dataset import KnownDatasetReport, check_known_dataset
from fastfcn.data.description import DatasetDescription, description_names, load_description
from fastfcn.errors import DataError
from tests.helpers.command import Finished, fastfcn
from tests.helpers.tiny import write_streets

CAMVID = load_description("camvid")


def describe(**changes: object) -> DatasetDescription:
    """CamVid's description with other counts and similar changes."""
    return CAMVID.model_copy(update=changes)


SMALL = describe(counts={"train": (3,), "val": (2,)})


def pair(root: Path, image: str, mask: str, values: tuple[int, ...] = (0, 3, 11), size: tuple[int, int] = (6, 9)):
    for name in (image, mask):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(root / image)
    label = np.resize(np.array(values, np.uint8), size)
    Image.fromarray(label).save(root / mask)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    root = tmp_path / "camvid"
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            pair(root, f"{split}/{index}.png", f"{split}annot/{index}.png")
    return root


def kinds(report: KnownDatasetReport) -> dict[str, tuple[str, ...]]:
    """The reported problems: kind -> files."""
    assert all(problem.severity == "error" and problem.advice and problem.message for problem in report.problems)
    assert all(problem.count == max(len(problem.files), 1) for problem in report.problems)
    return {problem.kind: problem.files for problem in report.problems}


def test_a_clean_folder(camvid: Path):
    report = check_known_dataset(SMALL, camvid, values=True)
    assert report.problems == []
    assert [(row.split, row.images, row.pairs) for row in report.splits] == [
        ("train", 3, 3), ("val", 2, 2), ("test", 0, 0),
    ]  # fmt: skip
    assert report.splits[0].example == {
        "image": "train/0.png", "mask": "trainannot/0.png", "size": [6, 9], "classes": 2,
    }  # fmt: skip
    report.raise_problems()


def test_a_missing_mask(camvid: Path):
    (camvid / "trainannot/1.png").unlink()
    report = check_known_dataset(SMALL, camvid)
    assert kinds(report) == {"mask_missing": ("train/1.png",)}
    with pytest.raises(DataError, match="cannot be used as camvid:\n  train: 1 images have no mask") as caught:
        report.raise_problems()
    assert f"fastfcn check {camvid} --dataset camvid" in caught.value.hint


def test_a_missing_image(camvid: Path):
    (camvid / "val/0.png").unlink()
    assert kinds(check_known_dataset(SMALL, camvid)) == {"wrong_count": (), "mask_without_image": ("valannot/0.png",)}


def test_a_wrong_count(camvid: Path):
    pair(camvid, "val/more.png", "valannot/more.png")
    (problem,) = check_known_dataset(SMALL, camvid).problems
    assert (problem.kind, problem.message) == ("wrong_count", "val: found 3 images, expected 2.")


def test_one_of_several_published_counts(camvid: Path):
    assert check_known_dataset(describe(counts={"train": (9, 3)}), camvid).problems == []
    (problem,) = check_known_dataset(describe(counts={"train": (9, 8)}), camvid).problems
    assert problem.message == "train: found 3 images, expected 9 or 8."


def test_a_split_that_is_not_there(camvid: Path):
    for folder in ("val", "valannot"):
        (camvid / folder).rename(camvid / f"{folder}_moved")
    (problem,) = check_known_dataset(SMALL, camvid).problems
    assert (problem.kind, "val/{name}.png" in problem.message) == ("no_split", True)
    assert check_known_dataset(SMALL, camvid, ["train"]).problems == []


def test_a_split_that_is_asked_for_must_be_there(camvid: Path):
    assert kinds(check_known_dataset(SMALL, camvid, ["test"])) == {"no_split": ()}
    assert kinds(check_known_dataset(SMALL, camvid, ["train+test"])) == {"no_split": ()}
    with pytest.raises(DataError, match="no split 'validation'"):
        check_known_dataset(SMALL, camvid, ["validation"])


def test_an_image_twice(camvid: Path):
    pair(camvid, "train/0.jpg", "trainannot/0.png")
    assert kinds(check_known_dataset(SMALL, camvid)) == {"duplicate_example": ()}


@pytest.mark.parametrize("values", [False, True])
def test_a_truncated_mask(camvid: Path, values: bool):
    path = camvid / "trainannot/0.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    kind = {"wrong_mask": ("trainannot/0.png",)} if values else {"wrong_pair": ("train/0.png", "trainannot/0.png")}
    assert kinds(check_known_dataset(SMALL, camvid, values=values)) == kind


def test_an_image_of_another_size(camvid: Path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(camvid / "val/0.png")
    report = check_known_dataset(SMALL, camvid)
    assert kinds(report) == {"wrong_pair": ("val/0.png", "valannot/0.png")}
    assert "6 x 9 (height x width), its image 4 x 4" in report.problems[0].message


def test_wrong_values_are_reported_if_every_mask_is_read(camvid: Path):
    for name in ("trainannot/1.png", "trainannot/2.png"):
        Image.fromarray(np.full((6, 9), 77, np.uint8)).save(camvid / name)
    assert check_known_dataset(SMALL, camvid).problems == []
    report = check_known_dataset(SMALL, camvid, values=True)
    assert kinds(report) == {"wrong_mask": ("trainannot/1.png", "trainannot/2.png")}
    assert "value 77 in 54 pixels" in report.problems[0].message


def test_masks_that_ignore_what_may_be_a_class(camvid: Path):
    for path in (camvid / "valannot").iterdir():
        Image.fromarray(np.resize(np.array([0, 11], np.uint8), (6, 9))).save(path)
    (problem,) = check_known_dataset(SMALL, camvid, values=True).problems
    assert (problem.kind, problem.files) == ("wrong_mask", ())
    assert "'sky' is the only class" in problem.message


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "voc"
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split, names in (("train", "ab"), ("val", "c")):
        for name in names:
            pair(root, f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png", values=(0, 15, 255))
        (lists / f"{split}.txt").write_text("\n".join(names))
    return root


VOC = load_description("voc").model_copy(update={"counts": {"train": (2,)}})


def test_split_lists_with_missing_files(voc: Path):
    assert check_known_dataset(VOC, voc).problems == []
    (voc / "JPEGImages/b.jpg").unlink()
    (voc / "SegmentationClass/c.png").unlink()
    assert kinds(check_known_dataset(VOC, voc)) == {
        "image_missing": ("JPEGImages/b.jpg",),
        "mask_without_image": ("SegmentationClass/b.png",),  # once, though both lists share the folder
        "mask_missing": ("JPEGImages/c.jpg",),
    }


def test_files_that_converters_write_next_to_masks_are_ignored(tmp_path: Path):
    description = load_description("coco_stuff").model_copy(update={"counts": {}})
    for split in ("train2017", "val2017"):
        pair(tmp_path, f"images/{split}/01.jpg", f"annotations/{split}/01.png", values=(0, 181, 255))
        pair(tmp_path, "unused.jpg", f"annotations/{split}/01_labelTrainIds.png")
    (tmp_path / "unused.jpg").unlink()
    assert check_known_dataset(description, tmp_path).problems == []
    pair(tmp_path, "unused.jpg", "annotations/val2017/02_labelTrainIds.png")
    assert kinds(check_known_dataset(description, tmp_path)) == {
        "mask_without_image": ("annotations/val2017/02_labelTrainIds.png",)
    }


def test_real_camvid_is_complete(shared_data: Path):
    report = check_known_dataset(CAMVID, shared_data / "camvid", values=False)
    assert report.problems == []
    assert [split.pairs for split in report.splits] == [367, 101, 0]


# The command.


def run(root: Path, *more: object) -> Finished:
    return fastfcn("check", root, "--dataset", "streets", "--workers", 0, *more)


def test_command_passes_and_fails(tmp_path: Path):
    streets = write_streets(tmp_path / "streets", 2, 2)
    done = run(streets, "--values", "--json", tmp_path / "report.json")
    assert (done.code, done.err.count("Error")) == (0, 0)
    assert "streets: no problems found in train, val." in done.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["dataset"], report["pairs"], report["problems"]) == ("streets", 4, [])
    lost = sorted((streets / "labels/train").iterdir())[0]
    lost.unlink()
    done = run(streets, "--json", tmp_path / "report.json")
    assert done.code == 1
    assert "error: train: 1 images have no mask. [mask_missing]" in done.out
    assert f"  images/train/{lost.name}" in done.out.splitlines()
    (problem,) = json.loads((tmp_path / "report.json").read_text())["problems"]
    assert {key: problem[key] for key in ("kind", "severity", "count", "files")} == {
        "kind": "mask_missing", "severity": "error", "count": 1, "files": [f"images/train/{lost.name}"],
    }  # fmt: skip
    assert run(streets, "--split", "val").code == 0


def test_many_files_are_counted_on_the_screen_and_all_in_the_json(tmp_path: Path):
    streets = write_streets(tmp_path / "streets", 8, 1)
    for path in (streets / "labels/train").iterdir():
        path.unlink()
    done = run(streets, "--json", tmp_path / "report.json")
    assert "  and 3 more" in done.out.splitlines()
    (problem,) = json.loads((tmp_path / "report.json").read_text())["problems"]
    assert len(problem["files"]) == problem["count"] == 8


@pytest.mark.parametrize("name", [name for name in description_names() if name != "streets"])
@pytest.mark.parametrize("there", [True, False], ids=["empty", "missing"])
def test_download_instructions_of_every_dataset_in_the_catalog(tmp_path: Path, name: str, there: bool):
    description, folder = load_description(name), tmp_path / "data"
    if there:
        folder.mkdir()
    done = fastfcn("check", folder, "--dataset", name)
    assert done.code == 1
    assert description.get.strip() in done.out
    assert description.license in done.out
    assert ("is empty" if there else "does not exist") in done.out
    assert "https://" in description.get or "http://" in description.get
    for split in ("train", "val"):  # in the tree, with the published number
        assert any(description.splits[split] in line for line in done.out.splitlines())
        assert f"{description.counts[split][0]} " in done.out


def test_an_unknown_dataset_is_a_user_error(tmp_path: Path):
    done = fastfcn("check", tmp_path, "--dataset", "cityscape")
    assert done.code == 2
    assert 'did you mean "cityscapes"' in done.err
