"""Initial weights of the official FastFCN code from their zip, and complete networks to fine-tune."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fastfcn import build
from fastfcn.errors import WeightsError
from fastfcn.models.backbone import backbone
from fastfcn.weights import pretrained
from fastfcn.weights.pretrained import load_pretrained
from fastfcn.weights.start import load_initial_weights, load_start
from tests.helpers.tiny import tiny_model, tiny_recipe, tiny_weights
from tests.weights.test_pretrained import NAME, assert_says_what_to_do, copy_of, same


@pytest.fixture
def net() -> nn.Module:
    return backbone(NAME)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Tensor], Path]:
    """A small official FastFCN ResNet: its tensors, and the .zip in the cache."""
    torch.manual_seed(2)
    state = copy_of(backbone(NAME)) | {"fc.weight": torch.ones(1000, 2), "fc.bias": torch.ones(1000)}
    content = io.BytesIO()
    torch.save(state, content, _use_new_zipfile_serialization=False)
    sha1 = hashlib.sha1(content.getvalue()).hexdigest()
    archive = tmp_path / f"resnet50-{sha1[:8]}.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"resnet50-{sha1[:8]}.pth", content.getvalue())

    def fetch(address: str, sha256_prefix: str) -> Path:
        assert address == f"https://hangzh.s3.amazonaws.com/encoding/models/{archive.name}"
        return archive

    monkeypatch.setattr(pretrained, "download", fetch)
    monkeypatch.setitem(pretrained.OFFICIAL_SHA1, NAME, ("resnet50", sha1))
    return state, archive


def test_official_weights_are_extracted_from_a_zip(published: tuple[dict[str, Tensor], Path], net: nn.Module):
    state, archive = published
    for _ in range(2):  # the second time from the file unpacked by the first call
        load_pretrained(net, NAME, "official")
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
        archive.write_bytes(b"no longer needed")


def test_a_zip_with_anything_else_is_refused_and_removed(published: tuple[dict[str, Tensor], Path], net: nn.Module):
    _, archive = published
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(archive.with_suffix(".pth").name, b"something else")
    before = copy_of(net)
    with pytest.raises(WeightsError, match=r"does not contain the published resnet50-\w{8}\.pth") as error:
        load_pretrained(net, NAME, "official")
    assert_says_what_to_do(error.value)
    assert not archive.exists()
    assert same(net.state_dict(), before)


def test_no_zip_at_all_is_refused(published: tuple[dict[str, Tensor], Path], net: nn.Module):
    published[1].write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="not a zip file"):
        load_pretrained(net, NAME, "official")


def test_official_weights_fit_two_networks(net: nn.Module):
    with pytest.raises(WeightsError, match="for resnet50s and resnet101s, not for test_resnet") as error:
        load_pretrained(net, NAME, "official")
    assert_says_what_to_do(error.value)


def test_starting_from_a_complete_network(tmp_path: Path):
    model = tiny_model()
    path = tiny_weights(tmp_path / "w.safetensors")
    torch.manual_seed(5)
    other = build.create(tiny_recipe())
    assert not torch.equal(other.head.classifier.weight, model.head.classifier.weight)
    load_initial_weights(tiny_recipe(f"load_from={path}"), other, build.description(tiny_recipe()).class_names)
    assert same(other.state_dict(), model.state_dict())


def test_a_start_that_does_not_fit_or_is_not_there(tmp_path: Path):
    path = tiny_weights(tmp_path / "w.safetensors")
    wider, names = build.create(tiny_recipe("head.width=16")), build.description(tiny_recipe()).class_names
    with pytest.raises(WeightsError, match=r"wrong shape: head\.pooled\.0\.conv\.weight"):
        load_start(wider, tiny_recipe("head.width=16", f"load_from={path}"), names)
    with pytest.raises(WeightsError, match=r"load_from: there is no file missing\.safetensors") as error:
        load_start(wider, tiny_recipe("load_from=missing.safetensors"), names)
    assert "load_from=runs/first/last.safetensors" in error.value.hint
