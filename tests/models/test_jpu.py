"""JPU against its plain form, and alone on networks of timm."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode

import fastfcn
from fastfcn.models.jpu import JPU, NoNeck
from tests.helpers.gpu_waits import cuda_autocast

CHANNELS = (5, 7, 9)


def stages_of(size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    """Three maps at strides 8, 16 and 32 of an image of `size`, rounded up."""
    torch.manual_seed(0)
    return [
        torch.randn(batch, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(CHANNELS, (8, 16, 32), strict=True)
    ]


def plain_jpu(jpu: JPU, stages: list[Tensor]) -> Tensor:
    """Figure 4 of the paper, layer by layer, from the parameters alone."""
    maps = []
    for block, stage in zip(jpu.lateral, stages, strict=True):
        output = block.bn(F.conv2d(stage, block.conv.weight, padding=1)).relu()
        size = stages[0].shape[-2:]
        maps.append(F.interpolate(output, size=size, mode="bilinear", align_corners=jpu.align_corners))
    joined, branches = torch.cat(maps, 1), []
    for branch in jpu.dilated:
        dilation = branch.depthwise.conv.dilation[0]
        weight = branch.depthwise.conv.weight
        output = F.conv2d(joined, weight, padding=dilation, dilation=dilation, groups=joined.shape[1])
        output = F.conv2d(branch.depthwise.bn(output), branch.pointwise.conv.weight)
        branches.append(branch.pointwise.bn(output).relu())
    return torch.cat(branches, 1)


def jpu_of(align_corners: bool = False, dilations: tuple[int, ...] = (1, 2, 4, 8)) -> JPU:
    torch.manual_seed(1)
    jpu = JPU(CHANNELS, 4, dilations, align_corners)
    for name, value in [*jpu.named_parameters(), *jpu.named_buffers()]:
        if "bn" in name and "num_batches" not in name:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return jpu.eval()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (1, 1), (33, 65), (7, 300), (131, 197)])
@torch.no_grad()
def test_equals_the_plain_form(size: tuple[int, int], align_corners: bool):
    jpu, stages = jpu_of(align_corners), stages_of(size)
    joined = jpu(stages)
    assert joined.shape == (2, jpu.out_channels, *stages[0].shape[-2:])
    torch.testing.assert_close(joined, plain_jpu(jpu, stages), rtol=1e-5, atol=1e-5)
    last = [map_.contiguous(memory_format=torch.channels_last) for map_ in stages]
    torch.testing.assert_close(jpu(last), joined, rtol=1e-5, atol=1e-5)


def test_dilations_are_those_asked_for():
    jpu = jpu_of(dilations=(1, 3))
    assert jpu.out_channels == 8
    assert [branch.depthwise.conv.dilation for branch in jpu.dilated] == [(1, 1), (3, 3)]
    assert [branch.depthwise.conv.groups for branch in jpu.dilated] == [12, 12]


@pytest.mark.parametrize("size", [(64, 64), (75, 133)])
@torch.no_grad()
def test_stands_on_a_network_of_timm(size: tuple[int, int]):
    """The example of its documentation."""
    torch.manual_seed(0)
    backbone = timm.create_model("resnet18", features_only=True, out_indices=(2, 3, 4))
    jpu = fastfcn.JPU(backbone.feature_info.channels(), width=8).eval()
    stages = backbone.eval()(torch.randn(1, 3, *size))
    joined = jpu(stages)
    assert joined.shape == (1, 32, -(-size[0] // 8), -(-size[1] // 8))
    torch.testing.assert_close(joined, plain_jpu(jpu, stages), rtol=1e-4, atol=1e-4)


def test_takes_any_number_of_maps():
    maps = [torch.randn(1, 4, 12, 10), torch.randn(1, 3, 6, 5)]
    assert JPU((4, 3), width=2, dilations=(1,)).eval()(maps).shape == (1, 2, 12, 10)
    assert JPU((4,), width=2, dilations=(1, 2)).eval()(maps[:1]).shape == (1, 4, 12, 10)
    with pytest.raises(ValueError, match="zip"):
        JPU((4, 3, 2), width=2)(maps)


def test_last_stage_is_handed_through():
    stages = stages_of((64, 64))
    neck = NoNeck(CHANNELS)
    assert neck.out_channels == 9
    assert neck(stages) is stages[-1]


def test_gradients_under_autocast_are_those_of_float32_but_for_rounding():
    """In bf16 some CPUs give wrong gradients for depthwise weights; they must stay in float32."""
    torch.manual_seed(0)
    jpu = JPU(CHANNELS, width=16)
    stages = [torch.randn(4, channels, 32 // 2**i, 40 // 2**i) for i, channels in enumerate(CHANNELS)]
    gradients = []
    for enabled in (False, True, True):
        jpu.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            joined = jpu(stages)
        (joined.float() * torch.arange(40)).mean().backward()
        gradients.append([branch.depthwise.conv.weight.grad.clone() for branch in jpu.dilated])
    for plain, mixed, again in zip(*gradients, strict=True):
        assert torch.equal(mixed, again)
        assert torch.nn.functional.cosine_similarity(plain.flatten(), mixed.flatten(), dim=0) > 0.95


def test_maps_stay_in_half_precision_under_autocast_on_a_gpu():
    stages = stages_of((64, 96))
    inputs = []
    with FakeTensorMode(), cuda_autocast(), torch.device("cuda"):
        jpu = JPU(CHANNELS, 4).eval()
        jpu.dilated[0].register_forward_pre_hook(lambda layer, maps: inputs.append(maps[0].dtype))
        assert jpu([torch.zeros(stage.shape) for stage in stages]).dtype == torch.bfloat16
    assert inputs == [torch.bfloat16]
