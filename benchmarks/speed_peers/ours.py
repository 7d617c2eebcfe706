"""fastfcn: the predictor that `fastfcn.load` makes of a weights file, and the step that `fastfcn train` takes."""

from itertools import count

import numpy as np
import torch

import fastfcn
from fastfcn import build, kernels, recipes, weights
from fastfcn.data.transforms import normalize
from fastfcn.prediction import load as predict
from fastfcn.training import train
from fastfcn.training.prepare import prepare
from fastfcn.utils.machine import Machine
from speed_peers.calls import Call, Place
from speed_peers.contests import Contest, Variant
from speed_peers.training import drawn_batch, held

# What these import, build and load belongs to the library, not to the network's memory.
assert fastfcn.load is predict.load
if not torch.cuda.is_available():
    kernels.available()


def load(variant: Variant, contest: Contest, place: Place, image: np.ndarray) -> Call:
    """`Predictor.labels`."""
    file, precision = place.folder / f"{variant.network.name}.safetensors", precision_of(variant)
    predictor = fastfcn.load(file, device=place.device, precision=precision)
    return lambda: predictor.labels(image[None])[0]


def precision_of(variant: Variant) -> str:
    """As fastfcn calls it."""
    return "bf16-mixed" if variant.precision == "bfloat16" else "32-true"


def load_training(variant: Variant, contest: Contest, place: Place, image: np.ndarray) -> Call:
    """A step as `fastfcn train` takes it through Fabric, on a batch that a loader has left in memory."""
    read = weights.read(place.folder / f"{variant.network.name}.safetensors")
    used = recipes.load(read.recipe.name)
    machine = Machine(place.device, workers=0, precision=precision_of(variant))
    fabric = machine.launch()
    network = weights.load_model(read)
    prepare(network, machine, fabric.device)
    model, optimizer = fabric.setup(network, build.optimizer(used, network))
    model.mark_forward_method("forward_train")
    model.train()
    images, labels = drawn_batch(image, contest.batch, len(read.description.classes))
    normal = torch.stack([normalize(each, used.data.mean, used.data.std) for each in images])
    batch = held(normal, place), held(torch.from_numpy(labels), place)
    batches = iter(lambda: fabric.to_device(batch), None)
    steps = count()

    def call() -> None:
        train.train_step(model, optimizer, batches, used, next(steps), fabric)

    return call
