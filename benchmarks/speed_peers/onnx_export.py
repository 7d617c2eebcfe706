"""mmsegmentation's networks as ONNX files, for OpenVINO and ONNX Runtime."""

import copy

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from fastfcn.ops.pyramid import pyramid_pool
from speed_peers.comparisons import Comparison, Variant
from speed_peers.environment import Environment, full_labels, image_path
from speed_peers.mmsegmentation_loaders import Alone, network_of
from speed_peers.runtime_loaders import onnx_path


class MatrixPool(nn.Module):
    """Adaptive average pooling as two matrix products.

    The ONNX exporter creates hundreds of gathers for it, which took ONNX Runtime 250 ms and OpenVINO 471 ms of CPU time
    for the four pools of PSP at 512x1024, compared with 20 and 23 ms.
    """

    def __init__(self, bins: int):
        super().__init__()
        self.bins = bins

    def forward(self, features: Tensor) -> Tensor:
        return pyramid_pool(features, (self.bins,))[0]


def pool_by_matrices(model: nn.Module) -> None:
    """Replace pooling to several bins, in place; pooling to one bin is a single operator in ONNX."""
    for parent in list(model.modules()):
        for name, part in parent.named_children():
            if isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size != 1:
                assert isinstance(part.output_size, int)
                setattr(parent, name, MatrixPool(part.output_size))


class TwoEnds(nn.Module):
    """One graph with two outputs; each exported file keeps one of them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        pool_by_matrices(model)
        self.alone = Alone(model)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.alone(image)
        return logits, full_labels(logits, image)


def export(variant: Variant, comparison: Comparison, environment: Environment) -> None:
    """Export ONNX for one size, with logits or labels as the output; both files share one file of weights."""
    both = environment.folder / f"{variant.network.name}_{comparison.size[0]}x{comparison.size[1]}.onnx"
    pixels = torch.from_numpy(np.load(image_path(environment, comparison)))[None]
    network = TwoEnds(network_of(variant, environment)).eval()
    torch.onnx.export(
        network, (pixels,), both, input_names=["image"], output_names=["logits", "labels"], dynamo=True,
        external_data=True, verbose=False,
    )  # fmt: skip
    for kept, dropped in (("logits", "labels"), ("labels", "logits")):
        graph = onnx.load(both, load_external_data=False)
        outputs = copy.deepcopy([value for value in graph.graph.output if value.name != dropped])
        del graph.graph.output[:]
        graph.graph.output.extend(outputs)
        onnx.save(graph, onnx_path(environment, comparison, variant, kept))
