"""Initial weights from all kinds of files, or an error with a hint; never silently random."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

from fastfcn import build
from fastfcn.errors import WeightsError
from fastfcn.models.backbone import backbone, resnet_backbone
from fastfcn.weights import pretrained
from fastfcn.weights.pretrained import load_pretrained, other_normalization, read_int8_npz
from fastfcn.weights.start import load_initial_weights
from tests.helpers.openmmlab_files import openmmlab_state, save_1x
from tests.helpers.tiny import tiny_model, tiny_recipe, tiny_weights

NAME = "test_resnet"


def copy_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def net() -> nn.Module:
    return backbone(NAME)


def test_weights_of_another_normalization_are_reported():
    """Those of EfficientNetV2 from TensorFlow expect pixels from -1 to 1."""
    change = 'backbone={kind="pyramid", name="tf_efficientnetv2_s", pretrained="imagenet"}'
    warning = other_normalization(tiny_recipe(change))
    expected = "data.mean=[127.5,127.5,127.5] data.std=[127.5,127.5,127.5]"
    assert "tf_efficientnetv2_s" in warning
    assert warning.endswith(expected)
    assert other_normalization(tiny_recipe(change, *expected.split())) == ""
    assert other_normalization(tiny_recipe(change.replace("imagenet", "none"))) == ""
    assert other_normalization(tiny_recipe(change.replace("tf_efficientnetv2_s", "resnet18"))) == ""


def test_none_stays_random(net: nn.Module):
    before = copy_of(net)
    load_pretrained(net, NAME, "none")
    assert same(net.state_dict(), before)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", [NAME, "test_efficientnet", "test_convnext"])
def test_a_file_of_timm(tmp_path: Path, name: str, suffix: str):
    """The complete network with classifier; timm's feature extractors have other names for some tensors."""
    torch.manual_seed(1)
    network = timm.create_model(name).eval()
    path = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(network.state_dict(), path)
    else:
        save_file(network.state_dict(), path)
    net = backbone(name).eval()
    load_pretrained(net, name, str(path))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        # The last map depends on every tensor.
        expected = network.forward_intermediates(image, intermediates_only=True)[-1]
        torch.testing.assert_close(net(image)[-1], expected)


def test_counters_may_be_missing(tmp_path: Path, net: nn.Module):
    """Files converted from other formats lack `num_batches_tracked`."""
    state = copy_of(backbone(NAME))
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, tmp_path / "a.pth")
    load_pretrained(net, NAME, str(tmp_path / "a.pth"))
    assert same(net.state_dict(), state)


def test_names_of_openmmlab(tmp_path: Path, net: nn.Module):
    """A segmentation checkpoint, and one of the backbone alone like resnet50_v1c."""
    model = tiny_model()
    state = openmmlab_state(model)
    load_pretrained(net, NAME, str(save_1x(tmp_path / "whole.pth", state, ["a"])))
    assert same(net.state_dict(), model.backbone.state_dict())
    alone = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    assert "stem.0.weight" in alone
    torch.save({"state_dict": alone | {"fc.weight": torch.ones(3, 2)}}, tmp_path / "alone.pth")
    other = backbone(NAME)
    load_pretrained(other, NAME, str(tmp_path / "alone.pth"))
    assert same(other.state_dict(), model.backbone.state_dict())


def test_a_weights_file_of_fastfcn(tmp_path: Path, net: nn.Module):
    load_pretrained(net, NAME, str(tiny_weights(tmp_path / "w.safetensors")))
    assert same(net.state_dict(), tiny_model().backbone.state_dict())


def test_int8_values_are_scaled_by_a_power_of_two(tmp_path: Path):
    stored = {
        "q:conv.weight": np.array([[-128, 64], [1, 0]], np.int8),
        "e:conv.weight": np.int8(7),
        "q:fc.weight": np.array([3], np.int8),
        "e:fc.weight": np.int8(-2),
        "f:bn.bias": np.array([0.1, -2.5], np.float32),
    }
    np.savez(tmp_path / "a.npz", **stored)
    tensors = read_int8_npz(tmp_path / "a.npz")
    assert tensors["conv.weight"].tolist() == [[-1.0, 0.5], [1 / 128, 0.0]]
    assert tensors["fc.weight"].tolist() == [12.0]
    assert tensors["bn.bias"].tolist() == pytest.approx([0.1, -2.5])
    assert {value.dtype for value in tensors.values()} == {torch.float32}


def test_the_npz_of_resnet50(shared_data: Path):
    path = shared_data / "weights" / "resnet50_imagenet_pruned_int8.npz"
    with torch.device("meta"):
        net = resnet_backbone("resnet50", style="caffe")
    net.to_empty(device="cpu")
    for value in net.parameters():
        nn.init.constant_(value, torch.nan)
    load_pretrained(net, "resnet50", str(path))
    after = net.state_dict()
    with np.load(path) as file:
        for name in ("conv1.weight", "layer3.5.conv2.weight", "layer4.2.conv3.weight"):
            expected = file[f"q:{name}"].astype(np.float32) * 2.0 ** -float(file[f"e:{name}"])
            assert np.array_equal(after[name].numpy(), expected)
    assert [name for name, value in net.named_parameters() if value.isnan().any()] == []


def test_the_npz_on_another_network_lists_what_does_not_fit(shared_data: Path):
    path = str(shared_data / "weights" / "resnet50_imagenet_pruned_int8.npz")
    for name, lines in {
        "resnet18": ["wrong shape: layer1.0.conv1.weight is [64, 64, 1, 1], the network has [64, 64, 3, 3]"],
        "resnet50c": ["missing: conv1.0.weight [32, 3, 3, 3]", "not in the network: conv1.weight [64, 3, 7, 7]"],
    }.items():
        with torch.device("meta"):
            net = resnet_backbone(name)
        with pytest.raises(WeightsError, match="does not fit the backbone") as error:
            load_pretrained(net, name, path)
        assert path in error.value.message
        assert all(line in error.value.message for line in lines)
        assert "backbone.name" in error.value.hint


def test_a_deeper_network_of_the_same_widths_is_refused(tmp_path: Path):
    """All tensors of ResNet-18 exist in ResNet-34 at other depths: it would load, but be wrong."""
    with torch.device("meta"):
        deeper, net = backbone("resnet34").state_dict(), backbone("resnet18")
    with pytest.raises(WeightsError, match=r"not in the network: layer1\.2\.conv1\.weight"):
        pretrained.load_backbone(net, deeper, "resnet34.pth")


def test_weights_stay_as_they_were_when_something_does_not_fit(tmp_path: Path, net: nn.Module):
    before = copy_of(net)
    torch.save(copy_of(backbone("test_efficientnet")), tmp_path / "other.pth")
    with pytest.raises(WeightsError):
        load_pretrained(net, NAME, str(tmp_path / "other.pth"))
    assert same(net.state_dict(), before)


def assert_says_what_to_do(error: WeightsError) -> None:
    assert "backbone.pretrained" in error.hint
    assert '"none"' in error.hint


def test_imagenet_without_a_network(monkeypatch: pytest.MonkeyPatch, net: nn.Module):
    """The Hub client is in offline mode, because it would otherwise retry for a minute."""
    offline = []

    def refuse(name: str, pretrained: bool) -> nn.Module:
        offline.append(constants.HF_HUB_OFFLINE)
        raise OSError(f"\nno weights of {name} in the cache\nand many more lines")

    monkeypatch.setattr(pretrained, "_reachable", lambda _address: False)
    monkeypatch.setattr(timm, "create_model", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    before = copy_of(net)
    with pytest.raises(WeightsError) as error:
        load_pretrained(net, NAME, "imagenet")
    assert error.value.message == f"Cannot download the ImageNet weights of {NAME}: no weights of {NAME} in the cache"
    assert_says_what_to_do(error.value)
    assert offline == [True]
    assert constants.HF_HUB_OFFLINE is False
    assert same(net.state_dict(), before)


def test_imagenet_with_a_network(monkeypatch: pytest.MonkeyPatch, net: nn.Module):
    network, create = timm.create_model(NAME), timm.create_model
    monkeypatch.setattr(pretrained, "_reachable", lambda _address: True)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: network if pretrained else create(name))
    load_pretrained(net, NAME, "imagenet")
    assert torch.equal(net.state_dict()["conv1.0.weight"], network.state_dict()["conv1.0.weight"])


def test_an_address_nobody_answers_at_is_not_reachable():
    assert not pretrained._reachable("http://127.0.0.1:9")


def test_openmmlab_without_a_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(address: str, sha256_prefix: str) -> Path:
        assert sha256_prefix == "2cccc1ad"
        raise WeightsError(f"Cannot download {address}: no route to host.", "Try again.")

    monkeypatch.setattr(pretrained, "download", refuse)
    with torch.device("meta"):
        net = resnet_backbone("resnet50c")
    with pytest.raises(WeightsError, match=r"Cannot download https://.*resnet50_v1c-2cccc1ad\.pth") as error:
        load_pretrained(net, "resnet50c", "openmmlab")
    assert "Try again." in error.value.hint
    assert_says_what_to_do(error.value)


def test_openmmlab_has_one_network_only(net: nn.Module):
    with pytest.raises(WeightsError, match="are for resnet50c, not for test_resnet") as error:
        load_pretrained(net, NAME, "openmmlab")
    assert_says_what_to_do(error.value)


def test_a_path_without_a_file(net: nn.Module):
    with pytest.raises(WeightsError, match=r"there is no file imagnet\.pth") as error:
        load_pretrained(net, NAME, "imagnet.pth")
    assert_says_what_to_do(error.value)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(range(256)) * 20, b"PK\x03\x04" + bytes(200)])
def test_a_damaged_file(tmp_path: Path, net: nn.Module, suffix: str, content: bytes):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="or is damaged"):
        load_pretrained(net, NAME, str(path))


def test_a_truncated_npz(tmp_path: Path, net: nn.Module):
    np.savez_compressed(tmp_path / "a.npz", **{"f:conv1.weight": np.random.default_rng(0).random(1000)})
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[:-500])
    with pytest.raises(WeightsError, match="or is damaged"):
        load_pretrained(net, NAME, str(tmp_path / "a.npz"))


def test_pickled_arrays_are_refused(tmp_path: Path, net: nn.Module):
    np.savez(tmp_path / "a.npz", **{"f:conv1.weight": np.array([object()], dtype=object)})
    with pytest.raises(WeightsError, match="or is damaged"):
        load_pretrained(net, NAME, str(tmp_path / "a.npz"))


def test_the_recipe_says_which(tmp_path: Path):
    path = tmp_path / "whole.pth"
    torch.save(copy_of(backbone(NAME)), path)
    used = tiny_recipe(f'backbone={{kind="pyramid", name="{NAME}", pretrained="{path}"}}')
    model = build.create(used)
    load_initial_weights(used, model, build.description(used).class_names)
    assert same(model.backbone.state_dict(), torch.load(path))
