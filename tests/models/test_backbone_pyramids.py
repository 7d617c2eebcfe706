"""Backbones of timm with four stages: images of any size, and timm's names of the weights."""

import copy
import math

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from fastfcn.models.backbone import STRIDES, SamePaddedConv2d, backbone, same_padding
from fastfcn.weights.pretrained import load_backbone

PYRAMIDS = [
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "convnext_tiny",
    "tf_efficientnetv2_s",
    "efficientnetv2_rw_t",
    "tf_efficientnet_lite0",
    "mobilenetv4_conv_small",
    "mobilenetv4_conv_medium",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_ns_224",  # images of one size, but channels first
    "poolformer_s12",  # rounds up in some layers and down in others
    "resnet18",
]
# Small ones of each kind: rounds up, rounds down, channels last.
KINDS = ["mobilenetv4_conv_small", "test_convnext", "swin_small"]
SIZES = [(64, 96), (45, 83), (1, 1)]


def rounded_up(size: tuple[int, int]) -> list[tuple[int, ...]]:
    return [tuple(math.ceil(side / stride) for side in size) for stride in STRIDES]


@pytest.fixture(autouse=True)
def swin_small(monkeypatch):
    """A Swin with 63 thousand parameters, registered under a new name; timm's smallest has 28 million."""
    make = timm.create_model

    def small(name: str, **options):
        if name != "swin_small":
            return make(name, **options)
        sizes = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 1, 2, 2)}
        return make("swin_tiny_patch4_window7_224", **sizes, **options)

    monkeypatch.setattr(timm, "create_model", small)


def awake(net: nn.Module) -> nn.Module:
    """The network with distinct weights in all layers; timm initializes norms and branches as the identity."""
    torch.manual_seed(0)
    for value in net.parameters():
        if value.ndim == 1:
            nn.init.uniform_(value, 0.5, 1.5)
    return net.eval()


def plain(name: str) -> nn.Module:
    """timm's own pyramid, its maps at strides 4 to 32."""
    count = len(timm.create_model(name, features_only=True).feature_info.channels())
    return timm.create_model(name, features_only=True, out_indices=tuple(range(count - 4, count)))


@pytest.mark.parametrize("name", PYRAMIDS)
def test_maps_of_any_size_are_rounded_up(name: str):
    with torch.device("meta"):
        net = backbone(name).eval()
    assert net.feature_info.reduction() == list(STRIDES)
    for size in SIZES:
        stages = net(torch.empty(2, 3, *size, device="meta"))
        assert [tuple(stage.shape[-2:]) for stage in stages] == rounded_up(size)
        assert [stage.shape[1] for stage in stages] == net.feature_info.channels()


@pytest.mark.parametrize("name", KINDS)
def test_at_the_size_of_its_training_it_is_the_network_of_timm(name: str):
    ours, theirs = awake(backbone(name)), plain(name).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 224, 224)  # the only size that timm's Swin accepts by default
    with torch.no_grad():
        maps = theirs(image)
        if name == "swin_small":
            maps = [map_.permute(0, 3, 1, 2) for map_ in maps]
        for mine, their in zip(ours(image), maps, strict=True):
            torch.testing.assert_close(mine, their)
            assert mine.std() > 1e-3


@pytest.mark.parametrize("name", ["test_convnext", "swin_small"])
def test_other_sizes_are_filled_up_with_zeros(name: str):
    """Zeros are the mean color of a normalized image; the maps are cropped to the image."""
    net = awake(backbone(name))
    image = torch.randn(1, 3, 45, 83)
    filled = torch.zeros(1, 3, 64, 96)
    filled[:, :, :45, :83] = image
    with torch.no_grad():
        for cropped, full, (rows, columns) in zip(net(image), net(filled), rounded_up((45, 83)), strict=True):
            assert torch.equal(cropped, full[:, :, :rows, :columns])


def test_networks_that_round_up_see_the_image_as_it_is():
    name = "mobilenetv4_conv_small"
    ours = awake(backbone(name))
    theirs = plain(name).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 45, 83)
    with torch.no_grad():
        for mine, their in zip(ours(image), theirs(image), strict=True):
            assert torch.equal(mine, their)


@pytest.mark.parametrize("name", KINDS)
def test_weights_have_timms_names_and_load_from_the_full_network(name: str):
    network = awake(timm.create_model(name))
    net = backbone(name)
    assert list(net.state_dict()) == list(plain(name).state_dict())
    load_backbone(net, network.state_dict(), "timm")
    stored: dict[str, Tensor] = network.state_dict()
    for key, value in net.state_dict().items():
        names = (key, key.replace("_", ".", 1))  # "layers_0.blocks" in a pyramid is "layers.0.blocks" in the network
        assert any(name in stored and torch.equal(stored[name], value) for name in names), key


@pytest.mark.parametrize("name", KINDS)
def test_copies_and_gradients_are_complete(name: str):
    net = awake(backbone(name))
    twin = copy.deepcopy(net)
    image = torch.randn(1, 3, 40, 50)
    for mine, other in zip(net(image), twin(image), strict=True):
        assert torch.equal(mine, other)
    sum(stage.square().mean() for stage in net(image)).backward()
    assert [key for key, value in net.named_parameters() if value.grad is None or not value.grad.any()] == []
    assert all(value.grad is None for value in twin.parameters())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_vit", "at strides"),
        ("levit_128s", "at strides"),
        ("botnet26t_256", "any size"),  # tables of relative positions
        ("hiera_tiny_224", "any size"),  # learned position embeddings
    ],
)
def test_a_network_without_such_maps_is_refused(name: str, reason: str):
    with pytest.raises(ValueError, match=f"{name} .*{reason}"):
        backbone(name)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (1, 2, 1), (2, 2, 1), (3, 3, 2), (4, 3, 1)]
)
def test_same_padding_equals_that_of_timm(kernel: int, stride: int, dilation: int):
    """Kernels shorter than the stride as well: these need no padding, never a negative one."""
    theirs = Conv2dSame(3, 4, kernel, stride, dilation=dilation)
    ours = SamePaddedConv2d(3, 4, kernel, stride, dilation=dilation)
    ours.load_state_dict(theirs.state_dict())
    for size in ((8, 9), (10, 7), (1, 2), (6, 11)):
        images = torch.randn(2, 3, *size)
        assert torch.equal(ours(images), theirs(images))
    assert [same_padding(side, 3, 2, 1) for side in (8, 9)] == [(0, 1), (1, 1)]


def test_a_network_with_same_padding_computes_what_timm_does():
    name = "tf_mobilenetv3_small_minimal_100"
    ours, theirs = awake(backbone(name)), plain(name).eval()
    theirs.load_state_dict(ours.state_dict())
    assert not [module for module in ours.modules() if type(module) is Conv2dSame]
    for size in ((64, 96), (45, 83), (1, 2)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            for mine, their in zip(ours(image), theirs(image), strict=True):
                assert torch.equal(mine, their)
