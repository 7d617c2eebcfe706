"""mmsegmentation 1.2.2: its test step and training step, and its network alone for compilers and other programs."""

from typing import Any

import numpy as np
import openmmlab
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from safetensors.torch import load_file
from torch import Tensor, nn

from speed_peers.calls import Call, Place, full_labels, normalised, through
from speed_peers.contests import Contest, OpenMMLab, Variant
from speed_peers.training import drawn_batch, held


def architecture(network: OpenMMLab) -> openmmlab.Architecture:
    return openmmlab.Architecture(network.head, network.classes, network.jpu)


def state_path(place: Place, network: OpenMMLab) -> str:
    return str(place.folder / f"{network.name}.mmsegmentation.safetensors")


def network_of(variant: Variant, place: Place) -> Any:
    assert isinstance(variant.network, OpenMMLab)
    model = openmmlab.build(architecture(variant.network))
    model.load_state_dict(load_file(state_path(place, variant.network)))
    return model.to(place.device)


def load(variant: Variant, contest: Contest, place: Place, image: np.ndarray) -> Call:
    """What `mmseg.apis.inference_model` does of an image that needs no resizing: pack, `model.test_step`.

    The image is held blue first, as OpenCV would have read it for them.
    """
    model = network_of(variant, place)
    blue_first = np.ascontiguousarray(image[:, :, ::-1])
    size = image.shape[:2]
    half = variant.precision == "bfloat16"

    @torch.no_grad()
    def call() -> np.ndarray:
        sample = SegDataSample(metainfo={"ori_shape": size, "img_shape": size, "pad_shape": size, "flip": False})
        pixels = torch.from_numpy(blue_first.transpose(2, 0, 1)).contiguous()
        with torch.autocast(place.device, torch.bfloat16, enabled=half):
            (result,) = model.test_step({"inputs": [pixels], "data_samples": [sample]})
        return result.pred_sem_seg.data[0].cpu().numpy()

    return call


class Alone(nn.Module):
    """The network without mmsegmentation's wrappers: image (1, H, W, 3) -> scores (1, C, h, w) at stride 8."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        head = self.model.decode_head.forward(self.model.extract_feat(normalised(image)))
        return head[0] if isinstance(head, tuple) else head


class Labels(Alone):
    """The same with the end: class map (1, H, W), uint8."""

    def forward(self, image: Tensor) -> Tensor:
        return full_labels(super().forward(image), image)


def load_compiled(variant: Variant, contest: Contest, place: Place, image: np.ndarray) -> Call:
    """torch.compile; on a CPU with frozen weights, which folds batch norm and lays the weights out anew."""
    import torch._inductor.config

    torch._inductor.config.freezing = place.device == "cpu"
    compiled = torch.compile(Labels(network_of(variant, place)).eval())
    half = variant.precision == "bfloat16"

    def labels(pixels: Tensor) -> Tensor:
        with torch.autocast(place.device, torch.bfloat16, enabled=half):
            return compiled(pixels)

    return through(labels, torch.device(place.device), image)


def load_training(variant: Variant, contest: Contest, place: Place, image: np.ndarray) -> Call:
    """`model.train_step` with the optimizer of the config; bf16 through autocast.

    mmengine's own wrapper for bf16 would also scale the loss, which bf16 has no need of.
    """
    model = network_of(variant, place).train()
    optimizer = build_optim_wrapper(model, model.cfg.optim_wrapper)
    model.data_preprocessor.size = contest.size
    images, labels = drawn_batch(image, contest.batch, variant.classes)
    blue_first = [held(torch.from_numpy(each[:, :, ::-1].copy()).permute(2, 0, 1), place) for each in images]
    masks = [PixelData(data=held(torch.from_numpy(label).long()[None], place)) for label in labels]
    samples = [SegDataSample(gt_sem_seg=mask) for mask in masks]
    half = variant.precision == "bfloat16"

    def call() -> None:
        with torch.autocast(place.device, torch.bfloat16, enabled=half):
            model.train_step({"inputs": blue_first, "data_samples": samples}, optimizer)

    return call
