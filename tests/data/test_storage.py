"""Packed datasets in object storage, against a service on this machine."""

import os
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fastfcn.data.dataset import Dataset, worker_context
from fastfcn.data.packed import PackedExamples, open_packed
from fastfcn.data.packing import pack
from fastfcn.data.shard_cache import ShardCache, cache_limit
from fastfcn.errors import DataError, MissingExtraError, UserError
from fastfcn.utils import storage
from fastfcn.utils.storage import Bucket, open_folder, url_of
from tests.helpers.bucket import BucketServer, bucket_server
from tests.helpers.command import fastfcn

URL = "s3://bucket/streets"


@pytest.fixture
def server(tmp_path, monkeypatch):
    pytest.importorskip("obstore", reason="obstore (the extra cloud) is not installed")
    monkeypatch.setenv("FASTFCN_CACHE", str(tmp_path / "cache"))
    with bucket_server(monkeypatch) as running:
        yield running


@pytest.fixture
def packed(server: BucketServer, files, streets) -> BucketServer:
    pack(streets, files, URL, shard_mb=0.05, workers=2)
    server.requests.clear()
    return server


def same(one: Dataset, other: Dataset) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(one[index].image, other[index].image) and np.array_equal(one[index].label, other[index].label)
        for index in range(len(one))
    )


def test_objects_equal_the_files_of_a_packed_folder(packed, files, streets, tmp_path):
    pack(streets, files, tmp_path / "packed", shard_mb=0.05)
    assert packed.objects == {
        f"/bucket/streets/{path.name}": path.read_bytes() for path in (tmp_path / "packed").iterdir()
    }


@pytest.mark.parametrize("split", ["train", "train+val fold 1/2"])
def test_packed_data_in_a_bucket_equals_the_files(packed, files, streets, split):
    dataset = Dataset(streets, URL, split)
    assert same(Dataset(streets, files, split), dataset)
    assert str(dataset[0].image_path).startswith(f"{URL}/")
    assert dataset.check_labels().classes.tolist() == Dataset(streets, files, split).check_labels().classes.tolist()


def test_each_image_is_downloaded_once(packed, streets):
    for _ in range(2):
        dataset = Dataset(streets, URL, "train")
        for index in range(6):
            assert dataset[index].image.shape == (64, 96, 3)
    assert packed.reads(".tar") == 6
    assert packed.reads("index.npy") == 1


def test_without_a_cache_every_read_is_a_request(packed, streets, monkeypatch):
    monkeypatch.setenv("FASTFCN_CACHE_GB", "0")
    dataset = Dataset(streets, URL, "train")
    for index in (0, 0, 1):
        assert dataset[index].name == f"{index:04d}"
    assert packed.reads(".tar") == 3


def test_a_cached_range_that_was_lost_is_read_again(packed, files, streets, tmp_path):
    dataset = Dataset(streets, URL, "train")
    dataset[0]
    cached = next((tmp_path / "cache/shards").glob("*/train-00000.tar"))
    with cached.open("r+b") as file:
        file.write(b"\0" * 10_000)
    assert same(Dataset(streets, files, "train"), dataset)


def test_prefetching_reads_a_batch_at_once(packed, files, streets):
    dataset, plain = Dataset(streets, URL, "train"), Dataset(streets, files, "train")
    examples = dataset.examples
    assert isinstance(examples, PackedExamples)
    examples.prefetch([3, 1, 3])
    assert sorted(examples._reads) == [1, 3]
    assert np.array_equal(dataset[3].image, plain[3].image)
    assert sorted(examples._reads) == [1]
    assert np.array_equal(dataset[1].image, plain[1].image)
    assert packed.reads(".tar") == 2


def test_workers_do_not_inherit_the_threads_of_obstore(packed, files, streets):
    """After a fork, a request would wait forever."""
    dataset = Dataset(streets, URL, "val")
    dataset[0]
    loader = DataLoader(
        _Labels(dataset),
        batch_size=None,
        num_workers=1,
        multiprocessing_context=worker_context(dataset, 1),
        timeout=600,
    )
    plain = Dataset(streets, files, "val")
    assert [label.sum().item() for label in loader] == [int(plain[index].label.sum()) for index in range(3)]
    assert worker_context(dataset, 0) is None
    assert worker_context(plain, 1) is None


class _Labels(TorchDataset):
    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.dataset[index].label.astype(np.int64)


def test_requests_that_fail_are_repeated(packed, streets):
    packed.failures = 2
    assert len(Dataset(streets, URL, "val")) == 3
    assert packed.reads("packed.json") == 3


def test_a_service_that_stays_away_is_named_in_one_line(packed, streets, monkeypatch):
    monkeypatch.setattr(storage, "RETRIES", {"max_retries": 0})
    monkeypatch.setattr(storage, "ATTEMPTS", 1)
    packed.failures = 99
    with pytest.raises(DataError, match=r"Cannot read s3://bucket/streets/packed\.json: .*503") as caught:
        Dataset(streets, URL, "val")
    assert "\n" not in caught.value.message
    with (
        pytest.raises(UserError, match=r"Cannot write s3://bucket/streets/a: .*503"),
        open_folder(URL, write=True).writing("a") as path,
    ):
        path.write_bytes(b"1")


def test_a_url_without_a_packed_dataset(server, streets):
    with pytest.raises(DataError, match=r"s3://bucket/nothing contains no packed dataset") as caught:
        Dataset(streets, "s3://bucket/nothing/", "val")
    assert "fastfcn pack DIR --out s3://bucket/nothing" in caught.value.hint


def test_interrupted_packing_to_a_bucket_continues(server, files, streets):
    pack(streets, files, URL, shard_mb=0.05)
    del server.objects["/bucket/streets/packed.json"]
    server.requests.clear()
    pack(streets, files, URL, shard_mb=0.05)  # the parts are gone, so all is written again
    assert sum(line.startswith("PUT") and line.endswith(".tar") for line in server.requests) > 3
    with pytest.raises(UserError, match="already contains a packed dataset"):
        pack(streets, files, URL)


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        (Path("s3://bucket/a"), "s3://bucket/a"),
        ("GS://bucket", "gs://bucket"),
        ("data/a", ""),
        ("C:/data", ""),
        (Path("/data"), ""),
    ],
)
def test_urls_and_paths(place, url):
    assert url_of(place) == url


def test_unknown_schemes_are_refused():
    with pytest.raises(UserError, match=r"ftp://host/a cannot be read from"):
        open_folder("ftp://host/a")
    with pytest.raises(UserError, match=r"https://host/a cannot be written to"):
        open_folder("https://host/a", write=True)


def test_without_obstore_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(MissingExtraError) as caught:
        Bucket("s3://bucket/a")
    assert "fastfcn[cloud]" in caught.value.hint


def test_commands_that_need_a_path_refuse_urls():
    done = fastfcn("reproduce", "fastfcn_r50_psp_camvid", "--data", "s3://bucket/a", "--dry-run")
    assert done.code == 2
    assert "s3://bucket/a is a URL" in done.err


class TestCache:
    def test_a_range_is_kept(self, tmp_path):
        cache = ShardCache(tmp_path, "a", 10**6)
        assert cache.read("x.tar", 4096, 1024, 5) is None
        cache.write("x.tar", 4096, 1024, b"12345")
        assert cache.read("x.tar", 4096, 1024, 5) == b"12345"
        assert cache.read("x.tar", 4096, 1536, 5) is None

    def test_the_least_recently_used_shard_of_all_datasets_is_deleted(self, tmp_path):
        first, second = ShardCache(tmp_path, "a", 3 * 4104), ShardCache(tmp_path, "b", 3 * 4104)
        for age, (cache, name) in enumerate([(first, "1.tar"), (first, "2.tar"), (second, "3.tar")]):
            cache.write(name, 4096, 0, b"1")
            os.utime(cache.folder / name, (1000 + age, 1000 + age))
        assert first.read("1.tar", 4096, 0, 1)  # is now the most recent
        second.write("4.tar", 4096, 0, b"1")
        assert sorted(path.name for path in tmp_path.glob("*/*")) == ["1.tar", "3.tar", "4.tar"]

    def test_only_shards_that_fit_together_are_kept(self, tmp_path):
        assert ShardCache(tmp_path, "a", 1250).fitting([512, 512, 512]) == [True, True, False]

    def test_a_full_disk_ends_caching_with_a_warning(self, tmp_path, capsys):
        (tmp_path / "a").write_text("not a folder")
        cache = ShardCache(tmp_path, "a", 10**6)
        cache.write("x.tar", 4096, 0, b"1")
        cache.write("x.tar", 4096, 0, b"1")
        assert capsys.readouterr().err.count("Warning") == 1

    def test_its_size_comes_from_the_environment(self, monkeypatch):
        monkeypatch.setenv("FASTFCN_CACHE_GB", "1.5")
        assert cache_limit() == 1_500_000_000
        for text in ("much", "-1", "inf", "nan"):
            monkeypatch.setenv("FASTFCN_CACHE_GB", text)
            with pytest.raises(UserError, match="is not a size in GB"):
                cache_limit()


def test_the_version_of_the_data_is_part_of_the_cache_key(packed, streets):
    before = open_packed(URL).key
    name = "/bucket/streets/packed.json"
    packed.objects[name] = packed.objects[name].replace(b'"sha256":"', b'"sha256":"0')
    packed.objects[name] = packed.objects[name].replace(b'"sha256": "', b'"sha256": "0')
    assert open_packed(URL).key != before
