"""Preparation of a comparison, in a separate process: weights, image, ONNX files and nominal FLOPs.

Modules that need other software are imported where they are used: without mmsegmentation, fastfcn's own variants of its
networks run with other weights.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sample_images import SampleImages
from torch import Tensor, nn

from fastfcn import build, recipes, weights
from fastfcn.bench.flops import count_flops
from fastfcn.models.segmenter import Segmenter
from speed_peers.comparisons import Comparison, Network, OpenMMLab, RecipeNetwork, TorchVision, missing_package
from speed_peers.environment import Environment, image_path

EXPORTED = ("openvino", "onnxruntime")


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
        from speed_peers.onnx_export import export

        export(exported, comparison, environment)
    return gflops


def write_weights(network: Network, environment: Environment, samples: SampleImages) -> None:
    """Write NAME.safetensors for fastfcn, and NAME.mmsegmentation.safetensors if mmsegmentation has the network."""
    match network:
        case OpenMMLab() if not missing_package("mmsegmentation"):
            from speed_peers.mmsegmentation_loaders import write_weights as write_same_weights

            write_same_weights(network, environment, samples)
        case OpenMMLab() | RecipeNetwork():
            recipe = recipes.load(network.recipe, network.changes)
            torch.manual_seed(0)
            ours = build.network(recipe, len(build.description(recipe).classes))
            give_statistics(ours, samples.for_statistics())
            weights.save(environment.folder / f"{network.name}.safetensors", ours, recipe, build.description(recipe))
        case TorchVision():
            return


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
        case OpenMMLab() if not missing_package("mmsegmentation"):
            from speed_peers.mmsegmentation_loaders import meta_network

            return meta_network(network)
        case OpenMMLab() | RecipeNetwork():
            recipe = recipes.load(network.recipe, network.changes)
            with torch.device("meta"):
                return build.network(recipe, len(build.description(recipe).classes)).eval().logits
        case TorchVision():
            from speed_peers.torchvision_loader import network_of

            with torch.device("meta"):
                return network_of(network.classes)
