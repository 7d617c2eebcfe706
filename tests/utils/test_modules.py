"""Changing the class of a module with the same weights."""

import copy

import torch
from torch import Tensor, nn

from fastfcn.utils.modules import add_base_class, change_class


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class DoubledBefore(nn.Module):
    factor: float

    def forward(self, input: Tensor) -> Tensor:
        return self.factor * super().forward(input)


def test_names_of_weights_copies_and_references_stay():
    for change in (
        lambda layer: change_class(layer, Doubled),
        lambda layer: add_base_class(layer, DoubledBefore, factor=2.0),
    ):
        network = nn.Sequential(nn.Linear(3, 2))
        layer, weight, names = network[0], network[0].weight, list(network.state_dict())
        inputs = torch.randn(4, 3)
        expected = 2 * network(inputs)
        change(layer)
        assert network[0] is layer
        assert layer.weight is weight
        assert list(network.state_dict()) == names
        assert torch.equal(network(inputs), expected)
        other = copy.deepcopy(network)
        assert type(other[0]) is type(layer)
        assert torch.equal(other(inputs), expected)


def test_the_name_of_the_class_stays_with_another_base():
    layer = nn.Linear(3, 2)
    add_base_class(layer, DoubledBefore, factor=2.0)
    assert type(layer).__name__ == "Linear"
    assert isinstance(layer, nn.Linear)
