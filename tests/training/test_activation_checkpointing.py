"""Training steps with activation checkpointing against the same steps without."""

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from fastfcn import build
from fastfcn.errors import UserError
from fastfcn.fast.optimize import optimize
from fastfcn.models.segmenter import Segmenter
from fastfcn.training.activation_checkpointing import recompute_activations
from fastfcn.training.ema import MovingAverage
from fastfcn.training.prepare import compile_parts, prepare
from fastfcn.training.train import train_step
from fastfcn.utils.machine import Machine
from tests.helpers.tiny import tiny_model, tiny_recipe

HEADS = {
    "psp": 'head={kind="psp", width=8, pools=[1, 2, 3, 6], kernel=3, dropout=0.5, align_corners=false}',
    "aspp": 'head={kind="aspp", width=8, dilations=[1, 2, 4], kernel=3, dropout=0.5, align_corners=false}',
    "enc": 'head={kind="enc", width=8, codewords=4, kernel=3, dropout=0.5, align_corners=false, se_loss_weight=0.0}',
}
STEPS = 3


def batch(step: int, classes: int) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(step)
    labels = torch.randint(classes, (2, 64, 96), generator=chance, dtype=torch.uint8)
    return torch.randn(2, 3, 64, 96, generator=chance), labels


def trained(network: Segmenter, *changes: str, steps: int = STEPS) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Losses and gradients of each step in one dictionary, and parameters and statistics after the last step."""
    used = tiny_recipe(*changes)
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = build.optimizer(used, network)
    noted: list[dict[str, Tensor]] = []
    parameters = dict(network.named_parameters())

    def note(*_: object) -> None:  # without its loss, the Enc head's SE layer has no gradient
        noted.append({name: value.grad.clone() for name, value in parameters.items() if value.grad is not None})

    optimizer.register_step_pre_hook(note)
    model, wrapped = fabric.setup(network.train(), optimizer)
    model.mark_forward_method("forward_train")
    for step in range(steps):
        losses = train_step(
            model, wrapped, iter([batch(step, network.head.classifier.out_channels)]), used, step, fabric
        )
        noted[-1] |= losses
    return noted, copy.deepcopy(network.state_dict())


@pytest.mark.parametrize("head", HEADS)
def test_steps_are_the_same(head: str):
    plain, lean = (tiny_model(HEADS[head]) for _ in range(2))
    recompute_activations(lean)
    assert lean.state_dict().keys() == plain.state_dict().keys()
    expected, actual = trained(plain, HEADS[head]), trained(lean, HEADS[head])
    for ours, theirs in zip(actual[0], expected[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    torch.testing.assert_close(actual[1], expected[1], rtol=0, atol=0)
    counted = [value for name, value in actual[1].items() if name.endswith("num_batches_tracked")]
    assert counted
    assert all(int(value) == STEPS for value in counted)


def kept(network: Segmenter) -> int:
    """Bytes of maps that autograd saves in a step."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images, _ = batch(0, 3)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        scores = network.train().forward_train(images)
    assert scores.logits.requires_grad
    return sum(storages.values())


def test_fewer_maps_are_kept():
    plain, lean = tiny_model(), tiny_model()
    recompute_activations(lean)
    assert kept(lean) < 0.5 * kept(plain)


def test_copies_are_independent():
    """The moving average and the network for evaluation are copies: their modules must not refer to the original."""
    lean = tiny_model()
    recompute_activations(lean)
    images = batch(0, 3)[0]
    with torch.no_grad():
        before = lean.eval().logits(images)
        copies = MovingAverage(lean, 0.9).module.eval(), optimize(lean)
        for parameter in lean.parameters():
            parameter.zero_()
        for copy in copies:
            torch.testing.assert_close(copy.logits(images), before, rtol=1e-3, atol=1e-3)


def test_statistics_are_those_of_the_network_afterwards():
    lean = tiny_model()
    recompute_activations(lean)
    before = {name: value.data_ptr() for name, value in lean.named_buffers()}
    lean.train().forward_train(batch(0, 3)[0]).logits.sum().backward()
    assert {name: value.data_ptr() for name, value in lean.named_buffers()} == before


def test_compiled_parts_do_the_same():
    """Only torch.compile's front end, which traces the network; the compiler itself takes a minute."""
    plain, compiled = tiny_model(), tiny_model()
    compile_parts(compiled, torch.device("cpu"), backend="eager")
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    (expected, weights), (actual, ours) = trained(plain, steps=1), trained(compiled, steps=1)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(ours, weights)


def test_without_a_compiler_a_run_says_so():
    import torch._inductor.config
    from torch._inductor.utils import fresh_cache

    with (
        torch._inductor.config.patch({"cpp.cxx": ("/nonexistent/compiler",)}),
        fresh_cache(),
        pytest.raises(UserError, match="Cannot compile for cpu"),
    ):
        compile_parts(tiny_model(), torch.device("cpu"))


def test_both_at_once_are_refused():
    with pytest.raises(UserError, match="cannot be combined"):
        prepare(tiny_model(), Machine("cpu", checkpoint_activations=True, compile=True), torch.device("cpu"))
