"""Sliding-window evaluation and training, by the official code and by fastfcn, with the same weights."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import official_code
import torch
from forward import SampleImages
from official_networks import NETWORKS, Architecture, calibrated_network, from_theirs
from torch import Tensor, nn
from torchvision import transforms

from fastfcn import build
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.inference import predict_labels
from fastfcn.prediction.sliding_window import sliding_window_votes
from fastfcn.recipes.inference import inference_settings
from fastfcn.training.train import train_step
from fastfcn.utils.machine import Machine
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.weights.official import from_official

# (height, width), base size, crop, stride, multi-scale and flip: at a quarter of the recipes' sizes, and at theirs.
SMALL = (130, 120, 80)
WINDOWED = [(size, *SMALL, tta) for size in ((97, 130), (130, 97), (61, 61)) for tta in (False, True)]
WINDOWED.append(((375, 500), 520, 480, 320, False))
STEPS = 3
RATE = 0.00001


@torch.no_grad()
def window_rows(encoding: Any, samples: SampleImages) -> Iterator[dict]:
    """The official evaluator and fastfcn's: votes for the same normalized image, and labels from the uint8 image."""
    theirs = calibrated_network(encoding, NETWORKS[0], samples)
    ours = from_theirs(NETWORKS[0].recipe(), theirs)
    for size, base_size, crop, stride, tta in WINDOWED:
        recipe = NETWORKS[0].recipe([f"eval.base_size={base_size}", f"eval.crop={crop}", f"eval.stride={stride}"])
        pixels = samples.image(2, size)
        image, black = (as_they_read(array) for array in (pixels, np.zeros((1, 1, 3), np.uint8)))
        scales, flip = (recipe.eval.scales, True) if tta else ((1.0,), False)
        expected = official_code.window_votes(encoding, theirs, image, base_size, crop, scales, flip)
        votes = sliding_window_votes(
            ours, image, black.flatten(), base_size, (crop, crop), (stride, stride), scales, flip
        )
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
        (labels,) = predict_labels(ours, inference_settings(recipe, tta=tta), [tensor], size)
        yield {
            "size": list(size),
            "windows": [base_size, crop, stride],
            "scales": list(scales),
            "flip": flip,
            "classes_seen": len(labels.unique()),
            "relative_difference": float(((votes - expected).abs() / expected).max()),
            "agreement": float((labels == expected[0].argmax(0)).double().mean()),
        }


def as_they_read(pixels: np.ndarray) -> Tensor:
    """uint8 RGB (H, W, 3) -> (1, 3, H, W), with the transforms of the official test.py."""
    steps = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    return transforms.Compose(steps)(pixels.copy())[None]


def training_row(encoding: Any, architecture: Architecture, samples: SampleImages) -> dict:
    """Training steps from the same weights on the same batches: losses, and the updated weights.

    In double precision and with a small learning rate: with random weights, rounding errors of single precision would
    grow by a factor of a hundred per step at the recipe's learning rate.
    """
    changes = ["head.dropout=0.0", "auxiliary.dropout=0.0", f"optim.steps={STEPS}", f"optim.lr={RATE}"]
    changes += ["head.project_dropout=0.0"] if architecture.head == "deeplabv3" else []
    recipe = architecture.recipe(changes)
    theirs = calibrated_network(encoding, architecture, samples).double()
    ours = from_theirs(recipe, theirs).double()
    before = {name: value.detach().clone() for name, value in ours.named_parameters()}
    training = official_code.Training(encoding, theirs, recipe.optim.lr, STEPS, recipe.auxiliary.loss_weight)
    fabric = Machine("cpu").launch()
    model, optimizer = fabric.setup(ours, build.optimizer(recipe, ours))
    model.mark_forward_method("forward_train")
    model.train()
    generator, losses = np.random.default_rng(0), []
    for step in range(STEPS):
        images = samples.for_statistics()[..., :96, step * 32 : step * 32 + 128].double()
        labels = drawn_labels(images, theirs.nclass, generator)
        expected = training.step(step, images, torch.where(labels == IGNORE_INDEX, -1, labels))
        actual = train_step(model, optimizer, iter([(images, labels)]), recipe, step, fabric)
        losses.append({"theirs": expected, "ours": float(actual["loss"])})
    worst = max(abs(loss["ours"] / loss["theirs"] - 1) for loss in losses)
    change = update_difference(before, ours, theirs)
    return {"architecture": architecture.name, "losses": losses, "relative_difference": worst} | change


def drawn_labels(images: Tensor, classes: int, generator: np.random.Generator) -> Tensor:
    """Blocks of 16 x 16 pixels, about a third of them ignored: (B, H, W)."""
    rows, columns = images.shape[-2] // 16, images.shape[-1] // 16
    blocks = generator.integers(0, classes, (len(images), rows, columns))
    blocks[generator.random(blocks.shape) < 0.3] = IGNORE_INDEX
    return torch.from_numpy(blocks).repeat_interleave(16, 1).repeat_interleave(16, 2)


@torch.no_grad()
def update_difference(before: dict[str, Tensor], ours: Segmenter, theirs: nn.Module) -> dict:
    """Difference of the final weights relative to the length of the update; and of the running statistics."""
    expected, actual = from_official(theirs.state_dict()), ours.state_dict()
    distance = sum(float((actual[name] - expected[name]).double().square().sum()) for name in before)
    length = sum(float((expected[name] - before[name]).double().square().sum()) for name in before)
    buffers = [name for name in actual if "running" in name]
    running = max(
        float(((actual[name] - expected[name]).abs() / (expected[name].abs() + 1e-3)).max()) for name in buffers
    )
    return {"update_difference": (distance / length) ** 0.5, "running_difference": running}
