"""mmsegmentation 1.2.2: its test step and training step, and its network alone for compilers and other runtimes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import openmmlab
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from safetensors.torch import load_file, save_file
from sample_images import SampleImages
from sample_images import normalized as normalized_sample
from torch import Tensor, nn

from fastfcn import build, recipes, weights
from fastfcn.weights.openmmlab import from_openmmlab
from speed_peers.comparisons import Comparison, OpenMMLab, Variant
from speed_peers.environment import Call, Environment, drawn_batch, full_labels, normalized, pin, torch_call

CALIBRATION_SIZE = (512, 512)  # of the image whose logits are scaled to mean 0 and standard deviation 3


def architecture(network: OpenMMLab) -> openmmlab.Architecture:
    return openmmlab.Architecture(network.head, network.classes, network.jpu)


def state_path(environment: Environment, network: OpenMMLab) -> str:
    return str(environment.folder / f"{network.name}.mmsegmentation.safetensors")


def network_of(variant: Variant, environment: Environment) -> Any:
    assert isinstance(variant.network, OpenMMLab)
    model = openmmlab.build(architecture(variant.network))
    model.load_state_dict(load_file(state_path(environment, variant.network)))
    return model.to(environment.device)


def write_weights(network: OpenMMLab, environment: Environment, samples: SampleImages) -> None:
    """Write the same calibrated weights for mmsegmentation and for fastfcn."""
    model = openmmlab.build(architecture(network))
    openmmlab.calibrate_weights(model, samples.for_statistics(), normalized_sample(samples.image(2, CALIBRATION_SIZE)))
    state = model.state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, state_path(environment, network))
    recipe = recipes.load(network.recipe)
    ours = build.network(recipe, network.classes)
    ours.load_state_dict(from_openmmlab(state), strict=True)
    weights.save(environment.folder / f"{network.name}.safetensors", ours, recipe, build.description(recipe))


def meta_network(network: OpenMMLab) -> Callable[[Tensor], object]:
    """The network on the meta device: normalized images -> logits."""
    model = openmmlab.build(architecture(network)).to("meta")
    return lambda images: model.decode_head.forward(model.extract_feat(images))


def load(variant: Variant, comparison: Comparison, environment: Environment, image: np.ndarray) -> Call:
    """`model.test_step`, as in `mmseg.apis.inference_model` for an image that needs no resizing.

    The image is stored as BGR, as OpenCV reads it.
    """
    model = network_of(variant, environment)
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    size = image.shape[:2]
    half = variant.precision == "bfloat16"

    @torch.no_grad()
    def call() -> np.ndarray:
        sample = SegDataSample(metainfo={"ori_shape": size, "img_shape": size, "pad_shape": size, "flip": False})
        pixels = torch.from_numpy(bgr.transpose(2, 0, 1)).contiguous()
        with torch.autocast(environment.device, torch.bfloat16, enabled=half):
            (result,) = model.test_step({"inputs": [pixels], "data_samples": [sample]})
        return result.pred_sem_seg.data[0].cpu().numpy()

    return call


class Alone(nn.Module):
    """The network without mmsegmentation's wrappers: image (1, H, W, 3) -> logits (1, C, h, w) at stride 8."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        head = self.model.decode_head.forward(self.model.extract_feat(normalized(image)))
        return head[0] if isinstance(head, tuple) else head


class Labels(Alone):
    """The network with its last step: segmentation map (1, H, W), uint8."""

    def forward(self, image: Tensor) -> Tensor:
        return full_labels(super().forward(image), image)


def load_compiled(variant: Variant, comparison: Comparison, environment: Environment, image: np.ndarray) -> Call:
    """torch.compile; on a CPU with frozen weights, which folds batch norms and reorders weights."""
    import torch._inductor.config

    torch._inductor.config.freezing = environment.device == "cpu"
    compiled = torch.compile(Labels(network_of(variant, environment)).eval())
    half = variant.precision == "bfloat16"

    def labels(pixels: Tensor) -> Tensor:
        with torch.autocast(environment.device, torch.bfloat16, enabled=half):
            return compiled(pixels)

    return torch_call(labels, torch.device(environment.device), image)


def load_training(variant: Variant, comparison: Comparison, environment: Environment, image: np.ndarray) -> Call:
    """`model.train_step` with the optimizer of the config; bf16 through autocast.

    mmengine's wrapper for bf16 would also scale the loss, which bf16 does not need.
    """
    model = network_of(variant, environment).train()
    optimizer = build_optim_wrapper(model, model.cfg.optim_wrapper)
    model.data_preprocessor.size = comparison.size
    images, labels = drawn_batch(image, comparison.batch, variant.classes)
    bgr = [pin(torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1), environment) for image in images]
    masks = [PixelData(data=pin(torch.from_numpy(label).long()[None], environment)) for label in labels]
    samples = [SegDataSample(gt_sem_seg=mask) for mask in masks]
    half = variant.precision == "bfloat16"

    def call() -> None:
        with torch.autocast(environment.device, torch.bfloat16, enabled=half):
            model.train_step({"inputs": bgr, "data_samples": samples}, optimizer)

    return call
