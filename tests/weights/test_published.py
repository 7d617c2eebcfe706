"""Published weights by name: downloaded from a local server, verified and converted once."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfcn
from fastfcn import build, recipes, weights
from fastfcn.errors import WeightsError
from fastfcn.recipes.published import published_names, published_recipe, published_url
from fastfcn.weights.download import url_variants
from fastfcn.weights.locate import local_file
from tests.helpers.command import fastfcn as run
from tests.helpers.file_server import FileServer, file_server
from tests.helpers.openmmlab_files import openmmlab_state, save_1x
from tests.helpers.tiny import picture, save_picture, tiny_model, tiny_recipe

ROOT = "https://download.openmmlab.com/mmsegmentation/v0.5"
# Folder, then date and hash of each checkpoint in the metafiles of mmsegmentation 1.2.2 (configs/*/metafile.yaml).
METAFILE = {
    "dilated_r50_aspp_ade20k_80k_b16": ("deeplabv3/deeplabv3_r50-d8_512x512_80k_ade20k", "20200614_185028-0bb3f844"),
    "dilated_r50_aspp_cityscapes_80k_b8": (
        "deeplabv3/deeplabv3_r50-d8_512x1024_80k_cityscapes",
        "20200606_113404-b92cfdd4",
    ),
    "dilated_r50_enc_ade20k_80k_b16": ("encnet/encnet_r50-d8_512x512_80k_ade20k", "20200622_042412-44b46b04"),
    "dilated_r50_enc_cityscapes_80k_b8": ("encnet/encnet_r50-d8_512x1024_80k_cityscapes", "20200622_003554-fc5c5624"),
    "dilated_r50_psp_ade20k_80k_b16": ("pspnet/pspnet_r50-d8_512x512_80k_ade20k", "20200615_014128-15a8b914"),
    "dilated_r50_psp_cityscapes_80k_b8": ("pspnet/pspnet_r50-d8_512x1024_80k_cityscapes", "20200606_112131-2376f12b"),
    "fastfcn_r50_aspp_ade20k_160k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_aspp_512x512_160k_ade20k",
        "20211008_152246-27036aee",
    ),
    "fastfcn_r50_aspp_ade20k_80k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_aspp_512x512_80k_ade20k",
        "20211013_190619-3aa40f2d",
    ),
    "fastfcn_r50_aspp_cityscapes_80k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_aspp_4x4_512x1024_80k_cityscapes",
        "20210924_214357-72220849",
    ),
    "fastfcn_r50_aspp_cityscapes_80k_b8": (
        "fastfcn/fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes",
        "20210928_053722-5d1a2648",
    ),
    "fastfcn_r50_enc_ade20k_160k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_enc_512x512_160k_ade20k",
        "20211008_105456-d875ce3c",
    ),
    "fastfcn_r50_enc_ade20k_80k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_enc_512x512_80k_ade20k",
        "20210930_225214-65aef6dd",
    ),
    "fastfcn_r50_enc_cityscapes_80k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_enc_4x4_512x1024_80k_cityscapes",
        "20210926_093217-e1eb6dbb",
    ),
    "fastfcn_r50_enc_cityscapes_80k_b8": (
        "fastfcn/fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes",
        "20210928_030036-78da5046",
    ),
    "fastfcn_r50_psp_ade20k_160k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_psp_512x512_160k_ade20k",
        "20211008_105455-e8f5a2fd",
    ),
    "fastfcn_r50_psp_ade20k_80k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_psp_512x512_80k_ade20k",
        "20210930_225137-993d07c8",
    ),
    "fastfcn_r50_psp_cityscapes_80k_b16": (
        "fastfcn/fastfcn_r50-d32_jpu_psp_4x4_512x1024_80k_cityscapes",
        "20210925_061841-77e87b0a",
    ),
    "fastfcn_r50_psp_cityscapes_80k_b8": (
        "fastfcn/fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes",
        "20210928_053722-57749bed",
    ),
}  # fmt: skip
NAME = "fastfcn_tiny_psp_streets"


def test_addresses_are_those_of_the_metafile():
    assert sorted(published_names()) == sorted(METAFILE)
    for name, (folder, version) in METAFILE.items():
        first = url_variants(published_url(recipes.load(name)))[0]
        assert first == f"{ROOT}/{folder}/{folder.rsplit('/', 1)[-1]}_{version}.pth"


def test_the_wrong_address_of_the_table_is_tried_last():
    name = "fastfcn_r50_psp_cityscapes_80k_b8"
    variants = url_variants(published_url(recipes.load(name)))
    assert ["/fastfcn/fastfcn/" in variant for variant in variants] == [False, True]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serves a checkpoint in mmsegmentation's format, and adds a recipe with its URL to the package."""
    monkeypatch.setenv("FASTFCN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    classes = list(build.description(tiny_recipe()).class_names)
    content = save_1x(tmp_path / "checkpoint.pth", openmmlab_state(tiny_model()), classes).read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    with file_server() as server:
        server.files = {f"/v0.5/tiny-{digest}.pth": content}
        url = f"{server.address}/v0.5/tiny-{digest}.pth"
        lines = ["", "[published]", f'weights = "{url}"', 'source = "a test"', ""]
        text = tiny_recipe(f"name={NAME}").text + "\n".join(lines)
        monkeypatch.setitem(recipes.recipe._shipped(), NAME, text)
        yield server


def test_load_by_name(server: FileServer, tmp_path: Path):
    predictor = fastfcn.load(NAME, "cpu")
    again = fastfcn.load(NAME, "cpu")
    assert len(server.requests) == 1
    assert np.array_equal(predictor(picture()).labels, again(picture()).labels)
    file = local_file(NAME)
    assert file.parent == tmp_path / "cache"
    read = weights.load_model(weights.read(file))
    image = torch.randn(1, 3, 33, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(read.logits(image), tiny_model().logits(image))


def test_commands_by_name(server: FileServer, tmp_path: Path):
    image = save_picture(tmp_path / "a.png")
    done = run("predict", NAME, image, "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "a.png").is_file()
    done = run("info", NAME)
    assert done.code == 0, done.err
    assert NAME in done.out


def test_an_interrupted_download_resumes(server: FileServer):
    server.break_after = 100_000
    with pytest.raises(WeightsError, match="the connection ended"):
        local_file(NAME)
    server.break_after = None
    assert local_file(NAME).is_file()
    assert server.requests[-1].start == 100_000


def test_offline_says_what_to_do(server: FileServer, tmp_path: Path):
    server.files = {}
    done = run("predict", NAME, save_picture(tmp_path / "a.png"), "--out", "out")
    assert done.code != 0
    assert "Cannot download" in done.err
    assert "fetch the file elsewhere" in done.err
    assert f"fastfcn convert FILE --recipe {NAME}" in done.err
    assert "--checkpoint" not in done.err


def test_a_wrong_hash_is_refused(server: FileServer):
    path = next(iter(server.files))
    server.files = {path: server.files[path][:-1] + b"x"}
    with pytest.raises(WeightsError, match="the sha256 is"):
        local_file(NAME)


def test_names_that_have_no_weights_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="has no published weights"):
        fastfcn.load("fastfcn_r50_psp_camvid")
    with pytest.raises(WeightsError, match="cannot be downloaded automatically") as caught:
        fastfcn.load("official_r50_psp_pcontext")
    assert "fastfcn convert FILE --recipe official_r50_psp_pcontext" in (caught.value.hint or "")
    done = run("predict", "fastfcn_r50_psp_cityscape_80k_b8", "a.png", "--out", "out")
    assert done.code != 0
    assert 'did you mean "fastfcn_r50_psp_cityscapes_80k_b8"?' in done.err


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert published_recipe("fastfcn_r50_psp_cityscapes_80k_b8") is not None
    (tmp_path / "fastfcn_r50_psp_cityscapes_80k_b8").touch()
    assert published_recipe("fastfcn_r50_psp_cityscapes_80k_b8") is None
    assert published_recipe("folder/fastfcn_r50_psp_cityscapes_80k_b8") is None
