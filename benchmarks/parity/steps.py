"""Training steps of both sides on the same batches, each through its own entry points, and how far apart they go."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import openmmlab
import torch
from forward import Photographs, normalised
from mmengine.optim import build_optim_wrapper
from mmengine.optim.scheduler import PolyLR
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from openmmlab import Architecture
from PIL import Image
from torch import Tensor, nn

from fastfcn import build, recipes
from fastfcn.data.transforms import normalize
from fastfcn.training.prepare import prepare
from fastfcn.training.train import train_step
from fastfcn.utils.machine import Machine
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.weights.openmmlab import rename

STEPS = 10
SCHEDULE = 100  # steps of the poly schedule, so that the rate falls by 8 % within the ten
IMAGES = 8  # so that the branch pooled to 1x1 gives batch norm eight values of each channel
# (height, width), in turn. The long ones have 40 positions at stride 8: a dilation of 36 reaches across.
CROPS = ((64, 128), (128, 64), (64, 320), (128, 64), (320, 64))
SHORT_SIDE = 320  # of the photographs that are cropped
PARTS = ("backbone", "neck", "head", "auxiliary")
THEIR_LOSSES = {"main": "decode.loss_ce", "auxiliary": "aux.loss_ce", "se": "decode.loss_se", "loss": "loss"}

Batch = tuple[np.ndarray, np.ndarray]  # RGB uint8 (B, H, W, 3); labels uint8 (B, H, W), 255 = ignored


def batches(folder: Path, classes: int, count: int = STEPS) -> Iterator[Batch]:
    """Crops of the photographs under `folder`, and drawn labels: coarse blocks, some of them ignored.

    One image of the second batch is ignored altogether: no class is present there.
    """
    paths = sorted(folder.rglob("*.jpg"))
    if len(paths) < IMAGES:
        raise SystemExit(f"{folder} holds {len(paths)} photographs (.jpg), {IMAGES} are needed; see --images")
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
    """A part of the photograph at a random place."""
    with Image.open(path) as image:
        factor = SHORT_SIDE / min(image.size)
        wide = [round(side * factor) for side in image.size]
        pixels = np.asarray(image.convert("RGB").resize(wide, Image.Resampling.BILINEAR))
    top, left = (int(generator.integers(0, have - want + 1)) for have, want in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def drawn_label(classes: int, size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Blocks of 16 x 16 pixels, of which between none and half are ignored."""
    blocks = generator.integers(0, classes, (size[0] // 16, size[1] // 16), dtype=np.uint8)
    blocks[generator.random(blocks.shape) < generator.uniform(0, 0.5)] = IGNORE_INDEX
    return np.kron(blocks, np.ones((16, 16), dtype=np.uint8))


@torch.no_grad()
def starting_network(architecture: Architecture, folder: Path) -> nn.Module:
    """mmsegmentation's network where a training starts: features that mean something, classifiers close to zero.

    The last batch norm of each block is given small weights, as in a pretrained network. With large ones the
    gradients grow from block to block backwards, and rounding errors with them.
    """
    photographs = Photographs(folder)
    model = openmmlab.build(architecture)
    openmmlab.give_meaning(model, photographs.for_statistics(), normalised(photographs.picture(2, (256, 256))))
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


class Side:
    """One side's network and what its last step did; `gradients` under our names, noted just before the update."""

    model: nn.Module

    def watch(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.gradients: dict[str, Tensor] = {}
        self.rates: list[float] = []
        optimizer.register_step_pre_hook(self._note)

    def _note(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.gradients = {rename(name): each.grad for name, each in self.model.named_parameters()}

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers under our names."""
        return {rename(name): value for name, value in self.model.state_dict().items()}


def feed(model: nn.Module, precision: torch.dtype, layout: torch.memory_format) -> nn.Module:
    """`model` with weights and images of `precision` and `layout` from its backbone on."""
    model.to(precision).to(memory_format=layout)
    model.backbone.register_forward_pre_hook(lambda _, images: (images[0].to(precision, memory_format=layout),))
    return model


class Theirs(Side):
    """mmsegmentation: its model's `train_step`, with the optimizer and the schedule that its config names."""

    def __init__(self, model: nn.Module, precision: torch.dtype, layout: torch.memory_format = torch.contiguous_format):
        feed(model, precision, layout).train()
        model.data_preprocessor.float()  # the images are the same to the last bit
        self.optimizer = build_optim_wrapper(model, model.cfg.optim_wrapper)
        schedule = {**model.cfg.param_scheduler[0], "end": SCHEDULE, "optimizer": self.optimizer}
        self.schedule = PARAM_SCHEDULERS.build(schedule)
        self.watch(model, self.optimizer.optimizer)

    def step(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        self.model.data_preprocessor.size = labels.shape[1:]
        blue_first = [torch.from_numpy(each[:, :, ::-1].copy()).permute(2, 0, 1) for each in images]
        masks = [PixelData(data=torch.from_numpy(label).long()[None]) for label in labels]
        samples = [SegDataSample(gt_sem_seg=mask) for mask in masks]
        logged = self.model.train_step({"inputs": blue_first, "data_samples": samples}, self.optimizer)
        self.schedule.step()
        return {ours: float(logged[name].detach()) for ours, name in THEIR_LOSSES.items() if name in logged}


class Ours(Side):
    """fastfcn: `train_step` through Fabric, with the optimizer of the recipe, of which `changes` are made."""

    def __init__(
        self, architecture: Architecture, state: dict[str, Tensor], precision: torch.dtype, changes: Sequence[str] = ()
    ):
        usual = [f"optim.steps={SCHEDULE}", "head.dropout=0.0", "auxiliary.dropout=0.0"]
        self.recipe = recipes.load(architecture.recipe, [*usual, *changes])
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
        self.watch(network, optimizer)

    def step(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        data = self.recipe.data
        batch = torch.stack([normalize(each, data.mean, data.std) for each in images])
        one = iter([(batch, torch.from_numpy(labels))])
        # The losses turn half precision into float32, and would turn double precision into it too.
        single = Tensor.double if self.precision == torch.float64 else Tensor.float
        with patch.object(Tensor, "float", single):
            losses = train_step(self.wrapped, self.optimizer, one, self.recipe, self.done, self.fabric)
        self.done += 1
        return {name: float(value) for name, value in losses.items()}


def relative(ours: float, theirs: float) -> float:
    """Difference relative to theirs, to four digits."""
    return float(f"{abs(ours - theirs) / max(abs(theirs), 1e-30):.3e}")


def norms(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """The length of all tensors as one vector, and of those of each part."""
    squares = dict.fromkeys(("all", *PARTS), 0.0)
    for name, tensor in tensors:
        square = float(tensor.double().norm()) ** 2
        squares["all"] += square
        squares[name.split(".")[0]] += square
    return {part: square**0.5 for part, square in squares.items()}


def distances(ours: dict[str, Tensor], theirs: dict[str, Tensor], lengths: dict[str, float]) -> dict[str, float]:
    """How far the tensors that `theirs` has are apart, in `lengths`, to four digits."""
    apart = norms((name, ours[name].double() - value) for name, value in theirs.items())
    return {part: float(f"{apart[part] / max(lengths[part], 1e-30):.3e}") for part in apart}


def schedule_difference(steps: int) -> float:
    """Largest difference between mmengine's rate and ours over a whole schedule of `steps`."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.01)
    schedule = PolyLR(optimizer, eta_min=1e-4, power=0.9, begin=0, end=steps, by_epoch=False)
    used = recipes.load("fastfcn_r50_psp_cityscapes_80k_b8", [f"optim.steps={steps}"])
    largest = 0.0
    for step in range(steps):
        largest = max(largest, abs(optimizer.param_groups[0]["lr"] - build.learning_rate(used, step)))
        optimizer.step()
        schedule.step()
    return largest
