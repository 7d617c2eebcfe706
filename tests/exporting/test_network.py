"""The traced program: equal to the network at every size, and built from standard operators only."""

import numpy as np
import pytest
import torch
from torch import nn

from fastfcn.exporting.network import EvenPool, ImageToClasses, exportable, trace, trace_backed
from fastfcn.exporting.verification import network_logits, sample_image
from fastfcn.models.backbone import SamePaddedConv2d
from tests.exporting.small import SmallNetwork
from tests.helpers.tiny import tiny_model, tiny_recipe

HEADS = {
    "enc_skip": (
        'head={kind="enc_skip", width=8, codewords=4, kernel=1, dropout=0.1, align_corners=false, skip_width=8, '
        "se_loss_weight=0.0, coarse_loss_weight=0.4}",
    ),
    "psp": (),
    "aspp": ('head={kind="aspp", width=8, dilations=[1, 3], kernel=3, dropout=0.1, align_corners=false}',),
    "enc": ('head={kind="enc", width=8, codewords=4, kernel=3, dropout=0.1, align_corners=false, se_loss_weight=0.0}',),
}


@pytest.mark.parametrize("head", HEADS)
def test_logits_and_labels_equal_those_of_the_network(head: str):
    model, recipe = tiny_model(*HEADS[head]), tiny_recipe(*HEADS[head])
    images = np.stack([sample_image((61, 83), seed=seed) for seed in range(2)])
    expected = network_logits(model, recipe, images)
    with torch.no_grad():
        labels, logits = ImageToClasses(model, recipe, True).eval()(torch.from_numpy(images))
    assert labels.dtype == torch.uint8
    assert np.abs(logits.numpy() - expected).max() < 1e-4
    assert (labels.numpy() == expected.argmax(1)).mean() > 0.9999
    assert len(np.unique(labels)) > 2


def test_a_program_is_traced_for_any_size():
    model, recipe = SmallNetwork(), tiny_recipe()
    program = trace(model, recipe, with_logits=True)
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [operator for operator in operators if "adaptive" in operator or operator.startswith("fastfcn")]
    for batch, height, width in ((1, 1, 1), (1, 5, 16), (3, 33, 200), (1, 129, 47)):
        images = np.stack([sample_image((height, width), seed=seed) for seed in range(batch)])
        with torch.no_grad():
            _, logits = program.module()(torch.from_numpy(images))
        assert np.abs(logits.numpy() - network_logits(model, recipe, images)).max() < 1e-4


class SamePaddedNetwork(SmallNetwork):
    """With TensorFlow's padding "same", which depends on the size: 5x5 and 3x3 at stride 2."""

    def __init__(self):
        super().__init__()
        self.shortcut = SamePaddedConv2d(6, 6, 3, stride=2)
        self.stem = SamePaddedConv2d(3, 6, 5, stride=2)


@pytest.mark.parametrize("tracing", [trace, trace_backed])
def test_padding_that_depends_on_the_size_is_traced(tracing):
    model, recipe = SamePaddedNetwork(), tiny_recipe()
    program = tracing(model, recipe, with_logits=True)
    for batch, height, width in ((1, 1, 1), (2, 34, 201), (1, 129, 48)):
        images = np.stack([sample_image((height, width), seed=seed) for seed in range(batch)])
        with torch.no_grad():
            _, logits = program.module()(torch.from_numpy(images))
        assert np.abs(logits.numpy() - network_logits(model, recipe, images)).max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 8), (7, 3), (6, 6)])
def test_pooling_with_repeated_edges_equals_the_original(size: tuple[int, int]):
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    stock = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    assert torch.allclose(EvenPool()(maps), stock(maps), atol=1e-6)


def test_only_equivalent_pooling_is_replaced():
    model = SmallNetwork()
    assert isinstance(exportable(model).shortcut, EvenPool)
    model.shortcut = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=True)  # counts the padding
    assert isinstance(exportable(model).shortcut, nn.AvgPool2d)
    assert isinstance(model.shortcut, nn.AvgPool2d)  # a copy is changed
