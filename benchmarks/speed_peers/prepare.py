"""Preparation of a comparison, in a separate process: weights, image, ONNX files and nominal FLOPs."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openmmlab
import torch
from forward import SampleImages, normalized
from safetensors.torch import save_file
from torch import Tensor, nn

from fastfcn import build, recipes, weights
from fastfcn.bench.flops import count_flops
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.pyramid import pyramid_pool
from fastfcn.weights.openmmlab import from_openmmlab
from speed_peers import torchvision_loader
from speed_peers.comparisons import Comparison, Network, OpenMMLab, RecipeNetwork, TorchVision, Variant
from speed_peers.environment import Environment, full_labels, image_path
from speed_peers.mmsegmentation_loaders import Alone, architecture, network_of, state_path
from speed_peers.runtime_loaders import onnx_path

EXPORTED = ("openvino", "onnxruntime")
CALIBRATION_SIZE = (512, 512)  # of the image whose logits are scaled to mean 0 and standard deviation 3


@torch.no_grad()
def prepare(
    comparison: Comparison, environment: Environment, images: Path, progress: Callable[[int, int], None]
) -> dict[str, float]:
    """Write the files that the variants read; returns the nominal GFLOPs of each network for an image.

    Existing weights are kept, so that comparisons at several sizes share them. Auxiliary heads are not counted.
    """
    warnings.simplefilter("ignore")  # the other libraries print many deprecation warnings
    samples = SampleImages(images)
    np.save(image_path(environment, comparison), samples.image(2, comparison.size))
    gflops = {}
    networks = {variant.network.name: variant.network for variant in comparison.variants}
    for done, (name, network) in enumerate(networks.items()):
        progress(done, len(networks))
        if not (environment.folder / f"{name}.safetensors").exists():
            write_weights(network, environment, samples)
        gflops[name] = count_flops(plain(network), torch.empty(1, 3, *comparison.size, device="meta")) / 1e9
    exported = next((variant for variant in comparison.variants if variant.program in EXPORTED), None)
    if exported:
        export(exported, comparison, environment)
    return gflops


def write_weights(network: Network, environment: Environment, samples: SampleImages) -> None:
    """Write NAME.safetensors for fastfcn, and NAME.mmsegmentation.safetensors if mmsegmentation has the network."""
    match network:
        case OpenMMLab():
            model = openmmlab.build(architecture(network))
            compared = normalized(samples.image(2, CALIBRATION_SIZE))
            openmmlab.calibrate_weights(model, samples.for_statistics(), compared)
            state = model.state_dict()
            save_file({name: value.contiguous() for name, value in state.items()}, state_path(environment, network))
            recipe = recipes.load(architecture(network).recipe)
            ours = build.network(recipe, network.classes)
            ours.load_state_dict(from_openmmlab(state), strict=True)
        case RecipeNetwork():
            recipe = recipes.load(network.recipe, network.changes)
            torch.manual_seed(0)
            ours = build.network(recipe, len(build.description(recipe).classes))
            give_statistics(ours, samples.for_statistics())
        case TorchVision():
            return
    weights.save(environment.folder / f"{network.name}.safetensors", ours, recipe, build.description(recipe))


def give_statistics(model: Segmenter, images: Tensor) -> None:
    """Set the running statistics of batch norms from `images`, in place, so that activations stay bounded."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = 1.0
    model.train()
    model.forward_train(images)
    model.eval()


def plain(network: Network) -> Callable[[Tensor], object]:
    """The network on the meta device, as its authors define it: normalized images -> logits."""
    match network:
        case OpenMMLab():
            model = openmmlab.build(architecture(network)).to("meta")
            return lambda images: model.decode_head.forward(model.extract_feat(images))
        case RecipeNetwork():
            recipe = recipes.load(network.recipe, network.changes)
            with torch.device("meta"):
                return build.network(recipe, len(build.description(recipe).classes)).eval().logits
        case TorchVision():
            with torch.device("meta"):
                return torchvision_loader.network_of(network.classes)


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
