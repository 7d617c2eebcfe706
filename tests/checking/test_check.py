"""`fastfcn check DIR`: terminal output, JSON, exit codes, and the corrected copy."""

import json
import shutil
from pathlib import Path

import pytest

from tests.checking.clean import image_path, mask_path, write_clean
from tests.checking.defects import DEFECTS
from tests.helpers.command import Finished, fastfcn


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_clean(tmp_path / "my photos")


def run(root: Path, *more: object) -> Finished:
    return fastfcn("check", root, "--workers", 1, *more)


def test_a_clean_folder(root: Path, tmp_path: Path):
    done = run(root, "--json", tmp_path / "report.json")
    assert done.code == 0
    assert f"No problems found in {root}." in done.out
    assert f"fastfcn init '{root}'" in done.out
    assert "images/{split}/{name}.jpg" in done.out
    assert "│ 3     │" in done.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["pairs"], report["problems"]) == (14, [])


def test_an_error(root: Path, tmp_path: Path):
    DEFECTS["image_truncated"](root)
    done = run(root, "--json", tmp_path / "report.json")
    assert done.code == 1
    assert "error: Truncated or corrupt images: 1" in done.out
    assert "[image_truncated]" in done.out
    assert f"  {image_path('train_03')}" in done.out.splitlines()
    assert "Errors: 1, warnings: 0." in done.out
    assert f"fastfcn check '{root}' --fix OUT" in done.out
    (problem,) = json.loads((tmp_path / "report.json").read_text())["problems"]
    assert {key: problem[key] for key in ("kind", "severity", "count", "files")} == {
        "kind": "image_truncated", "severity": "error", "count": 1, "files": [image_path("train_03")],
    }  # fmt: skip
    assert problem["advice"].startswith("Restore these files")


def test_warnings_alone_exit_with_0(root: Path):
    DEFECTS["empty_mask"](root)
    done = run(root)
    assert done.code == 0
    assert "Errors: 0, warnings: 1." in done.out


def test_many_files_are_counted_on_the_screen_and_all_in_the_json(root: Path, tmp_path: Path):
    DEFECTS["masks_of_0_and_255"](root)
    done = run(root, "--json", tmp_path / "report.json")
    assert "  and 9 more" in done.out.splitlines()
    (problem,) = json.loads((tmp_path / "report.json").read_text())["problems"]
    assert len(problem["files"]) == problem["count"] == 14


def test_fix(root: Path, tmp_path: Path):
    DEFECTS["masks_of_0_and_255"](root)
    done = run(root, "--fix", tmp_path / "clean")
    assert done.code == 1, "the exit code is about the folder itself"
    assert f"  {mask_path('train_00')}: ids changed: 255 to 1" in done.out.splitlines()
    assert "No problems found in the copy." in done.out
    assert run(tmp_path / "clean").code == 0
    assert len((tmp_path / "clean/CHANGES.txt").read_text().splitlines()) == 14


def test_a_folder_with_a_recipe_and_an_image_that_no_list_names(root: Path):
    flat = root.with_name("all photos")
    for kind in ("images", "masks"):
        (flat / kind).mkdir(parents=True)
    for image in sorted(root.glob("images/*/*")):
        shutil.copy(image, flat / "images")
        shutil.copy(root / mask_path(image.stem), flat / "masks")
    assert fastfcn("init", flat, "--pretrained", "none").code == 0
    shutil.copy(image, flat / "images" / f"later{image.suffix}")
    done = run(flat)
    assert done.code == 0
    assert "  ignored 1 images that are in no split list" in done.out.splitlines()
    assert f"Next: fastfcn train '{flat}/recipe.toml' --data '{flat}' --out 'runs/all photos'" in done.out


@pytest.mark.parametrize("place", ["my photos/clean", "my photos", "."])
def test_fix_never_writes_into_the_original_folder(root: Path, tmp_path: Path, place: str):
    before = sorted(tmp_path.rglob("*"))
    done = run(root, "--fix", tmp_path / place)
    assert done.code == 2
    assert "is inside" in done.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_fix_leaves_no_part_of_a_copy(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    copies = iter([None, None, error])

    def copy(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes())
        if failure := next(copies):
            raise failure

    monkeypatch.setattr("shutil.copyfile", copy)
    done = run(root, "--fix", tmp_path / "clean")
    assert done.code
    assert "no space left" in done.err or isinstance(error, KeyboardInterrupt)
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_fix_never_writes_over_anything(root: Path, tmp_path: Path):
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean/thesis.txt").write_text("finished")
    done = run(root, "--fix", tmp_path / "clean")
    assert (done.code, "already exists" in done.err) == (2, True)
    assert [path.name for path in (tmp_path / "clean").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("more", [("--split", "val"), ("--values",), ("--fix", "out", "--dataset", "camvid")])
def test_options_that_do_not_go_together(root: Path, more: tuple[str, ...]):
    done = run(root, *more)
    assert done.code == 2
    assert "--dataset" in done.err


def test_a_folder_without_pairs(tmp_path: Path):
    done = run(tmp_path)
    assert (done.code, "There are no images in" in done.err) == (2, True)
