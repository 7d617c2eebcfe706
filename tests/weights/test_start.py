"""Fine-tuning: outputs of classes of the same name are kept, others start fresh; checkpoints in any wrapping load."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fastfcn import build, weights
from fastfcn.data.description import DatasetDescription, SegmentationClass
from fastfcn.errors import WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.start import ClassMatch, class_sources, class_tensors, load_start, match_classes
from tests.helpers.tiny import tiny_recipe

MANY = [f"class {index}" for index in range(16)]
MANY[3:3], MANY[9:9], MANY[18:18] = ["Traffic_Light"], ["road"], ["sky"]  # 19 classes
FEW = ["sky", "boat", "traffic light", "road", "pier"]
ENC = 'head={kind="enc",width=8,codewords=4,kernel=1,dropout=0.1,align_corners=false,se_loss_weight=0.2}'
OCR = 'head={kind="ocr",width=8,key_width=4,kernel=1,dropout=0.1,align_corners=false,regions_loss_weight=0.4}'
CLASSIFIERS = {
    ENC: {"head.classifier", "head.se_layer", "auxiliary.classifier"},
    OCR: {"head.classifier", "head.regions.1", "auxiliary.classifier"},
}


def described(names: list[str]) -> DatasetDescription:
    classes = tuple(SegmentationClass(name=name, color=(index, 0, 0), ids=(index,)) for index, name in enumerate(names))
    return build.description(tiny_recipe()).model_copy(update={"classes": classes})


def network(recipe: Recipe, classes: int, seed: int) -> Segmenter:
    """With random values everywhere, so that no two rows are equal."""
    torch.manual_seed(seed)
    model = build.network(recipe, classes)
    for value in model.parameters():
        nn.init.normal_(value)
    return model


def saved(path: Path, recipe: Recipe, names: list[str]) -> dict[str, Tensor]:
    """A weights file for these classes at `path`; returns its tensors."""
    model = network(recipe, len(names), seed=1)
    weights.save(path, model, recipe, described(names))
    return model.state_dict()


@pytest.mark.parametrize("head", CLASSIFIERS)
def test_from_19_to_5_classes_three_of_the_same_name(head: str, tmp_path: Path):
    used = tiny_recipe(head, f"load_from={tmp_path / 'w.safetensors'}")
    old = saved(tmp_path / "w.safetensors", used, MANY)
    model = network(used, len(FEW), seed=2)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    match = load_start(model, used, FEW)
    assert match is not None
    assert (match.kept, match.new) == (("sky", "traffic light", "road"), ("boat", "pier"))
    assert len(match.unused) == 16
    rows = {0: MANY.index("sky"), 2: MANY.index("Traffic_Light"), 3: MANY.index("road")}
    state = model.state_dict()
    classifiers = {f"{name}.{kind}" for name in CLASSIFIERS[head] for kind in ("weight", "bias")}
    assert class_tensors(used, len(FEW)) == classifiers
    for name in classifiers:
        for row in range(len(FEW)):
            expected = old[name][rows[row]] if row in rows else fresh[name][row]
            assert torch.equal(state[name][row], expected), (name, row)
    assert all(torch.equal(state[name], old[name]) for name in old.keys() - classifiers)
    assert str(match).startswith(
        "3 of 5 classes keep their weights; kept: sky, traffic light, road; new: boat, pier; not"
    )


def test_the_same_classes_in_another_order_and_in_the_same(tmp_path: Path):
    used = tiny_recipe(f"load_from={tmp_path / 'w.safetensors'}")
    old = saved(tmp_path / "w.safetensors", used, FEW)
    model = network(used, len(FEW), seed=2)
    match = load_start(model, used, FEW[::-1], strict=True)
    assert str(match) == "All 5 classes keep their weights, in another order."
    assert torch.equal(model.head.classifier.weight, old["head.classifier.weight"].flip(0))
    assert str(load_start(model, used, FEW, strict=True)) == ""
    assert torch.equal(model.head.classifier.weight, old["head.classifier.weight"])


def test_strict_refuses_other_classes(tmp_path: Path):
    used = tiny_recipe(f"load_from={tmp_path / 'w.safetensors'}")
    saved(tmp_path / "w.safetensors", used, MANY)
    model = network(used, len(FEW), seed=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=r"other classes than the dataset: 3 of 5.*new: boat, pier") as error:
        load_start(model, used, FEW, strict=True)
    assert "without --strict" in error.value.hint
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_names_are_compared_loosely_unless_that_is_ambiguous():
    assert class_sources(["Side Walk", "car"], ["side-walk", "CAR", "side_walk2"]) == [0, 1, None]
    assert class_sources(["car", "Car", "bus"], ["CAR", "Car", "Bus"]) == [None, 1, 2]
    assert class_sources(["car"], ["car", "Car"]) == [0, None]
    assert match_classes(["a", "b"], ["b", "a"]) == ClassMatch(("b", "a"), (), (), True)


def test_weights_of_another_network_are_refused(tmp_path: Path):
    saved(tmp_path / "w.safetensors", tiny_recipe(ENC), MANY)
    used = tiny_recipe(OCR, f"load_from={tmp_path / 'w.safetensors'}")
    with pytest.raises(WeightsError, match=r"missing: head\.") as error:
        load_start(network(used, len(FEW), seed=2), used, FEW)
    assert f"backbone.pretrained={tmp_path / 'w.safetensors'}" in error.value.hint


def wrapped(state: dict[str, Tensor]) -> dict[str, dict]:
    """A state dict as training scripts save it."""

    def renamed(prefix: str) -> dict[str, Tensor]:
        return {prefix + name: value for name, value in state.items()}

    parts = {name.replace("backbone.", "backbone._orig_mod.", 1): value for name, value in state.items()}
    return {
        "plain": state,
        "parallel": renamed("module."),
        "compiled": renamed("_orig_mod."),
        "compiled, parallel": {"model": renamed("module._orig_mod."), "epoch": 3},
        "parallel, compiled": {"state_dict": renamed("_orig_mod.module."), "meta": {"epoch": 3}},
        "compiled in parts": {"model_state_dict": parts},
        "in two dictionaries": {"model": {"state_dict": state}, "optimizer": {"state": {}}},
    }


@pytest.mark.parametrize("name", wrapped({}))
def test_wrapped_checkpoints_load(name: str, tmp_path: Path):
    used = tiny_recipe(f"load_from={tmp_path / 'w.pth'}")
    model = network(used, 5, seed=1)
    torch.save(wrapped(model.state_dict())[name], tmp_path / "w.pth")
    other = network(used, 5, seed=2)
    assert load_start(other, used, FEW) is None
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in other.state_dict().items())


def test_a_checkpoint_with_class_names_is_matched_by_them(tmp_path: Path):
    used = tiny_recipe(f"load_from={tmp_path / 'w.pth'}")
    model = network(used, len(MANY), seed=1)
    content = {"state_dict": model.state_dict(), "meta": {"dataset_meta": {"classes": tuple(MANY)}}}
    torch.save(content, tmp_path / "w.pth")
    other = network(used, len(FEW), seed=2)
    match = load_start(other, used, FEW)
    assert match is not None
    assert match.kept == ("sky", "traffic light", "road")
    assert torch.equal(other.head.classifier.weight[3], model.head.classifier.weight[MANY.index("road")])


def test_a_checkpoint_without_class_names_needs_their_number(tmp_path: Path):
    used = tiny_recipe(f"load_from={tmp_path / 'w.pth'}")
    torch.save(network(used, len(MANY), seed=1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"wrong shape: head\.classifier\.weight") as error:
        load_start(network(used, len(FEW), seed=2), used, FEW)
    assert "no class names" in error.value.hint


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple:
            return (exec, (f"open({str(tmp_path / 'executed')!r}, 'w')",))

    used = tiny_recipe(f"load_from={tmp_path / 'w.pth'}")
    torch.save({"model": {"a": torch.zeros(1)}, "other": Evil()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="could run code; it was refused"):
        load_start(network(used, 5, seed=1), used, FEW)
    assert not (tmp_path / "executed").exists()
