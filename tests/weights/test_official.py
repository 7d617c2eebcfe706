"""Official FastFCN checkpoints: every key is converted, channels are reordered, files are read safely."""

from pathlib import Path

import pytest
import torch

from fastfcn import build, recipes, weights
from fastfcn.errors import WeightsError
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.convert import convert
from fastfcn.weights.official import from_official, is_official
from tests.helpers.official_files import save_official, their_state
from tests.helpers.official_weights import JPU_X, official_shapes
from tests.helpers.openmmlab_files import pretended

# Parameters at 19 classes and entries of the state dict, including the unused ImageNet classifier.
TOTALS = {"psp": (70_864_590, 438), "deeplabv3": (63_911_374, 450), "enc": (49_392_449, 431)}
CLASSIFIER = 2048 * 1000 + 1000
NARROW = (
    'backbone={kind="pyramid", name="test_resnet", pretrained="none"}',
    "neck.width=8",
    "auxiliary.width=8",
    "data.dataset=streets",
)
HEADS = {
    "enc": 'head={kind="enc", width=8, codewords=4, kernel=1, dropout=0.1, align_corners=true, se_loss_weight=0.0}',
    "psp": 'head={kind="psp", width=8, pools=[1, 2, 3, 6], kernel=3, dropout=0.1, align_corners=true}',
    "deeplabv3": 'head={kind="deeplabv3", width=8, dilations=[1, 12, 24, 36], project_dropout=0.5, kernel=3, '
    "dropout=0.1, align_corners=true}",
}
NARROW_X = 'neck={kind="jpu_x", width=8, dilations=[1, 2, 4], groups=4, align_corners=true}'


def narrow_recipe(head: str, neck_x: bool = False) -> Recipe:
    changes = [NARROW[0], *([NARROW_X] if neck_x else NARROW[1:2]), *NARROW[2:], HEADS[head]]
    se_loss = ["head.se_loss_weight=0.2"] if head == "enc" else []
    return recipes.load("official_r50_enc_pcontext", [*changes, *se_loss])


@pytest.mark.parametrize("neck", ["jpu", "jpu_x"])
@pytest.mark.parametrize("head", TOTALS)
def test_every_key_has_its_place(head: str, neck: str):
    name = f"official_r50_{head}_pcontext"
    with torch.device("meta"):
        model = build.create(recipes.load(name, [JPU_X] if neck == "jpu_x" else []))
        theirs = {key: torch.empty(shape) for key, shape in official_shapes(head, neck, 59).items()}
        renamed = from_official(theirs)
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in renamed.items()} == ours


@pytest.mark.parametrize("head", TOTALS)
def test_parameters_and_keys_are_as_many_as_theirs(head: str):
    parameters, keys = TOTALS[head]
    shapes = official_shapes(head, "jpu", 19)
    assert len(shapes) == keys
    with torch.device("meta"):
        model = build.create(f"official_r50_{head}_pcontext", classes=19)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters - CLASSIFIER


def test_resnet_101_has_its_blocks():
    with torch.device("meta"):
        model = build.create("official_r101_enc_ade20k")
        renamed = from_official(
            {key: torch.empty(shape) for key, shape in official_shapes("enc", "jpu", 150, 101).items()}
        )
    assert renamed.keys() == model.state_dict().keys()


@pytest.mark.parametrize("neck_x", [False, True], ids=["jpu", "jpu_x"])
@pytest.mark.parametrize("head", HEADS)
def test_names_and_order_come_back(head: str, neck_x: bool):
    used = narrow_recipe(head, neck_x)
    torch.manual_seed(0)
    state = build.create(used).state_dict()
    theirs = their_state(state, head)
    assert is_official(list(theirs))
    renamed = from_official(theirs)
    assert renamed.keys() == state.keys()
    assert all(torch.equal(renamed[name], state[name]) for name in state)


def test_order_is_not_left_as_it_was():
    """Checks the test above: without reordering, the first channels would be those of the coarsest map."""
    state = build.create(narrow_recipe("deeplabv3")).state_dict()
    theirs = their_state(state, "deeplabv3")
    assert not torch.equal(theirs["head.aspp.project.0.weight"], state["head.bottleneck.conv.weight"])
    assert not torch.equal(theirs["jpu.dilation1.0.conv1.weight"], state["neck.dilated.0.depthwise.conv.weight"])
    assert not torch.equal(theirs["jpu.dilation1.0.pointwise.weight"], state["neck.dilated.0.pointwise.conv.weight"])


def test_official_names_are_recognized():
    assert not is_official(["backbone.stem.0.weight", "decode_head.conv_seg.weight"])
    unknown = {"pretrained.bn1.weight": torch.ones(1), "head.new_part.weight": torch.ones(2)}
    assert from_official(unknown).keys() == {"backbone.bn1.weight", "head.new_part.weight"}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_a_checkpoint_becomes_a_weights_file(tmp_path: Path, head: str, zipped: bool):
    used = narrow_recipe(head)
    used.save(tmp_path / "used.toml")
    torch.manual_seed(1)
    model = build.create(used).eval()
    checkpoint = save_official(tmp_path / "a.pth.tar", their_state(model.state_dict(), head), zipped=zipped)
    (remark,) = convert(checkpoint, str(tmp_path / "used.toml"), tmp_path / "w.safetensors")
    assert "has no class names" in remark
    read = weights.load_model(weights.read(tmp_path / "w.safetensors")).eval()
    image = torch.randn(1, 3, 33, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(read.logits(image), model.logits(image))
    assert weights.read(tmp_path / "w.safetensors").facts == {"converted_from": "a.pth.tar"}


def test_counters_that_early_files_lack_are_zero():
    state = build.create(narrow_recipe("psp")).state_dict()
    early = {name: value for name, value in their_state(state, "psp").items() if "num_batches" not in name}
    renamed = from_official(early)
    assert renamed.keys() == state.keys()
    assert renamed["backbone.bn1.num_batches_tracked"] == 0


def test_a_number_as_an_older_numpy_stores_it(tmp_path: Path):
    """NumPy 1 calls its module `core`, NumPy 2 `_core`."""
    path = save_official(tmp_path / "a.pth.tar", {"x": torch.ones(1)}, zipped=False)
    content = path.read_bytes()
    assert b"cnumpy._core.multiarray\nscalar\n" in content
    path.write_bytes(content.replace(b"cnumpy._core.multiarray\nscalar\n", b"cnumpy.core.multiarray\nscalar\n"))
    with pytest.raises(WeightsError, match="does not fit the network"):  # not "is refused"
        convert(path, "official_r50_enc_pcontext", tmp_path / "w.safetensors")


def test_what_could_run_code_is_refused_by_name(tmp_path: Path):
    with pretended("some_library.Score") as kind:
        path = save_official(tmp_path / "a.pth.tar", {"pretrained.bn1.weight": torch.ones(1)}, best=kind())
    with pytest.raises(WeightsError, match=r"a\.pth\.tar asks for some_library\.Score, .* refused"):
        convert(path, "official_r50_enc_pcontext", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()
