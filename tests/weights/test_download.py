"""Downloads from a local server: complete, resumed, with a wrong hash, and failed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastfcn.errors import OutputError, WeightsError
from fastfcn.utils.storage import cache_folder
from fastfcn.weights import download as module
from fastfcn.weights.download import download
from tests.helpers.file_server import FileServer, file_server

CONTENT = np.random.default_rng(0).bytes(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()[:8]
PATHS = (f"/v0.5/net-{HASH}.pth", "/net.pth")


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Serves CONTENT under the requested names."""
    with file_server() as server:
        server.files = dict.fromkeys(PATHS, CONTENT)
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTFCN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_complete_download(server: FileServer, cache: Path):
    path = download(f"{server.address}/v0.5/net-{HASH}.pth", HASH)
    assert path == cache / f"net-{HASH}.pth"
    assert path.read_bytes() == CONTENT
    assert names(cache) == [path.name]
    assert [request.range for request in server.requests] == [None]


def test_cached_files_are_not_downloaded_again(server: FileServer):
    first = download(f"{server.address}/net.pth", HASH)
    assert download(f"{server.address}/net.pth", HASH) == first
    assert len(server.requests) == 1


@pytest.mark.parametrize("ranges", [True, False], ids=["resumes", "starts again where the server cannot resume"])
def test_resumed_after_an_interruption(server: FileServer, cache: Path, ranges: bool):
    server.break_after = 100_000
    with pytest.raises(WeightsError, match="the connection ended before the file did") as error:
        download(f"{server.address}/net.pth", HASH)
    assert "resumes" in error.value.hint
    assert str(cache / "net.pth") in error.value.hint
    assert names(cache) == ["net.pth.part"]
    assert (cache / "net.pth.part").stat().st_size == 100_000

    server.break_after, server.ranges = None, ranges
    assert download(f"{server.address}/net.pth", HASH).read_bytes() == CONTENT
    assert server.requests[1][1:] == ("bytes=100000-", 100_000 if ranges else 0)
    assert names(cache) == ["net.pth"]


def test_a_partial_file_that_is_complete(server: FileServer, cache: Path):
    """It was stopped between the last byte and the new name."""
    cache.mkdir()
    (cache / "net.pth.part").write_bytes(CONTENT)
    assert download(f"{server.address}/net.pth", HASH).read_bytes() == CONTENT
    assert [request[1:] for request in server.requests] == [(f"bytes={len(CONTENT)}-", len(CONTENT))]


def test_a_wrong_hash_is_refused_and_removed(server: FileServer, cache: Path):
    with pytest.raises(WeightsError, match=r"the sha256 is .*, expected 2cccc1ad.*removed"):
        download(f"{server.address}/net.pth", "2cccc1ad")
    assert names(cache) == []


def test_a_part_of_another_file_is_removed_and_the_next_try_works(server: FileServer, cache: Path):
    cache.mkdir()
    (cache / "net.pth.part").write_bytes(b"x" * 5000)
    with pytest.raises(WeightsError, match="sha256"):
        download(f"{server.address}/net.pth", HASH)
    assert names(cache) == []
    assert download(f"{server.address}/net.pth", HASH).read_bytes() == CONTENT


def test_not_found(server: FileServer, cache: Path):
    with pytest.raises(WeightsError, match=r"Cannot download http.*/missing: .*Not Found"):
        download(f"{server.address}/missing", HASH)
    assert names(cache) == []


def test_nobody_answers(server: FileServer):
    address = server.address
    server.server_close()
    with pytest.raises(WeightsError, match="Cannot download") as error:
        download(f"{address}/net.pth", HASH)
    assert "fetch the file elsewhere and put it at" in error.value.hint


def test_an_answer_that_is_not_http(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise module.http.client.BadStatusLine("SSH-2.0")

    monkeypatch.setattr(module.urllib.request, "urlopen", refuse)
    with pytest.raises(WeightsError, match=r"Cannot download .*SSH"):
        download("http://127.0.0.1/net.pth", HASH)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("FASTFCN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError):
        download("http://127.0.0.1:9/net.pth", HASH)


def test_the_cache_lies_in_the_home_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FASTFCN_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "fastfcn"
