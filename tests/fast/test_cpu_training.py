"""Training with the kernels against training with PyTorch alone."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from fastfcn import build, recipes
from fastfcn.fast import cpu_training as module
from fastfcn.fast.cpu_training import SubsampledConv2d, WinogradConv2d, subsample_pointwise, use_training_kernels
from fastfcn.fast.optimize import FastSegmenter, optimize
from fastfcn.losses import segmentation_loss
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.activation_checkpointing import recompute_activations
from fastfcn.training.prepare import prepare
from fastfcn.utils.machine import Machine
from tests.helpers import needed

available = needed.KERNELS
NETWORKS = {
    "psp": ["fastfcn_r50_psp_camvid", "neck.width=64", "head.width=64"],
    "aspp": ["fastfcn_r50_aspp_cityscapes_80k_b8", "neck.width=64", "head.width=64"],
    "enc": ["fastfcn_r50_enc_cityscapes_80k_b8", "neck.width=64", "head.width=64"],
    "official": ["official_r50_enc_ade20k", "neck.width=64", "head.width=64"],
    "slim": ["fastfcn_r18_jpu_m_camvid"],
    "dilated": ["dilated_r18_psp_camvid"],
    "mobile": ["fastfcn_lite0_jpu_s_camvid"],
}


def network(name: str) -> tuple[Recipe, Segmenter]:
    used = recipes.load(NETWORKS[name][0], NETWORKS[name][1:])
    torch.manual_seed(0)
    return used, build.network(used, 5).train().to(memory_format=torch.channels_last)


def step(used: Recipe, model: Segmenter) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one batch."""
    chance = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 96, 128, generator=chance).to(next(model.parameters()).dtype)
    labels = torch.randint(5, (2, 96, 128), generator=chance, dtype=torch.uint8)
    torch.manual_seed(2)  # of dropout
    terms = build.loss_terms(used)
    losses = segmentation_loss(*model.forward_train(images), labels, terms, torch.tensor(float(labels.numel())), 2)
    losses["loss"].backward()
    return losses["loss"], {
        key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None
    }


@available
@pytest.mark.parametrize("name", NETWORKS)
def test_losses_and_gradients_are_those_of_the_plain_network(name: str):
    used, plain = network(name)
    lean = copy.deepcopy(plain)
    assert use_training_kernels(lean)
    names = {type(part).__name__ for part in lean.modules()}
    assert "WinogradConv2d" in names
    assert ("FusedSeparableConv" in names) == (name != "dilated")
    assert ({"LeanInvertedResidual", "LeanSeparableConv"} <= names) == (name == "mobile")
    expected, gradients = step(used, copy.deepcopy(plain).double())
    (loss, grads), (_, ordinary) = step(used, lean), step(used, plain)
    assert list(lean.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)
    # Both are in float32, where a ReLU can switch: the error against float64 must be similar to PyTorch's.
    error = distance(grads, gradients), distance(ordinary, gradients)
    assert error[0] < 3 * error[1] + 1e-4, f"{error[0]:.1e} from float64, where torch is {error[1]:.1e}"
    for key, value in plain.named_buffers():
        torch.testing.assert_close(lean.get_buffer(key), value, rtol=1e-3, atol=1e-4)


def distance(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Relative distance of two gradients of the network."""
    assert actual.keys() == expected.keys()
    squared = sum(float((actual[key].double() - expected[key]).square().sum()) for key in expected)
    return (squared / sum(float(value.square().sum()) for value in expected.values())) ** 0.5


@available
@pytest.mark.parametrize("mistake", ["a tenth of one tap", "one step of dilation"])
def test_a_mistake_would_be_noticed(mistake: str, monkeypatch: pytest.MonkeyPatch):
    used, plain = network("psp")
    lean = copy.deepcopy(plain)
    use_training_kernels(lean)
    if mistake == "a tenth of one tap":
        right = module.winograd_conv
        keep = torch.ones(3, 3).index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(0.9))
        monkeypatch.setattr(module, "winograd_conv", lambda x, weight, dilation: right(x, weight * keep, dilation))
    else:
        inner = module.separable_conv
        monkeypatch.setattr(module, "separable_conv", lambda *args: inner(*args[:-1], args[-1] + (args[-1] == 8)))
    _, gradients = step(used, copy.deepcopy(plain).double())
    grads, ordinary = step(used, lean)[1], step(used, plain)[1]
    assert distance(grads, gradients) > 3 * distance(ordinary, gradients) + 1e-4


@available
def test_it_goes_with_recomputed_activations():
    used, lean = network("psp")
    use_training_kernels(lean)
    both = copy.deepcopy(lean)
    recompute_activations(both)
    (one, first), (other, second) = step(used, lean), step(used, both)
    assert torch.equal(one, other)
    assert distance(first, second) < 1e-6


@available
def test_evaluation_and_what_the_kernels_cannot_do_are_as_before():
    _, plain = network("slim")
    lean = copy.deepcopy(plain)
    use_training_kernels(lean)
    images = torch.randn(2, 3, 64, 96)
    for model in (lean, plain):
        model.head.dropout.p = model.auxiliary.dropout.p = 0
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            lean.forward_train(images).logits, plain.forward_train(images).logits, rtol=0, atol=0
        )
    with torch.no_grad():
        assert torch.equal(lean.eval().logits(images), plain.eval().logits(images))
    frozen = [layer for layer in lean.train().modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in [*frozen, *(layer for layer in plain.train().modules() if isinstance(layer, nn.BatchNorm2d))]:
        norm.eval()
    torch.testing.assert_close(
        lean.forward_train(images).logits, plain.forward_train(images).logits, rtol=1e-3, atol=1e-4
    )
    fast = optimize(lean.eval())
    assert isinstance(fast, FastSegmenter)
    assert not any(isinstance(part, WinogradConv2d) for part in fast.modules())


def test_kernels_are_used_if_available(monkeypatch: pytest.MonkeyPatch):
    for available in (True, False):
        monkeypatch.setattr(module.kernels, "available", lambda available=available: available)
        _, model = network("slim")
        prepare(model, Machine("cpu"), torch.device("cpu"))
        assert any(isinstance(part, WinogradConv2d) for part in model.modules()) == available
    monkeypatch.setattr(module.kernels, "available", lambda: True)
    _, model = network("slim")
    prepare(model, Machine("cuda"), torch.device("cuda"))
    assert not any(isinstance(part, WinogradConv2d) for part in model.modules())


@pytest.mark.parametrize(
    ("inputs", "groups", "stride", "bias"),
    [(3, 1, 2, False), (12, 3, 2, True), (24, 1, (3, 2), False), (8, 8, 2, True)],
)
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 1)])
def test_strided_pointwise_convolutions_are_subsampled_with_equal_results(
    inputs: int, groups: int, stride: int, bias: bool, size: tuple[int, int]
):
    conv = nn.Conv2d(inputs, 24, 1, stride=stride, groups=groups, bias=bias).double()
    expected_grads, grads = [], []
    for gradients in (expected_grads, grads):
        images = torch.randn(2, inputs, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        images.requires_grad_()
        result = conv(images)
        gradients += [result, *torch.autograd.grad((result * result.sin()).sum(), [images, *conv.parameters()])]
        names = list(conv.state_dict())
        subsample_pointwise(conv)
    assert type(conv) is SubsampledConv2d
    assert list(conv.state_dict()) == names
    for actual, expected in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(3, 8, 1, stride=2, padding=1),
        nn.Conv2d(3, 8, 3, stride=2),
        nn.Conv2d(64, 8, 1, stride=2),  # complete blocks of channels, as in ResNets
    ],
)
def test_other_convolutions_stay_plain(conv: nn.Conv2d):
    subsample_pointwise(conv)
    assert type(conv) is nn.Conv2d


def test_a_strided_pointwise_convolution_trains_without_damage():
    """In a separate process: PyTorch's own form writes past the end of a buffer, and the process crashes."""
    code = """
import torch
from fastfcn.fast.cpu_training import subsample_pointwise
conv = torch.nn.Conv2d(3, 48, 1, stride=2, bias=False).to(memory_format=torch.channels_last)
subsample_pointwise(conv)
for _ in range(30):
    images = torch.randn(2, 3, 64, 96).to(memory_format=torch.channels_last)
    conv.weight.grad = None
    result = conv(images)
    result.sum().backward()
    expected = images[..., ::2, ::2].sum((0, 2, 3))
    torch.testing.assert_close(conv.weight.grad[:, :, 0, 0], expected.expand(48, 3), rtol=1e-4, atol=1e-2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_training_prepares_the_strided_convolutions_of_any_backbone():
    used = recipes.load("fastfcn_r18_jpu_m_camvid", ['backbone={kind="pyramid", name="repvgg_a0", pretrained="none"}'])
    model = build.network(used, 5)
    names = list(model.state_dict())
    prepare(model, Machine("cpu"), torch.device("cpu"))
    assert type(model.backbone.stem.conv_1x1.conv) is SubsampledConv2d  # type: ignore[union-attr]
    assert list(model.state_dict()) == names
    assert not any(type(layer) is SubsampledConv2d for layer in optimize(model).modules())
