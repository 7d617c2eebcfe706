"""Training steps of both sides on the same batches, each through its own entry points, and their differences."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import openmmlab
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.optim.scheduler import PolyLR
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from openmmlab import Architecture
from PIL import Image
from sample_images import SampleImages, normalized
from torch import Tensor, nn

from fastfcn import build, recipes
from fastfcn.data.transforms import normalize
from fastfcn.training.prepare import prepare
from fastfcn.training.train import train_step
from fastfcn.utils.machine import Machine
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.weights.openmmlab import rename

STEPS = 10
SCHEDULE = 100  # steps of the poly schedule: the learning rate falls by 8 % in ten steps
IMAGES = 8  # batch size: the branch pooled to 1x1 gives batch norms eight values per channel
# (height, width), cycled. The long ones have 40 positions at stride 8, more than the dilation of 36.
CROPS = ((64, 128), (128, 64), (64, 320), (128, 64), (320, 64))
SHORT_SIDE = 320  # of the images before cropping
PARTS = ("backbone", "neck", "head", "auxiliary")
THEIR_LOSSES = {"main": "decode.loss_ce", "auxiliary": "aux.loss_ce", "se": "decode.loss_se", "loss": "loss"}

Batch = tuple[np.ndarray, np.ndarray]  # RGB uint8 (B, H, W, 3); labels uint8 (B, H, W), 255 = ignored


def batches(folder: Path, classes: int, count: int = STEPS) -> Iterator[Batch]:
    """Crops of the images under `folder`, and random labels: coarse blocks, some of them ignored.

    One image of the second batch is ignored completely, so it has no classes.
    """
    paths = sorted(folder.rglob("*.jpg"))
    if len(paths) < IMAGES:
        raise SystemExit(f"{folder} has {len(paths)} .jpg images, but {IMAGES} are needed; see --images")
    generator = np.random.default_rng(classes)
    for step in range(count):
        size = CROPS[step % len(CROPS)]
        chosen = generator.choice(len(paths), IMAGES, replace=False)
        images = np.stack([crop(paths[index], size, generator) for index in chosen])
        labels = np.stack([drawn_label(classes, size, generator) for _ in chosen])
        if step == 1:
            labels[0] = IGNORE_INDEX
        yield images, labels


def crop(path: Path, size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A random crop of the image."""
    with Image.open(path) as image:
        factor = SHORT_SIDE / min(image.size)
        wide = [round(side * factor) for side in image.size]
        pixels = np.asarray(image.convert("RGB").resize(wide, Image.Resampling.BILINEAR))
    top, left = (int(generator.integers(0, have - want + 1)) for have, want in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def drawn_label(classes: int, size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Blocks of 16 x 16 pixels; up to half of them are ignored."""
    blocks = generator.integers(0, classes, (size[0] // 16, size[1] // 16), dtype=np.uint8)
    blocks[generator.random(blocks.shape) < generator.uniform(0, 0.5)] = IGNORE_INDEX
    return np.kron(blocks, np.ones((16, 16), dtype=np.uint8))


@torch.no_grad()
def starting_network(architecture: Architecture, folder: Path) -> nn.Module:
    """mmsegmentation's network as at the start of training: useful features, classifiers close to zero.

    The last batch norm of each block gets small weights, as in a pretrained network. With large ones gradients, and
    with them rounding errors, grow from block to block in the backward pass.
    """
    samples = SampleImages(folder)
    model = openmmlab.build(architecture)
    openmmlab.calibrate_weights(model, samples.for_statistics(), normalized(samples.image(2, (256, 256))))
    for classifier in (model.decode_head.conv_seg, model.auxiliary_head.conv_seg):
        nn.init.normal_(classifier.weight, std=0.01)
        nn.init.zeros_(classifier.bias)
    for name, module in model.named_modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = 0.1
            if name.endswith("bn3"):
                nn.init.uniform_(module.weight, 0.0, 0.2)
        elif isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return model


class Trainer:
    """One side's network and its last step; `gradients`, by fastfcn's names, are recorded just before the update."""

    model: nn.Module

    def record_steps(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.gradients: dict[str, Tensor] = {}
        self.rates: list[float] = []
        optimizer.register_step_pre_hook(self._record)

    def _record(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.gradients = {rename(name): parameter.grad for name, parameter in self.model.named_parameters()}

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by fastfcn's names."""
        return {rename(name): value for name, value in self.model.state_dict().items()}


def feed(model: nn.Module, precision: torch.dtype, layout: torch.memory_format) -> nn.Module:
    """Convert `model` to `precision` and `layout`, and images at the input of its backbone."""
    model.to(precision).to(memory_format=layout)
    model.backbone.register_forward_pre_hook(lambda _, images: (images[0].to(precision, memory_format=layout),))
    return model


class OpenMMLabTrainer(Trainer):
    """mmsegmentation: `train_step` of its model, with the optimizer and schedule of its config."""

    def __init__(self, model: nn.Module, precision: torch.dtype, layout: torch.memory_format = torch.contiguous_format):
        feed(model, precision, layout).train()
        model.data_preprocessor.float()  # images are equal bit for bit
        self.optimizer = build_optim_wrapper(model, model.cfg.optim_wrapper)
        schedule = {**model.cfg.param_scheduler[0], "end": SCHEDULE, "optimizer": self.optimizer}
        self.schedule = PARAM_SCHEDULERS.build(schedule)
        self.record_steps(model, self.optimizer.optimizer)

    def step(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        self.model.data_preprocessor.size = labels.shape[1:]
        bgr = [torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1) for image in images]
        masks = [PixelData(data=torch.from_numpy(label).long()[None]) for label in labels]
        samples = [SegDataSample(gt_sem_seg=mask) for mask in masks]
        logged = self.model.train_step({"inputs": bgr, "data_samples": samples}, self.optimizer)
        self.schedule.step()
        return {ours: float(logged[name].detach()) for ours, name in THEIR_LOSSES.items() if name in logged}


class FastFCNTrainer(Trainer):
    """fastfcn: `train_step` through Fabric, with the recipe's optimizer; `changes` are overrides."""

    def __init__(
        self, architecture: Architecture, state: dict[str, Tensor], precision: torch.dtype, changes: Sequence[str] = ()
    ):
        defaults = [f"optim.steps={SCHEDULE}", "head.dropout=0.0", "auxiliary.dropout=0.0"]
        self.recipe = recipes.load(architecture.recipe, [*defaults, *changes])
        network = build.network(self.recipe, architecture.classes)
        network.load_state_dict(state, strict=True)
        feed(network, precision, torch.channels_last)
        optimizer = build.optimizer(self.recipe, network)
        machine = Machine("cpu")
        self.fabric = machine.launch()
        prepare(network, machine, self.fabric.device)
        self.wrapped, self.optimizer = self.fabric.setup(network, optimizer)
        self.wrapped.mark_forward_method("forward_train")
        self.wrapped.train()
        self.precision = precision
        self.done = 0
        self.record_steps(network, optimizer)

    def step(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        data = self.recipe.data
        batch = torch.stack([normalize(image, data.mean, data.std) for image in images])
        one = iter([(batch, torch.from_numpy(labels))])
        # Losses convert to float32, but must stay in double precision here.
        single = Tensor.double if self.precision == torch.float64 else Tensor.float
        with patch.object(Tensor, "float", single):
            losses = train_step(self.wrapped, self.optimizer, one, self.recipe, self.done, self.fabric)
        self.done += 1
        return {name: float(value) for name, value in losses.items()}


def relative(ours: float, theirs: float) -> float:
    """Difference relative to theirs, rounded to four digits."""
    return float(f"{abs(ours - theirs) / max(abs(theirs), 1e-30):.3e}")


def norms(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """Norm of all tensors as one vector, and of the tensors of each part."""
    squares = dict.fromkeys(("all", *PARTS), 0.0)
    for name, tensor in tensors:
        square = float(tensor.double().norm()) ** 2
        squares["all"] += square
        squares[name.split(".")[0]] += square
    return {part: square**0.5 for part, square in squares.items()}


def distances(ours: dict[str, Tensor], theirs: dict[str, Tensor], lengths: dict[str, float]) -> dict[str, float]:
    """Distance between the tensors of both sides relative to `lengths`, rounded to four digits."""
    distance = norms((name, ours[name].double() - value) for name, value in theirs.items())
    return {part: float(f"{distance[part] / max(lengths[part], 1e-30):.3e}") for part in distance}


def schedule_difference(steps: int) -> float:
    """Largest difference between mmengine's and fastfcn's learning rate over a schedule of `steps`."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.01)
    schedule = PolyLR(optimizer, eta_min=1e-4, power=0.9, begin=0, end=steps, by_epoch=False)
    recipe = recipes.load("fastfcn_r50_psp_cityscapes_80k_b8", [f"optim.steps={steps}"])
    largest = 0.0
    for step in range(steps):
        largest = max(largest, abs(optimizer.param_groups[0]["lr"] - build.learning_rate(recipe, step)))
        optimizer.step()
        schedule.step()
    return largest
