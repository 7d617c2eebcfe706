"""Optimizers, schedules, freezing, drop path, early stopping: what they compute, and that resuming is exact."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fastfcn import build, recipes, weights
from fastfcn.errors import RecipeError, WeightsError
from fastfcn.training.freezing import Freezing
from fastfcn.training.log import StopRequest
from fastfcn.training.run import Run, TrainingResult
from fastfcn.training.train import train
from fastfcn.utils.machine import Machine
from tests.helpers.tiny import tiny_recipe, write_streets

MACHINE = Machine("cpu", workers=0)
ADAMW = ("optim.kind=adamw", "optim.betas=[0.9, 0.999]", "optim.lr=0.002", "optim.weight_decay=0.05")
LAYERS = ("optim.layer_decay=0.7", "optim.decay_norm_and_bias=false")
SWIN = 'backbone={kind="pyramid", name="swin_tiny_patch4_window7_224", pretrained="none"}'


def frozen(stages: int, norm_eval: str = "frozen", until: int = 0) -> str:
    return f'freeze={{kind="stages", stages={stages}, norm_eval="{norm_eval}", unfreeze_step={until}}}'


SETUPS = {
    "adamw": (*ADAMW, *LAYERS, "schedule.kind=cosine", "schedule.warmup_steps=2", "optim.ema=0.9", "optim.clip_norm=1",
              'drop_path={kind="linear", rate=0.3}'),
    "unfrozen in between": (*ADAMW, frozen(2, until=3), "optim.ema=0.9"),
    "mixed images": ('mix={kind="copy_paste", probability=0.8, classes=["car", "sign"]}',
                     'crops={kind="classes", probability=0.5, power=0.5}',
                     'colors={kind="rand_augment", operations=2, magnitude=5.0}', 'loss.kind=focal', 'loss.gamma=2.0'),
    "SGD, frozen": ("schedule.kind=cosine", frozen(4, "backbone")),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


def train_in_parts(data: Path, out: Path, changes: tuple[str, ...], stops: tuple[int, ...]) -> TrainingResult:
    """A run that is stopped after the steps `stops`, and resumed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda *_: Run(out).read_log()[-1]["step"] in stops)
        result = train(tiny_recipe(*changes), data, out, MACHINE, trust_labels=True)
        for _ in stops:
            assert not result.finished
            result = train(tiny_recipe(*changes), data, out, MACHINE, resume=True, trust_labels=True)
    assert result.finished
    return result


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return weights.read(path).tensors


def assert_equal_runs(one: Path, other: Path) -> None:
    first, second = ([line for line in Run(path).read_log() if "loss" in line] for path in (one, other))
    for line in first + second:
        del line["images_per_second"]
    assert first == second
    for name in ("last.safetensors", "weights.safetensors"):
        before, after = tensors(one / name), tensors(other / name)
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", SETUPS)
def test_resuming_is_exact(name: str, data: Path, tmp_path: Path):
    """Also on both sides of the step that unfreezes."""
    changes = (*SETUPS[name], "optim.steps=6", "eval.every=6")
    train_in_parts(data, tmp_path / "once", changes, ())
    train_in_parts(data, tmp_path / "parts", changes, (2, 4))
    assert_equal_runs(tmp_path / "once", tmp_path / "parts")


def test_frozen_weights_stay_and_others_move(data: Path, tmp_path: Path):
    """Weight decay does not move them either, and the statistics of their norms stay; later, all weights train."""
    changes = (*ADAMW, "schedule.min_lr=0.001", "eval.every=1", frozen(1, until=2))
    train(tiny_recipe(*changes, "optim.steps=3"), data, tmp_path / "run", MACHINE)
    torch.manual_seed(tiny_recipe().seed)
    start = build.network(tiny_recipe(*changes), 7, training=True).state_dict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda *_: True)
        train(tiny_recipe(*changes, "optim.steps=2"), data, tmp_path / "frozen", MACHINE, trust_labels=True)
    first, last = tensors(tmp_path / "frozen/last.safetensors"), tensors(tmp_path / "run/last.safetensors")
    names = build.frozen_parameters(tiny_recipe(*changes))
    names |= {name for name in start if name.rpartition(".")[0] + ".weight" in names}  # statistics of their norms
    assert {"backbone.conv1.0.weight", "backbone.layer1.0.bn1.running_var"} <= names
    moved = {name for name, value in start.items() if not torch.equal(first[name], value)}
    assert not moved & names
    assert {"backbone.layer2.0.bn1.running_mean", "head.classifier.weight"} <= moved
    for name in ("backbone.conv1.0.weight", "backbone.bn1.running_mean", "backbone.layer1.0.bn1.weight"):
        assert not torch.equal(last[name], start[name]), name


def test_a_checkpoint_of_another_optimizer_is_damaged(data: Path, tmp_path: Path):
    changes = ("optim.steps=2", "eval.every=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda *_: True)
        train(tiny_recipe(*changes), data, tmp_path, MACHINE, trust_labels=True)
    tiny_recipe(*changes, *ADAMW).save(tmp_path / "recipe.toml")
    with pytest.raises(WeightsError, match="momentum_buffer is not a state of the optimizer"):
        train(tiny_recipe(*changes, *ADAMW), data, tmp_path, MACHINE, resume=True)


def test_early_stopping_and_resuming_after_it(data: Path, tmp_path: Path):
    """With a rate of almost zero nothing improves after the first validation."""
    changes = ("optim.lr=1e-12", "optim.steps=40", "eval.every=1", 'early_stop={kind="patience", validations=2}')
    result = train_in_parts(data, tmp_path / "once", changes, ())
    assert (result.step, result.best_step, result.stopped_early, result.finished) == (3, 1, True, True)
    parts = train_in_parts(data, tmp_path / "parts", changes, (2,))
    assert parts.stopped_early
    assert_equal_runs(tmp_path / "once", tmp_path / "parts")
    again = train(tiny_recipe(*changes), data, tmp_path / "parts", MACHINE, resume=True)
    assert (again.step, again.stopped_early) == (3, True)


def test_epochs_become_steps_of_the_data_set(data: Path, tmp_path: Path):
    """Six images in batches of four, twice."""
    used = tiny_recipe("optim.epochs=2", "eval.every=3")
    result = train(used, data, tmp_path, MACHINE)
    assert (result.step, result.steps) == (3, 3)
    kept = recipes.load(tmp_path / "recipe.toml")
    assert kept.steps == 3
    assert "steps = 3  # was 600\n" in kept.text
    assert train(used, data, tmp_path, MACHINE, resume=True).finished
    with pytest.raises(RecipeError, match=r"optim\.epochs = 2 is a number of steps only for a dataset"):
        _ = used.steps


def test_cosine_schedule_is_that_of_torch():
    used = tiny_recipe("schedule.kind=cosine", "schedule.warmup_steps=0", "schedule.min_lr=0.01", "optim.steps=101")
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=used.optim.lr)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=0.01)
    for step in range(101):
        assert build.learning_rate(used, step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
    warm = tiny_recipe("schedule.kind=cosine", "schedule.warmup_steps=3", "schedule.min_lr=0.01", "optim.steps=101")
    shares = [build.learning_rate(warm, step) / build.learning_rate(used, step) for step in range(5)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_adamw_updates_as_its_paper_says():
    """One step by hand, in float64: decoupled decay, and the gradient over its own size."""
    used = tiny_recipe(*ADAMW, "optim.head_lr_factor=10.0")
    model = build.create(used).double()
    optimizer = build.optimizer(used, model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["factor"] * group["lr_scale"]
    optimizer.step()
    for name, value in model.named_parameters():
        rate = 0.01 if name.startswith("backbone.") else 0.1
        expected = before[name] * (1 - rate * 0.05) - rate
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)


def test_layers_have_their_rates_and_norms_no_decay():
    """Swin-T: a stem and twelve blocks; the tables of relative positions are exempt, as its authors say."""
    used = tiny_recipe(*ADAMW, *LAYERS, SWIN, "optim.head_lr_factor=2.0")
    with torch.device("meta"):
        model = build.create(used)
        groups = build.optimizer(used, model).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    of = {names[id(parameter)]: group for group in groups for parameter in group["params"]}
    assert sorted(of) == sorted(names.values())
    assert of["backbone.patch_embed.proj.weight"]["lr_scale"] == pytest.approx(0.7**13)
    assert of["backbone.layers_0.blocks.0.mlp.fc1.weight"]["lr_scale"] == pytest.approx(0.7**12)
    assert of["backbone.layers_3.blocks.1.mlp.fc1.weight"]["lr_scale"] == pytest.approx(0.7)
    assert (of["head.classifier.weight"]["lr_scale"], of["head.classifier.weight"]["factor"]) == (1.0, 2.0)
    without = {name for name, group in of.items() if group["weight_decay"] == 0}
    shapes = {name: value.ndim for name, value in model.named_parameters()}
    tables = {name for name in shapes if name.endswith("relative_position_bias_table")}
    assert without == {name for name, ndim in shapes.items() if ndim < 2} | tables
    assert len(tables) == 12


def test_a_network_without_layers_is_refused():
    part = 'backbone={kind="pyramid", name="poolformer_s12", pretrained="none"}'
    used = tiny_recipe("optim.layer_decay=0.9", part)
    with torch.device("meta"):
        model = build.create(used)
    with pytest.raises(RecipeError, match="timm does not divide poolformer_s12 into layers"):
        build.optimizer(used, model)


def test_drop_path_is_linear_and_of_training_only():
    used = tiny_recipe('drop_path={kind="linear", rate=0.3}')
    rates = [
        module.drop_prob for module in build.network(used, 7, training=True).modules() if hasattr(module, "drop_prob")
    ]
    assert rates == pytest.approx(torch.linspace(0, 0.3, len(rates) + 1)[1:].tolist())
    assert not [module for module in build.network(used, 7).modules() if hasattr(module, "drop_prob")]
    with pytest.raises(RecipeError, match="densenet121 has no drop path"):
        build.backbone(used.override(['backbone={kind="pyramid",name="densenet121",pretrained="none"}']), training=True)


@pytest.mark.parametrize(("which", "count"), [("none", 0), ("frozen", 5), ("backbone", 15)])
def test_norms_in_evaluation_mode(which: str, count: int):
    used = tiny_recipe(frozen(1, which, until=5))
    model = build.create(used).train()
    freezing = Freezing(used, model, processes=1)
    freezing.apply(4)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(not module.training for module in norms) == count
    assert sum(not value.requires_grad for value in model.parameters()) == len(build.frozen_parameters(used))
    freezing.apply(5)
    assert all(module.training for module in norms)
    assert all(value.requires_grad for value in model.parameters())


def test_several_processes_drop_the_gradients_of_weights_that_train_later():
    used = tiny_recipe(frozen(2, until=5))
    model = build.create(used).train()
    freezing = Freezing(used, model, processes=2)
    freezing.apply(0)
    names = build.frozen_parameters(used)
    for _, parameter in model.named_parameters():
        assert parameter.requires_grad
        parameter.grad = torch.ones_like(parameter)
    freezing.drop_gradients(4)
    assert {name for name, value in model.named_parameters() if value.grad is None} == names
