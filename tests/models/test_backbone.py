"""Backbones: sizes of the stages, and strides and dilations block by block as in OpenMMLab's models."""

import math

import pytest
import timm
import torch
from torch import nn

from fastfcn.models.backbone import STRIDES, BackboneError, backbone, resnet_backbone

Blocks = list[list[int]]  # a number for each block of each stage

# (stride, dilation) of the 3x3 convolutions of OpenMMLab's ResNet-50 with dilations (1, 1, 2, 4).
STRIDE_32: list[Blocks] = [
    [[1, 1, 1], [2, 1, 1, 1], [2, 1, 1, 1, 1, 1], [2, 1, 1]],
    [[1, 1, 1], [1, 1, 1, 1], [1, 2, 2, 2, 2, 2], [2, 4, 4]],
]


def meta_resnet(name: str, *settings: object) -> nn.Module:
    with torch.device("meta"):
        return resnet_backbone(name, *settings).eval()


def blocks_of(net: nn.Module) -> list[list[nn.Module]]:
    return [list(getattr(net, f"layer{index}")) for index in range(1, 5)]


def numbers(net: nn.Module, convolution: str, what: str) -> Blocks:
    """One attribute of one convolution of every block; it must be the same for height and width."""
    pairs = [[getattr(getattr(block, convolution), what) for block in stage] for stage in blocks_of(net)]
    assert all(pair[0] == pair[1] for stage in pairs for pair in stage)
    return [[pair[0] for pair in stage] for stage in pairs]


def stage_sizes(net: nn.Module, size: tuple[int, int]) -> list[tuple[int, ...]]:
    return [tuple(stage.shape[-2:]) for stage in net(torch.empty(1, 3, *size, device="meta"))]


def divided(size: tuple[int, int], strides: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(math.ceil(side / stride) for side in size) for stride in strides]


def test_stride_32_with_dilations_as_openmmlab_has_it():
    net = meta_resnet("resnet50c", (1, 2, 2, 2), (1, 1, 2, 4), "pytorch")
    assert numbers(net, "conv2", "stride") == STRIDE_32[0]
    assert numbers(net, "conv2", "dilation") == STRIDE_32[1]
    assert numbers(net, "conv2", "padding") == STRIDE_32[1]
    assert {stride for stage in numbers(net, "conv1", "stride") for stride in stage} == {1}
    assert [stage[0].downsample[0].stride for stage in blocks_of(net)] == [(1, 1), (2, 2), (2, 2), (2, 2)]


def test_stride_in_the_first_1x1():
    net = meta_resnet("resnet50", (1, 2, 2, 2), (1, 1, 1, 1), "caffe")
    assert numbers(net, "conv1", "stride") == STRIDE_32[0]
    assert {stride for stage in numbers(net, "conv2", "stride") for stride in stage} == {1}
    assert {dilation for stage in numbers(net, "conv2", "dilation") for dilation in stage} == {1}


def test_dilated_originals_keep_stride_8():
    net = meta_resnet("resnet50c", (1, 2, 1, 1), (1, 1, 2, 4), "pytorch")
    assert numbers(net, "conv2", "dilation") == STRIDE_32[1]
    assert numbers(net, "conv2", "stride") == [[1, 1, 1], [2, 1, 1, 1], [1] * 6, [1, 1, 1]]
    for size in [(64, 96), (33, 65), (481, 353)]:
        assert stage_sizes(net, size) == divided(size, (4, 8, 8, 8))


def test_basic_blocks():
    """They have no 1x1: the stride stays in the first 3x3, and the second has the full dilation."""
    net = meta_resnet("resnet18", (1, 2, 2, 1), (1, 1, 2, 4), "pytorch")
    assert numbers(net, "conv1", "stride") == [[1, 1], [2, 1], [2, 1], [1, 1]]
    assert {stride for stage in numbers(net, "conv2", "stride") for stride in stage} == {1}
    assert numbers(net, "conv1", "dilation") == [[1, 1], [1, 1], [1, 2], [2, 4]]
    assert numbers(net, "conv2", "dilation") == [[1, 1], [1, 1], [2, 2], [4, 4]]
    assert stage_sizes(net, (70, 33)) == divided((70, 33), (4, 8, 16, 16))


@pytest.mark.parametrize("name", ["resnet18", "resnet50c", "resnet26d"])
def test_stage_sizes_are_rounded_up(name: str):
    net = meta_resnet(name, (1, 2, 2, 2), (1, 1, 2, 4))
    for size in [(64, 96), (1, 1), (33, 65), (7, 300)]:
        assert stage_sizes(net, size) == divided(size, STRIDES)


@pytest.mark.parametrize("name", ["resnet18", "resnet50c"])
def test_without_changes_it_is_the_network_of_timm(name: str):
    torch.manual_seed(0)
    ours = resnet_backbone(name).eval()
    for key, value in ours.named_parameters():  # timm initializes blocks as the identity
        if "bn" in key:
            nn.init.uniform_(value, 0.5, 1.5)
    plain = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    plain.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 33, 65)
    with torch.no_grad():
        for mine, theirs in zip(ours(image), plain(image), strict=True):
            assert torch.equal(mine, theirs)


def test_dilations_change_the_outputs_but_not_the_shapes():
    """A wrong dilation as in `D32` is easy to miss: the weights load either way."""
    torch.manual_seed(0)
    dilated = resnet_backbone("resnet18", (1, 2, 2, 2), (1, 1, 2, 4)).eval()
    for name, value in dilated.named_parameters():  # timm initializes blocks as the identity
        if "bn" in name:
            nn.init.uniform_(value, 0.5, 1.5)
    plain = resnet_backbone("resnet18").eval()
    plain.load_state_dict(dilated.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pairs = list(zip(dilated(image), plain(image), strict=True))
    assert [mine.shape == theirs.shape for mine, theirs in pairs] == [True] * 4
    assert [torch.equal(mine, theirs) for mine, theirs in pairs] == [True, True, False, False]


def test_an_unknown_name_is_refused():
    with pytest.raises(BackboneError, match="no network of this name"):
        backbone("no_such_network")


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("resnet50d", (1, 2, 1, 1)),  # its shortcut is a pooling layer, whose stride cannot be removed
        ("resnet18", (2, 2, 2, 2)),  # its first stage has no shortcut that could have a stride
        ("resnetblur18", (1, 2, 2, 2)),  # its strides are in anti-aliasing layers
        ("skresnet18", (1, 2, 2, 2)),
        ("test_convnext", (1, 2, 2, 2)),
        ("resnetaa50", (1, 2, 2, 2)),
    ],
)
def test_a_network_whose_strides_cannot_be_set_is_refused(name: str, strides: tuple[int, ...]):
    with pytest.raises(ValueError, match=name):
        meta_resnet(name, strides)
