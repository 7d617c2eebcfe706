"""The UPerNet head against a literal implementation, and the contract of heads that read all stages."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn import build
from fastfcn.errors import RecipeError
from fastfcn.models.heads import UPerHead
from tests.helpers.tiny import tiny_model, tiny_recipe

CHANNELS, CLASSES, WIDTH = (3, 5, 6, 7), 4, 8
SIZES = [(17, 23), (16, 32), (1, 1), (3, 40)]
UPERNET = (
    'neck={kind="none"}',
    'head={kind="upernet", width=8, pools=[1, 2, 3, 6], kernel=3, dropout=0.0, align_corners=false}',
)


def plain(head: UPerHead, stages: list[Tensor]) -> Tensor:
    """As mmsegmentation's UPerHead: lateral maps, the top-down path, and all levels concatenated."""

    def resized(features: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(features, size=size, mode="bilinear", align_corners=head.align_corners)

    last = stages[3]
    pools = [resized(conv(F.adaptive_avg_pool2d(last, bins)), last.shape[2:]) for bins, conv in zip(
        head.pools, head.pooled, strict=True)]  # fmt: skip
    top = nn.Sequential.forward(head.bottleneck, torch.cat([last, *pools], 1))
    laterals = [head.lateral[index](stages[index]) for index in range(3)] + [top]
    for index in (2, 1, 0):
        laterals[index] = laterals[index] + resized(laterals[index + 1], laterals[index].shape[2:])
    outputs = [head.smooth[index](laterals[index]) for index in range(3)] + [top]
    outputs = [resized(output, outputs[0].shape[2:]) for output in outputs]
    return head.classifier(head.fuse(torch.cat(outputs, 1)))


def head_of(align_corners: bool, pools: tuple[int, ...] = (1, 2, 3, 6), kernel: int = 3) -> UPerHead:
    torch.manual_seed(0)
    head = UPerHead(CHANNELS, CLASSES, WIDTH, pools, kernel, 0.0, align_corners).double()
    for norm in (module for module in head.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return head


def stages_of(size: tuple[int, int]) -> list[Tensor]:
    """Four maps, each half as large as the one before, rounded up; `size` is that of the first."""
    torch.manual_seed(1)
    sizes = [[-(-side // 2**index) for side in size] for index in range(4)]
    return [
        torch.randn(3, channels, *map_size, dtype=torch.float64)
        for channels, map_size in zip(CHANNELS, sizes, strict=True)
    ]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_plain_form(size: tuple[int, int], align_corners: bool):
    for pools, kernel in (((1, 2, 3, 6), 3), ((1, 4), 1)):
        head, stages = head_of(align_corners, pools, kernel).eval(), stages_of(size)
        logits, extras = head(stages)
        assert logits.shape == (3, CLASSES, *size)
        assert extras == {}
        torch.testing.assert_close(logits, plain(head, stages), rtol=0, atol=1e-5)


def test_training_equals_the_plain_form():
    ours, stages = head_of(False).train(), stages_of((17, 23))
    theirs = copy.deepcopy(ours)
    ours(stages).logits.square().sum().backward()
    plain(theirs, stages).square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        scale = max(1.0, other.grad.abs().max().item())
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-5 * scale)
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (33, 65), (7, 300)])
def test_in_a_network(size: tuple[int, int]):
    model = tiny_model(*UPERNET).train()
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    logits, extras = model.forward_train(images)
    assert logits.shape == (2, 9, -(-size[0] // 4), -(-size[1] // 4))
    assert list(extras) == ["auxiliary"]
    (logits.square().sum() + extras["auxiliary"].square().sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert model.eval()(images).shape == (2, 9, *size)


def test_a_neck_that_would_be_unused_is_refused():
    recipe = tiny_recipe(UPERNET[1])
    with pytest.raises(RecipeError, match=r'head\.kind = "upernet" reads all stages .* but neck\.kind = "jpu"'):
        build.network(recipe, 9)
