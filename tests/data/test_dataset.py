import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fastfcn.data.dataset import Dataset, read_batches
from fastfcn.data.description import DatasetDescription, load_description, parse_description
from fastfcn.data.sampler import BatchSampler, SampleKey
from fastfcn.data.transforms import TrainTransform
from fastfcn.errors import DataError

TOML = """
format = 1
name = "fields"
title = "Fields"
home = ""
labels_kind = "index"
folders = ["."]
images = ["images/{split}/{name}.png"]
labels = ["masks/{split}/{name}.png"]
lists = []
splits = { train = "train", val = "val" }
ignored = [{ name = "cloud", ids = [255] }]
classes = [
  { name = "soil", color = [120, 80, 40], ids = [0] },
  { name = "crop", color = [40, 160, 60], ids = [3, 4] },
]
"""
COLOR_TOML = (
    TOML.replace('"index"', '"color"')
    .replace("ids = [255]", "color = [0, 0, 0]")
    .replace(", ids = [0]", "")
    .replace(", ids = [3, 4]", "")
)
VALUES = np.array([[0, 0, 3, 255], [4, 3, 0, 255]], np.uint8)
LABEL = np.array([[0, 0, 1, 255], [1, 1, 0, 255]], np.uint8)


@pytest.fixture
def fields() -> DatasetDescription:
    return parse_description(TOML, "fields.toml")


def write(root: Path, name: str, values: np.ndarray, size: tuple[int, int] | None = None) -> None:
    for part, array in (("images", np.zeros((*(size or values.shape[:2]), 3), np.uint8)), ("masks", values)):
        folder = root / part / "val"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / f"{name}.png")


def transform() -> TrainTransform:
    return TrainTransform((8, 8), (0.5, 2.0), (6, 6), 0.75, 0.5, 0.5, (0.0,) * 3, (1.0,) * 3)


def test_example_as_it_is_on_disk(tmp_path, fields):
    write(tmp_path, "a", VALUES)
    dataset = Dataset(fields, tmp_path, "val")
    example = dataset[0]
    assert len(dataset) == 1
    assert np.array_equal(example.label, LABEL)
    assert example.label.dtype == example.image.dtype == np.uint8
    assert example.image.shape == (2, 4, 3)
    assert (example.name, example.image_path) == ("a", tmp_path / "images/val/a.png")
    assert example.label_path == tmp_path / "masks/val/a.png"


def test_color_masks_are_matched_by_color(tmp_path):
    colors = np.array([[120, 80, 40], [40, 160, 60], [0, 0, 0]], np.uint8)
    write(tmp_path, "a", colors[np.minimum(LABEL, 2)])
    description = parse_description(COLOR_TOML, "fields.toml")
    assert np.array_equal(Dataset(description, tmp_path, "val")[0].label, LABEL)
    write(tmp_path, "b", np.full((2, 4, 3), 7, np.uint8))
    dataset = Dataset(description, tmp_path, "val")
    with pytest.raises(DataError, match=r"b\.png: value \[7, 7, 7\] in 8 pixels"):
        dataset.check_labels()


def test_sample_key_gives_the_augmented_tensors(tmp_path, fields):
    write(tmp_path, "a", np.kron(VALUES, np.ones((4, 2), np.uint8)).astype(np.uint8))
    dataset = Dataset(fields, tmp_path, "val", transform())
    key = SampleKey(step=2, slot=1, index=0, seed=9)
    image, label = dataset[key]
    example = dataset[0]
    expected = transform()(example.image, example.label, key.generator())
    assert torch.equal(image, expected[0])
    assert torch.equal(label, expected[1])
    with pytest.raises(TypeError, match="needs a dataset with a transform"):
        Dataset(fields, tmp_path, "val")[key]


def test_unnamed_value_while_reading(tmp_path, fields):
    write(tmp_path, "a", np.array([[0, 7, 7], [3, 9, 7]], np.uint8))
    with pytest.raises(
        DataError, match=r"a\.png: value 7 in 3 pixels, value 9 in 1 pixels, which are not in the description of fields"
    ) as caught:
        Dataset(fields, tmp_path, "val")[0]
    assert "ignored" in caught.value.hint


def test_size_mismatch_while_reading(tmp_path, fields):
    write(tmp_path, "a", VALUES, size=(4, 2))
    with pytest.raises(DataError, match=r"masks/val/a\.png is 2 x 4 \(height x width\), its image 4 x 2"):
        Dataset(fields, tmp_path, "val")[0]


def test_check_counts_pixels_and_reports_progress(tmp_path, fields):
    write(tmp_path, "a", VALUES)
    write(tmp_path, "b", VALUES[:1])
    seen = []
    counts = Dataset(fields, tmp_path, "val").check_labels(2, lambda done, total: seen.append((done, total)))
    assert counts.classes.tolist() == [5, 4]
    assert counts.classes.dtype == np.int64
    assert counts.ignored == 3
    assert seen == [(1, 2), (2, 2)]


def test_check_tells_all_problems_at_once(tmp_path, fields):
    write(tmp_path, "good", VALUES)
    write(tmp_path, "size", VALUES, size=(3, 3))
    write(tmp_path, "value", np.array([[0, 200], [200, 3]], np.uint8))
    write(tmp_path, "color", np.dstack([VALUES, VALUES + 1, VALUES]))
    write(tmp_path, "cut", np.random.default_rng(0).integers(0, 2, (64, 64), dtype=np.uint8))
    cut = tmp_path / "masks/val/cut.png"
    cut.write_bytes(cut.read_bytes()[:-300])
    with pytest.raises(DataError) as caught:
        Dataset(fields, tmp_path, "val").check_labels(workers=2)
    message = caught.value.message
    assert "problems found: 4" in message
    assert "size.png is 2 x 4 (height x width), its image 3 x 3" in message
    assert "value.png: value 200 in 2 pixels" in message
    assert "color.png cannot be read: it is a color mask" in message
    assert "cut.png cannot be read" in message
    assert "good" not in message


def test_check_lists_twenty_problems_and_counts_the_rest(tmp_path, fields):
    for number in range(23):
        write(tmp_path, f"mask{number:02}", np.full((2, 2), 100 + number, np.uint8))
    with pytest.raises(DataError) as caught:
        Dataset(fields, tmp_path, "val").check_labels()
    assert "problems found: 23" in caught.value.message
    assert "mask19.png" in caught.value.message
    assert "mask20.png" not in caught.value.message
    assert "and 3 more" in caught.value.message


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "'soil' is the only class, but 4 pixels are ignored as 'cloud'"), (255, "no pixel belongs to a class")],
)
def test_ignoring_all_but_one_class_is_not_silent(tmp_path, fields, value, expected):
    write(tmp_path, "a", np.array([[value] * 2, [255] * 2] * 2, np.uint8))
    with pytest.raises(DataError, match=expected):
        Dataset(fields, tmp_path, "val").check_labels()


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_read_what_the_main_process_reads(tmp_path, fields, start_method):
    for name in "abc":
        write(tmp_path, name, np.kron(VALUES, np.ones((4, 2), np.uint8)).astype(np.uint8))
    dataset = Dataset(fields, tmp_path, "val", transform())
    keys = BatchSampler(count=3, batch=2, seed=1, start=0, end=2)
    loader = DataLoader(
        dataset,
        batch_sampler=keys,
        num_workers=1,
        multiprocessing_context=multiprocessing.get_context(start_method),
    )
    for (images, labels), batch in zip(loader, keys, strict=True):
        assert images.shape == (2, 3, 6, 6)
        assert torch.equal(images, torch.stack([dataset[key][0] for key in batch]))
        assert torch.equal(labels, torch.stack([dataset[key][1] for key in batch]))


def test_an_error_in_a_worker_arrives_without_its_traceback(tmp_path, fields):
    write(tmp_path, "a", VALUES)
    image = tmp_path / "images/val/a.png"
    image.write_bytes(image.read_bytes()[:40])
    dataset = Dataset(fields, tmp_path, "val", transform())
    loader = DataLoader(dataset, batch_sampler=BatchSampler(1, 1, 0, 0, 1), num_workers=1)
    with pytest.raises(DataError) as caught:
        list(read_batches(loader))
    assert caught.value.message.startswith(f"{image} cannot be read")
    assert (
        caught.value.hint
        == "Restore the file from an intact copy, convert it to PNG or JPEG, or remove it together with its mask."
    )


def test_dataset_can_be_pickled(tmp_path, fields):
    write(tmp_path, "a", VALUES)
    copy = pickle.loads(pickle.dumps(Dataset(fields, tmp_path, "val")))
    assert np.array_equal(copy[0].label, LABEL)
    assert copy.description == fields


def test_camvid_counts(shared_data):
    shares = [0.169, 0.233, 0.010, 0.317, 0.045, 0.097, 0.012, 0.011, 0.059, 0.006, 0.003]
    dataset = Dataset(load_description("camvid"), shared_data / "camvid", "train")
    assert len(dataset) == 367
    assert dataset[0].image.shape == (360, 480, 3)
    counts = dataset.check_labels(workers=2)
    total = counts.classes.sum() + counts.ignored
    assert total == 367 * 360 * 480
    assert counts.classes / total == pytest.approx(shares, abs=1e-3)
    assert counts.ignored / total == pytest.approx(0.040, abs=1e-3)


def test_camvid_val_has_101_images(shared_data):
    assert len(Dataset(load_description("camvid"), shared_data / "camvid", "val")) == 101


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def test_ade20k_sample(shared_data):
    dataset = Dataset(load_description("ade20k"), shared_data / "samples/ade20k_sample", "val")
    assert len(dataset) == 3
    counts = dataset.check_labels(workers=2)
    raw = np.array(Image.open(dataset.examples[0].label_path)).astype(int)
    assert np.array_equal(dataset[0].label, np.where(raw == 0, 255, raw - 1))
    assert counts.ignored > 0


def test_coco_stuff_sample(shared_data, tmp_path):
    sample = shared_data / "samples/coco_stuff_sample"
    for part, split in (("train", "train2017"), ("val", "val2017")):
        link(sample / f"{part}_img", tmp_path / "images" / split)
        link(sample / f"{part}_label", tmp_path / "annotations" / split)
    dataset = Dataset(load_description("coco_stuff"), tmp_path, "train+val")
    assert len(dataset) == 21
    assert dataset.check_labels(workers=2).classes.sum() > 0
    room = next(example for example in dataset.examples if example.name == "000000000139")
    present = np.unique(dataset.read_label(room.label_path))
    names = [dataset.description.class_names[index] for index in present if index != 255]
    assert {"person", "chair", "tv", "wall-concrete", "window-other"} <= set(names)


def test_voc_sample(shared_data, tmp_path):
    sample = shared_data / "samples/voc_format_sample_labelme"
    for part in ("JPEGImages", "SegmentationClass"):
        link(sample / part, tmp_path / "VOC2012" / part)
    names = ["2011_000003", "2011_000006", "2011_000025"]
    lists = tmp_path / "VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(names))
    dataset = Dataset(load_description("voc"), tmp_path, "val")
    assert [example.name for example in dataset.examples] == names
    present = {dataset.description.class_names[i] for i in np.flatnonzero(dataset.check_labels().classes)}
    assert present == {"background", "bottle", "person", "chair", "sofa", "bus", "car"}


def test_cityscapes_sample_agrees_with_its_train_ids(shared_data, tmp_path):
    sample = shared_data / "samples/mmseg_tests_data/pseudo_cityscapes_dataset"
    for part in ("leftImg8bit", "gtFine"):
        link(sample / part, tmp_path / part / "val" / "frankfurt")
    dataset = Dataset(load_description("cityscapes"), tmp_path, "val")
    assert dataset.examples[0].name == "frankfurt/frankfurt_000000_000294"
    path = Path(str(dataset.examples[0].label_path).replace("labelIds", "labelTrainIds"))
    # Not all pixels, because the sample's two masks were downscaled independently.
    assert (dataset[0].label == np.array(Image.open(path))).mean() > 0.99
