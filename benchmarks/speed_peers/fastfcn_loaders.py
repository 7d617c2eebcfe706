"""fastfcn: the predictor of `fastfcn.load`, and the training step of `fastfcn train`."""

from itertools import count

import numpy as np
import torch

import fastfcn
from fastfcn import build, kernels, recipes, weights
from fastfcn.data.transforms import normalize, pack
from fastfcn.prediction import load as predict
from fastfcn.training import train
from fastfcn.training.prepare import prepare
from fastfcn.utils.machine import Machine
from speed_peers.comparisons import Comparison, Variant
from speed_peers.environment import Call, Environment, drawn_batch, pin

# Imported and built here, so that it does not count as memory of the network.
assert fastfcn.load is predict.load
if not torch.cuda.is_available():
    kernels.available()


def load(variant: Variant, comparison: Comparison, environment: Environment, image: np.ndarray) -> Call:
    """`Predictor.labels`."""
    file, precision = environment.folder / f"{variant.network.name}.safetensors", precision_of(variant)
    predictor = fastfcn.load(file, device=environment.device, precision=precision, size="image")
    return lambda: predictor.labels(image[None])[0]


def precision_of(variant: Variant) -> str:
    """The precision in fastfcn's terms."""
    return "bf16-mixed" if variant.precision == "bfloat16" else "32-true"


def load_training(variant: Variant, comparison: Comparison, environment: Environment, image: np.ndarray) -> Call:
    """A step of `fastfcn train` through Fabric, on a batch in main memory as a dataloader leaves it."""
    checkpoint = weights.read(environment.folder / f"{variant.network.name}.safetensors")
    recipe = recipes.load(checkpoint.recipe.name)
    machine = Machine(environment.device, workers=0, precision=precision_of(variant))
    fabric = machine.launch()
    network = weights.load_model(checkpoint)
    prepare(network, machine, fabric.device)
    model, optimizer = fabric.setup(network, build.optimizer(recipe, network))
    model.mark_forward_method("forward_train")
    model.train()
    images, labels = drawn_batch(image, comparison.batch, len(checkpoint.description.classes))
    if environment.device == "cuda":
        inputs = torch.stack([pack(image, (0, 0)) for image in images])
    else:
        inputs = torch.stack([normalize(image, recipe.data.mean, recipe.data.std) for image in images])
    batch = pin(inputs, environment), pin(torch.from_numpy(labels), environment)
    batches = iter(lambda: fabric.to_device(batch), None)
    steps = count()

    def call() -> None:
        train.train_step(model, optimizer, batches, recipe, next(steps), fabric)

    return call
