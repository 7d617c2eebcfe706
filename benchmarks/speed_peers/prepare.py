"""Before a contest, in a process of its own: weights with meaning, the image, ONNX files, nominal arithmetic."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openmmlab
import torch
from forward import Photographs, normalised
from safetensors.torch import save_file
from torch import Tensor, nn

from fastfcn import build, recipes, weights
from fastfcn.bench.flops import count_flops
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.pyramid import pyramid_pool
from fastfcn.weights.openmmlab import from_openmmlab
from speed_peers import vision
from speed_peers.calls import Place, full_labels, image_path
from speed_peers.contests import Contest, Network, OpenMMLab, Ours, TorchVision, Variant
from speed_peers.mmsegmentation import Alone, architecture, network_of, state_path
from speed_peers.runtimes import onnx_path

EXPORTED = ("openvino", "onnxruntime")
MEANING_SIZE = (512, 512)  # of the photograph whose scores get mean 0 and standard deviation 3


@torch.no_grad()
def prepare(contest: Contest, place: Place, images: Path, progress: Callable[[int, int], None]) -> dict[str, float]:
    """Write what the variants read; returns the nominal GFLOP of each network by name (an image, without auxiliary).

    Weights that are there already stay, so that contests of several sizes share them.
    """
    warnings.simplefilter("ignore")  # the peers speak of deprecated functions at length
    photographs = Photographs(images)
    np.save(image_path(place, contest), photographs.picture(2, contest.size))
    gflops = {}
    networks = {each.network.name: each.network for each in contest.variants}
    for done, (name, network) in enumerate(networks.items()):
        progress(done, len(networks))
        if not (place.folder / f"{name}.safetensors").exists():
            write_weights(network, place, photographs)
        gflops[name] = count_flops(plain(network), torch.empty(1, 3, *contest.size, device="meta")) / 1e9
    exported = next((each for each in contest.variants if each.program in EXPORTED), None)
    if exported:
        export(exported, contest, place)
    return gflops


def write_weights(network: Network, place: Place, photographs: Photographs) -> None:
    """NAME.safetensors as fastfcn reads it, and NAME.mmsegmentation.safetensors where they have the network."""
    match network:
        case OpenMMLab():
            model = openmmlab.build(architecture(network))
            compared = normalised(photographs.picture(2, MEANING_SIZE))
            openmmlab.give_meaning(model, photographs.for_statistics(), compared)
            state = model.state_dict()
            save_file({name: value.contiguous() for name, value in state.items()}, state_path(place, network))
            used = recipes.load(architecture(network).recipe)
            ours = build.network(used, network.classes)
            ours.load_state_dict(from_openmmlab(state), strict=True)
        case Ours():
            used = recipes.load(network.recipe, network.changes)
            torch.manual_seed(0)
            ours = build.network(used, len(build.description(used).classes))
            give_statistics(ours, photographs.for_statistics())
        case TorchVision():
            return
    weights.save(place.folder / f"{network.name}.safetensors", ours, used, build.description(used))


def give_statistics(model: Segmenter, images: Tensor) -> None:
    """Batch norm's running statistics of `images`, in place: values stay within bounds through all layers."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = 1.0
    model.train()
    model.forward_train(images)
    model.eval()


def plain(network: Network) -> Callable[[Tensor], object]:
    """The network on the meta device, as its authors define it: it maps normalised images to scores."""
    match network:
        case OpenMMLab():
            model = openmmlab.build(architecture(network)).to("meta")
            return lambda images: model.decode_head.forward(model.extract_feat(images))
        case Ours():
            used = recipes.load(network.recipe, network.changes)
            with torch.device("meta"):
                return build.network(used, len(build.description(used).classes)).eval().logits
        case TorchVision():
            with torch.device("meta"):
                return vision.network_of(network.classes)


class MatrixPool(nn.Module):
    """Adaptive average pooling as two matrix products.

    The exporter makes hundreds of gathers of it, which took ONNX Runtime 250 ms and OpenVINO 471 ms of processor time
    for the four pools of PSP at 512x1024, against 20 and 23 ms.
    """

    def __init__(self, bins: int):
        super().__init__()
        self.bins = bins

    def forward(self, features: Tensor) -> Tensor:
        return pyramid_pool(features, (self.bins,))[0]


def pool_by_matrices(model: nn.Module) -> None:
    """Replace pooling to several bins, in place; to one bin it is an operator of its own in ONNX."""
    for parent in list(model.modules()):
        for name, part in parent.named_children():
            if isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size != 1:
                assert isinstance(part.output_size, int)
                setattr(parent, name, MatrixPool(part.output_size))


class TwoEnds(nn.Module):
    """One graph with both ends, of which each file keeps one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        pool_by_matrices(model)
        self.alone = Alone(model)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.alone(image)
        return scores, full_labels(scores, image)


def export(variant: Variant, contest: Contest, place: Place) -> None:
    """ONNX of one size, ending in scores and ending in labels; both read one file of weights."""
    both = place.folder / f"{variant.network.name}_{contest.size[0]}x{contest.size[1]}.onnx"
    pixels = torch.from_numpy(np.load(image_path(place, contest)))[None]
    network = TwoEnds(network_of(variant, place)).eval()
    torch.onnx.export(
        network, (pixels,), both, input_names=["image"], output_names=["scores", "labels"], dynamo=True,
        external_data=True, verbose=False,
    )  # fmt: skip
    for kept, dropped in (("scores", "labels"), ("labels", "scores")):
        graph = onnx.load(both, load_external_data=False)
        outputs = copy.deepcopy([each for each in graph.graph.output if each.name != dropped])
        del graph.graph.output[:]
        graph.graph.output.extend(outputs)
        onnx.save(graph, onnx_path(place, contest, variant, kept))
