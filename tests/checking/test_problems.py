"""Every kind of defect planted in a clean folder is reported with its files, and fixed or left out by --fix."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastfcn.checking.check import check_folder
from fastfcn.checking.fixing import CHANGES, write_fixed_copy
from fastfcn.checking.problem import Problem
from tests.checking.clean import mask_path, stored, write_clean
from tests.checking.defects import ALL, COLORS, DEFECTS, MASKS

# Problems that are also correct to report.
FOLLOWS = {
    "masks_of_colors_with_a_slip": {"color_masks"},
    "masks_of_colors_as_jpeg": {"color_masks"},
    "all_binary_masks_blurred": {"binary_255"},
    "masks_of_instances_in_colors": {"class_absent"},
}


@pytest.fixture(scope="session")
def clean_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("clean") / "data")


@pytest.fixture
def root(tmp_path: Path, clean_folder: Path) -> Path:
    shutil.copytree(clean_folder, tmp_path / "data")
    return tmp_path / "data"


def by_kind(problems: list[Problem]) -> dict[str, Problem]:
    kinds = [problem.kind for problem in problems]
    assert len(kinds) == len(set(kinds))
    for problem in problems:
        assert problem.message
        assert problem.advice
        assert problem.count == len(problem.files) or not problem.files
    return {problem.kind: problem for problem in problems}


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_there_are_many_kinds():
    assert len(DEFECTS) >= 50


def test_a_clean_folder_has_no_problems(root: Path):
    report = check_folder(root, show_progress=False)
    assert report.problems == []
    assert report.pairs == 14


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_are_reported_with_their_files(name: str, root: Path):
    planted = DEFECTS[name](root)
    problems = by_kind(check_folder(root, show_progress=False).problems)
    assert planted.kind in problems
    problem = problems.pop(planted.kind)
    assert (sorted(problem.files), problem.severity) == (sorted(planted.files), planted.severity)
    assert set(problems) <= FOLLOWS.get(name, set()), "a false positive"


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_are_fixed_or_left_out_and_always_listed(name: str, root: Path, tmp_path: Path):
    planted = DEFECTS[name](root)
    before, report = digests(root), check_folder(root, show_progress=False)
    changes = write_fixed_copy(report, tmp_path / "out", ["all"], show_progress=False).changes
    assert digests(root) == before
    after = check_folder(tmp_path / "out", show_progress=False)
    kinds = {problem.kind for problem in after.problems}
    listed = {change.file: change.what for change in changes}
    images = sum(path.suffix in (".jpg", ".png", ".tif") for path in (root / "images").rglob("*"))
    left_out = sum(what.startswith("left out") for file, what in listed.items() if file.startswith("images"))
    copied = sum(path.is_file() for path in (tmp_path / "out/images").rglob("*"))
    assert copied == images - left_out, "every image is in the copy or in the list"
    assert (tmp_path / "out" / CHANGES).read_text(encoding="utf-8").count("\n") == len(changes)
    if planted.outcome == "kept":
        assert planted.kind in kinds
        return
    assert planted.kind not in kinds
    assert not after.errors
    affected = [what for file, what in listed.items() if file in planted.files]
    assert affected
    assert any(what.startswith("left out") for what in affected) == (planted.outcome == "left out")


def fixed(name: str, root: Path, out: Path) -> Path:
    DEFECTS[name](root)
    write_fixed_copy(check_folder(root, show_progress=False), out, ["all"], show_progress=False)
    return out


def truth(root: Path) -> dict[str, np.ndarray]:
    return {path: stored(root / path) for path in MASKS}


@pytest.mark.parametrize(
    "name",
    ["numbers_from_1", "gaps", "masks_stretched_to_be_seen", "masks_of_colors", "one_mask_off_by_one",
     "palette_in_another_order", "one_mask_of_colors_among_palettes", "masks_of_colors_with_a_slip",
     "mask_of_16_bits"],
)  # fmt: skip
def test_fixed_masks_equal_the_originals(name: str, root: Path, tmp_path: Path):
    originals = truth(root)
    out = fixed(name, root, tmp_path / "out")
    order = sorted(map(tuple, COLORS.tolist())) if name.startswith("masks_of_colors") else None
    for path, values in originals.items():
        expected = values if order is None else np.array([order.index(tuple(c)) for c in COLORS.tolist()])[values]
        assert np.array_equal(stored(out / path), expected), path


@pytest.mark.parametrize("name", ["masks_of_0_and_255", "one_mask_of_0_and_255"])
def test_fixed_binary_masks(name: str, root: Path, tmp_path: Path):
    originals = truth(root)
    out = fixed(name, root, tmp_path / "out")
    assert all(np.array_equal(stored(out / path), values > 0) for path, values in originals.items())


@pytest.mark.parametrize(
    ("name", "share"), [("all_binary_masks_blurred", 0.99), ("masks_of_colors_as_jpeg", 0.98), ("mask_as_jpeg", 0.9)]
)
def test_blurred_masks_are_sharp_again(name: str, root: Path, tmp_path: Path, share: float):
    originals = truth(root)
    out = fixed(name, root, tmp_path / "out")
    order = sorted(map(tuple, COLORS.tolist()))
    to_order = np.array([order.index(tuple(color)) for color in COLORS.tolist()])
    for path, values in originals.items():
        expected = {"all_binary_masks_blurred": values > 0, "masks_of_colors_as_jpeg": to_order[values]}
        sharp = stored(out / path)
        assert (sharp == expected.get(name, values)).mean() >= share, path
        assert set(np.unique(sharp)) <= {0, 1, 2, 3}


def test_an_image_against_its_mask_is_written_as_it_was_stored(root: Path, tmp_path: Path):
    out = fixed("image_turned_by_exif_and_mask_is_not", root, tmp_path / "out")
    path = "images/train/train_03.jpg"
    assert np.abs(stored(out / path).astype(int) - stored(root / path)).mean() < 3
    assert stored(out / path).shape[:2] == stored(out / mask_path("train_03")).shape


def test_valid_files_are_copied_byte_for_byte(root: Path, tmp_path: Path):
    out = fixed("mask_truncated", root, tmp_path / "out")
    before, after = digests(root), digests(out)
    after.pop(CHANGES)
    assert len(after) == 2 * (len(ALL) - 1)
    assert all(before[path] == digest for path, digest in after.items())
