"""Freezing the first stages of the backbone, until a step or for the whole training."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from fastfcn import build
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe


class Freezing:
    """Freezes parts of `network` as the recipe says; all of it depends on the step only.

    Gradients of frozen weights are not computed. With several processes, weights that train later compute theirs from
    the start, and `drop_gradients` removes them: DistributedDataParallel needs the same weights in all steps.
    """

    def __init__(self, recipe: Recipe, network: Segmenter, processes: int):
        names = build.frozen_parameters(recipe)
        self.settings = recipe.freeze
        self.parameters = [parameter for name, parameter in network.named_parameters() if name in names]
        self.norms = _norms(network, names, self.settings.norm_eval) if self.settings.kind == "stages" else []
        self.later = self.settings.kind == "stages" and self.settings.unfreeze_step > 0
        self.keep_gradients = processes > 1 and self.later

    def active(self, step: int) -> bool:
        """Whether the stages are frozen in `step` = 0, 1, ..."""
        return self.settings.kind == "stages" and (not self.later or step < self.settings.unfreeze_step)

    def apply(self, step: int) -> None:
        """Freeze or unfreeze for `step`; to be called before it, with the network in training mode."""
        if self.settings.kind == "none":
            return
        active = self.active(step)
        for norm in self.norms:
            norm.train(not active)
        for parameter in self.parameters:
            parameter.requires_grad_(not active or self.keep_gradients)

    def drop_gradients(self, step: int) -> None:
        """Remove the gradients of frozen weights, before they are clipped and used."""
        if self.keep_gradients and self.active(step):
            for parameter in self.parameters:
                parameter.grad = None


def _norms(network: Segmenter, names: set[str], which: str) -> list[nn.Module]:
    """Batch norms of the backbone: "none", those of "frozen" stages, or all of the "backbone"."""
    norms = [
        (name, module) for name, module in network.named_modules()
        if name.startswith("backbone.") and isinstance(module, BatchNorm)
    ]  # fmt: skip
    if which == "frozen":
        return [module for name, module in norms if f"{name}.weight" in names]
    return [module for _, module in norms] if which == "backbone" else []
