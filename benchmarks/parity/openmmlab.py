"""mmsegmentation's side of the comparison: models, calibrated weights, inference, checkpoint files."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import mmseg
import torch
from mmengine import Config, MessageHub
from mmengine.runner import save_checkpoint
from mmseg.apis import init_model
from mmseg.utils import get_classes, get_palette
from recipe_names import openmmlab_recipe
from torch import Tensor, nn

CONFIGS = Path(mmseg.__file__).parent / ".mim" / "configs"
FOLDERS = {"psp": "pspnet", "aspp": "deeplabv3", "enc": "encnet"}  # the dilated baselines
DATASETS = {19: "cityscapes", 150: "ade20k"}
LOGITS_STD = 3.0

# Trained parameters with the auxiliary head, as counted from mmsegmentation 1.2.2.
PARAMETERS = {
    ("psp", 19): 68_711_046,
    ("psp", 150): 68_811_916,
    ("aspp", 19): 87_848_582,
    ("aspp", 150): 87_949_452,
    ("enc", 19): 55_627_513,
    ("enc", 150): 55_795_586,
}
JPU_PARAMETERS = 19_735_552


@dataclass(frozen=True)
class Architecture:
    """One network that both sides have; `jpu` False is the dilated baseline."""

    head: str
    classes: int
    jpu: bool

    @property
    def name(self) -> str:
        return f"{'fastfcn' if self.jpu else 'dilated'}_{self.head}_{self.classes}"

    @property
    def recipe(self) -> str:
        return openmmlab_recipe(self.head, self.classes, self.jpu)

    @property
    def config(self) -> Path:
        schedule = "4xb2-80k_cityscapes-512x1024" if self.classes == 19 else "4xb4-80k_ade20k-512x512"
        if self.jpu:
            return CONFIGS / "fastfcn" / f"fastfcn_r50-d32_jpu_{self.head}_{schedule}.py"
        folder = FOLDERS[self.head]
        return CONFIGS / folder / f"{folder}_r50-d8_{schedule}.py"

    @property
    def parameters(self) -> int:
        return PARAMETERS[self.head, self.classes] - (0 if self.jpu else JPU_PARAMETERS)


ARCHITECTURES = [Architecture(head, classes, jpu) for jpu in (True, False) for classes in DATASETS for head in FOLDERS]


def single_device(node: object) -> None:
    """Replace SyncBN, which needs several processes, by BN, in place; keys and results are the same."""
    if isinstance(node, dict):
        if node.get("type") == "SyncBN":
            node["type"] = "BN"
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for part in node:
            single_device(part)


def build(architecture: Architecture) -> nn.Module:
    config = Config.fromfile(architecture.config)
    single_device(config._cfg_dict)
    config.model.pretrained = None
    return init_model(config, device="cpu")


@torch.no_grad()
def logits(model: nn.Module, images: Tensor) -> Tensor:
    """(B, classes, H, W): mmsegmentation's test-time path on normalized RGB (B, 3, H, W)."""
    return torch.stack([sample.seg_logits.data for sample in model.predict(images)])


@torch.no_grad()
def side_logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """The auxiliary head's logits at its stride, and EncNet's SE logits (B, classes) or None."""
    stages = model.extract_feat(images)
    head = model.decode_head.forward(stages)
    return model.auxiliary_head.forward(stages), head[1] if isinstance(head, tuple) else None


def draw_norms(model: nn.Module) -> None:
    """Set random affine parameters of all batch norms, in place.

    The last norm of each block gets small weights, as in trained networks; with large ones a random network doubles the
    rounding errors of float32 in each block, which would dominate the comparison.
    """
    for name, module in model.named_modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            low, high = (0.1, 0.5) if name.endswith("bn3") else (0.5, 1.5)
            nn.init.uniform_(module.weight, low, high)
            nn.init.normal_(module.bias, 0.0, 0.2)
            module.momentum = 1.0


@torch.no_grad()
def calibrate_weights(model: nn.Module, samples: Tensor, compared: Tensor) -> None:
    """Give an untrained model weights that predict many classes, in place.

    With mmsegmentation's initialization the logits are nearly constant, and equal segmentation maps show little. Here
    the affine parameters of all batch norms are random, the running statistics are those of `samples` (B, 3, H, W),
    and the classifiers are scaled so that the logits of `compared` (1, 3, H, W) have mean 0 and a standard deviation
    of 3.
    """
    torch.manual_seed(0)
    draw_norms(model)
    model.train()
    stages = model.extract_feat(samples)
    model.decode_head.forward(stages)
    model.auxiliary_head.forward(stages)
    model.eval()
    for classifier in (model.decode_head.conv_seg, model.auxiliary_head.conv_seg):
        nn.init.normal_(classifier.weight, 0.0, 0.05)
        nn.init.zeros_(classifier.bias)
    stages = model.extract_feat(compared)
    head = model.decode_head.forward(stages)
    spread_classes(model.decode_head.conv_seg, head[0] if isinstance(head, tuple) else head)
    spread_classes(model.auxiliary_head.conv_seg, model.auxiliary_head.forward(stages))


def spread_classes(classifier: nn.Conv2d, logits: Tensor) -> None:
    """Scale the classifier so that its `logits` get mean 0 for each class and a standard deviation of 3."""
    mean = logits.mean((0, 2, 3))
    scale = LOGITS_STD / (logits - mean[:, None, None]).std()
    classifier.weight *= scale
    classifier.bias.copy_(-mean * scale)


def meta_of_1x(architecture: Architecture, model: nn.Module) -> dict:
    dataset = DATASETS[architecture.classes]
    return {
        "epoch": 0,
        "iter": 80000,
        "cfg": model.cfg.pretty_text,
        "seed": 0,
        "experiment_name": architecture.name,
        "time": time.strftime("%Y%m%d_%H%M%S"),
        "mmengine_version": "0.10.7",
        "dataset_meta": {"classes": tuple(get_classes(dataset)), "palette": get_palette(dataset)},
    }


def meta_of_0x(architecture: Architecture, model: nn.Module) -> dict:
    dataset = DATASETS[architecture.classes]
    return {
        "env_info": "sys.platform: linux",
        "mmseg_version": "0.18.0",
        "config": model.cfg.pretty_text,
        "CLASSES": tuple(get_classes(dataset)),
        "PALETTE": get_palette(dataset),
        "epoch": 1,
        "iter": 80000,
        "hook_msgs": {},
    }


def save(architecture: Architecture, model: nn.Module, layout: str, path: Path) -> None:
    """A checkpoint as mmsegmentation 1.x (with its message hub) or 0.x writes it, written by mmengine."""
    state = OrderedDict((key, value.cpu()) for key, value in model.state_dict().items())
    if layout == "0.x":
        save_checkpoint({"meta": meta_of_0x(architecture, model), "state_dict": state}, str(path))
        return
    hub = MessageHub.get_instance(architecture.name)
    hub.update_scalar("train/loss", 0.5)
    hub.update_info("iter", 80000)
    meta = meta_of_1x(architecture, model)
    save_checkpoint({"meta": meta, "state_dict": state, "message_hub": hub.state_dict()}, str(path))
