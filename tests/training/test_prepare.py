"""What is changed in a network before training."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastfcn.models.backbone import backbone
from fastfcn.training.prepare import synchronize_batch_norms


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "mobilenetv4_conv_small_050"])
@torch.inference_mode()
def test_synchronized_batch_norms_keep_their_activations(name: str):
    torch.manual_seed(0)
    network = backbone(name).eval()
    converted = deepcopy(network)
    synchronize_batch_norms(converted)
    norms = sum(isinstance(module, _BatchNorm) for module in network.modules())
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in converted.modules()) == norms > 5
    assert converted.state_dict().keys() == network.state_dict().keys()
    images = torch.randn(2, 3, 64, 96)
    assert all(torch.equal(*maps) for maps in zip(converted(images), network(images), strict=True))
