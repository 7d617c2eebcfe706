"""`convert`: OpenMMLab's checkpoints to weights files with equal outputs, or everything that does not fit at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastfcn
from fastfcn import build, weights
from fastfcn.errors import OutputError, RecipeError, WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.weights import openmmlab
from fastfcn.weights.convert import convert
from tests.helpers import named_weights
from tests.helpers.openmmlab_files import openmmlab_state, save_0x, save_1x
from tests.helpers.tiny import tiny_model, tiny_recipe

HEADS = {
    "psp": (),
    "aspp": ('head={kind="aspp", width=8, dilations=[1, 2, 4], kernel=3, dropout=0.1, align_corners=false}',),
    "enc": ('head={kind="enc", width=8, codewords=4, kernel=3, dropout=0.1, align_corners=false, se_loss_weight=0.0}',),
    "dilated": ('neck={kind="none"}',),
}
CLASSES = list(build.description(tiny_recipe()).class_names)
Save = Callable[[Path, dict[str, Tensor], list[str]], Path]


@pytest.fixture
def psp(tmp_path: Path) -> tuple[Segmenter, Path]:
    """A network and its recipe file."""
    tiny_recipe().save(tmp_path / "tiny.toml")
    return tiny_model(), tmp_path / "tiny.toml"


def save_bare(path: Path, state: dict[str, Tensor], _classes: list[str]) -> Path:
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize("save", [save_1x, save_0x, save_bare])
@pytest.mark.parametrize("head", HEADS)
def test_outputs_are_equal(tmp_path: Path, head: str, save: Save):
    model = tiny_model(*HEADS[head])
    recipe = tmp_path / "tiny.toml"
    tiny_recipe(*HEADS[head]).save(recipe)
    checkpoint = save(tmp_path / "published.pth", openmmlab_state(model), CLASSES)
    remarks = convert(checkpoint, str(recipe), tmp_path / "out" / "weights.safetensors")
    assert bool(remarks) == (save is save_bare)
    predictor = fastfcn.load(tmp_path / "out" / "weights.safetensors", "cpu")
    assert predictor.recipe == tiny_recipe(*HEADS[head])
    assert list(predictor.classes) == CLASSES
    image = torch.randn(1, 3, 33, 65, generator=torch.Generator().manual_seed(0))
    read = weights.load_model(weights.read(tmp_path / "out" / "weights.safetensors")).eval()
    with torch.no_grad():
        assert torch.equal(read.logits(image), model.logits(image))


@pytest.mark.parametrize("jpu", [True, False], ids=["fastfcn", "dilated"])
@pytest.mark.parametrize("head", ["psp", "aspp", "enc"])
def test_every_key_of_openmmlab_has_its_place(head: str, jpu: bool):
    shapes = named_weights.openmmlab_shapes(head, 19, jpu)
    with torch.device("meta"):
        model = build.create(f"{'fastfcn' if jpu else 'dilated'}_r50_{head}_cityscapes_80k_b8")
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert {openmmlab.rename(name): shape for name, shape in shapes.items()} == ours


def test_unknown_names_stay_as_they_are():
    assert openmmlab.rename("decode_head.new_part.weight") == "decode_head.new_part.weight"


def test_what_it_came_from_is_noted(psp: tuple[Segmenter, Path], tmp_path: Path):
    model, recipe = psp
    checkpoint = save_1x(tmp_path / "psp_20210928.pth", openmmlab_state(model), CLASSES)
    convert(checkpoint, str(recipe), tmp_path / "w.safetensors")
    stored = weights.read(tmp_path / "w.safetensors")
    assert stored.facts == {"converted_from": "psp_20210928.pth"}
    assert stored.recipe.text == recipe.read_text()


@pytest.mark.parametrize("save", [save_1x, save_0x])
def test_other_class_names_are_remarked_upon(psp: tuple[Segmenter, Path], tmp_path: Path, save: Save):
    model, recipe = psp
    classes = ["Sky", *CLASSES[1:-1], "signpost"]  # case does not count
    checkpoint = save(tmp_path / "a.pth", openmmlab_state(model), classes)
    remarks = convert(checkpoint, str(recipe), tmp_path / "w.safetensors")
    assert remarks == ["Class 8 is 'signpost' in the checkpoint and 'sign' in the recipe's dataset."]


def test_a_checkpoint_without_class_names_says_so(psp: tuple[Segmenter, Path], tmp_path: Path):
    model, recipe = psp
    for content in ({"meta": None}, {"meta": {"dataset_meta": {}, "CLASSES": None}}, {}):
        torch.save({"state_dict": openmmlab_state(model), **content}, tmp_path / "a.pth")
        (remark,) = convert(tmp_path / "a.pth", str(recipe), tmp_path / "w.safetensors")
        assert "has no class names" in remark


def assert_nothing_written(folder: Path) -> None:
    assert not folder.exists() or not list(folder.iterdir())


def test_another_number_of_classes_is_refused(psp: tuple[Segmenter, Path], tmp_path: Path):
    model, recipe = psp
    checkpoint = save_1x(tmp_path / "a.pth", openmmlab_state(model), CLASSES[:-1])
    with pytest.raises(WeightsError, match="has 8 classes, the recipe's dataset 9"):
        convert(checkpoint, str(recipe), tmp_path / "out" / "w.safetensors")
    assert_nothing_written(tmp_path / "out")


def test_everything_that_does_not_fit_is_listed_at_once(psp: tuple[Segmenter, Path], tmp_path: Path):
    model, recipe = psp
    state = openmmlab_state(model)
    del state["decode_head.conv_seg.bias"]
    state["decode_head.conv_seg.weight"] = torch.zeros(150, 8, 1, 1)
    state["decode_head.new_part.weight"] = torch.zeros(3)
    state |= {f"backbone.layer9.{index}.weight": torch.zeros(1) for index in range(20)}
    checkpoint = save_0x(tmp_path / "a.pth", state, CLASSES)
    with pytest.raises(WeightsError) as error:
        convert(checkpoint, str(recipe), tmp_path / "out" / "w.safetensors")
    message = error.value.message
    assert "a.pth does not fit the network of the recipe" in message
    assert "wrong shape: head.classifier.weight is [150, 8, 1, 1], the network has [9, 8, 1, 1]" in message
    assert "missing: head.classifier.bias [9]" in message
    assert "not in the network: decode_head.new_part.weight [3]" in message
    assert "... and 13 more" in message  # of 21 keys, 8 are shown
    assert "recipe" in error.value.hint
    assert_nothing_written(tmp_path / "out")


@pytest.mark.parametrize("head", ["aspp", "enc", "dilated"])
def test_the_wrong_recipe_is_refused(psp: tuple[Segmenter, Path], tmp_path: Path, head: str):
    _, recipe = psp
    checkpoint = save_1x(tmp_path / "a.pth", openmmlab_state(tiny_model(*HEADS[head])), CLASSES)
    with pytest.raises(WeightsError, match="does not fit the network"):
        convert(checkpoint, str(recipe), tmp_path / "out" / "w.safetensors")
    assert_nothing_written(tmp_path / "out")


def test_an_old_file_stays_when_conversion_fails(psp: tuple[Segmenter, Path], tmp_path: Path):
    _, recipe = psp
    out = tmp_path / "w.safetensors"
    out.write_bytes(b"old")
    with pytest.raises(WeightsError):
        convert(save_1x(tmp_path / "a.pth", {"x": torch.ones(1)}, CLASSES), str(recipe), out)
    assert out.read_bytes() == b"old"


def test_the_input_may_be_none_of_these(psp: tuple[Segmenter, Path], tmp_path: Path):
    model, recipe = psp
    out = tmp_path / "out" / "w.safetensors"
    with pytest.raises(WeightsError, match="There is no file"):
        convert(tmp_path / "missing.pth", str(recipe), out)
    (tmp_path / "page.pth").write_text("<html>404</html>")
    with pytest.raises(WeightsError, match="is not a PyTorch checkpoint"):
        convert(tmp_path / "page.pth", str(recipe), out)
    checkpoint = save_1x(tmp_path / "a.pth", openmmlab_state(model), CLASSES)
    with pytest.raises(RecipeError, match='did you mean "demo"'):
        convert(checkpoint, "demoo", out)
    assert_nothing_written(tmp_path / "out")


def test_an_output_that_cannot_be_written(psp: tuple[Segmenter, Path], tmp_path: Path):
    model, recipe = psp
    checkpoint = save_1x(tmp_path / "a.pth", openmmlab_state(model), CLASSES)
    with pytest.raises(OutputError):
        convert(checkpoint, str(recipe), checkpoint / "w.safetensors")
