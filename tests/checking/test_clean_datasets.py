"""Valid but unusual datasets are reported without problems."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.checking.check import FolderReport, check_folder
from tests.checking.clean import label, mask_path, names, picture, save, write_clean
from tests.checking.planting import COLORS, MASKS, all_masks, write_palette


def examined(root: Path) -> FolderReport:
    return check_folder(root, show_progress=False)


def kinds(root: Path) -> list[str]:
    return [problem.kind for problem in examined(root).problems]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_clean(tmp_path / "data")


def test_ignored_pixels(root: Path):
    all_masks(root, lambda values: np.where(np.arange(64) < 3, 255, values).astype(np.uint8))
    report = examined(root)
    assert report.problems == []
    assert [entry.value for entry in report.values] == [0, 1, 2, 3, 255]


def test_ignored_borders_around_every_region(root: Path):
    def outlined(values: np.ndarray) -> np.ndarray:
        edge = np.zeros(values.shape, bool)
        edge[1:] |= values[1:] != values[:-1]
        edge[:, 1:] |= values[:, 1:] != values[:, :-1]
        return np.where(edge, 255, values).astype(np.uint8)

    all_masks(root, outlined)
    assert kinds(root) == []


def test_palettes(root: Path):
    for path in MASKS:
        write_palette(root / path, label(int(path[-6:-4])), COLORS)
    report = examined(root)
    assert report.problems == []
    assert report.palette == dict(enumerate(map(tuple, COLORS.tolist())))


def test_random_numbers_in_every_pixel(root: Path):
    random = np.random.default_rng(0)
    all_masks(root, lambda values: random.integers(0, 12, values.shape, np.uint8))
    assert kinds(root) == []


def test_thin_structures(root: Path):
    """Poles and wires one pixel wide, with ids between those of their neighbors."""

    def wired(values: np.ndarray) -> np.ndarray:
        values = np.where(values > 1, 3, values).astype(np.uint8)
        values[:, ::16] = 2
        values[::20] = 1
        return values

    all_masks(root, wired)
    assert kinds(root) == []


def test_two_classes(root: Path):
    all_masks(root, lambda values: (values > 0).astype(np.uint8))
    assert kinds(root) == []


def test_one_bit_masks(root: Path):
    for path in MASKS:
        Image.fromarray(label(int(path[-6:-4])) > 0).save(root / path)
    report = examined(root)
    assert report.problems == []
    assert [entry.value for entry in report.values] == [0, 1]


def test_gray_images(root: Path):
    for name in names("train"):
        save(root / f"images/train/{name}.jpg", picture(int(name[-2:]))[..., 0])
    assert kinds(root) == []


def test_ids_stored_as_gray_colors(root: Path):
    all_masks(root, lambda values: np.repeat(values[..., None], 3, 2))
    report = examined(root)
    assert report.problems == []
    assert report.labels_kind == "index"


def test_images_of_many_sizes(root: Path):
    for number, name in enumerate(names("train")):
        size = (48 + number, 64 + 3 * number)
        save(root / f"images/train/{name}.jpg", picture(number, size))
        save(root / mask_path(name), label(number, size))
    report = examined(root)
    assert report.problems == []
    assert len(report.sizes) == 10


def test_files_of_other_programs_are_ignored(root: Path):
    for name in (".DS_Store", "images/train/._train_00.jpg", "__MACOSX/images/train_00.jpg", "masks/Thumbs.db"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0\1\2")
    assert kinds(root) == []


def test_an_image_with_a_single_class(root: Path):
    save(root / mask_path("train_03"), label(3) * 0 + 1)
    assert kinds(root) == []


def test_spaces_and_letters_of_other_alphabets(root: Path):
    renamed = root.with_name("Größe и 写真")
    shutil.move(root, renamed)
    for folder in ("images/train", "masks/train"):
        for path in list((renamed / folder).iterdir()):
            path.rename(path.with_name(f"Foto {path.stem} ñ 街{path.suffix}"))
    report = examined(renamed)
    assert report.problems == []
    assert next(report.examples()).image == "images/train/Foto train_00 ñ 街.jpg"


def test_a_dataset_of_one_image(tmp_path: Path):
    save(tmp_path / "images/a.png", picture(0))
    save(tmp_path / "masks/a.png", label(1))
    assert kinds(tmp_path) == []


@pytest.mark.parametrize(
    ("sample", "expected_kinds"),
    [
        ("ade20k_sample", []),
        ("voc_format_sample_labelme", []),
        ("mmseg_tests_data/pseudo_cityscapes_dataset", []),
        # Its 21 images contain few of the 182 ids, and every file has a different palette.
        ("coco_stuff_sample", ["id_gaps", "class_absent", "class_imbalance"]),
        ("mmseg_tests_data/pseudo_dataset", ["palettes_vary", "class_absent"]),
    ],
)
def test_real_samples(shared_data: Path, sample: str, expected_kinds: list[str]):
    assert kinds(shared_data / "samples" / sample) == expected_kinds


def test_real_camvid(shared_data: Path, tmp_path: Path):
    """CamVid's street images, and a variant in which every tenth mask has one small hole."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}annot").mkdir()
        for image in sorted((shared_data / "camvid" / split).iterdir())[::10]:
            shutil.copy(image, tmp_path / split)
            shutil.copy(shared_data / f"camvid/{split}annot/{image.stem}.png", tmp_path / f"{split}annot")
    report = examined(tmp_path)
    assert report.problems == []
    assert (report.layout.name, report.layout.catalog) == ("camvid", "camvid")
    path = sorted((tmp_path / "trainannot").iterdir())[5]
    with Image.open(path) as mask:
        small = mask.resize((240, 180), Image.Resampling.BILINEAR)
        small.resize((480, 360), Image.Resampling.BILINEAR).save(path)
    (problem,) = examined(tmp_path).problems
    assert (problem.kind, list(problem.files)) == ("mask_blurred", [f"trainannot/{path.name}"])


def test_counts_against_a_plain_count(root: Path):
    report = examined(root)
    labels = {path: label(int(path[-6:-4]) + (100 if "val" in path else 0)) for path in MASKS}
    for entry in report.values:
        assert entry.pixels == sum(int((values == entry.value).sum()) for values in labels.values())
        assert entry.images == sum(entry.value in values for values in labels.values())
        assert entry.by_split["val"] == sum(entry.value in labels[path] for path in MASKS if "val" in path)
    assert examined(root).as_json() == check_folder(root, workers=3, show_progress=False).as_json()


def test_colors(root: Path):
    """The values of color masks are the colors that were painted."""
    all_masks(root, lambda values: COLORS[values])
    report = examined(root)
    assert {entry.value for entry in report.values} == set(map(tuple, COLORS.tolist()))
    assert [problem.severity for problem in report.problems] == ["warning"]
