"""Frames of a video and images that look alike are in one split; the seed decides in which."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from fastfcn.checking.check import FolderReport, check_folder
from fastfcn.init.choices import TrainingMachine
from fastfcn.init.groups import Looks, group_images
from fastfcn.init.init import InitResult, init
from fastfcn.init.splits import Splits, choose_splits
from tests.helpers.own_sets import photo, save, stripes, video_set

CPU = TrainingMachine("cpu", "2 CPU cores", 8.0)


def drawn(root: Path, seed: int = 0) -> Splits:
    return choose_splits(check_folder(root, show_progress=False), seed)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> FolderReport:
    """Five videos of 16 frames."""
    return check_folder(video_set(tmp_path_factory.mktemp("drive"), videos=5), show_progress=False)


def run_init(root: Path) -> InitResult:
    return init(root, pretrained="none", machine=CPU)


def videos(names: list[str], frames: int = 16) -> set[int]:
    """The videos that these frames are from."""
    return {int(name.removeprefix("frame_")) // frames for name in names}


@pytest.mark.parametrize("seed", range(4))
def test_videos_are_not_spread_over_both_splits(seed: int, report: FolderReport):
    """Although the frames of all videos are numbered on."""
    splits = choose_splits(report, seed)
    train, val = splits.drawn["train"], splits.drawn["val"]
    assert (len(train), len(val)) == (64, 16)
    assert not videos(train) & videos(val)
    assert any("5 group(s) of images that look alike" in reason for reason in splits.reasons)


def test_the_seed_decides(report: FolderReport):
    assert choose_splits(report, 3).drawn == choose_splits(report, 3).drawn
    assert len({tuple(choose_splits(report, seed).drawn["val"]) for seed in range(6)}) > 1


def test_one_video_is_cut_into_consecutive_parts(tmp_path: Path):
    splits = drawn(video_set(tmp_path / "drive", videos=1, frames=40))
    numbers = [int(name.removeprefix("frame_")) for name in splits.drawn["val"]]
    assert numbers == list(range(numbers[0], numbers[0] + 8))
    assert any("cut into 5 consecutive parts" in reason for reason in splits.reasons)


def test_copies_with_other_names_stay_together(tmp_path: Path):
    """Pairs of almost the same image, with names that share nothing."""
    for number in range(20):
        for name in (f"a{number:02}x", f"z{(7 * number) % 20:02}y{number}"):
            photo(tmp_path / f"images/{name}.jpg", number)
            save(tmp_path / f"masks/{name}.png", stripes((0, 1), number))
    for seed in range(3):
        splits = drawn(tmp_path, seed)
        sides = [{int(name[1:3]) if name[0] == "a" else int(name.split("y")[1]) for name in splits.drawn[split]}
                 for split in ("train", "val")]  # fmt: skip
        assert not sides[0] & sides[1]
        assert len(splits.drawn["val"]) == 8


def test_different_photos_are_drawn_one_by_one(tmp_path: Path):
    for number in range(20):
        photo(tmp_path / f"images/IMG_{number:04}.jpg", number)
        save(tmp_path / f"masks/IMG_{number:04}.png", stripes((0, 1), number))
    splits = drawn(tmp_path)
    assert len(splits.drawn["val"]) == 4
    assert splits.reasons[0].startswith("Random split of images with seed 0")


def test_the_reasons_are_printed_and_in_the_description(tmp_path: Path):
    root = video_set(tmp_path / "drive")
    result = run_init(root)
    assert any("look alike" in reason for reason in result.split_reasons)
    assert "look alike" in (root / "dataset.toml").read_text(encoding="utf-8").replace("\n# ", " ")


def test_every_image_is_in_one_group():
    random = np.random.default_rng(0)
    names = sorted(f"{number:08x}" for number in random.integers(0, 2**31, 60))
    looks = Looks(random.integers(-40, 40, (60, 25)).astype(np.int8), random.integers(0, 256, (60, 8)).astype(np.uint8))
    looks.fingerprints[10:20], looks.gradients[10:20] = looks.fingerprints[10], looks.gradients[10]
    groups = group_images(names, looks)
    assert sorted(chain.from_iterable(groups.units)) == names
    (together,) = [unit for unit in groups.units if names[10] in unit]
    assert set(names[10:20]) <= set(together)
