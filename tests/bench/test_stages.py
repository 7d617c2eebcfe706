"""Stages: every operation and parameter of a network is counted once, in the stage that uses it."""

import pytest
import timm
import torch
from torch import nn

from fastfcn import build
from fastfcn.bench import stage_profiler, stages
from fastfcn.bench.flops import count_flops
from fastfcn.bench.measure import Settings
from fastfcn.bench.stage_profiler import StageProfiler, profile_networks
from fastfcn.models.segmenter import Segmenter
from tests.helpers.tiny import tiny_model, tiny_recipe

SIZE = (64, 96)
LAYERS = ["layer1", "layer2", "layer3", "layer4"]
DILATED = 'backbone={kind="resnet", name="resnet18", pretrained="none", strides=[1, 2, 1, 1], dilations=[1, 1, 2, 4], style="pytorch"}'  # noqa: E501


def meta_network(*changes: str) -> Segmenter:
    with torch.device("meta"):
        return build.create(tiny_recipe(*changes)).eval()


def with_backbone(name: str) -> Segmenter:
    return meta_network(f'backbone={{kind="pyramid", name="{name}", pretrained="none"}}')


# FLOPs.


@pytest.mark.parametrize("changes", [(), (DILATED, 'neck={kind="none"}')], ids=["jpu", "dilated"])
def test_flops_of_the_stages_add_up_to_the_network(changes):
    network = meta_network(*changes)
    counted = stages.count_stages(network, SIZE)
    images = torch.empty(1, 3, *SIZE, device="meta")
    assert sum(counted.values()) == count_flops(network.logits, images)
    necks = [] if changes else ["neck"]
    assert list(counted) == ["image", "stem", *LAYERS, *necks, "head", "labels"]


def test_flops_of_each_stage():
    network = meta_network()
    counted = stages.count_stages(network, SIZE)
    maps = network.backbone(torch.empty(1, 3, *SIZE, device="meta"))
    for before, name in zip(maps, LAYERS[1:], strict=False):
        assert counted[name] == count_flops(getattr(network.backbone, name), before)
    assert counted["neck"] == count_flops(network.neck, maps[1:])
    assert counted["head"] == count_flops(network.head, network.neck(maps[1:]))
    assert counted["image"] == counted["labels"] == 0
    assert counted["stem"] == count_flops(network.backbone, torch.empty(1, 3, *SIZE, device="meta")) - sum(
        counted[name] for name in ["layer1", *LAYERS[1:]]
    )


# Parameters.


def parameters_by_execution(network: Segmenter) -> dict[str, int]:
    """A plain reference: parameters of each module belong to the stage that ends next after the module ran."""
    pending: list[nn.Module] = []
    totals: dict[str, int] = {}

    def end(stage: str, _: object) -> None:
        totals[stage] = sum(parameter.numel() for module in pending for parameter in module.parameters(recurse=False))
        pending.clear()

    modules = [*network.backbone.modules(), *network.neck.modules(), *network.head.modules()]
    for module in modules:
        module.register_forward_pre_hook(lambda module, _: pending.append(module))
    with stages.stage_callbacks(network, end), torch.no_grad():
        network.logits(torch.empty(1, 3, *SIZE, device="meta"))
    return totals


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "mobilenetv3_small_050", "repvit_m1", "hrnet_w18_small"]
)
def test_parameters_belong_to_the_stage_that_uses_them(name):
    network = with_backbone(name)
    counted, expected = stages.sum_by_stage(network, stages.parameters), parameters_by_execution(network)
    head = counted.pop("head")  # its bottleneck's weight is used in parts, without a call of its module
    assert head == sum(parameter.numel() for parameter in network.head.parameters())
    assert counted == {stage: expected[stage] for stage in counted}
    everything = [parameter.numel() for part in (network.backbone, network.neck) for parameter in part.parameters()]
    assert sum(counted.values()) == sum(everything)


def test_a_backbone_with_unknown_stages_counts_as_one_stage():
    network = with_backbone("hrnet_w18_small")
    assert list(stages.sum_by_stage(network, stages.parameters)) == ["backbone", "neck", "head"]
    assert list(stages.count_stages(network, SIZE)) == ["image", "backbone", "neck", "head", "labels"]


def test_names_are_those_of_timm():
    network = with_backbone("test_efficientnet")
    expected = timm.create_model("test_efficientnet", features_only=True).feature_info.module_name()[-4:]
    assert list(stages.backbone_stages(network.backbone)) == expected


def test_weight_bytes_include_buffers():
    norm = nn.BatchNorm2d(8)
    assert stages.weight_bytes(norm) == 4 * 8 * 4 + 8  # weight, bias, mean, variance, and a counter of 64 bits
    assert stages.weight_bytes(nn.Sequential(norm)) == 0


# Callbacks.


def test_hooks_are_removed():
    network = tiny_model()
    with pytest.raises(ZeroDivisionError), stages.stage_callbacks(network, lambda *_: 1 / 0):
        network.logits(torch.zeros(1, 3, *SIZE))
    with stages.stage_callbacks(network, lambda *_: None):
        hooked = network.logits(torch.zeros(1, 3, *SIZE))
    hooks = [hook for module in network.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]
    assert hooks == []
    assert torch.equal(hooked, network.logits(torch.zeros(1, 3, *SIZE)))


def test_time_is_assigned_to_the_stage_that_spends_it(monkeypatch):
    """With a simulated clock that advances only in some modules."""
    clock = [0.0]
    monkeypatch.setattr(stage_profiler, "perf_counter", lambda: clock[0])

    def takes(module, seconds: float) -> None:
        module.register_forward_pre_hook(lambda *_: clock.__setitem__(0, clock[0] + seconds))

    profiler = StageProfiler(tiny_recipe(), SIZE, Settings(accelerator="cpu"))
    network = profiler.network
    spent = {"stem": 1.0, "layer1": 2.0, "layer2": 0.0, "layer3": 4.0, "layer4": 8.0, "neck": 16.0, "head": 32.0}
    takes(network.backbone.conv1, 1.0)
    for name in ("layer1", "layer3", "layer4"):
        takes(getattr(network.backbone, name)[0], spent[name])
    takes(network.neck, 16.0)
    takes(network.head, 32.0)
    profiler.time_stages()
    assert profiler.stage_ms == {"image": [0.0]} | {name: [1000 * s] for name, s in spent.items()} | {"labels": [0.0]}


def test_output_bytes_of_stages():
    profiler = StageProfiler(tiny_recipe(), SIZE, Settings(accelerator="cpu"))
    profiler.measure_memory()
    network = tiny_model()
    maps = network.backbone(torch.zeros(1, 3, *SIZE))
    expected = {name: 4 * map_.numel() for name, map_ in zip(LAYERS, maps, strict=True)}
    expected |= {
        "neck": 4 * network.neck(maps[1:]).numel(),
        "head": 4 * network.logits(torch.zeros(1, 3, *SIZE)).numel(),
    }
    assert profiler.output_bytes == {"image": 4 * 3 * 64 * 96, "stem": profiler.output_bytes["stem"]} | expected | {
        "labels": 64 * 96
    }
    assert profiler.memory_growth == {}


def test_a_profile_of_two_networks():
    jpu, dilated = tiny_recipe(), tiny_recipe("name=dilated", DILATED, 'neck={kind="none"}')
    seen = []
    record = profile_networks(
        [jpu, dilated], SIZE, Settings(runs=2, accelerator="cpu"), lambda *step: seen.append(step)
    )
    assert record.keys() == {"machine", "versions", "precision", "cores_busy", "networks"}
    assert seen == [(0, 2), (1, 2), (2, 2)]
    for network, used in zip(record["networks"], (jpu, dilated), strict=True):
        assert network["name"] == used.name
        assert network["runs"] == 2
        assert network["ms_unmarked"] > 0
        rows = network["stages"]
        assert all(one["ms"] > 0 for one in rows)
        model = meta_network(*([] if used is jpu else [DILATED, 'neck={kind="none"}']))
        total, unused = (sum(value.numel() for value in part.parameters()) for part in (model, model.auxiliary))
        assert sum(one["parameters"] for one in rows) == total - unused
        flops = count_flops(model.logits, torch.empty(1, 3, *SIZE, device="meta"))
        assert sum(one["gflops"] for one in rows) == pytest.approx(flops / 1e9, rel=1e-12)
    assert [one["stage"] for one in record["networks"][1]["stages"]] == ["image", "stem", *LAYERS, "head", "labels"]


def test_running_out_of_memory_is_a_user_error(monkeypatch):
    def fails(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(stage_profiler, "_run", fails)
    with pytest.raises(stage_profiler.UserError, match="Out of memory at 64x96"):
        profile_networks([tiny_recipe()], SIZE, Settings(accelerator="cpu"), lambda *_: None)
