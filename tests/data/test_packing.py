"""Packed datasets in a folder: equal to the files in examples, counts and folds; interrupted packing."""

import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fastfcn import build
from fastfcn.data import packing
from fastfcn.data.bands import BandReader
from fastfcn.data.dataset import Dataset
from fastfcn.data.description import load_description, parse_description
from fastfcn.data.packed import ROW, PackedExamples
from fastfcn.data.packing import pack
from fastfcn.data.sampler import SampleKey
from fastfcn.errors import DataError, OutputError, UserError
from fastfcn.training.fingerprint import fingerprint
from tests.helpers import band_sets
from tests.helpers.command import fastfcn
from tests.helpers.tiny import tiny_recipe, write_streets

SHARD_MB = 0.02  # one image each
SPLITS = ["train", "val", "train+val", "train fold 1/3", "train+val not fold 2/3"]


@pytest.fixture(scope="module")
def packed(files, streets, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "packed"
    result = pack(streets, files, out, shard_mb=0.05, workers=2)
    assert result.images == {"train": 6, "val": 3}
    assert 3 < result.shards < 9
    return out


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return shutil.copytree(packed, tmp_path / "packed")


@pytest.mark.parametrize("split", SPLITS)
def test_packed_data_equals_the_files(files, packed, streets, split):
    plain, other = Dataset(streets, files, split), Dataset(streets, packed, split)
    assert len(plain) == len(other)
    for index in range(len(plain)):
        a, b = plain[index], other[index]
        assert a.name == b.name
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.label, b.label)
    assert fingerprint({"train": plain}) == fingerprint({"train": other})


@pytest.mark.parametrize("split", SPLITS)
def test_the_label_check_reads_no_mask(files, packed, streets, split, monkeypatch):
    expected = Dataset(streets, files, split).check_labels()
    monkeypatch.setattr("fastfcn.data.dataset.read_mask", None)
    counts = Dataset(streets, packed, split).check_labels()
    assert counts.classes.tolist() == expected.classes.tolist()
    assert counts.ignored == expected.ignored


def test_other_classes_than_in_the_index_are_counted_from_the_masks(files, packed, streets):
    entry = streets.classes[0].model_copy(update={"ids": (streets.classes[0].ids[0], 77)})
    other = streets.model_copy(update={"classes": (entry, *streets.classes[1:])})
    dataset = Dataset(other, packed, "val")
    assert dataset.known_totals() is None
    assert dataset.check_labels().classes.tolist() == Dataset(other, files, "val").check_labels().classes.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_training_samples_equal_those_of_the_files(files, packed, workers):
    recipe = tiny_recipe('mix={kind="cutmix", probability=0.5, alpha=1.0}')
    described = build.description(recipe)
    keys = [[SampleKey(step, slot, (step + slot) % 6, 0) for slot in range(2)] for step in range(2)]
    batches = [
        list(DataLoader(build.dataset(recipe, described, root, "train", train=True), batch_sampler=keys,
                        num_workers=workers))
        for root in (files, packed)
    ]  # fmt: skip
    for plain, other in zip(*batches, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_shards_are_webdataset_archives_of_the_files(files, packed):
    names, contents = [], []
    for shard in sorted(packed.glob("train-*.tar")):
        with tarfile.open(shard) as archive:
            names += archive.getnames()
            contents += [archive.extractfile(member).read() for member in archive]
    assert names[:2] == ["0000.png", "0000.mask.png"]
    assert contents == [(files / part / "train" / f"{index:04d}.png").read_bytes()
                        for index in range(6) for part in ("images", "labels")]  # fmt: skip
    keys = [name.split(".")[0] for name in names]
    assert keys == [f"{index:04d}" for index in range(6) for _ in range(2)]


def test_names_with_dots_and_accents(tmp_path, streets):
    files = write_streets(tmp_path / "streets", 2, 1)
    for part in ("images", "labels"):
        (files / part / "train" / "0001.png").rename(files / part / "train" / "a.b%2Eä.png")
    pack(streets, files, tmp_path / "packed", splits=["train"])
    dataset = Dataset(streets, tmp_path / "packed", "train")
    assert [dataset[index].name for index in range(2)] == ["0000", "a.b%2Eä"]
    with tarfile.open(tmp_path / "packed/train-00000.tar") as archive:
        assert archive.getnames()[2:] == ["a%2Eb%252Eä.png", "a%2Eb%252Eä.mask.png"]
    with pytest.raises(DataError, match="has no split 'val'"):
        Dataset(streets, tmp_path / "packed", "val")


def test_the_index_has_32_bytes_an_image_and_is_not_read_at_once(packed, streets):
    examples = Dataset(streets, packed, "train").examples
    assert isinstance(examples, PackedExamples)
    assert ROW.itemsize == 32
    assert isinstance(examples._rows, np.memmap)
    assert len(pickle.dumps(examples)) < 10_000  # workers open it again


def test_packing_twice_writes_the_same_bytes(files, packed, streets, tmp_path):
    pack(streets, files, tmp_path / "again", shard_mb=0.05)
    names = sorted(path.name for path in packed.iterdir())
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == names
    assert all((packed / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_interrupted_packing_continues(files, streets, tmp_path, monkeypatch):
    files = shutil.copytree(files, tmp_path / "files")
    out, written = tmp_path / "packed", []
    write = packing._write_tar

    def stop_at_the_fourth(path: Path, *arguments) -> None:
        written.append(path)
        if len(written) == 4:
            raise KeyboardInterrupt
        write(path, *arguments)

    monkeypatch.setattr(packing, "_write_tar", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        pack(streets, files, out, shard_mb=SHARD_MB)
    assert not (out / "packed.json").exists()
    with pytest.raises(DataError, match=r"contains no images|nothing matches"):
        Dataset(streets, out, "train")
    changed = files / "images/train/0001.png"
    Image.open(changed).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(changed)
    result = pack(streets, files, out, shard_mb=SHARD_MB)
    assert result.kept == 2  # of three, one has changed
    assert len(written) == 4 + 1 + 6
    assert not (out / "parts").exists()
    plain, other = Dataset(streets, files, "train"), Dataset(streets, out, "train")
    assert all(np.array_equal(plain[index].image, other[index].image) for index in range(6))
    with pytest.raises(OutputError, match="already contains a packed dataset"):
        pack(streets, files, out)


def test_all_problems_of_masks_are_listed_and_nothing_is_finished(files, streets, tmp_path):
    files = shutil.copytree(files, tmp_path / "files")
    Image.fromarray(np.full((64, 96), 99, np.uint8)).save(files / "labels/train/0001.png")
    (files / "images/train/0003.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        pack(streets, files, tmp_path / "packed", shard_mb=SHARD_MB)
    assert "problems found: 2" in caught.value.message
    assert "labels/train/0001.png: value 99 in 6144 pixels" in caught.value.message
    assert "images/train/0003.png cannot be read" in caught.value.message
    assert not (tmp_path / "packed/packed.json").exists()


def test_damaged_files_are_named(copy, streets):
    shard, index, manifest = copy / "train-00000.tar", copy / "train.index.npy", copy / "packed.json"
    content = shard.read_bytes()
    shard.write_bytes(b"\7" * 600 + content[600:])
    with pytest.raises(DataError, match=r"train-00000\.tar is damaged at byte 0"):
        Dataset(streets, copy, "train")[0]
    shard.write_bytes(content[:1000])
    with pytest.raises(DataError, match=r"train-00000\.tar is shorter"):
        Dataset(streets, copy, "train")[0]
    rows = np.load(index, allow_pickle=False)
    rows["offset"] = 2**62
    np.save(index, rows)
    with pytest.raises(DataError, match="does not fit its shards"):
        Dataset(streets, copy, "train")[0]
    np.save(index, np.zeros(3))
    with pytest.raises(DataError, match=r"train\.index\.npy is not an index"):
        Dataset(streets, copy, "train")
    index.write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"train\.index\.npy"):
        Dataset(streets, copy, "train")
    facts = json.loads(manifest.read_text())
    facts["shards"][0]["name"] = "../outside.tar"
    manifest.write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"packed\.json cannot be used: shards\.0\.name"):
        Dataset(streets, copy, "train")


def test_the_description_travels_with_the_data(files, tmp_path):
    """A recipe whose dataset.toml is not on this machine uses the one of the packed data."""
    toml = tmp_path / "dataset.toml"
    toml.write_text((Path(packing.__file__).parent / "catalog/streets.toml").read_text())
    pack(load_description(toml), files, tmp_path / "packed")
    recipe = tiny_recipe("data.dataset=elsewhere/dataset.toml")
    assert build.description(recipe, tmp_path / "packed") == load_description(toml)
    with pytest.raises(DataError, match="elsewhere"):
        build.description(recipe, files)


def test_images_of_several_bands(tmp_path):
    files = band_sets.write_set(tmp_path / "bands", suffix=".npy", train=2, val=1)
    names, numbers = list(band_sets.NAMES), (0, 1, 2)
    classes = ", ".join(f'{{ name = "{n}", color = [{n}, 0, 0], ids = [{n}] }}' for n in numbers)
    described = parse_description(
        f"""format = 1
name = "bands"
title = "Bands"
home = ""
labels_kind = "index"
folders = ["."]
images = ["images/{{split}}/{{name}}.npy"]
labels = ["masks/{{split}}/{{name}}.png"]
lists = []
splits = {{ train = "train", val = "val" }}
ignored = []
classes = [{classes}]
bands = {{ names = {names}, dtype = "uint16", nodata = 0 }}
""",
        "bands.toml",
    )
    pack(described, files, tmp_path / "packed", splits=["train"])
    assert described.bands is not None
    reader = BandReader(described.bands, ["nir", "red"], [2000.0, 1000.0], [500.0, 300.0])
    plain, other = (Dataset(described, root, "train", images=reader) for root in (files, tmp_path / "packed"))
    assert all(np.array_equal(plain[index].image, other[index].image) for index in range(2))


def test_command(files, tmp_path):
    out = tmp_path / "packed"
    failed = fastfcn("pack", files, "--out", out)
    assert failed.code == 2
    assert "contains no dataset.toml" in failed.err
    done = fastfcn("pack", files, "--dataset", "streets", "--out", out, "--split", "val", "--workers", 1)
    assert done.code == 0, done.err
    assert "Packed 3 images of val into 1 shards" in done.out
    assert (out / "val-00000.tar").is_file()
    with pytest.raises(UserError, match="is the dataset itself"):
        pack(load_description("streets"), files, files)
