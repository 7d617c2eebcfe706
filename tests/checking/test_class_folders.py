"""Folders of one class each, with image and mask side by side: init, check and the corrected copy agree on them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.checking.check import check_folder
from fastfcn.checking.fixing import write_fixed_copy
from fastfcn.data.layout import find_examples
from fastfcn.init.choices import TrainingMachine
from fastfcn.init.init import InitResult, init
from tests.helpers.own_sets import defect_set, photo, save, stripes

CPU = TrainingMachine("cpu", "2 CPU cores", 8.0)
KINDS = ["MT_Blowhole", "MT_Break", "MT_Crack"]


def run_init(root: Path) -> InitResult:
    return init(root, pretrained="none", machine=CPU, force=True)


def test_init_writes_lists_of_paths_that_check_reads(tmp_path: Path):
    root = defect_set(tmp_path / "tiles")
    result = run_init(root)
    assert result.description.images == ("{folder1}/Imgs/{name}.jpg",)
    assert [entry.ids for entry in result.description.classes] == [(0,), (255,)]
    assert [problem.kind for problem in result.notes] == ["class_folders"]
    examples = {split: find_examples(result.description, root, split) for split in ("train", "val")}
    assert sum(map(len, examples.values())) == 32
    for pairs in examples.values():  # images of each kind are in both
        assert {pair.image_path.parts[-3] for pair in pairs} >= set(KINDS)
        assert all(pair.image_path.with_suffix(".png") == pair.label_path for pair in pairs)
    report = check_folder(root, show_progress=False)
    assert report.pairs_by_split == {"train": len(examples["train"]), "val": len(examples["val"])}
    kinds = {problem.kind for problem in report.problems}
    assert not {"lists_not_used", "listed_without_image"} & kinds


@pytest.mark.parametrize("described", [False, True])
def test_a_copy_with_a_class_per_folder(described: bool, tmp_path: Path):
    """Also after `init`, whose description of one class does not fit the copy."""
    root, out = defect_set(tmp_path / "tiles"), tmp_path / "copy"
    if described:
        run_init(root)
    copy = write_fixed_copy(check_folder(root, show_progress=False), out, ["folders"], show_progress=False)
    assert {area.kind for area in copy.areas} == {"folders"}
    assert (out / "classes.txt").read_text().split() == ["background", *KINDS]
    assert not (out / "dataset.toml").exists()
    for path in sorted(root.rglob("*.png")):
        before, after = (np.asarray(Image.open(folder / path.relative_to(root))) for folder in (root, out))
        kind = path.parts[-3]
        number = KINDS.index(kind) + 1 if kind in KINDS else 0
        assert np.array_equal(after, np.where(before == 255, number, before))
    result = run_init(out)
    assert list(result.description.class_names) == ["background", *KINDS]
    assert result.notes == ()
    assert result.errors == ()


def test_without_consent_there_is_one_class(tmp_path: Path):
    root, out = defect_set(tmp_path / "tiles"), tmp_path / "copy"
    write_fixed_copy(check_folder(root, show_progress=False), out, show_progress=False)
    values = {value for path in out.rglob("*.png") for value in np.unique(np.asarray(Image.open(path))).tolist()}
    assert values == {0, 1}
    assert list(run_init(out).description.class_names) == ["background", "foreground"]


@pytest.mark.parametrize("case", ["numbered", "named", "three values"])
def test_other_folders_are_no_classes(case: str, tmp_path: Path):
    """Numbered sequences, classes that a list names, and masks that mark several classes."""
    folders = ["seq01", "seq02"] if case == "numbered" else ["cats", "dogs"]
    for number in range(8):
        photo(tmp_path / f"images/{folders[number % 2]}/{number}.jpg", number)
        values = (0, 1, 2) if case == "three values" else (0, 255)
        save(tmp_path / f"masks/{folders[number % 2]}/{number}.png", stripes(values, number))
    if case == "named":
        (tmp_path / "classes.txt").write_text("background\nanimal\n")
    kinds = {problem.kind for problem in check_folder(tmp_path, show_progress=False).problems}
    assert "class_folders" not in kinds
