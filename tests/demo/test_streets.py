"""The drawn street scenes are reproducible, exact, varied, and readable as the dataset `streets`."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.dataset import Dataset
from fastfcn.data.description import load_description
from fastfcn.demo.streets import canvas as class_indices
from fastfcn.demo.streets import draw, write_dataset
from fastfcn.demo.streets.dataset import scene_seed
from fastfcn.errors import OutputError


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw(seed) for seed in range(24)]


def test_a_scene_is_a_pure_function_of_its_seed():
    first, again, other = draw(3), draw(3), draw(4)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("size", [(128, 192), (64, 64), (97, 161), (256, 320)])
def test_image_and_label_have_the_size_asked_for(size: tuple[int, int]):
    image, label = draw(1, size)
    assert image.shape == (*size, 3)
    assert label.shape == size
    assert image.dtype == label.dtype == np.uint8


def test_labels_are_class_indices_without_blended_values(scenes):
    values = np.unique(np.concatenate([label.ravel() for _, label in scenes]))
    assert values.tolist() == list(range(len(load_description("streets").classes)))


def test_class_indices_of_the_drawing_are_those_of_the_catalog():
    for index, entry in enumerate(load_description("streets").classes):
        assert getattr(class_indices, entry.name.upper()) == index
        assert entry.ids == (index,)


def test_every_class_is_frequent_enough_to_learn(scenes):
    for index, entry in enumerate(load_description("streets").classes):
        scene_count = sum((label == index).sum() > 60 for _, label in scenes)
        assert scene_count >= 6, f"{entry.name} is in {scene_count} of {len(scenes)} scenes"


def test_the_label_lies_on_the_image(scenes):
    """Colors change at class boundaries, and less so if the label is shifted by two pixels."""

    def contrast(image: np.ndarray, label: np.ndarray) -> float:
        jumps = np.abs(np.diff(image.astype(float), axis=1)).sum(-1)
        return float(jumps[np.diff(label.astype(int), axis=1) != 0].mean())

    for image, label in scenes[:12]:
        there = contrast(image, label)
        for move in (-2, 2):
            assert there > 1.25 * contrast(image, np.roll(label, move, axis=1))


def test_sky_is_above_road(scenes):
    rows = np.arange(128)[:, None] * np.ones(192)
    sky = np.mean([rows[label == class_indices.SKY].mean() for _, label in scenes])
    road = np.mean([rows[label == class_indices.ROAD].mean() for _, label in scenes])
    assert sky + 40 < road


def test_scenes_differ_in_light(scenes):
    brightness = [image.mean() for image, _ in scenes]
    assert max(brightness) - min(brightness) > 50


def test_the_written_dataset_can_be_read(tmp_path):
    calls = []
    write_dataset(
        tmp_path,
        train=3,
        val=2,
        seed=7,
        size=(64, 96),
        progress=lambda done, total: calls.append((done, total)),
    )
    description = load_description("streets")
    assert [len(Dataset(description, tmp_path, split)) for split in ("train", "val")] == [3, 2]
    example = Dataset(description, tmp_path, "val")[1]
    image, label = draw(scene_seed(7, "val", 1), (64, 96))
    assert np.array_equal(example.image, image)
    assert np.array_equal(example.label, label)
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_masks_are_palette_images_in_the_colors_of_the_catalog(tmp_path):
    write_dataset(tmp_path, train=1, val=0, size=(64, 96))
    mask = Image.open(tmp_path / "labels" / "train" / "0000.png")
    assert mask.mode == "P"
    colors = np.array(load_description("streets").colors, np.uint8)
    assert np.array_equal(np.asarray(mask.convert("RGB")), colors[np.asarray(mask)])


def test_writing_twice_gives_the_same_files(tmp_path):
    digests = []
    for folder in ("one", "two"):
        write_dataset(tmp_path / folder, train=2, val=1, size=(64, 96))
        files = sorted((tmp_path / folder).rglob("*.png"))
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 6


def test_no_scene_is_in_both_splits_or_twice():
    seeds = [scene_seed(seed, split, index) for seed in (0, 1) for split in ("train", "val") for index in range(99)]
    assert len(set(seeds)) == len(seeds)


def test_a_folder_that_is_a_file_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_dataset(tmp_path / "file", train=1, val=1)
