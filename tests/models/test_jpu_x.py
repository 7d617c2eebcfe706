"""JPU_X against its plain form, from the parameters alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn import build, recipes
from fastfcn.models.jpu_x import JPUX, JointUpsampling

CHANNELS = (5, 7, 9)
GROUPS = 2


def stages_of(size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    """Three maps at strides 8, 16 and 32 of an image of `size`, rounded up."""
    torch.manual_seed(0)
    return [
        torch.randn(batch, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(CHANNELS, (8, 16, 32), strict=True)
    ]


def neck_of(align_corners: bool = True, dilations: tuple[int, ...] = (1, 2, 4)) -> JPUX:
    torch.manual_seed(1)
    neck = JPUX(CHANNELS, 8, dilations, GROUPS, align_corners)
    for name, value in [*neck.named_parameters(), *neck.named_buffers()]:
        if ("bn" in name or "norm" in name) and "num_batches" not in name:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return neck.eval()


def plain_step(step: JointUpsampling, coarse: Tensor, fine: Tensor, dilations: list[int]) -> Tensor:
    low = step.coarse.bn(F.conv2d(coarse, step.coarse.conv.weight, padding=1)).relu()
    high = step.fine.bn(F.conv2d(fine, step.fine.conv.weight, padding=1)).relu()
    low = F.interpolate(low, size=fine.shape[-2:], mode="bilinear", align_corners=step.align_corners)
    both, branches = torch.cat([low, high], 1), [low]
    for branch, dilation in zip(step.dilated, dilations, strict=True):
        output = F.conv2d(both, branch.depthwise.weight, padding=dilation, dilation=dilation, groups=both.shape[1])
        output = F.group_norm(output, GROUPS, branch.depthwise_norm.weight, branch.depthwise_norm.bias)
        output = F.conv2d(output, branch.pointwise.weight)
        branches.append(F.group_norm(output, GROUPS, branch.pointwise_norm.weight, branch.pointwise_norm.bias).relu())
    return torch.cat(branches, 1)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (8, 8), (33, 65), (131, 197)])
@torch.no_grad()
def test_equals_the_plain_form(size: tuple[int, int], align_corners: bool):
    """The first step joins strides 8 and 16 at half the width; the second has twice the dilations."""
    neck, (fine, middle, coarse) = neck_of(align_corners), stages_of(size)
    joined = neck([fine, middle, coarse])
    expected = plain_step(neck.steps[0], middle, fine, [1, 2, 4])
    assert expected.shape[1] == 16
    expected = plain_step(neck.steps[1], coarse, expected, [2, 4, 8])
    assert joined.shape == (2, neck.out_channels, *fine.shape[-2:]) == (2, 32, *fine.shape[-2:])
    torch.testing.assert_close(joined, expected, rtol=1e-5, atol=1e-5)


def test_sizes_of_the_official_code():
    """It has 2048 output channels, like JPU; the expected number of parameters is that of the official code."""
    changes = ['neck={kind="jpu_x", width=512, dilations=[1, 2, 4], groups=32, align_corners=true}']
    with torch.device("meta"):
        neck = build.neck(recipes.load("official_r50_enc_pcontext", changes), (512, 1024, 2048))
    assert isinstance(neck, JPUX)
    assert neck.out_channels == 2048
    first = 256 * 9 * (1024 + 512) + 4 * 256 + 3 * (512 * 9 + 2 * 512 + 512 * 256 + 2 * 256)
    second = 512 * 9 * (2048 + 1024) + 4 * 512 + 3 * (1024 * 9 + 2 * 1024 + 1024 * 512 + 2 * 512)
    assert sum(parameter.numel() for parameter in neck.parameters()) == first + second


def test_gradients_under_autocast_are_those_of_float32_but_for_rounding():
    """In bf16 some CPUs give wrong gradients for depthwise weights; they must stay in float32."""
    torch.manual_seed(0)
    neck, stages = JPUX(CHANNELS, 16, (1, 2, 4), GROUPS, True), stages_of((256, 320))
    gradients = []
    for enabled in (False, True, True):
        neck.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            joined = neck(stages)
        (joined.float() * torch.arange(40)).mean().backward()
        gradients.append([branch.depthwise.weight.grad.clone() for branch in neck.steps[1].dilated])
    for plain, mixed, again in zip(*gradients, strict=True):
        assert torch.equal(mixed, again)
        assert F.cosine_similarity(plain.flatten(), mixed.flatten(), dim=0) > 0.95
